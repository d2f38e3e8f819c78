"""What goes down to a device after its uplink: acknowledgement, payloads, MAC commands; and through which window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from brim.lorawan import frames
from brim.lorawan.eu868 import MAX_PAYLOAD

from brim_gateway.network.dedup import FORGET_US, Slot
from brim_gateway.network.device import DeviceRow, Session, changed
from brim_gateway.network.downlink import Window
from brim_gateway.network.duty import still_counting
from brim_gateway.network.links import Links
from brim_gateway.network.mac_answers import answers_to
from brim_gateway.network.mac_requests import fitting, merged, requests
from brim_gateway.network.reception import Downlink
from brim_gateway.network.registry import Rows
from brim_gateway.network.slots import Slots
from brim_gateway.network.transmitters import Transmitters

MAX_QUEUED = 16
# The smallest FRMPayload of the region: a queued payload fits any window.
MAX_QUEUED_BYTES = min(MAX_PAYLOAD)
MAX_F_OPTS = 15

# How full a sub-band may be for each kind of downlink: a city that joins at once leaves room for acknowledgements, and
# what can wait (ADR, DevStatus) goes alone only while there is plenty.
JOIN_PERCENT = 90
DUE_PERCENT = 100
REQUEST_PERCENT = 50


@dataclass(frozen=True, slots=True)
class _Queued:
    f_port: int
    payload: bytes
    expires_us: int
    priority: int


@dataclass(slots=True)
class _InFlight:
    slot: Slot
    phy: bytes
    session: Session | None
    queued: _Queued | None
    started_us: int
    percent: int


@dataclass(frozen=True, slots=True)
class _Content:
    f_opts: bytes
    f_port: int | None
    payload: bytes
    asked: list[bytes]


class Answering:
    """The way down. Rows, slots and links are shared with the way up."""

    def __init__(self, rows: Rows, slots: Slots, links: Links, transmitters: Transmitters) -> None:
        self._rows = rows
        self._slots = slots
        self._links = links
        self._transmitters = transmitters
        self._queues: dict[str, deque[_Queued]] = {}
        self._in_flight: dict[int, _InFlight] = {}
        self._next_key = 1

    def queue(self, dev: str, f_port: int, payload: bytes, now_us: int, expires_us: int, priority: int) -> bool:
        """See NetworkServer.queue."""
        if self._rows.get(dev) is None or not 1 <= f_port <= 223 or not 0 < len(payload) <= MAX_QUEUED_BYTES:
            return False
        queue = self._queues.setdefault(dev, deque())
        _drop_expired(queue, now_us)
        if len(queue) >= MAX_QUEUED:
            return False
        _insert(queue, _Queued(f_port, payload, expires_us, priority))
        return True

    def queued(self, dev: str) -> int:
        """How many payloads wait."""
        return len(self._queues.get(dev, ()))

    def forget_device(self, dev: str) -> None:
        """Its queue too; unknown ones are fine."""
        self._queues.pop(dev, None)

    def forget(self, now_us: int) -> None:
        """Downlinks that no forwarder ever gave a verdict on."""
        while self._in_flight:
            key = next(iter(self._in_flight))
            if now_us - self._in_flight[key].started_us <= FORGET_US:
                return
            del self._in_flight[key]

    def answer(self, dev: str, now_us: int) -> Downlink | None:
        """See NetworkServer.answer."""
        slot, row = self._slots.of(dev, now_us), self._rows.get(dev)
        if slot is None or row is None or slot.answered:
            return None
        if slot.accept is not None:
            self._transmitters.release(slot)
            return self._start(_InFlight(slot, slot.accept, None, None, now_us, JOIN_PERCENT), row, now_us)
        session, link = row.session, self._links.get(dev)
        if session is None or session.f_cnt_down > frames.MAX_F_CNT:
            return None
        queue = self._queues.get(dev)
        if queue:
            _drop_expired(queue, now_us)
        due = bool(queue or slot.reply_due or slot.asks)
        asked: list[bytes] = []
        if link is not None and (due or (not slot.repeat and link.may_ask(slot.f_cnt))):
            asked = requests(row, session, link, now_us)
        if not due and not asked:
            return None
        queued = queue[0] if queue else None
        content = _content(slot, queued, asked)
        if not due and not content.asked:
            return None
        f_ctrl = (frames.ACK if slot.confirmed else 0) | (frames.F_PENDING if queue and len(queue) > 1 else 0)
        phy = self._rows.crypto(session).build_down(
            frames.DATA_DOWN, f_ctrl, session.f_cnt_down, content.f_opts, content.f_port, content.payload
        )
        taken = changed(session, f_cnt_down=session.f_cnt_down + 1)
        if content.asked:
            agreed = changed(session.agreed, asked=merged(session.agreed.asked, content.asked))
            taken = changed(taken, agreed=agreed)
        flight = _InFlight(slot, phy, session, queued, now_us, DUE_PERCENT if due else REQUEST_PERCENT)
        downlink = self._start(flight, changed(row, session=taken), now_us)
        if downlink is not None:
            if queue and queued is not None:
                queue.popleft()
            if content.asked and link is not None:
                link.asked(slot.f_cnt)
        return downlink

    def _start(self, flight: _InFlight, row: DeviceRow, now_us: int) -> Downlink | None:
        """Choose concentrator and window; on success the row (counter, airtime) is the device's new one."""
        slot = flight.slot
        window = self._transmitters.choose(slot, flight.session, len(flight.phy), now_us, flight.percent)
        return None if window is None else self._commit_to(flight, row, window, now_us)

    def _commit_to(self, flight: _InFlight, row: DeviceRow, window: Window, now_us: int) -> Downlink:
        slot = flight.slot
        slot.answered = True
        slot.answers += 1
        slot.tried.add((window.gateway, window.number))
        airtime_us = window.airtime_us(len(flight.phy))
        sent = self._transmitters.take(window, airtime_us)
        row = changed(row, sent=still_counting((*row.sent, sent), now_us))
        self._rows.change(row)
        key = self._next_key
        self._next_key += 1
        self._in_flight[key] = flight
        txpk, carries = window.txpk(flight.phy), flight.queued is not None
        return Downlink(row.dev, window.gateway, txpk, (row,), key, window.number, airtime_us, carries)

    def on_tx_ack(self, downlink: Downlink, error: str | None, now_us: int) -> Downlink | None:
        """See NetworkServer.on_tx_ack."""
        flight = self._in_flight.pop(downlink.key, None)
        row = self._rows.get(downlink.dev)
        if flight is None or row is None or error in (None, "NONE"):
            return None
        again = self._start(flight, row, now_us)
        if again is None and flight.queued is not None:
            _insert(self._queues.setdefault(downlink.dev, deque()), flight.queued, True)
        return again


