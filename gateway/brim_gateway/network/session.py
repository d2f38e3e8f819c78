"""The keys of a session, ready for use: AES and CMAC objects are made once, which halves the cost of a frame."""

from __future__ import annotations

import struct
from collections.abc import Callable

from brim.lorawan.frames import MAX_F_CNT, Data, full_f_cnt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from brim_gateway.network.device import Session

UP = 0
DOWN = 1
_BLOCK = struct.Struct("<BIB4sIBB")


def _ecb(key: bytes) -> Cipher[modes.ECB]:
    return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - LoRaWAN builds its modes on single blocks


class EcbCipher:
    """The cipher that `brim.lorawan` wants: 16-byte blocks under one key."""

    def __init__(self, key: bytes) -> None:
        cipher = _ecb(key)
        self.encrypt = cipher.encryptor().update
        self.decrypt = cipher.decryptor().update


class SessionCrypto:
    """MIC and payload cipher of one session."""

    def __init__(self, session: Session) -> None:
        self._dev_addr = bytes.fromhex(session.dev_addr)[::-1]
        self._cmac = CMAC(algorithms.AES(session.nwk_s_key))
        # A server only ever encrypts blocks here, and most frames are for one of the two keys: made when first used.
        self._streams: dict[bytes, Callable[[bytes], bytes]] = {}
        self._keys = session.nwk_s_key, session.app_s_key

    def mic(self, direction: int, f_cnt: int, message: bytes) -> bytes:
        """Four bytes for a frame without its MIC (LoRaWAN 1.0.4, section 4.4)."""
        cmac = self._cmac.copy()
        cmac.update(_BLOCK.pack(0x49, 0, direction, self._dev_addr, f_cnt, 0, len(message)) + message)
        return cmac.finalize()[:4]

    def crypt(self, direction: int, f_cnt: int, f_port: int | None, payload: bytes) -> bytes:
        """FRMPayload encrypted or decrypted: the same operation (section 4.3.3)."""
        length = len(payload)
        if not length:
            return b""
        blocks = [
            _BLOCK.pack(0x01, 0, direction, self._dev_addr, f_cnt, 0, number)
            for number in range(1, (length + 15) // 16 + 1)
        ]
        key = self._keys[bool(f_port)]
        encrypt = self._streams.get(key)
        if encrypt is None:
            encrypt = self._streams[key] = _ecb(key).encryptor().update
        stream = encrypt(b"".join(blocks))
        mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stream[:length], "big")
        return mixed.to_bytes(length, "big")

    def build_down(
        self, m_type: int, f_ctrl: int, f_cnt: int, f_opts: bytes, f_port: int | None, payload: bytes
    ) -> bytes:
        """A complete data frame downwards; `f_port` None means no port and no payload."""
        phy = (
            bytes((m_type << 5,)) + self._dev_addr + bytes((f_ctrl | len(f_opts),)) + struct.pack("<H", f_cnt & 0xFFFF)
        )
        phy += f_opts
        if f_port is not None:
            phy += bytes((f_port,)) + self.crypt(DOWN, f_cnt, f_port, payload)
        return phy + self.mic(DOWN, f_cnt, phy)


def find_counter(crypto: SessionCrypto, last: int | None, phy: bytes, frame: Data) -> tuple[int | None, str]:
    """(32-bit counter, "") of a frame that verifies, else (None, reason). A counter equal to `last` is a repeat."""
    expected = 0 if last is None else last + 1
    f_cnt = full_f_cnt(expected, frame.f_cnt)
    body = phy[:-4]
    if f_cnt <= MAX_F_CNT and crypto.mic(UP, f_cnt, body) == frame.mic:
        return f_cnt, ""
    # Only for the reason: an old frame sent again verifies under a counter that has passed.
    for old in (f_cnt - 0x10000, f_cnt - 0x20000):
        if 0 <= old < expected and crypto.mic(UP, old, body) == frame.mic:
            return None, "replay"
    return None, "mic" if f_cnt <= MAX_F_CNT else "session exhausted"
