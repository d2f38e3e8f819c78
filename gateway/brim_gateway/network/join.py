"""Over-the-air activation (LoRaWAN 1.0.4, chapter 6)."""

from __future__ import annotations

from collections.abc import Callable

from brim.lorawan.crypto import cmac, session_keys
from brim.lorawan.eu868 import COMMON_CHANNELS_HZ
from brim.lorawan.frames import Accept, build_join_accept, parse_join_request
from msgspec.structs import replace

from brim_gateway.network.device import MAX_NONCES, DeviceRow, Session
from brim_gateway.network.session import EcbCipher

RX1_DELAY_S = 1
# With a CFList (LoRaWAN 1.0.4, section 6.2.4).
ACCEPT_BYTES = 33
# SF9 in RX2: at SF12 one concentrator could answer 217 joins an hour, at SF9 1,458.
RX2_DR = 3

# 2026-01-01 in Unix minutes.
_NONCE_EPOCH_MIN = 1_767_225_600 // 60


def request_problem(row: DeviceRow | None, phy: bytes) -> str | None:
    """Why a join-request of right length is refused, or None. A reason never tells a secret."""
    join_eui, _, dev_nonce = parse_join_request(phy)
    if row is None:
        return "unknown device"
    if row.app_key is None:
        return "device has no app_key"
    if join_eui.hex() != row.join_eui:
        return "wrong join_eui"
    if cmac(EcbCipher(row.app_key), phy[:19])[:4] != phy[19:]:
        return "mic"
    if row.has_public_key() and not row.allow_public_key:
        return "public key"
    used = dev_nonce in row.used_nonces if row.dev_nonce == "random" else False
    if row.dev_nonce == "rising" and row.last_dev_nonce is not None:
        used = dev_nonce <= row.last_dev_nonce
    if used:
        return "dev_nonce used"
    if row.join_nonce == 0xFFFFFF:
        return "join_nonce exhausted"
    return None


def accept_request(
    row: DeviceRow, phy: bytes, net_id: int, now_us: int, random_bytes: Callable[[int], bytes]
) -> tuple[DeviceRow, bytes]:
    """(row with the pending session, join-accept). Call it only where `request_problem` finds none."""
    assert row.app_key is not None
    dev_nonce = parse_join_request(phy)[2]
    # Counting up from the clock keeps JoinNonce rising even if this database is lost and the bins are registered anew.
    minutes = now_us // 60_000_000 - _NONCE_EPOCH_MIN
    join_nonce = max(row.join_nonce + 1, min(max(minutes, 1), 0xFFFFFF - 0x10000))
    cipher = EcbCipher(row.app_key)
    nwk_s_key, app_s_key = session_keys(cipher, join_nonce, net_id, dev_nonce)
    # NetID type 0: a zero bit, six bits of the network, 25 bits of the device (LoRaWAN Backend 1.0, section 3).
    dev_addr = ((net_id & 0x3F) << 25 | int.from_bytes(random_bytes(4), "big") & 0x1FFFFFF).to_bytes(4, "big")
    pending = Session(join_nonce, dev_addr.hex(), nwk_s_key, app_s_key, rx1_delay_s=RX1_DELAY_S, rx2_dr=RX2_DR)
    accept = Accept(join_nonce, net_id, dev_addr[::-1], RX2_DR, RX1_DELAY_S, list(COMMON_CHANNELS_HZ))
    row = replace(row, last_dev_nonce=dev_nonce, join_nonce=join_nonce, pending=pending)
    if row.dev_nonce == "random":
        row = replace(row, used_nonces=(*row.used_nonces[1 - MAX_NONCES :], dev_nonce))
    return row, build_join_accept(cipher, accept)
