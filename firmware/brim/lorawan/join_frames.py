"""Join-request and join-accept of LoRaWAN 1.0.4 (chapter 6). EUIs: most significant byte first."""

from brim.lorawan.crypto import FrameError, cmac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.lorawan.crypto import Cipher


def build_join_request(app: "Cipher", join_eui: bytes, dev_eui: bytes, dev_nonce: int) -> bytes:
    """A join-request (section 6.2.3)."""
    phy = b"\x00" + reverse(join_eui) + reverse(dev_eui) + dev_nonce.to_bytes(2, "little")
    return phy + cmac(app, phy)[:4]


def parse_join_request(phy: bytes) -> "tuple[bytes, bytes, int]":
    """(JoinEUI, DevEUI, DevNonce); raises FrameError. The MIC is the CMAC of the first 19 bytes."""
    if len(phy) != 23 or phy[0]:
        raise FrameError("no join-request")
    return reverse(phy[1:9]), reverse(phy[9:17]), phy[17] | phy[18] << 8


class Accept:
    """What a join-accept says. `cf_list`: frequencies in Hz of channels 3 and up, 0 where none is given."""

    def __init__(
        self, join_nonce: int, net_id: int, dev_addr: bytes, dl_settings: int, rx_delay_s: int, cf_list: "list[int]"
    ) -> None:
        self.join_nonce = join_nonce
        self.net_id = net_id
        self.dev_addr = dev_addr
        self.dl_settings = dl_settings
        self.rx_delay_s = rx_delay_s
        self.cf_list = cf_list


def build_join_accept(app: "Cipher", accept: Accept) -> bytes:
    """A join-accept (section 6.2.4), encrypted by AES *decryption* so that a device needs encryption only."""
    plain = accept.join_nonce.to_bytes(3, "little") + accept.net_id.to_bytes(3, "little") + accept.dev_addr
    plain += bytes((accept.dl_settings, accept.rx_delay_s))
    if accept.cf_list:
        for freq_hz in accept.cf_list:
            plain += (freq_hz // 100).to_bytes(3, "little")
        plain += bytes(28 - len(plain))
    plain += cmac(app, b"\x20" + plain)[:4]
    phy = b"\x20"
    for at in range(0, len(plain), 16):
        phy += app.decrypt(plain[at : at + 16])
    return phy


def parse_join_accept(app: "Cipher", phy: bytes) -> Accept:
    """Raises FrameError if the MIC is wrong or the server speaks LoRaWAN 1.1 (OptNeg), which this device does not."""
    if len(phy) not in (17, 33) or phy[0] != 0x20:
        raise FrameError("no join-accept")
    plain = b""
    for at in range(1, len(phy), 16):
        plain += app.encrypt(phy[at : at + 16])
    if cmac(app, b"\x20" + plain[:-4])[:4] != plain[-4:]:
        raise FrameError("MIC")
    if plain[10] & 0x80:
        raise FrameError("LoRaWAN 1.1")
    cf_list = []
    # CFListType 0 gives frequencies; others belong to regions with fixed channels (RP002, section 2.2.4).
    if len(plain) == 32 and plain[27] == 0:
        for at in range(12, 27, 3):
            cf_list.append(int.from_bytes(plain[at : at + 3], "little") * 100)
    return Accept(
        int.from_bytes(plain[:3], "little"),
        int.from_bytes(plain[3:6], "little"),
        plain[6:10],
        plain[10],
        plain[11] & 0x0F or 1,
        cf_list,
    )


def reverse(eui: bytes) -> bytes:
    """Byte order as printed to byte order on the air, and back."""
    return bytes(reversed(eui))
