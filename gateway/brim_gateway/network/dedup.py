"""One transmission is heard by several concentrators: which receptions are the same thing."""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from brim_gateway.network.device import Heard
from brim_gateway.network.reception import Reception

# A device sends the same bytes again at the earliest after RX1: what comes sooner is a copy of the same transmission.
COPY_US = 900_000
# After this no copy comes any more, and an uplink can no longer be answered.
FORGET_US = 20_000_000
# A device repeats a confirmed uplink as its duty cycle lets it: at SF12 every few minutes.
REPEATS_US = 600_000_000
# NbTrans is at most 15 (LoRaWAN 1.0.4, section 5.2).
MAX_ANSWERS = 15
# A device sends each join-request once; a few more may be copies that came late. A recorded one costs no more airtime.
MAX_ACCEPTS = 3
MAX_RECEPTIONS = 16

# A device without a lasting counter: the same value within this time is one reading.
SAME_VALUE_US = 2_000_000
# The same bytes at the same tick of the same concentrator are the same datagram sent again (before the counter wraps).
RESENT_US = 1_800_000_000
MAX_HEARD = 64
# The same bytes of a confirmed uplink within this are a repeat, whatever the device forgets.
VOLATILE_REPEATS_US = 60_000_000


@dataclass(slots=True)
class Slot:
    """An uplink that may be answered: who heard it, and what is due.

    `accept`: the join-accept that a join-request gets. `reply_due`: a downlink is owed, whatever it says. `repeat`: its
    counter had come before. `asks`: identifiers of the device's MAC commands; `known_us`: what time to tell it.
    `answers`: to this frame and its repeats so far. `tried`: windows that were given to a concentrator.
    """

    dev: str
    phy: bytes
    heard_us: int
    receptions: list[Reception]
    dr: int
    accept: bytes | None = None
    f_cnt: int = 0
    confirmed: bool = False
    reply_due: bool = False
    repeat: bool = False
    asks: bytes = b""
    known_us: int = 0
    answered: bool = False
    answers: int = 0
    tried: set[tuple[str, int]] = field(default_factory=set)

    def is_same(self, reception: Reception, now_us: int) -> bool:
        """Are these the same bytes from the same transmission? Two that one concentrator heard are so by its own
        counter: bytes of a device without a counter come back hours later, and a recording is played faster."""
        if not 0 <= now_us - self.heard_us < COPY_US:
            return False
        return all(
            ticks_apart(known.tmst_us, reception.tmst_us) < COPY_US
            for known in self.receptions
            if known.gateway == reception.gateway
        )

    def add(self, reception: Reception) -> None:
        """Another concentrator heard it too."""
        known = any(r.gateway == reception.gateway for r in self.receptions)
        if not known and len(self.receptions) < MAX_RECEPTIONS:
            self.receptions.append(reception)


def slot_for(dev: str, reception: Reception, now_us: int) -> Slot:
    """A slot that one concentrator's reception opens."""
    return Slot(dev, reception.phy, now_us, [reception], 12 - reception.sf)


def ticks_apart(one_us: int, other_us: int) -> int:
    """Microseconds between two values of a concentrator's 32-bit counter, the short way round."""
    ticks = (one_us - other_us) & 0xFFFFFFFF
    return min(ticks, 0x100000000 - ticks)


def digest(f_port: int | None, payload: bytes) -> int:
    """What makes two frames of a device without a counter the same value."""
    return crc32(payload, f_port or 0)


def heard_before(heard: tuple[Heard, ...], new: Heard) -> bool:
    """True if `new` is a reading that is already there.

    The same value within two seconds, by the event's clock and, where the same concentrator heard both, by its counter
    as well; or the same tick of the same concentrator: a datagram that was sent again.
    """
    for old in reversed(heard):
        if old.digest != new.digest:
            continue
        apart_us = abs(new.time_us - old.time_us)
        if old.gateway != new.gateway:
            if apart_us <= SAME_VALUE_US:
                return True
            continue
        ticks = ticks_apart(old.tmst_us, new.tmst_us)
        if ticks <= SAME_VALUE_US and (apart_us <= SAME_VALUE_US or (ticks == 0 and apart_us <= RESENT_US)):
            return True
    return False
