"""Receptions of concentrators on their way into the journal, and what is answered to the bins.

Order: verify and decrypt → commit readings and counters → PUSH_ACK → after the copy window the answers
(lorawan_answers). Datagrams that come together are committed together; where the store refuses that, each by itself.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from brim.lorawan.frames import CONFIRMED_UP, DATA_UP, JOIN_REQUEST
from brim.wire.ports import PORT_REPORT

from brim_gateway.decoders.brim import Decoded
from brim_gateway.errors import DecodeError, StoreFault
from brim_gateway.fleet.directory import Directory
from brim_gateway.fleet.queue import CommandDesk
from brim_gateway.fleet.strangers import Strangers
from brim_gateway.ingest.arrival import CONCENTRATOR, GATEWAY, to_reading
from brim_gateway.ingest.decoding import decode
from brim_gateway.ingest.lorawan_answers import Answers, Sender
from brim_gateway.ingest.tasks import Tasks
from brim_gateway.model import Radio, Reading
from brim_gateway.network.device import DeviceRow, with_used_counters
from brim_gateway.network.reception import Reception, UplinkResult
from brim_gateway.network.server import NetworkServer
from brim_gateway.ratelog import RateLog
from brim_gateway.store import registry
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Committed, Quarantined, Transaction

log = logging.getLogger("brim.lorawan")

COPY_WINDOW_S = 0.2
STEP_US = 1_000_000
"""A clock that runs fast or slow makes no such step between two datagrams."""
WAITING_MOST = 20_000
"""Receptions that wait for their commit, on a disk that is slow or full. Further ones are dropped unacknowledged."""
GATEWAYS_MOST = 1_000


def _claimed(phy: bytes) -> str:
    """Who a frame that nothing has verified says it is from: what an operator searches for."""
    kind = phy[0] >> 5
    if kind == JOIN_REQUEST:
        return f"device {phy[9:17][::-1].hex()}"
    return f"address {phy[1:5][::-1].hex()}" if kind in (DATA_UP, CONFIRMED_UP) else "a frame"


@dataclass(slots=True)
class _Push:
    """What the receptions of one datagram come to."""

    ack: Callable[[], None]
    faults: int
    readings: list[Reading] = field(default_factory=list)
    devices: dict[str, DeviceRow] = field(default_factory=dict)
    quarantine: list[Quarantined] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    reports: list[tuple[str, Decoded]] = field(default_factory=list)
    copies: int = 0
    receptions: int = 0


class LorawanIngest:
    """One for the daemon. ``clock_us`` is UTC, and ``source()`` says whose clock that is; ``reader`` is the loop's own
    read-only connection; ``desk`` has the operator's commands."""

    def __init__(
        self,
        server: NetworkServer,
        store: Store,
        directory: Directory,
        reader: sqlite3.Connection,
        *,
        clock_us: Callable[[], int],
        trust_time: bool,
        strangers: Strangers | None = None,
        desk: CommandDesk | None = None,
        source: Callable[[], str] = lambda: GATEWAY,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.server = server
        self.last_heard: dict[str, int] = {}
        self.strangers = strangers
        self._store = store
        self._directory = directory
        self._reader = reader
        self._clock_us = clock_us
        self._trust_time = trust_time
        self._source = source
        self._rate_log = RateLog(log)
        self._under_way: Counter[str] = Counter()
        self._tasks = Tasks(log, "handling an uplink")
        self._answers = Answers(
            server,
            store,
            reader,
            desk,
            self._now_us,
            self.counters,
            self._under_way,
            self._rate_log,
            self._tasks,
            self._flush,
        )
        self._gathered: list[_Push] = []
        self._ahead_us = clock_us() - time.monotonic_ns() // 1_000
        self._faults = 0
        self._waiting = 0
        self._behind = False

    @property
    def sender(self) -> Sender | None:
        """Where downlinks go; none are sent before it is set."""
        return self._answers.sender

    @sender.setter
    def sender(self, sender: Sender | None) -> None:
        self._answers.sender = sender

    def _now_us(self) -> int:
        """The clock; where it was set since the last look, the server is told."""
        now_us, steady_us = self._clock_us(), time.monotonic_ns() // 1_000
        step_us = now_us - steady_us - self._ahead_us
        self._ahead_us = now_us - steady_us
        if abs(step_us) > STEP_US:
            self.server.clock_stepped(step_us)
        return now_us

    def on_pull(self, gateway: str) -> None:
        """A concentrator has opened its downlink path."""
        self.server.on_pull(gateway, self._now_us())

    def on_push(self, gateway: str, receptions: Iterable[Reception], ack: Callable[[], None]) -> None:
        """``ack`` is called once everything in the datagram is committed; never if that fails."""
        if self._is_behind():
            self.refused["store is behind"] += 1
            return
        now_us = self._now_us()
        self.last_heard[gateway] = now_us
        if len(self.last_heard) > GATEWAYS_MOST:
            self.last_heard.pop(next(iter(self.last_heard)))
        push = _Push(ack, self._faults)
        for reception in receptions:
            self._one(reception, now_us, push)
        if not (push.readings or push.devices or push.quarantine or push.copies):
            ack()
            return
        self._waiting += push.receptions
        if not self._gathered:
            # After what else is at the socket now: one commit for all of it.
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append(push)

    def _flush(self) -> None:
        """Submit what was gathered."""
        if self._gathered:
            group, self._gathered = self._gathered, []
            self._tasks.spawn(self._take(group, self._submit(group)))

    def _is_behind(self) -> bool:
        """Whether too much waits for the disk. Said once when it begins and once when it is over."""
        behind = self._waiting >= (WAITING_MOST // 2 if self._behind else WAITING_MOST)
        if behind and not self._behind:
            log.error("%d receptions wait for the disk: further ones are not taken; bins keep them", self._waiting)
        if self._behind and not behind:
            log.warning("the disk has caught up; %d datagrams were not taken", self.refused["store is behind"])
        self._behind = behind
        return behind

    def _one(self, reception: Reception, now_us: int, push: _Push) -> None:
        self.counters["receptions"] += 1
        push.receptions += 1
        result = self.server.on_uplink(reception, now_us)
        self.counters[result.kind] += 1
        if result.kind == "refused":
            self._refuse(result.reason or "unknown", f"{result.dev or _claimed(reception.phy)} by {reception.gateway}")
            self._note_stranger(result.reason, reception)
            return
        dev = result.dev or ""
        for row in result.updates:
            push.devices[row.dev] = row
        if result.kind == "copy":
            push.copies += 1
        if result.kind == "join":
            log.info("join of %s accepted", dev)
            self._answers.joined(dev)
        if result.kind == "data" and result.f_port:
            self._decode(result, now_us, push)
        if result.answer_due:
            push.answers.append(dev)

    def _note_stranger(self, reason: str | None, reception: Reception) -> None:
        """A device that is not registered: perhaps one that somebody forgot to."""
        if self.strangers is None or reason not in ("unknown device", "unknown address"):
            return
        self.strangers.note(
            "dev" if reason == "unknown device" else "dev_addr",
            _claimed(reception.phy).rpartition(" ")[2],
            link="lorawan",
            via=reception.gateway,
            why="not registered" if reason == "unknown device" else "no such address here",
        )

    def _decode(self, result: UplinkResult, now_us: int, push: _Push) -> None:
        dev, reception = result.dev or "", result.reception
        record = self._directory.by_dev.get(dev)
        if record is None or reception is None:
            self._refuse("unknown device", dev)
            return
        try:
            if record.decoder == "brim" and result.f_port != PORT_REPORT:
                raise DecodeError(f"FPort {result.f_port} carries no report")
            decoded = decode(record, result.payload)
        except DecodeError as exc:
            self.counters["quarantined"] += 1
            self._rate_log.note("undecodable frame", f"{dev}: {exc}")
            push.quarantine.append(Quarantined(dev, "lorawan", now_us, str(exc), result.payload))
            return
        radio = Radio(
            "lorawan", reception.rssi_dbm, reception.snr_db, reception.sf, reception.freq_hz, reception.gateway
        )
        push.readings += [
            to_reading(
                one,
                record,
                received_us=now_us,
                heard_us=result.heard_us,
                time_source=CONCENTRATOR if self._trust_time and reception.time_us is not None else self._source(),
                # A device without numbers of its own: its session and frame counter name the reading, unless the
                # counter is forgotten; then the journal numbers it.
                epoch=0 if result.volatile else result.session or 0,
                seq=None if result.volatile else result.f_cnt,
                radio=radio,
            )
            for one in decoded.readings
        ]
        if decoded.backlog is not None:
            push.reports.append((dev, decoded))

    async def _take(self, group: list[_Push], stored: Awaitable[Committed]) -> None:
        """Acknowledge what is committed, and answer after the copy window."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        if not await self._committed(group, stored):
            group = await self._one_by_one(group)
        for push in group:
            # What a copy is a copy of was under way before it, and may be what was not stored.
            if not push.copies or self._faults == push.faults:
                push.ack()
        await asyncio.sleep(max(0.0, started + COPY_WINDOW_S - loop.time()))
        for push in group:
            try:
                for dev, decoded in push.reports:
                    self._answers.report_stored(dev, decoded)
                for dev in push.answers:
                    self._answers.answer(dev)
            except Exception:
                # The other bins of the group are not to go without.
                log.exception("fault while answering")

    def _submit(self, group: list[_Push]) -> Awaitable[Committed]:
        """Hand all of ``group`` to the store, now: rows reach it in the order in which the server made them."""
        devices = {dev: row for push in group for dev, row in push.devices.items()}
        self._under_way.update(devices.keys())
        return self._store.submit(
            Transaction(
                tuple(reading for push in group for reading in push.readings),
                tuple(devices.values()),
                tuple(item for push in group for item in push.quarantine),
            )
        )

    async def _committed(self, group: list[_Push], stored: Awaitable[Committed]) -> bool:
        """Whether all of ``group`` is on disk now; if not, nothing of it is."""
        try:
            # However late: a disk that refuses for a while costs time, and no reading.
            await stored
        except StoreFault as exc:
            self._rate_log.note("not stored", str(exc), logging.ERROR)
            return False
        finally:
            self._under_way.subtract({dev for push in group for dev in push.devices})
        self._waiting -= sum(push.receptions for push in group)
        return True

    async def _one_by_one(self, group: list[_Push]) -> list[_Push]:
        """One of ``group`` may be what the store cannot take, and the others are not to suffer for it: those that could
        be stored alone. The others are neither acknowledged nor answered: forwarder and bin keep them."""
        devs = {dev for push in group for dev in push.devices}
        # Nothing goes back before the last of them: what comes later in the group would be behind the disk.
        self._under_way.update(devs)
        stored = []
        for push in group:
            for dev, row in push.devices.items():
                now = self.server.device(dev)
                push.devices[dev] = row if now is None else with_used_counters(row, now)
            if len(group) > 1 and await self._committed([push], self._submit([push])):
                stored.append(push)
                continue
            self._faults += 1
            self.counters["not_stored"] += 1
            self._waiting -= push.receptions
        self._under_way.subtract(devs)
        if len(stored) < len(group):
            self._go_back(devs)
        return stored

    def _go_back(self, devs: Iterable[str]) -> None:
        """Let the network server forget what was not stored, so that it is new when it comes again.

        Not while a later commit of the same device is under way: its counters must never run behind the disk's.
        """
        for dev in devs:
            if self._under_way[dev] > 0:
                continue
            try:
                row = registry.find_device(self._reader, dev)
            except (StoreFault, sqlite3.Error) as exc:
                self._rate_log.note("not read back", str(exc), logging.ERROR)
                continue
            if row is not None:
                self.server.restore_device(row)

    def on_tx_ack(self, gateway: str, token: bytes, error: str | None) -> None:
        """The forwarder's verdict on a downlink."""
        self._answers.on_tx_ack(gateway, token, error)

    async def settle(self, within_s: float) -> None:
        """Wait for the commits and answers under way, but not for a disk that refuses."""
        self._flush()
        await self._tasks.settle(within_s)

    def _refuse(self, reason: str, text: str) -> None:
        self.refused[reason] += 1
        self._rate_log.note(f"refused ({reason})", text)
