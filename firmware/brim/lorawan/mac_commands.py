"""MAC commands of LoRaWAN 1.0.4 (chapter 5): one table of lengths, and the device's answers."""

from brim.lorawan.eu868 import (
    FREQ_MAX_HZ,
    FREQ_MIN_HZ,
    JOIN_CHANNELS_HZ,
    MAX_CHANNELS,
    MAX_DR,
    MAX_POWER_INDEX,
    MAX_RX1_OFFSET,
    sub_band,
)
from brim.lorawan.memory import MAX_ANSWERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.lorawan.mac import Mac

LINK_CHECK = 0x02
LINK_ADR = 0x03
DUTY_CYCLE = 0x04
RX_PARAM_SETUP = 0x05
DEV_STATUS = 0x06
NEW_CHANNEL = 0x07
RX_TIMING_SETUP = 0x08
TX_PARAM_SETUP = 0x09
DL_CHANNEL = 0x0A
DEVICE_TIME = 0x0D

# From LINK_CHECK on, a byte per cid: bytes after the cid in an uplink << 4 | in a downlink; 0xFF: no such command.
# TxParamSetup, which this region does not know, and Class B (0x10 on) are listed so that they can be stepped over.
_LENGTHS = b"\x02\x14\x01\x14\x20\x15\x01\x01\x14\xff\xff\x05\xff\xff\x10\x14\x03\x14"
# Repeated in every uplink until a downlink shows that the network knows (sections 5.4, 5.7 and 5.9).
STICKY = (RX_PARAM_SETUP, RX_TIMING_SETUP, DL_CHANNEL)


def lengths(cid: int) -> "tuple[int, int] | None":
    """How many bytes follow a cid in an uplink and in a downlink; None: there is no such command."""
    at = cid - LINK_CHECK
    packed = _LENGTHS[at] if 0 <= at < len(_LENGTHS) else 0xFF
    return None if packed == 0xFF else (packed >> 4, packed & 15)


def _end(data: "bytes | bytearray", at: int, direction: int) -> int:
    # Where the command at `at` ends; 0 where it is unknown or cut.
    known = lengths(data[at])
    end = at + 1 + known[direction] if known else 0
    return end if end <= len(data) else 0


def parse(data: "bytes | bytearray", direction: int) -> "list[tuple[int, bytes]]":
    """[(cid, body)] of FOpts or of a port 0 payload. An unknown or cut command ends it."""
    found = []
    at = 0
    while at < len(data):
        end = _end(data, at, direction)
        if not end:
            break
        found.append((data[at], bytes(data[at + 1 : end])))
        at = end
    return found


def whole(answers: bytes, room: int) -> bytes:
    """The first answers that fit into `room` bytes: in their order, none cut, none after one that does not fit."""
    if len(answers) <= room:
        return answers
    at = 0
    end = _end(answers, 0, 0)
    while at < end <= room:
        at = end
        end = _end(answers, at, 0)
    return answers[:at]


def still_due(answers: bytes, sticky: bool) -> bytes:
    """The sticky ones of some answers, or the others."""
    due = b""
    for cid, body in parse(answers, 0):
        if (cid in STICKY) == sticky:
            due += bytes((cid,)) + body
    return due


def split(answers: bytes, room: int) -> "tuple[bytes, bytes]":
    """What of the answers goes into an uplink with `room` bytes, and what is due after it."""
    sent = whole(answers, room)
    return sent, still_due(sent, True) + answers[len(sent) :]


def _freq_hz(body: bytes) -> int:
    return int.from_bytes(body, "little") * 100


def _may_use(freq_hz: int) -> bool:
    return FREQ_MIN_HZ <= freq_hz < FREQ_MAX_HZ and sub_band(freq_hz) >= 0


