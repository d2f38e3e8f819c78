"""Receptions of concentrators on their way into the journal, and what is answered to the bins.

Order: verify and decrypt → commit readings and counters → PUSH_ACK → after the copy window choose the answer →
commit its counter → send it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from brim.lorawan.frames import CONFIRMED_UP, DATA_UP, JOIN_REQUEST
from brim.wire.command import encode_commands
from brim.wire.ports import PORT_COMMAND, PORT_REPORT

from brim_gateway.decoders.brim import Decoded
from brim_gateway.errors import DecodeError, StoreFault
from brim_gateway.fleet.acks import acknowledgement, oldest_wanted
from brim_gateway.fleet.directory import Directory
from brim_gateway.fleet.queue import Command, CommandDesk
from brim_gateway.fleet.strangers import Strangers
from brim_gateway.ingest.arrival import CONCENTRATOR, GATEWAY, to_reading
from brim_gateway.ingest.decoding import decode
from brim_gateway.model import Radio, Reading
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.reception import Downlink, Reception, UplinkResult
from brim_gateway.network.server import NetworkServer
from brim_gateway.ratelog import RateLog
from brim_gateway.store import registry
from brim_gateway.store.numbers import held_seqs
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Quarantined, Transaction

log = logging.getLogger("brim.lorawan")

COPY_WINDOW_S = 0.2
COMMAND_LIVES_US = 1_000_000
"""A command goes with the answer that is chosen now; otherwise the desk gives it out again."""
ACK_LIVES_US = 10_000_000
"""Until the windows of this uplink are over: the next report brings a fresher acknowledgement."""
WAITING_MOST = 20_000
"""Receptions that wait for their commit, on a disk that is slow or full. Further ones are dropped unacknowledged."""
UNANSWERED_MOST = 1_000
KNOWN_MOST = 10_000


def _claimed(phy: bytes) -> str:
    """Who a frame that nothing has verified says it is from: what an operator searches for."""
    kind = phy[0] >> 5
    if kind == JOIN_REQUEST:
        return f"device {phy[9:17][::-1].hex()}"
    return f"address {phy[1:5][::-1].hex()}" if kind in (DATA_UP, CONFIRMED_UP) else "a frame"


class Sender(Protocol):
    """The concentrators' endpoint: gives the token that TX_ACK will name, or None without a path."""

    def send(self, gateway: str, txpk: dict[str, Any]) -> bytes | None: ...


