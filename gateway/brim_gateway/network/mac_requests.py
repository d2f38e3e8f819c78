"""What the server wants of a device's radio against what the device has, as MAC commands (LoRaWAN 1.0.4, chapter 5).

A request is remembered in the session (`Agreed.asked`) by the commit that protects its downlink. So an answer means the
same after a restart: the device does now what it was asked.
"""

from __future__ import annotations

from brim.lorawan import mac_commands
from brim.lorawan.crypto import DOWN, UP
from brim.lorawan.eu868 import RX2_HZ
from brim.lorawan.mac_commands import DEV_STATUS, LINK_ADR, RX_PARAM_SETUP, RX_TIMING_SETUP

from brim_gateway.network.adr import HISTORY, NB_TRANS_AT, rate_and_power, repeats, steps
from brim_gateway.network.device import Agreed, DeviceRow, Session, Status, changed
from brim_gateway.network.join import RX1_DELAY_S, RX2_DR
from brim_gateway.network.links import Link

# After so many refusals a command is given up until the next join.
REFUSALS = 3
DAY_US = 86_400_000_000

# Every channel that the region and the join-accept give; and those that no device can be without.
ALL_CHANNELS = 0x00FF
JOIN_CHANNELS = 0x0007

_ALL_WELL = {LINK_ADR: 7, RX_PARAM_SETUP: 7}