def _content(slot: Slot, queued: _Queued | None, asked: list[bytes]) -> _Content:
    """What the frame carries. Answers come before requests; without a payload, commands that are too many for FOpts go
    to port 0 (LoRaWAN 1.0.4, section 4.3.1.6: never in both)."""
    answers = answers_to(slot.asks, slot.receptions, slot.known_us) if slot.asks else []
    room = MAX_QUEUED_BYTES if queued is None else min(MAX_F_OPTS, MAX_QUEUED_BYTES - len(queued.payload))
    answers = fitting(answers, room)
    asked = fitting(asked, room - sum(map(len, answers)))
    commands = b"".join(answers + asked)
    if queued is not None:
        return _Content(commands, queued.f_port, queued.payload, asked)
    if len(commands) > MAX_F_OPTS:
        return _Content(b"", 0, commands, asked)
    return _Content(commands, None, b"", asked)


def _insert(queue: deque[_Queued], entry: _Queued, again: bool = False) -> None:
    """Behind what is as important; before it, where it comes back."""
    behind = (each.priority > entry.priority or (each.priority == entry.priority and not again) for each in queue)
    queue.insert(sum(behind), entry)
    if len(queue) > MAX_QUEUED:
        queue.pop()


def _drop_expired(queue: deque[_Queued], now_us: int) -> None:
    for entry in [entry for entry in queue if entry.expires_us <= now_us]:
        queue.remove(entry)