@dataclass(slots=True)
class _Batch:
    """What the receptions of one datagram come to."""

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
        self.sender: Sender | None = None
        self.server = server
        self.last_heard: dict[str, int] = {}
        self._store = store
        self._directory = directory
        self._reader = reader
        self._clock_us = clock_us
        self._trust_time = trust_time
        self.strangers = strangers
        self._desk = desk
        self._source = source
        self._rate_log = RateLog(log)
        self._sent: dict[tuple[str, bytes], Downlink] = {}
        self._joined: set[str] = set()
        self._under_way: Counter[str] = Counter()
        self._oldest: dict[tuple[str, int], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults = 0
        self._waiting = 0
        self._behind = False

    def on_pull(self, gateway: str) -> None:
        """A concentrator has opened its downlink path."""
        self.server.on_pull(gateway, self._clock_us())

    def on_push(self, gateway: str, receptions: Iterable[Reception], ack: Callable[[], None]) -> None:
        """``ack`` is called once everything in the datagram is committed; never if that fails."""
        if self._is_behind():
            self.refused["store is behind"] += 1
            return
        now_us = self._clock_us()
        self.last_heard[gateway] = now_us
        if len(self.last_heard) > UNANSWERED_MOST:
            self.last_heard.pop(next(iter(self.last_heard)))
        batch = _Batch()
        for reception in receptions:
            self._one(reception, now_us, batch)
        if not (batch.readings or batch.devices or batch.quarantine or batch.copies):
            ack()
            return
        self._waiting += batch.receptions
        self._spawn(self._commit(batch, ack))

    def _is_behind(self) -> bool:
        """Whether too much waits for the disk. Said once when it begins and once when it is over."""
        behind = self._waiting >= (WAITING_MOST // 2 if self._behind else WAITING_MOST)
        if behind and not self._behind:
            log.error("%d receptions wait for the disk: further ones are not taken; bins keep them", self._waiting)
        if self._behind and not behind:
            log.warning("the disk has caught up; %d datagrams were not taken", self.refused["store is behind"])
        self._behind = behind
        return behind

    def _one(self, reception: Reception, now_us: int, batch: _Batch) -> None:
        self.counters["receptions"] += 1
        batch.receptions += 1
        result = self.server.on_uplink(reception, now_us)
        self.counters[result.kind] += 1
        if result.kind == "refused":
            self._refuse(result.reason or "unknown", f"{result.dev or _claimed(reception.phy)} by {reception.gateway}")
            self._note_stranger(result.reason, reception)
            return
        dev = result.dev or ""
        for row in result.updates:
            batch.devices[row.dev] = row
        if result.kind == "copy":
            batch.copies += 1
        if result.kind == "join":
            log.info("join of %s accepted", dev)
            self._joined.add(dev)
        if result.kind == "data" and result.f_port:
            self._decode(result, now_us, batch)
        if result.answer_due:
            batch.answers.append(dev)

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

    def _decode(self, result: UplinkResult, now_us: int, batch: _Batch) -> None:
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
            batch.quarantine.append(Quarantined(dev, "lorawan", now_us, str(exc), result.payload))
            return
        radio = Radio(
            "lorawan", reception.rssi_dbm, reception.snr_db, reception.sf, reception.freq_hz, reception.gateway
        )
        batch.readings += [
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
            batch.reports.append((dev, decoded))

    async def _commit(self, batch: _Batch, ack: Callable[[], None]) -> None:
        started = asyncio.get_running_loop().time()
        transaction = Transaction(tuple(batch.readings), tuple(batch.devices.values()), tuple(batch.quarantine))
        self._under_way.update(batch.devices.keys())
        faults = self._faults
        try:
            # However late: a disk that refuses for a while costs time, and no reading.
            await self._store.submit(transaction)
        except StoreFault as exc:
            self._faults += 1
            # Not stored, so neither acknowledged nor answered: the forwarder and the bin keep it.
            self.counters["not_stored"] += 1
            self._rate_log.note("not stored", str(exc), logging.ERROR)
            self._under_way.subtract(batch.devices.keys())
            self._go_back(batch.devices)
            return
        finally:
            self._waiting -= batch.receptions
        self._under_way.subtract(batch.devices.keys())
        if batch.copies and self._faults != faults:
            # What they are copies of was under way before them, and may be what was not stored.
            return
        ack()
        if batch.answers:
            await asyncio.sleep(max(0.0, started + COPY_WINDOW_S - asyncio.get_running_loop().time()))
            for dev, decoded in batch.reports:
                self._queue_ack(dev, decoded)
            for dev in batch.answers:
                command = self._queue_command(dev)
                sent = await self._send(self.server.answer(dev, self._clock_us()))
                if sent and command is not None and self._desk is not None:
                    with contextlib.suppress(StoreFault):  # it stays in the table, and is sent once more
                        await self._desk.sent(command)

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

    def _queue_ack(self, dev: str, decoded: Decoded) -> None:
        newest = decoded.readings[-1]
        if newest.epoch is None or newest.seq is None or decoded.backlog is None:
            return
        key = (dev, newest.epoch)
        oldest = oldest_wanted(newest.seq, decoded.backlog, self._oldest.pop(key, 1))
        self._oldest[key] = oldest
        if len(self._oldest) > KNOWN_MOST:
            self._oldest.pop(next(iter(self._oldest)))
        held = held_seqs(self._reader, dev, newest.epoch, oldest, 0xFFFF)
        command = acknowledgement(newest.epoch, newest.seq, decoded.backlog, oldest, held, dev in self._joined)
        if command is None:
            return
        now_us = self._clock_us()
        if self.server.queue(dev, PORT_COMMAND, encode_commands([command]), now_us, now_us + ACK_LIVES_US):
            self.counters["acks_queued"] += 1
            self._joined.discard(dev)

    def _queue_command(self, dev: str) -> Command | None:
        """Let an operator's command go with the next downlink, unless something else does already."""
        command = self._desk.due(dev) if self._desk is not None else None
        now_us = self._clock_us()
        if command is None or self.server.queued(dev):
            return None
        queued = self.server.queue(dev, command.f_port, command.payload, now_us, now_us + COMMAND_LIVES_US)
        return command if queued else None

    async def _send(self, downlink: Downlink | None) -> bool:
        """Commit the counter that the downlink uses, then send it. Whether a concentrator was given it."""
        if downlink is None or self.sender is None:
            return False
        self._under_way[downlink.dev] += 1
        try:
            await self._store.submit(Transaction(devices=downlink.updates))
        except StoreFault as exc:
            self._rate_log.note("downlink not sent", str(exc), logging.ERROR)
            return False
        finally:
            self._under_way[downlink.dev] -= 1
        token = self.sender.send(downlink.gateway, downlink.txpk)
        if token is None:
            self.counters["no_path"] += 1
            return False
        self.counters["downlinks"] += 1
        self._sent[downlink.gateway, token] = downlink
        if len(self._sent) > UNANSWERED_MOST:
            self._sent.pop(next(iter(self._sent)))
        return True

    def on_tx_ack(self, gateway: str, token: bytes, error: str | None) -> None:
        """The forwarder's verdict on a downlink; a refused RX1 goes out again for RX2."""
        downlink = self._sent.pop((gateway, token), None)
        if downlink is None:
            return
        if error not in (None, "NONE"):
            self.counters["tx_refused"] += 1
            self._rate_log.note("downlink refused by forwarder", f"{downlink.dev}: {error}")
        again = self.server.on_tx_ack(downlink, error, self._clock_us())
        if again is not None:
            self._spawn(self._send_again(again))

    async def _send_again(self, downlink: Downlink) -> None:
        await self._send(downlink)

    async def settle(self, within_s: float) -> None:
        """Wait for the commits and answers under way, but not for a disk that refuses."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("fault while handling an uplink", exc_info=task.exception())

    def _refuse(self, reason: str, text: str) -> None:
        self.refused[reason] += 1
        self._rate_log.note(f"refused ({reason})", text)
