"""How well each device is heard: in memory only, a restart begins anew."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from brim.lorawan import frames

from brim_gateway.network.adr import HISTORY, REQUIRED_SNR_DB
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.reception import Reception

# So many frames missing in a row are no radio loss: the device was away, or has skipped counters after a power cut.
# It is also ADR_ACK_DELAY: after it a device may have gone back to other rates and channels.
GAP = 32
MAX_CONCENTRATORS = 16
# Uplinks that pass between two requests that a device never answers: 2, 4, 8, 16.
MAX_SILENCE = 4


@dataclass(slots=True)
class Hearing:
    """One concentrator's last reception of a device."""

    snr_db: float
    rssi_dbm: float
    sf: int
    at_us: int


class Link:
    """One device. `doubt`: rate, power and channels of the device may be other than what it last agreed to."""

    __slots__ = (
        "adr",
        "asked_at",
        "concentrators",
        "doubt",
        "dr",
        "granted",
        "history",
        "ignored",
        "session",
        "silence",
        "since_us",
        "waiting",
    )

    def __init__(self, session: int, now_us: int) -> None:
        self.session = session
        self.since_us = now_us
        self.concentrators: dict[str, Hearing] = {}
        self.history: deque[tuple[int, float]] = deque(maxlen=HISTORY)
        self.adr = False
        self.dr = 0
        self.doubt = False
        # The rate that the device last agreed to, and how often it was asked again because it did not go there.
        self.granted: int | None = None
        self.ignored = 0
        self.asked_at: int | None = None
        self.waiting = False
        self.silence = 0

    def heard(self, f_cnt: int, before: int | None, f_ctrl: int, reception: Reception, at_us: int) -> None:
        """A new uplink; `before` is the counter of the one that came last."""
        if f_cnt - (-1 if before is None else before) > GAP:
            self.history.clear()
            self.doubt = True
        if f_ctrl & frames.ADR_ACK_REQ:
            self.doubt = True
        while self.history and self.history[-1][0] >= f_cnt:
            # Heard before, but never stored: it came again.
            self.history.pop()
        self.adr = bool(f_ctrl & frames.ADR)
        self.dr = 12 - reception.sf
        self.history.append((f_cnt, reception.snr_db))
        self.by(reception, at_us)

    def copied(self, reception: Reception, at_us: int) -> None:
        """Another concentrator heard the last uplink too."""
        if self.history and reception.snr_db > self.history[-1][1]:
            self.history[-1] = (self.history[-1][0], reception.snr_db)
        self.by(reception, at_us)

    def by(self, reception: Reception, at_us: int) -> None:
        """Which concentrator heard it, and how."""
        known = self.concentrators
        known[reception.gateway] = Hearing(reception.snr_db, reception.rssi_dbm, reception.sf, at_us)
        if len(known) > MAX_CONCENTRATORS:
            del known[min(known, key=lambda gateway: known[gateway].at_us)]

    def best_snr_db(self) -> float:
        """Of the last uplinks; there must be one."""
        return max(snr_db for _, snr_db in self.history)

    def loss_percent(self) -> float:
        """Of the last uplinks; there must be one. Their counters rise, so the ends tell how many there should be."""
        sent = self.history[-1][0] - self.history[0][0] + 1
        return 100 * (sent - len(self.history)) / sent

    # Requests and their answers.

    def asked(self, f_cnt: int) -> None:
        """A request goes out in answer to uplink `f_cnt`."""
        self.asked_at, self.waiting = f_cnt, True

    def answered(self, any_answer: bool) -> None:
        """A new uplink came, with or without an answer to what was asked."""
        if any_answer:
            self.asked_at, self.silence = None, 0
        elif self.waiting:
            self.silence = min(self.silence + 1, MAX_SILENCE)
        self.waiting = False

    def may_ask(self, f_cnt: int) -> bool:
        """Is it time for a downlink that carries nothing but requests?"""
        if self.asked_at is None or not self.silence:
            return True
        return f_cnt - self.asked_at >= 1 << self.silence


class Links:
    """All of them; as many as devices that were heard."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}

    def get(self, dev: str) -> Link | None:
        """None: not heard since the start."""
        return self._links.get(dev)

    def of(self, dev: str, session: int, now_us: int) -> Link:
        """The link of a device in a session; a new session begins with an empty history."""
        link = self._links.get(dev)
        if link is None or link.session != session:
            link = self._links[dev] = Link(session, now_us)
        return link

    def forget(self, dev: str) -> None:
        """Unknown ones are fine."""
        self._links.pop(dev, None)


def describe(row: DeviceRow, link: Link | None) -> dict[str, Any]:
    """What is known of a device's radio, JSON-ready; None where nothing is. Times are UTC microseconds.

    `margin_db`: the best SNR of the last uplinks above what the rate needs. `battery_percent` is None on external power
    and where the device does not know. `refused`: MAC commands (cid) that it has refused.
    """
    agreed = row.session.agreed if row.session is not None else None
    status = row.status
    report: dict[str, Any] = {
        "dev": row.dev,
        "dr": None,
        "power": None if agreed is None else agreed.power,
        "nb_trans": None if agreed is None else agreed.nb_trans,
        "adr": None,
        "best_snr_db": None,
        "margin_db": None,
        "loss_percent": None,
        "uplinks": 0,
        "concentrators": [],
        "battery": None if status is None else status.battery,
        "battery_percent": None
        if status is None or not 0 < status.battery < 255
        else round((status.battery - 1) / 2.53),
        "device_margin_db": None if status is None else status.margin_db,
        "status_at_us": None if status is None else status.at_us,
        "refused": [] if agreed is None else [cid for cid, times, _ in agreed.refused if times],
    }
    if link is not None:
        heard = sorted(link.concentrators.items(), key=lambda item: item[1].snr_db, reverse=True)
        report["concentrators"] = [{"gateway": gateway} | asdict(hearing) for gateway, hearing in heard]
        if link.history:
            best = link.best_snr_db()
            report |= {
                "dr": link.dr,
                "adr": link.adr,
                "best_snr_db": best,
                "margin_db": best - REQUIRED_SNR_DB[link.dr],
                "loss_percent": round(link.loss_percent(), 1),
                "uplinks": len(link.history),
            }
    return report
