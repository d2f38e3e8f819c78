"""AES-CMAC (RFC 4493) and what LoRaWAN 1.0.4 builds on it. A cipher encrypts and decrypts 16-byte blocks (ECB)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Cipher(Protocol):
        """AES-128 in ECB mode under one key."""

        def encrypt(self, block: bytes) -> bytes: ...
        def decrypt(self, block: bytes) -> bytes: ...


UP = 0
DOWN = 1


class FrameError(ValueError):
    """These bytes are no such frame, or these fields make none."""


def _double(number: int) -> int:
    # Doubling in GF(2^128) of RFC 4493, section 2.3.
    number <<= 1
    return (number ^ 0x87) & ((1 << 128) - 1) if number >> 128 else number


def cmac(cipher: "Cipher", message: bytes) -> bytes:
    """The 16-byte AES-CMAC of `message` (RFC 4493, section 2.4)."""
    tail = len(message) - 1 & ~15 if message else 0
    mac = 0
    for at in range(0, tail, 16):
        mac ^= int.from_bytes(message[at : at + 16], "big")
        mac = int.from_bytes(cipher.encrypt(mac.to_bytes(16, "big")), "big")
    last = message[tail:]
    subkey = _double(int.from_bytes(cipher.encrypt(bytes(16)), "big"))
    if len(last) < 16:
        subkey = _double(subkey)
        last = last + b"\x80" + bytes(15 - len(last))
    mac ^= int.from_bytes(last, "big") ^ subkey
    return cipher.encrypt(mac.to_bytes(16, "big"))


def block(kind: int, direction: int, dev_addr: bytes, f_cnt: int, last: int) -> bytes:
    """B0 (kind 0x49) or A_i (kind 0x01) of LoRaWAN 1.0.4, sections 4.3.3 and 4.4. `dev_addr` as on the air."""
    return bytes((kind, 0, 0, 0, 0, direction)) + dev_addr + f_cnt.to_bytes(4, "little") + bytes((0, last))


def data_mic(cipher: "Cipher", direction: int, dev_addr: bytes, f_cnt: int, message: bytes) -> bytes:
    """The 4-byte MIC of a data frame without its MIC, under NwkSKey (section 4.4)."""
    return cmac(cipher, block(0x49, direction, dev_addr, f_cnt, len(message)) + message)[:4]


def crypt_payload(cipher: "Cipher", direction: int, dev_addr: bytes, f_cnt: int, payload: bytes) -> bytes:
    """FRMPayload encrypted or decrypted: the same operation (section 4.3.3)."""
    out = bytearray(payload)
    for at in range(0, len(out), 16):
        stream = cipher.encrypt(block(0x01, direction, dev_addr, f_cnt, at // 16 + 1))
        for i in range(at, min(at + 16, len(out))):
            out[i] ^= stream[i - at]
    return bytes(out)


def session_keys(cipher: "Cipher", join_nonce: int, net_id: int, dev_nonce: int) -> "tuple[bytes, bytes]":
    """(NwkSKey, AppSKey) from the AppKey's cipher (section 6.2.5)."""
    seed = join_nonce.to_bytes(3, "little") + net_id.to_bytes(3, "little") + dev_nonce.to_bytes(2, "little") + bytes(7)
    return cipher.encrypt(b"\x01" + seed), cipher.encrypt(b"\x02" + seed)
