"""An air in virtual time: collisions, one concentrator with eight demodulators and one transmitter, an account of all.

A model, not a measurement: rates do not disturb each other, of two frames on one channel and rate the one that is 6 dB
stronger survives, and a concentrator that transmits hears nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from brim.lorawan.eu868 import SUB_BANDS, sub_band
from brim_gateway.network.adr import REQUIRED_SNR_DB

HOUR_US = 3_600_000_000
DEMODULATORS = 8
CAPTURE_DB = 6.0


@dataclass(slots=True, eq=False)
class Transmission:
    """An uplink on the air; `lost` tells why it is not heard."""

    bin: int
    freq_hz: int
    sf: int
    start_us: int
    end_us: int
    snr_db: float
    phy: bytes
    lost: str = ""
    locked: bool = False


@dataclass
class Air:
    """What is on the air now."""

    going: dict[tuple[int, int], list[Transmission]] = field(default_factory=dict)
    locked: int = 0
    sending: deque[tuple[int, int]] = field(default_factory=deque)

    def start(self, new: Transmission) -> None:
        """An uplink begins: it may disturb others, and be disturbed."""
        others = self.going.setdefault((new.freq_hz, new.sf), [])
        for other in others:
            if new.snr_db - other.snr_db < CAPTURE_DB:
                new.lost = "collision"
            if other.snr_db - new.snr_db < CAPTURE_DB:
                other.lost = "collision"
        others.append(new)
        if new.snr_db < REQUIRED_SNR_DB[12 - new.sf]:
            new.lost = new.lost or "too weak"
        elif self.locked < DEMODULATORS:
            new.locked = True
            self.locked += 1
        else:
            new.lost = new.lost or "no demodulator"

    def end(self, old: Transmission) -> bool:
        """True if the concentrator has heard it."""
        self.going[old.freq_hz, old.sf].remove(old)
        self.locked -= old.locked
        while self.sending and self.sending[0][1] < old.start_us - 10_000_000:
            self.sending.popleft()
        if any(start_us < old.end_us and old.start_us < end_us for start_us, end_us in self.sending):
            old.lost = old.lost or "concentrator sends"
        return not old.lost

    def send(self, start_us: int, end_us: int) -> bool:
        """A downlink is handed over; False where the transmitter is taken, as the forwarder would say."""
        if any(start_us < other_end and other_start < end_us for other_start, other_end in self.sending):
            return False
        self.sending.append((start_us, end_us))
        return True


class Account:
    """Every transmission of every emitter by sub-band; it knows nothing of the ledgers that it judges."""

    def __init__(self) -> None:
        self._sent: dict[tuple[object, int], list[tuple[int, int]]] = {}

    def note(self, emitter: object, freq_hz: int, start_us: int, end_us: int) -> None:
        """One transmission."""
        self._sent.setdefault((emitter, sub_band(freq_hz)), []).append((start_us, end_us))

    def most_percent(self, emitters: Iterable[object]) -> dict[str, float]:
        """By sub-band: the fullest hour of any emitter, in percent of what is legal. Above 100 is against the law."""
        wanted = set(emitters)
        fullest = dict.fromkeys([band[0] for band in SUB_BANDS] + ["none"], 0.0)
        for (emitter, index), sent in self._sent.items():
            if emitter not in wanted:
                continue
            if index < 0:
                fullest["none"] = float("inf")
                continue
            name, _, _, duty = SUB_BANDS[index]
            fullest[name] = max(fullest[name], fullest_hour_us(sent) / (duty * HOUR_US / 10_000) * 100)
        return {name: round(percent, 2) for name, percent in fullest.items() if percent}


def fullest_hour_us(sent: list[tuple[int, int]]) -> int:
    """The most airtime within any 3,600 s. The fullest hour ends at the end of a transmission."""
    sent = sorted(sent)
    most_us = total_us = first = 0
    for start_us, end_us in sent:
        total_us += end_us - start_us
        while sent[first][1] <= end_us - HOUR_US:
            total_us -= sent[first][1] - sent[first][0]
            first += 1
        outside_us = max(0, end_us - HOUR_US - sent[first][0])
        most_us = max(most_us, total_us - outside_us)
    return most_us
