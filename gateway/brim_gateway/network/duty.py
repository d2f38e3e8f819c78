"""Airtime of every concentrator per sub-band in the last hour (ETSI EN 300 220-2), exact to the microsecond."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from brim.lorawan.eu868 import SUB_BANDS, sub_band

from brim_gateway.network.device import Sent

HOUR_US = 3_600_000_000
# A downlink is planned at most 16 s ahead and lasts a few.
AHEAD_US = 30_000_000


class DutyLedger:
    """Remembers what was sent in a sliding hour; a transmission counts until one hour after its end."""

    def __init__(self, sent: Iterable[Sent] = ()) -> None:
        self._sent: dict[tuple[str, str], deque[tuple[int, int]]] = {}
        self._used_us: dict[tuple[str, str], int] = {}
        self._held_us: dict[tuple[str, str], int] = {}
        for entry in sorted(sent, key=lambda entry: entry.end_us):
            self._add(entry)

    def clock_stepped(self, by_us: int) -> None:
        """The clock of all entries was set."""
        for key, entries in self._sent.items():
            self._sent[key] = deque((end_us + by_us, airtime_us) for end_us, airtime_us in entries)

    def _add(self, entry: Sent) -> None:
        key = (entry.gateway, entry.band)
        self._sent.setdefault(key, deque()).append((entry.end_us, entry.airtime_us))
        self._used_us[key] = self._used_us.get(key, 0) + entry.airtime_us

    def used_us(self, gateway: str, band: str, now_us: int) -> int:
        """Airtime that still counts at `now_us`."""
        key = (gateway, band)
        sent = self._sent.get(key)
        if not sent:
            return 0
        if sent[-1][0] > now_us + AHEAD_US:
            # Noted by a clock that has been set back since: it counts from now.
            ends = ((now_us if end_us > now_us + AHEAD_US else end_us, airtime_us) for end_us, airtime_us in sent)
            sent = self._sent[key] = deque(sorted(ends))
        while sent and sent[0][0] <= now_us - HOUR_US:
            self._used_us[key] -= sent.popleft()[1]
        return self._used_us[key]

    def load_percent(self, gateway: str, freq_hz: int, airtime_us: int, now_us: int) -> float:
        """How full the sub-band is with `airtime_us` more, what is held included; above 100 where no sub-band is."""
        index = sub_band(freq_hz)
        if index < 0:
            return 1000.0
        name, _, _, duty = SUB_BANDS[index]
        wanted_us = self.used_us(gateway, name, now_us) + self._held_us.get((gateway, name), 0) + airtime_us
        return wanted_us / (duty * (HOUR_US // 1_000_000))

    def hold(self, gateway: str, freq_hz: int, airtime_us: int) -> None:
        """Keep airtime for a downlink that is certain to come (negative: give it back)."""
        key = (gateway, SUB_BANDS[sub_band(freq_hz)][0])
        self._held_us[key] = self._held_us.get(key, 0) + airtime_us

    def spend(self, gateway: str, freq_hz: int, airtime_us: int, end_us: int) -> Sent:
        """Count a transmission; keep the entry with the device row, so that a restart knows of it."""
        entry = Sent(gateway, SUB_BANDS[sub_band(freq_hz)][0], end_us, airtime_us)
        self._add(entry)
        return entry


def still_counting(sent: Iterable[Sent], now_us: int) -> tuple[Sent, ...]:
    """The entries of the last hour; those of one concentrator and band within a minute become one, counted longest.

    An entry further ahead than a downlink can be was noted by a clock that has been set back since: it counts from now.
    """
    kept: list[Sent] = []
    for entry in sent:
        if entry.end_us > now_us + AHEAD_US:
            entry = Sent(entry.gateway, entry.band, now_us, entry.airtime_us)
        if entry.end_us <= now_us - HOUR_US:
            continue
        last = kept[-1] if kept else None
        if (
            last is not None
            and (last.gateway, last.band) == (entry.gateway, entry.band)
            and 0 <= entry.end_us - last.end_us < 60_000_000
        ):
            kept[-1] = Sent(entry.gateway, entry.band, entry.end_us, last.airtime_us + entry.airtime_us)
        else:
            kept.append(entry)
    return tuple(kept)
