"""A LoRaWAN frame in words: PHYPayload and keys in, a JSON-ready object out. Pure; for people who search a fault.

Nothing here decides what is accepted: a frame whose MIC is wrong is explained as well, and says so.
Sources: LoRaWAN 1.0.4, chapters 4 to 6 and 14; rejoin-requests: LoRaWAN 1.1, section 6.2.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from brim.lorawan import frames
from brim.lorawan.crypto import DOWN, UP, cmac, crypt_payload
from brim.lorawan.frames import FrameError

from brim_gateway.network.device import Session
from brim_gateway.network.explain_commands import explain_commands
from brim_gateway.network.session import EcbCipher, SessionCrypto

M_TYPES = (
    "JoinRequest",
    "JoinAccept",
    "UnconfirmedDataUp",
    "UnconfirmedDataDown",
    "ConfirmedDataUp",
    "ConfirmedDataDown",
    "RejoinRequest",
    "Proprietary",
)
_REJOIN, _PROPRIETARY = 6, 7

EPOCHS_TRIED = 65_536
"""Upper halves of the counter that are tried where none is known: 16 million frames, more than a bin sends in its life.
As many chances in 2^32 has a wrong MIC to pass."""
_KEY_BYTES = 16


class KeysInvalid(ValueError):
    """The keys are not what they must be; the text says which entry, and never what stands there."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a frame is opened with; None: not known. ``f_cnt``: the last known 32-bit counter of this direction."""

    app_key: bytes | None = None
    nwk_s_key: bytes | None = None
    app_s_key: bytes | None = None
    f_cnt: int | None = None


def keys_from(value: Any) -> Keys:
    """Keys from a JSON object with any of app_key, nwk_s_key, app_s_key (32 hex digits each) and f_cnt; raises
    KeysInvalid. null stands for an entry that is not there."""
    if not isinstance(value, dict):
        raise KeysInvalid("keys: must be a JSON object with app_key, nwk_s_key, app_s_key or f_cnt")
    if value.keys() - {"app_key", "nwk_s_key", "app_s_key", "f_cnt"}:
        # The name is not repeated: people paste a key where its name belongs.
        raise KeysInvalid("keys: an entry that is not known; there are app_key, nwk_s_key, app_s_key and f_cnt")
    f_cnt = value.get("f_cnt")
    if f_cnt is not None and (type(f_cnt) is not int or not 0 <= f_cnt <= frames.MAX_F_CNT):
        raise KeysInvalid("keys: f_cnt: must be a whole number from 0 to 4294967295")
    return Keys(_key(value, "app_key"), _key(value, "nwk_s_key"), _key(value, "app_s_key"), f_cnt)


def _key(value: dict[str, Any], name: str) -> bytes | None:
    text = value.get(name)
    if text is None:
        return None
    key = _hex_bytes(text, 2 * _KEY_BYTES)
    if key is None or len(key) != _KEY_BYTES:
        raise KeysInvalid(f"keys: {name}: must be 32 hexadecimal digits")
    return key


def phy_from(text: Any) -> bytes:
    """The bytes of a frame given as hexadecimal digits, in any case; raises FrameError."""
    phy = _hex_bytes(text, 2 * frames.MAX_PHY)
    if not phy:
        raise FrameError(f"must be 1 to {frames.MAX_PHY} bytes in hexadecimal digits")
    return phy


def _hex_bytes(text: Any, most: int) -> bytes | None:
    if not isinstance(text, str) or len(text) > most or not text.isascii() or not text.isalnum():
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def explain(phy: bytes, keys: Keys) -> dict[str, Any]:
    """What ``phy`` says; raises FrameError where it is no LoRaWAN R1 frame.

    ``mic_ok`` is None where the key that decides is not known. EUIs and DevAddr: most significant digit first.
    """
    if len(phy) < 5 or len(phy) > frames.MAX_PHY:
        raise FrameError("wrong length")
    if phy[0] & 0x1F:
        raise FrameError("the first byte is none of LoRaWAN R1")
    m_type = phy[0] >> 5
    if m_type == frames.JOIN_REQUEST:
        found = _join_request(phy, keys)
    elif m_type == frames.JOIN_ACCEPT:
        found = _join_accept(phy, keys)
    elif m_type == _REJOIN:
        found = _rejoin_request(phy)
    elif m_type == _PROPRIETARY:
        found = {"mac_payload": phy[1:-4].hex(), "mic": phy[-4:].hex(), "mic_ok": None}
    else:
        found = _data(phy, keys)
    return {"m_type": M_TYPES[m_type], **found}


def _join_request(phy: bytes, keys: Keys) -> dict[str, Any]:
    join_eui, dev_eui, dev_nonce = frames.parse_join_request(phy)
    return {
        "join_eui": join_eui.hex(),
        "dev_eui": dev_eui.hex(),
        "dev_nonce": dev_nonce,
        "mic": phy[-4:].hex(),
        "mic_ok": None if keys.app_key is None else cmac(EcbCipher(keys.app_key), phy[:-4])[:4] == phy[-4:],
    }


_ACCEPT_FIELDS = (
    "join_nonce", "net_id", "dev_addr", "dl_settings", "rx1_dr_offset", "rx2_dr", "opt_neg", "rx_delay", "cf_list",
    "cf_list_hz", "mic", "mic_ok",
)  # fmt: skip


