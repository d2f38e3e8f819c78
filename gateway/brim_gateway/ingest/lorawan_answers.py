"""What is answered to LoRaWAN bins once their uplinks are committed: acknowledgements, commands, what the network
server wants. The counter of a downlink is committed before it is sent."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from brim.wire.command import encode_commands
from brim.wire.ports import PORT_COMMAND
from brim.wire.report_encoder import BACKLOG_ANSWERED

from brim_gateway.decoders.brim import Decoded
from brim_gateway.errors import StoreFault
from brim_gateway.fleet.acks import acknowledgement, oldest_wanted
from brim_gateway.fleet.queue import Command, CommandDesk
from brim_gateway.ingest.tasks import Tasks
from brim_gateway.network.reception import Downlink
from brim_gateway.network.server import NetworkServer
from brim_gateway.ratelog import RateLog
from brim_gateway.store.numbers import held_seqs
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Committed, Transaction

COMMAND_LIVES_US = 1_000_000
"""A command goes with the answer that is chosen now; otherwise the desk gives it out again."""
ACK_LIVES_US = 10_000_000
"""Until the windows of this uplink are over: the next report brings a fresher acknowledgement."""
UNANSWERED_MOST = 1_000
KNOWN_MOST = 10_000


class Sender(Protocol):
    """The concentrators' endpoint: gives the token that TX_ACK will name, or None without a path."""

    def send(self, gateway: str, txpk: dict[str, Any]) -> bytes | None: ...


class Answers:
    """``under_way`` counts, by device, the commits that are not through yet: shared with the uplinks' side. ``before``
    submits the uplinks that are not submitted yet: rows reach the store in the order in which the server made them."""

    def __init__(
        self,
        server: NetworkServer,
        store: Store,
        reader: sqlite3.Connection,
        desk: CommandDesk | None,
        clock_us: Callable[[], int],
        counters: Counter[str],
        under_way: Counter[str],
        rate_log: RateLog,
        tasks: Tasks,
        before: Callable[[], None],
    ) -> None:
        self.sender: Sender | None = None
        self._server, self._store, self._reader, self._desk = server, store, reader, desk
        self._clock_us, self._counters, self._under_way = clock_us, counters, under_way
        self._rate_log, self._tasks, self._before = rate_log, tasks, before
        self._joined: set[str] = set()
        self._oldest: dict[tuple[str, int], int] = {}
        # The operator's command in a bin's last downlink: the forwarder may refuse it yet. As many as bins.
        self._given: dict[str, Command] = {}
        # Queued for the next downlink with a payload, until then. As many as bins.
        self._offered: dict[str, tuple[Command | None, int]] = {}
        self._sent: dict[tuple[str, bytes], Downlink] = {}

    def joined(self, dev: str) -> None:
        """The bin has lost its memory of us: its next report is acknowledged."""
        self._joined.add(dev)

    def answer(self, dev: str) -> None:
        """Choose what is due to ``dev`` now; it is committed and sent beside this call."""
        self._before()
        self._offer_command(dev)
        downlink = self._server.answer(dev, self._clock_us())
        if downlink is None:
            self._given.pop(dev, None)
        else:
            # A join-accept carries no command: that waits on.
            command = self._offered.pop(dev, (None, 0))[0] if downlink.carries_payload else None
            self._tasks.spawn(self._deliver(downlink, self._submit(downlink), command))

    def _submit(self, downlink: Downlink) -> Awaitable[Committed]:
        """Hand the downlink's rows to the store, now: later ones of this device must not overtake them."""
        self._under_way[downlink.dev] += 1
        return self._store.submit(Transaction(devices=downlink.updates))

    async def _deliver(self, downlink: Downlink, stored: Awaitable[Committed], command: Command | None) -> None:
        sent = await self._send(downlink, stored)
        self._given.pop(downlink.dev, None)
        if sent and command is not None and self._desk is not None:
            self._given[downlink.dev] = command
            with contextlib.suppress(StoreFault):  # it stays in the table, and is sent once more
                await self._desk.sent(command)

    def report_stored(self, dev: str, decoded: Decoded) -> None:
        """Queue an acknowledgement where the bin needs one."""
        newest = decoded.readings[-1]
        if newest.epoch is None or newest.seq is None or decoded.backlog is None:
            return
        key = (dev, newest.epoch)
        oldest = oldest_wanted(newest.seq, decoded.backlog, self._oldest.pop(key, 1))
        self._oldest[key] = oldest
        if len(self._oldest) > KNOWN_MOST:
            self._oldest.pop(next(iter(self._oldest)))
        if decoded.backlog < min(len(decoded.readings), BACKLOG_ANSWERED) and dev not in self._joined:
            # All that the bin still holds came in this very report, so nothing can be missing.
            return
        held = held_seqs(self._reader, dev, newest.epoch, oldest, 0xFFFF)
        command = acknowledgement(newest.epoch, newest.seq, decoded.backlog, oldest, held, dev in self._joined)
        if command is None:
            return
        now_us = self._clock_us()
        if self._server.queue(dev, PORT_COMMAND, encode_commands([command]), now_us, now_us + ACK_LIVES_US):
            self._counters["acks_queued"] += 1
            self._joined.discard(dev)

    def _offer_command(self, dev: str) -> None:
        """Let an operator's command go with the next downlink, unless something else does already."""
        now_us = self._clock_us()
        if dev in self._offered and self._offered[dev][1] <= now_us:
            del self._offered[dev]
        command = self._desk.due(dev) if self._desk is not None else None
        if command is None or self._server.queued(dev):
            return
        expires_us = now_us + COMMAND_LIVES_US
        if self._server.queue(dev, command.f_port, command.payload, now_us, expires_us):
            self._offered[dev] = command, expires_us

    async def _send(self, downlink: Downlink, stored: Awaitable[Committed]) -> bool:
        """Send the downlink once the counter that it uses is committed. Whether a concentrator was given it."""
        try:
            await stored
        except StoreFault as exc:
            self._rate_log.note("downlink not sent", str(exc), logging.ERROR)
            return False
        finally:
            self._under_way[downlink.dev] -= 1
        if self.sender is None:
            return False
        token = self.sender.send(downlink.gateway, downlink.txpk)
        if token is None:
            self._counters["no_path"] += 1
            return False
        self._counters["downlinks"] += 1
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
            self._counters["tx_refused"] += 1
            self._rate_log.note("downlink refused by forwarder", f"{downlink.dev}: {error}")
        self._before()
        again = self._server.on_tx_ack(downlink, error, self._clock_us())
        if again is not None:
            self._tasks.spawn(self._send_again(again, self._submit(again)))
        elif error not in (None, "NONE") and downlink.dev in self._given:
            self._tasks.spawn(self._put_back(self._given.pop(downlink.dev)))

    async def _put_back(self, command: Command) -> None:
        if self._desk is not None:
            with contextlib.suppress(StoreFault):  # it waits in memory, and a restart forgets it
                await self._desk.put_back(command)

    async def _send_again(self, downlink: Downlink, stored: Awaitable[Committed]) -> None:
        if not await self._send(downlink, stored) and downlink.dev in self._given:
            await self._put_back(self._given.pop(downlink.dev))