def link_adr(mac: "Mac", block: "list[bytes]") -> int:
    """A contiguous block of LinkADRReq, all or nothing (section 5.2): the status byte of every answer.

    The masks are applied one after the other; data rate, power and NbTrans are those of the last. Rate or power 15
    keeps what is, NbTrans 0 means the default.
    """
    mask = mac.mask
    status = 7
    defined = 0
    for index, freq_hz in enumerate(mac.channels):
        if freq_hz:
            defined |= 1 << index
    for body in block:
        control = body[3] >> 4 & 7
        if control == 0:
            mask = body[1] | body[2] << 8
        elif control == 6:
            mask = defined
        else:
            status &= ~1
        if mask & ~defined:
            status &= ~1
    if not mask:
        status &= ~1
    last = block[-1]
    dr = mac.dr if last[0] >> 4 == 15 else last[0] >> 4
    power = mac.power if last[0] & 15 == 15 else last[0] & 15
    if dr > MAX_DR or (status & 1 and not mac.usable(mask, dr)):
        status &= ~2
    if power > MAX_POWER_INDEX:
        status &= ~4
    if status == 7:
        mac.mask, mac.dr, mac.power = mask, dr, power
        mac.nb_trans = last[3] & 15 or 1
    return status


def _rx_param_setup(mac: "Mac", body: bytes) -> int:
    offset, dr, freq_hz = body[0] >> 4 & 7, body[0] & 15, _freq_hz(body[1:4])
    status = (1 if _may_use(freq_hz) else 0) | (2 if dr <= MAX_DR else 0) | (4 if offset <= MAX_RX1_OFFSET else 0)
    if status == 7:
        mac.rx1_offset, mac.rx2_dr, mac.rx2_hz = offset, dr, freq_hz
    return status


def _new_channel(mac: "Mac", body: bytes) -> int:
    index, freq_hz, rates = body[0], _freq_hz(body[1:4]), body[4]
    # The join channels are not to be changed (section 5.6).
    if not len(JOIN_CHANNELS_HZ) <= index < MAX_CHANNELS:
        return 0
    status = 1 if not freq_hz or _may_use(freq_hz) else 0
    status |= 2 if not freq_hz or rates & 15 <= rates >> 4 <= MAX_DR else 0
    if status == 3:
        mac.channels[index], mac.rx1_hz[index], mac.rates[index] = freq_hz, 0, rates
        mac.mask = mac.mask | 1 << index if freq_hz else mac.mask & ~(1 << index)
        mac.mask = mac.mask or 7
    return status


def _dl_channel(mac: "Mac", body: bytes) -> int:
    index, freq_hz = body[0], _freq_hz(body[1:4])
    status = 1 if _may_use(freq_hz) else 0
    if index < MAX_CHANNELS and mac.channels[index]:
        status |= 2
    if status == 3:
        mac.rx1_hz[index] = freq_hz
    return status


# What answers with its cid and a status byte.
_SETTINGS = {RX_PARAM_SETUP: _rx_param_setup, NEW_CHANNEL: _new_channel, DL_CHANNEL: _dl_channel}


def _obey(mac: "Mac", cid: int, body: bytes) -> bytes:
    """Any command but LinkADRReq: its answer, b"" where none is due."""
    if cid in _SETTINGS:
        return bytes((cid, _SETTINGS[cid](mac, body)))
    if cid == DEV_STATUS:
        return bytes((cid, mac.battery, max(-32, min(31, mac.snr_db)) & 63))
    if cid == DUTY_CYCLE:
        mac.duty_shift = body[0] & 15
    elif cid == RX_TIMING_SETUP:
        mac.rx1_delay_s = body[0] & 15 or 1
    else:
        if cid == LINK_CHECK:
            mac.link_check = (body[0], body[1])
        elif cid == DEVICE_TIME:
            mac.network_time = (int.from_bytes(body[:4], "little"), body[4])
        return b""
    return bytes((cid,))


def answer(mac: "Mac", data: bytes) -> None:
    """Obey the commands of one downlink, every one; answers wait in `mac` for the next uplink as far as they fit."""
    # A downlink has come: the network has got the sticky ones.
    answers = still_due(mac.answers, False)
    block = []
    commands = parse(data, 1)
    for at, (cid, body) in enumerate(commands):
        if cid != LINK_ADR:
            new = _obey(mac, cid, body)
        else:
            block.append(body)
            if at + 1 < len(commands) and commands[at + 1][0] == LINK_ADR:
                continue
            new = bytes((LINK_ADR, link_adr(mac, block))) * len(block)
            block = []
        if len(answers) <= MAX_ANSWERS:
            answers += new
    mac.answers = whole(answers, MAX_ANSWERS)
