"""One output: reads the journal behind its own cursor, hands rows over, moves the cursor on when they are acknowledged.

A slow or dead backend holds back nobody else. After a break everything that is not known to be acknowledged is sent
again under the same uid: at most ``window`` rows, because no more are handed over beyond the cursor that is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from brim_gateway.config import OutputConfig
from brim_gateway.model import clean_text
from brim_gateway.mqtt import client_codec as mqtt
from brim_gateway.outputs.letters import remade
from brim_gateway.outputs.messages import Message, row_messages, status_message
from brim_gateway.outputs.mqtt import LinkLost, MqttLink, connect
from brim_gateway.outputs.pace import REFUSED_RETRY_S, RETRY_S, Pace
from brim_gateway.outputs.tail import Tail
from brim_gateway.ratelog import RateLog
from brim_gateway.store import journal, outputs
from brim_gateway.store.journal import JournalRow
from brim_gateway.store.outputs import DeadLetter, Place, Progress
from brim_gateway.store.store import Store

log = logging.getLogger("brim.output")

ROWS_AT_ONCE = 500
REFUSED_IN_A_ROW = 10
"""One refused message is put aside. So many in a row, and nothing taken between: the broker is wrong, not they."""
FINISH_S = 1.0


@dataclass(slots=True)
class OutputStatus:
    """For status, /health and /metrics."""

    name: str
    connected: bool = False
    protocol: str = ""
    cursor: int = 0
    acknowledged: int = 0
    refused: int = 0
    reconnects: int = 0
    in_flight: int = 0
    last_fault: str = ""


@dataclass(slots=True)
class _Handing:
    """A row on its way: how many of its messages are not settled yet, and what of it was refused."""

    row_id: int
    left: int
    letters: tuple[DeadLetter, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """One message of a row (``handing``), or a dead letter that is tried again (``letter_id``)."""

    message: Message
    number: int = 0
    handing: _Handing | None = None
    letter_id: int | None = None


class OutputRunner:
    """``start()`` in the daemon's loop; ``await stop()`` waits for what is in flight, a second at most."""

    def __init__(
        self,
        config: OutputConfig,
        site: str,
        store: Store,
        tail: Tail,
        place: Place,
        password: str | None,
        clock_us: Callable[[], int],
    ) -> None:
        self.config = config
        self.status = OutputStatus(config.name, cursor=place.cursor)
        self._site = site
        self._store = store
        self._tail = tail
        self._password = password
        self._clock_us = clock_us
        self._client_id = config.client_id or place.client_id
        self._rate_log = RateLog(log)
        self._version = 4 if config.protocol == "3.1.1" else 5
        self._has_worked = False
        self._pace = Pace()
        self._refused_in_a_row = 0
        self._link: MqttLink | None = None
        self._reader: sqlite3.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._settled = asyncio.Event()
        self._noted = place.cursor
        # By row and part, until the cursor has passed: a broker may hang up on what it refuses, and is not asked again.
        self._put_aside: dict[tuple[int, int], DeadLetter] = {}
        # Rows acknowledged and not known to be on disk as such: a new connection does not make them safer.
        self._unnoted: deque[int] = deque()
        self._letters_tried_to = 0
        self._reset()

    def _reset(self) -> None:
        """Nothing is on its way."""
        self._read: deque[tuple[JournalRow, bool]] = deque()
        self._read_to = self.status.cursor
        self._unsent: deque[_Part] = deque()
        self._sent: deque[_Handing] = deque()
        self._waiting: dict[int, _Part] = {}
        self._delivered_letters: list[int] = []
        self._letters_out: set[int] = set()
        self._refusal: LinkLost | None = None

    def start(self) -> None:
        """Begin to hand over."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Take the last acknowledgements, say goodbye, end."""
        self._stopping.set()
        if self._task is not None:
            if self._link is None:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._loading is not None:
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._reader is not None:
            self._reader.close()

    def on_commit(self, noted: int | None) -> None:
        """Rows were committed, or this output's cursor is on disk as far as ``noted``."""
        if noted is not None:
            self._noted = max(self._noted, noted)
            while self._unnoted and self._unnoted[0] <= self._noted:
                self._unnoted.popleft()
        self._pump()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._connection()
                continue
            except LinkLost as exc:
                pause_s = self._lost(exc)
            except Exception:  # an output must outlive its own faults; the row stays
                log.exception("output %s: fault of its own", self.config.name)
                pause_s = REFUSED_RETRY_S
            finally:
                self._link = None
                self.status.connected = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    def _lost(self, exc: LinkLost) -> float:
        """Note the loss; how long to wait before the next attempt."""
        self.status.reconnects += 1
        self.status.last_fault = clean_text(exc)
        self._rate_log.note(f"output {self.config.name}", str(exc))
        # A broker that hangs up before its CONNACK may not know MQTT 5, or may be going down; what has worked stays.
        if self.config.protocol == "auto" and exc.wrong_version and (exc.answered or not self._has_worked):
            self._version = 4 if self._version == 5 else 5
            if self._version == 4:
                return 0.0
        return self._pace.lost(asyncio.get_running_loop().time(), busy=exc.busy, refused=exc.refused)

    async def _connection(self) -> None:
        """One connection from CONNECT to its loss (LinkLost) or to the stop."""
        will = status_message(self._site, online=False)
        link = MqttLink(self.config, self._version, self._password, will, self._client_id, self)
        await connect(link, self.config)
        self._reset()
        self._has_worked = self.status.connected = True
        self.status.protocol = "5" if self._version == 5 else "3.1.1"
        log.info("output %s: connected, MQTT %s", self.config.name, self.status.protocol)
        self._link = link
        self._pace.connected(asyncio.get_running_loop().time())
        self._unsent.append(_Part(status_message(self._site, online=True)))
        self._pump()
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((link.lost, stopping), return_when=asyncio.FIRST_COMPLETED)
            if link.lost.done():
                raise self._refusal or link.lost.result()
            await self._finish(link)
        finally:
            stopping.cancel()
            link.drop()

    async def _finish(self, link: MqttLink) -> None:
        """The gateway stops: take the last acknowledgements, say that we go."""
        self._read.clear()
        self._unsent.clear()
        if link.room > 0:  # otherwise the will says it
            goodbye = _Part(status_message(self._site, online=False))
            self._waiting[link.publish(goodbye.message)] = goodbye
            link.flush()
        settled = asyncio.ensure_future(self._settled.wait())
        await asyncio.wait((settled, link.lost), timeout=FINISH_S, return_when=asyncio.FIRST_COMPLETED)
        settled.cancel()
        link.goodbye()

    # Handing over.

    def _pump(self) -> None:
        """Send until the window is full or nothing is left to read."""
        link = self._link
        if link is None or link.lost.done() or self._stopping.is_set():
            return
        room, settled = link.room, False
        while room > 0:
            if not self._unsent:
                if not self._begin_row():
                    break
                settled = True
                continue
            part = self._unsent.popleft()
            if link.fits(part.message):
                self._waiting[link.publish(part.message)] = part
                room -= 1
            else:
                self._settle(part, mqtt.PACKET_TOO_LARGE)
                settled = True
        link.flush()
        self.status.in_flight = len(self._waiting)
        if settled and self._sent and not self._sent[0].left:
            self._advance()

    def _begin_row(self) -> bool:
        """Take up the next row's messages, unless the window is full of rows that are not known to be acknowledged."""
        window = 1 if self._refused_in_a_row >= REFUSED_IN_A_ROW else self.config.window
        if len(self._sent) + len(self._unnoted) >= window or (not self._read and not self._load()):
            return False
        row, with_state = self._read.popleft()
        handing = _Handing(row.id, 0)
        for number, message in enumerate(self._messages(row, with_state, handing)):
            refused = self._put_aside.get((row.id, number))
            if refused is not None:
                handing.letters += (refused,)
            else:
                handing.left += 1
                self._unsent.append(_Part(message, number, handing))
        self._sent.append(handing)
        return True

    def _messages(self, row: JournalRow, with_state: bool, handing: _Handing) -> list[Message]:
        """What the row says; where it cannot be said, a dead letter, so that the rows behind it go on."""
        try:
            return list(row_messages(self._site, row, with_state, self._clock_us()))
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with it, it is this row's alone
            text = f"cannot be made into a message: {clean_text(exc)}"
            self._rate_log.note(f"output {self.config.name}: row {row.id}", text, logging.ERROR)
            handing.letters += (DeadLetter(row.id, 0, f"row {row.id}", text, self._clock_us()),)
            return []

    def _load(self) -> bool:
        """Take the next rows from memory; those that are older are fetched from disk, and come later."""
        if self._read_to >= self._store.health.newest_id:
            return False
        rows = self._tail.after(self._read_to, ROWS_AT_ONCE)
        if rows is None:
            if self._loading is None:
                self._loading = asyncio.get_running_loop().create_task(self._load_from_disk(self._read_to))
            return False
        self._take(rows)
        return bool(rows)

    async def _load_from_disk(self, cursor: int) -> None:
        try:
            rows = await asyncio.to_thread(self._fetch, cursor)
        except (sqlite3.Error, msgspec.MsgspecError) as exc:
            self.status.last_fault = f"journal: {clean_text(exc)}"
            self._rate_log.note(f"output {self.config.name}: journal", str(exc), logging.ERROR)
            rows = []
            await asyncio.sleep(RETRY_S)
        finally:
            self._loading = None
        # After a new connection the reading begins anew, elsewhere.
        if cursor == self._read_to:
            self._take(rows)
        self._pump()

    def _fetch(self, cursor: int) -> list[JournalRow]:
        if self._reader is None:
            self._reader = self._store.reader()
        return journal.read_after(self._reader, cursor, ROWS_AT_ONCE)

    def _take(self, rows: list[JournalRow]) -> None:
        """Of several states of a bin among the rows only the last is worth sending."""
        if rows:
            last_state = {row.reading.bin: row.id for row in rows if row.state is not None}
            self._read.extend((row, last_state.get(row.reading.bin) == row.id) for row in rows)
            self._read_to = rows[-1].id

    # What the broker says: mqtt.Owner.

    def on_ack(self, packet_id: int, reason: int) -> None:
        part = self._waiting.pop(packet_id, None)
        if part is not None:
            self._settle(part, reason)

    def on_ready(self) -> None:
        self._advance()
        if self._refusal is not None and self._link is not None:
            self._link.drop()
        elif self._stopping.is_set() and not self._waiting:
            self._settled.set()
        else:
            self._pump()

    def _settle(self, part: _Part, reason: int) -> None:
        if reason < 0x80:
            if part.handing is not None:
                part.handing.left -= 1
                self._refused_in_a_row = 0
                self._pace.taken()
            elif part.letter_id is not None:
                self._delivered_letters.append(part.letter_id)
            return
        self.status.refused += 1
        text = mqtt.reason_text(reason)
        self.status.last_fault = f"refused {part.message.topic}: {text}"
        self._rate_log.note(f"output {self.config.name}: message refused", f"{part.message.topic}: {text}")
        if part.letter_id is not None:
            self._letters_out.discard(part.letter_id)
        if reason == mqtt.QUOTA_EXCEEDED:
            self._refusal = LinkLost(f"the broker wants less: {text}", busy=True)
        elif part.handing is not None:
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= REFUSED_IN_A_ROW:
                self._refusal = LinkLost(f"the broker refuses everything: {text}", refused=True)
                return
            letter = DeadLetter(part.handing.row_id, part.number, part.message.topic, text, self._clock_us())
            self._put_aside[letter.journal_id, letter.part] = letter
            part.handing.letters += (letter,)
            part.handing.left -= 1

    def _advance(self) -> None:
        """Move the cursor over every leading row that is settled whole."""
        letters: tuple[DeadLetter, ...] = ()
        before = self.status.cursor
        while self._sent and not self._sent[0].left:
            handing = self._sent.popleft()
            self.status.cursor = handing.row_id
            self.status.acknowledged += not handing.letters
            self._unnoted.append(handing.row_id)
            letters += handing.letters
            for letter in handing.letters:
                self._put_aside.pop((letter.journal_id, letter.part), None)
        if self.status.cursor != before:
            urgent = 2 * len(self._unnoted) >= self.config.window
            self._store.note_progress(self.config.name, Progress(self.status.cursor, letters), urgent=urgent)
        if self._delivered_letters:
            delivered, self._delivered_letters = self._delivered_letters, []
            # Not awaited: at the worst they are tried again.
            self._store.run(lambda connection: outputs.drop_letters(connection, delivered)).add_done_callback(
                lambda future: future.exception()
            )
        self.status.in_flight = len(self._waiting)

    # Dead letters once more.

    async def retry_letters(self) -> dict[str, object]:
        """Send the dead letters again, behind what is queued; those that are taken leave the list. JSON-ready."""
        if self._link is None:
            return {"output": self.config.name, "tried": 0, "connected": False}
        link, after = self._link, self._letters_tried_to
        found = await self._store.run(
            lambda connection: outputs.oldest_letters(connection, self.config.name, after, ROWS_AT_ONCE)
        )
        # Those that are refused again must not stand before the others for ever.
        self._letters_tried_to = found[-1][0] if len(found) == ROWS_AT_ONCE else 0
        believed = {state.bin: state for state in self._store.states()}
        made, gone = await self._store.run(
            lambda connection: remade(connection, found, self._site, believed, self._clock_us())
        )
        if gone:
            await self._store.run(lambda connection: outputs.drop_letters(connection, gone))
        if self._link is not link:
            return {"output": self.config.name, "tried": 0, "connected": False}
        parts = [_Part(message, letter_id=one) for one, message in made if one not in self._letters_out]
        self._letters_out.update(part.letter_id for part in parts if part.letter_id is not None)
        self._unsent.extend(parts)
        self._pump()
        return {"output": self.config.name, "tried": len(parts), "no_longer_kept": len(gone), "connected": True}
