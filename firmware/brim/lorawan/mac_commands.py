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

# cid: (bytes after the cid in an uplink, in a downlink). Class B commands are listed so that they can be stepped over.
LENGTHS = {
    LINK_CHECK: (0, 2),
    LINK_ADR: (1, 4),
    DUTY_CYCLE: (0, 1),
    RX_PARAM_SETUP: (1, 4),
    DEV_STATUS: (2, 0),
    NEW_CHANNEL: (1, 5),
    RX_TIMING_SETUP: (0, 1),
    TX_PARAM_SETUP: (0, 1),
    DL_CHANNEL: (1, 4),
    DEVICE_TIME: (0, 5),
    0x10: (1, 0),
    0x11: (1, 4),
    0x12: (0, 3),
    0x13: (1, 4),
}


def parse(data: bytes, direction: int) -> "list[tuple[int, bytes]]":
    """[(cid, body)] of FOpts or of a port 0 payload. An unknown or cut command ends it."""
    found = []
    at = 0
    while at < len(data):
        lengths = LENGTHS.get(data[at])
        if lengths is None or at + 1 + lengths[direction] > len(data):
            break
        end = at + 1 + lengths[direction]
        found.append((data[at], data[at + 1 : end]))
        at = end
    return found


def _freq_hz(body: bytes) -> int:
    return int.from_bytes(body, "little") * 100


def _may_use(freq_hz: int) -> bool:
    return FREQ_MIN_HZ <= freq_hz < FREQ_MAX_HZ and sub_band(freq_hz) >= 0


def link_adr(mac: "Mac", block: "list[bytes]") -> int:
    """A contiguous block of LinkADRReq, all or nothing (section 5.2): the status byte of every answer."""
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
    if mask == 0 or mask & ~defined:
        status &= ~1
    last = block[-1]
    # 15 keeps what is (LoRaWAN 1.0.4, section 5.2).
    dr = mac.dr if last[0] >> 4 == 15 else last[0] >> 4
    power = mac.power if last[0] & 15 == 15 else last[0] & 15
    if dr > MAX_DR:
        status &= ~2
    if power > MAX_POWER_INDEX:
        status &= ~4
    if status == 7:
        mac.mask, mac.dr, mac.power = mask, dr, power
        mac.nb_trans = last[3] & 15 or mac.nb_trans
    return status


def _rx_param_setup(mac: "Mac", body: bytes) -> bytes:
    offset, dr, freq_hz = body[0] >> 4 & 7, body[0] & 15, _freq_hz(body[1:4])
    status = (1 if _may_use(freq_hz) else 0) | (2 if dr <= MAX_DR else 0) | (4 if offset <= MAX_RX1_OFFSET else 0)
    if status == 7:
        mac.rx1_offset, mac.rx2_dr, mac.rx2_hz = offset, dr, freq_hz
    return bytes((RX_PARAM_SETUP, status))


def _new_channel(mac: "Mac", body: bytes) -> bytes:
    index, freq_hz = body[0], _freq_hz(body[1:4])
    # Channels carry DR0 to DR5 here, no narrower range; the join channels are not to be changed.
    status = 2 if body[4] == MAX_DR << 4 or not freq_hz else 0
    if len(JOIN_CHANNELS_HZ) <= index < MAX_CHANNELS and (not freq_hz or _may_use(freq_hz)):
        status |= 1
    if status == 3:
        mac.channels[index] = freq_hz
        mac.mask = mac.mask | 1 << index if freq_hz else mac.mask & ~(1 << index)
        mac.mask = mac.mask or 7
    return bytes((NEW_CHANNEL, status))


def answer(mac: "Mac", data: bytes) -> None:
    """Obey the commands of one downlink; answers wait in `mac` for the next uplink."""
    block = []
    commands = parse(data, 1)
    for at, (cid, body) in enumerate(commands):
        if cid == LINK_ADR:
            block.append(body)
            if at + 1 == len(commands) or commands[at + 1][0] != LINK_ADR:
                mac.reply(bytes((LINK_ADR, link_adr(mac, block))) * len(block))
                block = []
        elif cid == DUTY_CYCLE:
            mac.duty_shift = body[0] & 15
            mac.reply(bytes((DUTY_CYCLE,)))
        elif cid == RX_PARAM_SETUP:
            mac.reply(_rx_param_setup(mac, body), True)
        elif cid == DEV_STATUS:
            mac.reply(bytes((DEV_STATUS, mac.battery, max(-32, min(31, mac.snr_db)) & 63)))
        elif cid == NEW_CHANNEL:
            mac.reply(_new_channel(mac, body))
        elif cid == RX_TIMING_SETUP:
            mac.rx1_delay_s = body[0] & 15 or 1
            mac.reply(bytes((RX_TIMING_SETUP,)), True)
        elif cid == DL_CHANNEL:
            # Refused: RX1 is on the channel of the uplink.
            mac.reply(bytes((DL_CHANNEL, 0)), True)
