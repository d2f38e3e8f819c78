"""The concentrators as transmitters: which of them, and which window, can carry a downlink."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from brim_gateway.network.agenda import Agenda
from brim_gateway.network.dedup import Slot
from brim_gateway.network.device import Sent, Session
from brim_gateway.network.downlink import Window, windows
from brim_gateway.network.duty import DutyLedger

PATH_EXPIRES_US = 90_000_000
MAX_PATHS = 256
# RX1 comes first while its sub-band is not fuller than this: it lets the bin sleep a second sooner.
BUSY_PERCENT = 50


@dataclass(frozen=True, slots=True)
class Pledge:
    """A window that is kept for a frame which will be built a little later."""

    window: Window
    airtime_us: int
    key: int


class Transmitters:
    """Paths, duty cycle and agenda of all concentrators. `lead_us`: what a frame needs on its way to the air."""

    def __init__(self, sent: Iterable[Sent], lead_us: int) -> None:
        self.duty = DutyLedger(sent)
        self._agenda = Agenda()
        self._lead_us = lead_us
        self._paths: dict[str, int] = {}
        self._pledges: dict[tuple[str, bytes], tuple[Pledge, int]] = {}

    def on_pull(self, gateway: str, now_us: int) -> None:
        """This concentrator can be sent downlinks for the next 90 s."""
        if gateway not in self._paths and len(self._paths) >= MAX_PATHS:
            self._paths = {each: at_us for each, at_us in self._paths.items() if now_us - at_us < PATH_EXPIRES_US}
            if len(self._paths) >= MAX_PATHS:
                return
        self._paths[gateway] = now_us

    def on_path_lost(self, gateway: str) -> None:
        """It can be sent nothing until its next PULL_DATA. Unknown ones are fine."""
        self._paths.pop(gateway, None)

    def clock_stepped(self, by_us: int) -> None:
        """The caller's clock was set: what was noted by it moves along."""
        self.duty.clock_stepped(by_us)
        self._agenda.clock_stepped(by_us)
        self._paths = {gateway: at_us + by_us for gateway, at_us in self._paths.items()}
        self._pledges = {key: (pledge, end_us + by_us) for key, (pledge, end_us) in self._pledges.items()}

    def forget_device(self, dev: str) -> None:
        """Give back what was pledged to it."""
        for key in [key for key in self._pledges if key[0] == dev]:
            self._give_back(self._pledges.pop(key)[0])

    def has_path(self, gateway: str, now_us: int) -> bool:
        """Did it ask for downlinks lately?"""
        return now_us - self._paths.get(gateway, -PATH_EXPIRES_US) < PATH_EXPIRES_US

    def choose(self, slot: Slot, session: Session | None, length: int, now_us: int, percent: int) -> Window | None:
        """The best window left for a frame of `length` bytes that fills no sub-band beyond `percent`, or None.

        The concentrator that heard the device best comes first. Of its windows RX1 does, unless it is the slower one
        (RX2 is also the stronger, by 13 dB) or its sub-band is busy and fuller than that of RX2.
        """
        ranked = slot.receptions
        if len(ranked) > 1:
            ranked = sorted(ranked, key=lambda r: (r.snr_db, r.rssi_dbm), reverse=True)
        for reception in ranked:
            if not self.has_path(reception.gateway, now_us):
                continue
            usable = []
            for window in windows(slot, session, reception):
                airtime_us = window.airtime_us(length)
                load = self.duty.load_percent(window.gateway, window.freq_hz, airtime_us, now_us)
                if (
                    load <= percent
                    and (window.gateway, window.number) not in slot.tried
                    and window.starts_us - now_us >= self._lead_us
                    and self._agenda.free(window.gateway, window.tmst_us, airtime_us, now_us)
                ):
                    usable.append((window, load))
            if len(usable) == 2:
                (first, first_load), (second, second_load) = usable
                if first.dr < second.dr or first_load > max(BUSY_PERCENT, second_load):
                    return second
            if usable:
                return usable[0][0]
        return None

    def take(self, window: Window, airtime_us: int) -> Sent:
        """The frame goes out in this window: its airtime counts from now on."""
        end_us = window.starts_us + airtime_us
        self._agenda.book(window.gateway, window.tmst_us, airtime_us, end_us)
        return self.duty.spend(window.gateway, window.freq_hz, airtime_us, end_us)

    def pledge(self, slot: Slot, length: int, now_us: int, percent: int) -> bool:
        """Keep a window for the answer to a join-request; False where none can carry it."""
        self.release(slot)
        window = self.choose(slot, None, length, now_us, percent)
        if window is None:
            return False
        airtime_us = window.airtime_us(length)
        end_us = window.starts_us + airtime_us
        key = self._agenda.book(window.gateway, window.tmst_us, airtime_us, end_us)
        self.duty.hold(window.gateway, window.freq_hz, airtime_us)
        self._pledges[slot.dev, slot.phy] = Pledge(window, airtime_us, key), end_us
        return True

    def release(self, slot: Slot) -> None:
        """Give back what was pledged, to be taken or left."""
        found = self._pledges.pop((slot.dev, slot.phy), None)
        if found is not None:
            self._give_back(found[0])

    def forget(self, now_us: int) -> None:
        """Pledges whose time has passed unused."""
        while self._pledges:
            key = next(iter(self._pledges))
            pledge, end_us = self._pledges[key]
            if end_us >= now_us:
                return
            del self._pledges[key]
            self._give_back(pledge)

    def _give_back(self, pledge: Pledge) -> None:
        self._agenda.cancel(pledge.window.gateway, pledge.key)
        self.duty.hold(pledge.window.gateway, pledge.window.freq_hz, -pledge.airtime_us)