def requests(row: DeviceRow, session: Session, link: Link, now_us: int) -> list[bytes]:
    """Whole commands, the most important first. Empty for a device that forgets its counters: it forgets the rest too.

    A block of LinkADRReq is one command here: one mask holds all channels of the region.
    """
    if row.counter != "strict":
        return []
    wanted = []
    # Windows given at registration stay: such a device forgets in a reset what it was told, and nobody notices.
    if session.number and session.rx1_delay_s != RX1_DELAY_S:
        wanted.append(bytes((RX_TIMING_SETUP, RX1_DELAY_S)))
    if session.number and (session.rx1_dr_offset, session.rx2_dr, session.rx2_freq_hz) != (0, RX2_DR, RX2_HZ):
        wanted.append(bytes((RX_PARAM_SETUP, RX2_DR)) + (RX2_HZ // 100).to_bytes(3, "little"))
    if link.adr and link.history:
        wanted += _link_adr(session, link)
    known_us = row.status.at_us if row.status is not None else link.since_us
    if now_us - known_us >= DAY_US:
        wanted.append(bytes((DEV_STATUS,)))
    given_up = [cid for cid, times, _ in session.agreed.refused if times >= REFUSALS]
    return [command for command in wanted if command[0] not in given_up]


def _link_adr(session: Session, link: Link) -> list[bytes]:
    """LinkADRReq where the link deserves another rate, power or NbTrans, or the device's channels are in doubt."""
    has = session.agreed
    # What it refused is not asked for again: the rest may still be granted (all or nothing, section 5.2).
    times, granted = next(((n, status) for cid, n, status in has.refused if cid == LINK_ADR), (0, 7))
    power = 0 if link.doubt else has.power
    spare = steps(link.best_snr_db(), link.dr)
    full = len(link.history) == HISTORY
    if spare < 0 and not full:
        # A few frames may all have come badly.
        spare = 0
    dr, wanted_power = rate_and_power(spare, link.dr, power)
    nb_trans = min(repeats(link.loss_percent(), has.nb_trans) if full else has.nb_trans, NB_TRANS_AT[dr])
    everything = ALL_CHANNELS if session.number else JOIN_CHANNELS
    mask = everything if granted & 1 else JOIN_CHANNELS
    if not granted & 2 or (dr == link.granted and link.ignored >= REFUSALS):
        dr = link.dr
    if not granted & 4:
        # The RN2483 refuses index 0, which every device must take: a second refusal gets it index 1.
        wanted_power = has.power or min(times // 2, 1)
    same = (dr, wanted_power, nb_trans, mask) == (link.dr, has.power, has.nb_trans, has.mask or everything)
    if same and not link.doubt:
        return []
    if dr == link.granted != link.dr:
        # It said that it would, and did not.
        link.ignored += 1
    return [bytes((LINK_ADR, dr << 4 | wanted_power)) + mask.to_bytes(2, "little") + bytes((nb_trans,))]


def read_answers(session: Session, link: Link, commands: bytes, now_us: int) -> tuple[Session, Status | None]:
    """(the session after the answers in an uplink, a DevStatusAns if there is one). What was not asked changes nothing.

    A device answers in its next uplink, and goes on with some answers until it hears a downlink (section 5): those are
    waited for.
    """
    asked = dict(mac_commands.parse(session.agreed.asked, DOWN))
    status, open_before = None, len(asked)
    answers: dict[int, bytes] = {}
    for cid, body in mac_commands.parse(commands, UP):
        # A block of LinkADRReq is answered once for each: refused by one is refused.
        known = answers.get(cid)
        answers[cid] = bytes((known[0] & body[0],)) if known and cid == LINK_ADR else body
    for cid, body in answers.items():
        request = asked.pop(cid, None)
        if request is None:
            continue
        if cid == DEV_STATUS:
            margin_db = body[1] & 63
            status = Status(now_us, body[0], margin_db - 64 if margin_db > 31 else margin_db)
        elif cid in _ALL_WELL and body[0] & 7 != _ALL_WELL[cid]:
            status_bits = body[0] & 7
            if cid == LINK_ADR and not status_bits & 1 and request[1] | request[2] << 8 != JOIN_CHANNELS:
                # Without its channels a device may refuse the rate and the power as well: they are judged by the next.
                status_bits |= 6
            session = changed(session, agreed=_refused(session.agreed, cid, status_bits))
        else:
            session = _taken(session, link, cid, request)
    link.answered(len(asked) < open_before)
    if len(asked) < open_before:
        left = b"".join(bytes((cid,)) + body for cid, body in asked.items())
        session = changed(session, agreed=changed(session.agreed, asked=left))
    return session, status


def _taken(session: Session, link: Link, cid: int, request: bytes) -> Session:
    """The device does what it was asked."""
    if cid == RX_TIMING_SETUP:
        return changed(session, rx1_delay_s=request[0] & 15 or 1)
    if cid == RX_PARAM_SETUP:
        freq_hz = int.from_bytes(request[1:4], "little") * 100
        return changed(session, rx1_dr_offset=request[0] >> 4 & 7, rx2_dr=request[0] & 15, rx2_freq_hz=freq_hz)
    if cid != LINK_ADR:
        return session
    power, mask, nb_trans = request[0] & 15, request[1] | request[2] << 8, request[3] & 15
    if power != session.agreed.power or link.doubt:
        # What was heard at another power says nothing of this one.
        link.history.clear()
    link.doubt, link.granted = False, request[0] >> 4
    # Only refusals in a row lead to giving up; what they were about stays known.
    refused = tuple((each, 0 if each == cid else times, bits) for each, times, bits in session.agreed.refused)
    return changed(session, agreed=changed(session.agreed, power=power, nb_trans=nb_trans, mask=mask, refused=refused))


def _refused(agreed: Agreed, cid: int, status: int) -> Agreed:
    """Counted, with every part of it that was ever refused."""
    times, before = next(((n, bits) for each, n, bits in agreed.refused if each == cid), (0, 7))
    others = tuple(each for each in agreed.refused if each[0] != cid)
    return changed(agreed, refused=(*others, (cid, min(times + 1, REFUSALS), before & status)))


def fitting(commands: list[bytes], room: int) -> list[bytes]:
    """Those that fit into `room` bytes, in order; one too long for what is left lets shorter ones by."""
    taken = []
    for command in commands:
        if len(command) <= room:
            taken.append(command)
            room -= len(command)
    return taken


def merged(open_before: bytes, asked: list[bytes]) -> bytes:
    """What is open once `asked` goes out as well: a new request takes the place of an older one of its kind."""
    new = {command[0]: command for command in asked}
    old = [bytes((cid,)) + body for cid, body in mac_commands.parse(open_before, DOWN) if cid not in new]
    return b"".join(old + asked)
