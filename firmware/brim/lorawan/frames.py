"""Data frames of LoRaWAN 1.0.4, built and taken apart (chapter 4). On a host the frames of a join are here too."""

import sys

from brim.lorawan.crypto import DOWN, UP, crypt_payload, data_mic
from brim.lorawan.crypto import FrameError as FrameError

# A wake with a session has no room for what it does not need.
if sys.implementation.name != "micropython":
    from brim.lorawan.join_frames import Accept as Accept
    from brim.lorawan.join_frames import build_join_accept as build_join_accept
    from brim.lorawan.join_frames import build_join_request as build_join_request
    from brim.lorawan.join_frames import parse_join_accept as parse_join_accept
    from brim.lorawan.join_frames import parse_join_request as parse_join_request
    from brim.lorawan.join_frames import reverse as reverse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.lorawan.crypto import Cipher

JOIN_REQUEST = 0
JOIN_ACCEPT = 1
DATA_UP = 2
DATA_DOWN = 3
CONFIRMED_UP = 4
CONFIRMED_DOWN = 5

# FCtrl (section 4.3.1). Bit 6 is ADRACKReq and bit 4 Class B on an uplink; bit 4 is FPending on a downlink.
ADR = 0x80
ADR_ACK_REQ = 0x40
ACK = 0x20
F_PENDING = 0x10

MAX_PHY = 255
MAX_F_CNT = 0xFFFFFFFF


class Data:
    """A data frame. `dev_addr` is as on the air; `f_cnt` has 16 bits; `payload` is encrypted; `f_port` None: absent."""

    def __init__(
        self,
        m_type: int,
        dev_addr: bytes,
        f_ctrl: int,
        f_cnt: int,
        f_opts: bytes,
        f_port: "int | None",
        payload: bytes,
        mic: bytes,
    ) -> None:
        self.m_type = m_type
        self.dev_addr = dev_addr
        self.f_ctrl = f_ctrl
        self.f_cnt = f_cnt
        self.f_opts = f_opts
        self.f_port = f_port
        self.payload = payload
        self.mic = mic


def message_type(phy: bytes) -> int:
    """MType; raises FrameError for an empty frame, a wrong length or a major version that is not LoRaWAN R1."""
    if not 12 <= len(phy) <= MAX_PHY or phy[0] & 0x1F:
        raise FrameError("no LoRaWAN R1 frame")
    return phy[0] >> 5


def parse_data(phy: bytes) -> Data:
    """A data frame of either direction; raises FrameError. The MIC is not checked here."""
    m_type = message_type(phy)
    if not DATA_UP <= m_type <= CONFIRMED_DOWN:
        raise FrameError("no data frame")
    at = 8 + (phy[5] & 0x0F)
    end = len(phy) - 4
    if at > end:
        raise FrameError("FOpts beyond the end")
    f_port = None
    if at < end:
        f_port = phy[at]
        if f_port == 0 and at > 8:
            raise FrameError("MAC commands in FOpts and in port 0")
    return Data(m_type, phy[1:5], phy[5], phy[6] | phy[7] << 8, phy[8:at], f_port, phy[at + 1 : end], phy[end:])


def build_data(
    m_type: int,
    network: "Cipher",
    application: "Cipher",
    dev_addr: bytes,
    f_ctrl: int,
    f_cnt: int,
    f_opts: bytes,
    f_port: "int | None",
    payload: bytes,
) -> bytes:
    """A complete data frame. `f_cnt` has 32 bits. `payload` is plain; port 0 is encrypted under `network`."""
    if len(f_opts) > 15 or (f_opts and f_port == 0) or (payload and f_port is None) or not 0 <= f_cnt <= MAX_F_CNT:
        raise FrameError("fields that make no frame")
    direction = m_type & 1
    phy = bytes((m_type << 5,)) + dev_addr + bytes((f_ctrl | len(f_opts), f_cnt & 0xFF, f_cnt >> 8 & 0xFF)) + f_opts
    if f_port is not None:
        cipher = application if f_port else network
        phy += bytes((f_port,)) + crypt_payload(cipher, direction, dev_addr, f_cnt, payload)
    if len(phy) + 4 > MAX_PHY:
        raise FrameError("too long")
    return phy + data_mic(network, direction, dev_addr, f_cnt, phy)


def open_data(network: "Cipher", application: "Cipher", phy: bytes, frame: Data, f_cnt: int) -> bytes:
    """The plain payload of a parsed frame under its 32-bit counter; raises FrameError if the MIC is wrong."""
    direction = DOWN if frame.m_type & 1 else UP
    if data_mic(network, direction, frame.dev_addr, f_cnt, phy[:-4]) != frame.mic:
        raise FrameError("MIC")
    return crypt_payload(application if frame.f_port else network, direction, frame.dev_addr, f_cnt, frame.payload)


def full_f_cnt(expected: int, f_cnt: int) -> int:
    """The 32-bit counter meant by 16 bits, where `expected` comes next; the one before `expected` is a repeat of it.

    The result may pass MAX_F_CNT: such a frame belongs to no session (LoRaWAN 1.0.4, section 4.3.1.5).
    """
    if expected and f_cnt == expected - 1 & 0xFFFF:
        return expected - 1
    full = (expected & ~0xFFFF) | f_cnt
    return full if full >= expected else full + 0x10000