def _join_accept(phy: bytes, keys: Keys) -> dict[str, Any]:
    """All of it is encrypted: without the AppKey every field is None. ``rx_delay`` as sent, where 0 means 1 s."""
    if len(phy) not in (17, 33):
        raise FrameError("no join-accept: wrong length")
    if keys.app_key is None:
        return dict.fromkeys(_ACCEPT_FIELDS)
    cipher = EcbCipher(keys.app_key)
    plain = b"".join(cipher.encrypt(phy[at : at + 16]) for at in range(1, len(phy), 16))
    cf_list = plain[12:-4]
    # CFListType 0 gives frequencies; others belong to regions with fixed channels (RP002, section 2.2.4).
    is_frequencies = bool(cf_list) and cf_list[15] == 0
    values = (
        int.from_bytes(plain[:3], "little"),
        plain[3:6][::-1].hex(),
        plain[6:10][::-1].hex(),
        plain[10],
        plain[10] >> 4 & 7,
        plain[10] & 15,
        bool(plain[10] & 0x80),
        plain[11],
        cf_list.hex(),
        [int.from_bytes(cf_list[at : at + 3], "little") * 100 for at in range(0, 15, 3)] if is_frequencies else [],
        plain[-4:].hex(),
        cmac(cipher, phy[:1] + plain[:-4])[:4] == plain[-4:],
    )
    return dict(zip(_ACCEPT_FIELDS, values, strict=True))


def _rejoin_request(phy: bytes) -> dict[str, Any]:
    """Its MIC is under keys of LoRaWAN 1.1, which a bin has not: never known to be right."""
    kind = phy[1]
    if kind > 2 or len(phy) != (24 if kind == 1 else 19):
        raise FrameError("no rejoin-request: wrong type or length")
    where = ("join_eui", phy[2:10]) if kind == 1 else ("net_id", phy[2:5])
    return {
        "rejoin_type": kind,
        where[0]: where[1][::-1].hex(),
        "dev_eui": phy[-14:-6][::-1].hex(),
        "rj_count": int.from_bytes(phy[-6:-4], "little"),
        "mic": phy[-4:].hex(),
        "mic_ok": None,
    }


def _data(phy: bytes, keys: Keys) -> dict[str, Any]:
    frame = frames.parse_data(phy)
    direction = DOWN if frame.m_type & 1 else UP
    f_cnt, mic_ok = _counter(phy, frame, direction, keys)
    found: dict[str, Any] = {
        "dev_addr": frame.dev_addr[::-1].hex(),
        "f_cnt": f_cnt,
        "f_ctrl": _f_ctrl(frame.f_ctrl, direction),
        "f_opts": frame.f_opts.hex(),
        "f_opts_explained": explain_commands(frame.f_opts, direction),
        "f_port": frame.f_port,
    }
    key = keys.app_s_key if frame.f_port else keys.nwk_s_key
    payload = b"" if not frame.payload else None
    if payload is None and key is not None:
        payload = crypt_payload(EcbCipher(key), direction, frame.dev_addr, f_cnt, frame.payload)
    found["frm_payload"] = None if payload is None else payload.hex()
    if frame.f_port == 0:
        found["mac_commands"] = None if payload is None else explain_commands(payload, direction)
    return {**found, "mic": frame.mic.hex(), "mic_ok": mic_ok}


def _f_ctrl(f_ctrl: int, direction: int) -> dict[str, bool]:
    """Section 4.3.1: bits 6 and 4 mean something else, or nothing, in the other direction."""
    return {
        "adr": bool(f_ctrl & frames.ADR),
        "adr_ack_req": direction == UP and bool(f_ctrl & frames.ADR_ACK_REQ),
        "ack": bool(f_ctrl & frames.ACK),
        "f_pending": direction == DOWN and bool(f_ctrl & frames.F_PENDING),
        "class_b": direction == UP and bool(f_ctrl & frames.F_PENDING),
    }


def _counter(phy: bytes, frame: frames.Data, direction: int, keys: Keys) -> tuple[int, bool | None]:
    """(32-bit counter, whether the MIC holds under it). Where none holds, the likeliest counter."""
    candidates = _candidates(frame.f_cnt, keys.f_cnt)
    if keys.nwk_s_key is None:
        return next(iter(candidates)), None
    session = SessionCrypto(Session(0, frame.dev_addr[::-1].hex(), keys.nwk_s_key, bytes(16)))
    first = None
    for f_cnt in candidates:
        if session.mic(direction, f_cnt, phy[:-4]) == frame.mic:
            return f_cnt, True
        first = f_cnt if first is None else first
    assert first is not None
    return first, False


def _candidates(f_cnt: int, last: int | None) -> Iterable[int]:
    """The 32-bit counters that 16 bits may mean: near the last known one, newer first; all of them without it."""
    if last is None:
        return (f_cnt | epoch << 16 for epoch in range(EPOCHS_TRIED))
    newer = frames.full_f_cnt(last + 1, f_cnt)
    return [one for one in (newer, newer - 0x10000) if 0 <= one <= frames.MAX_F_CNT]
