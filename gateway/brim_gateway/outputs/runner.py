"""One output: reads the journal behind its own cursor, hands rows over, moves the cursor on when they are acknowledged.

Its own thread and its own read-only connection: a slow or dead backend holds back nobody else. After a break
everything unacknowledged is sent again under the same uid.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass

from brim_gateway.config import OutputConfig
from brim_gateway.model import clean_text
from brim_gateway.outputs.messages import Message, row_messages, status_message
from brim_gateway.outputs.mqtt import LinkLost, MqttLink
from brim_gateway.ratelog import RateLog
from brim_gateway.store import journal
from brim_gateway.store.journal import JournalRow
from brim_gateway.store.store import Store

log = logging.getLogger("brim.output")

ROWS_AT_ONCE = 200
RETRY_S = 0.5
REFUSED_RETRY_S = 5.0
"""After the broker refused us or a message: asking twice a second would not change its mind."""
ACK_WITHIN_S = 30.0
"""A broker that answers pings and never acknowledges is as good as gone."""
IDLE_S = 1.0
FINISH_S = 1.0


@dataclass(slots=True)
class OutputStatus:
    """For status, /health and /metrics; written by the runner's thread alone."""

    name: str
    connected: bool = False
    protocol: str = ""
    cursor: int = 0
    acknowledged: int = 0
    refused: int = 0
    reconnects: int = 0
    in_flight: int = 0
    oldest_us: int | None = None
    last_fault: str = ""


@dataclass(slots=True)
class _Handing:
    """A row on its way: how many of its messages are not acknowledged yet."""

    row_id: int
    left: int


class OutputRunner:
    """Start with ``start()``; ``stop()`` waits for what is in flight, a second at most."""

    def __init__(self, config: OutputConfig, site: str, store: Store, cursor: int, password: str | None) -> None:
        self.status = OutputStatus(config.name, cursor=cursor)
        self._config = config
        self._site = site
        self._store = store
        self._password = password
        self._rate_log = RateLog(log)
        self._client_id = config.client_id or f"brim-{site}-{config.name}-{secrets.token_hex(3)}"
        self._has_worked = False
        self._version = 4 if config.protocol == "3.1.1" else 5
        self._stop = threading.Event()
        self._wake_out, self._wake_in = socket.socketpair()
        for end in (self._wake_out, self._wake_in):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"brim-output-{config.name}", daemon=True)
        # Of this connection: rows read, messages of rows begun, rows not acknowledged whole, messages by identifier.
        self._read: deque[tuple[JournalRow, bool]] = deque()
        self._read_to = cursor
        self._unsent: deque[tuple[Message, _Handing]] = deque()
        self._sent: deque[_Handing] = deque()
        self._waiting: dict[int, _Handing | None] = {}
        self._last_ack = 0.0
        self._refusal: int | None = None

    def start(self) -> None:
        self._store.on_commit(self.wake)
        self._thread.start()

    def wake(self) -> None:
        """There may be something new. Any thread, never blocks."""
        # Full: it is awake already. Closed: it has gone.
        with contextlib.suppress(OSError):
            self._wake_in.send(b"\0")

    def stop(self) -> None:
        self._stop.set()
        self.wake()
        self._thread.join()
        self._wake_in.close()
        self._wake_out.close()

    def _run(self) -> None:
        reader = self._store.reader()
        try:
            while not self._stop.is_set():
                pause_s = RETRY_S
                try:
                    self._connection(reader)
                except LinkLost as exc:
                    pause_s = self._lost(exc)
                except sqlite3.Error as exc:
                    self._rate_log.note(f"{self._config.name}: journal", str(exc), logging.ERROR)
                except Exception:  # an output must outlive its own faults; the row stays
                    log.exception("output %s: fault of its own", self._config.name)
                    pause_s = REFUSED_RETRY_S
                self.status.connected = False
                self._stop.wait(pause_s)
        finally:
            reader.close()

    def _lost(self, exc: LinkLost) -> float:
        """Note the loss; how long to wait before the next attempt."""
        self.status.reconnects += 1
        self.status.last_fault = clean_text(exc)
        self._rate_log.note(f"output {self._config.name}", str(exc))
        # A broker that hangs up before its CONNACK may not know MQTT 5, or may be going down; what has worked stays.
        if self._config.protocol == "auto" and exc.wrong_version and (exc.answered or not self._has_worked):
            self._version = 4 if self._version == 5 else 5
            return 0.0 if self._version == 4 else RETRY_S
        return REFUSED_RETRY_S if exc.refused else RETRY_S

    def _connection(self, reader: sqlite3.Connection) -> None:
        """One connection from CONNECT to its loss (LinkLost) or to the stop."""
        self._read.clear()
        self._unsent.clear()
        self._sent.clear()
        self._waiting.clear()
        self._refusal = None
        self._read_to = self.status.cursor
        will = status_message(self._site, online=False)
        link = MqttLink(self._config, self._version, self._password, will, self._client_id, self._on_ack)
        try:
            self.status.connected = self._has_worked = True
            self.status.protocol = "5" if self._version == 5 else "3.1.1"
            log.info("output %s: connected, MQTT %s", self._config.name, self.status.protocol)
            self._waiting[link.publish(status_message(self._site, online=True))] = None
            self._last_ack = time.monotonic()
            while not self._stop.is_set():
                self._fill(link, reader)
                link.step(IDLE_S, self._wake_out)
                self._drain_wake()
                self._advance()
            self._finish(link)
        finally:
            link.drop()

    def _fill(self, link: MqttLink, reader: sqlite3.Connection) -> None:
        """Send rows until the window is full or the journal is read to its end."""
        while len(self._waiting) < link.window:
            if not self._unsent and not self._begin_row(reader):
                self.status.oldest_us = self._sent_oldest()
                return
            if not self._waiting:
                self._last_ack = time.monotonic()
            message, handing = self._unsent.popleft()
            self._waiting[link.publish(message)] = handing
        self.status.in_flight = len(self._waiting)

    def _begin_row(self, reader: sqlite3.Connection) -> bool:
        """Take up the next row's messages: the window may let through only some of them at a time."""
        if not self._read and not self._load(reader):
            return False
        row, with_state = self._read.popleft()
        messages = list(row_messages(self._site, row, with_state, time.time_ns() // 1000))
        handing = _Handing(row.id, len(messages))
        self._sent.append(handing)
        self._unsent.extend((message, handing) for message in messages)
        if self.status.oldest_us is None:
            self.status.oldest_us = row.reading.received_us
        return True

    def _load(self, reader: sqlite3.Connection) -> bool:
        """Read the next rows; of several states of a bin among them only the last is worth sending."""
        rows = journal.read_after(reader, self._read_to, ROWS_AT_ONCE)
        if not rows:
            return False
        last_state = {row.reading.bin: row.id for row in rows if row.state is not None}
        self._read.extend((row, last_state.get(row.reading.bin) == row.id) for row in rows)
        self._read_to = rows[-1].id
        self.status.oldest_us = rows[0].reading.received_us
        return True

    def _sent_oldest(self) -> int | None:
        return self.status.oldest_us if self._waiting else None

    def _on_ack(self, mid: int, reason: int) -> None:
        handing = self._waiting.pop(mid, None)
        self._last_ack = time.monotonic()
        if handing is None:  # the gateway's own status: no row waits for it
            return
        if reason >= 0x80:
            self._refusal = reason
            return
        handing.left -= 1

    def _advance(self) -> None:
        """Move the cursor over every leading row that is acknowledged whole."""
        cursor = self.status.cursor
        while self._sent and not self._sent[0].left:
            cursor = self._sent.popleft().row_id
            self.status.acknowledged += 1
        if cursor != self.status.cursor:
            self.status.cursor = cursor
            self._store.note_cursor(self._config.name, cursor)
        self.status.in_flight = len(self._waiting)
        if self._refusal is not None:
            self.status.refused += 1
            raise LinkLost(f"the broker refused a message, reason 0x{self._refusal:02x}", refused=True)
        if self._waiting and time.monotonic() - self._last_ack > ACK_WITHIN_S:
            raise LinkLost(f"nothing acknowledged for {ACK_WITHIN_S:.0f} s")

    def _finish(self, link: MqttLink) -> None:
        """The gateway stops: take the last acknowledgements, say that we go."""
        deadline = time.monotonic() + FINISH_S
        link.publish(status_message(self._site, online=False))
        while self._waiting and time.monotonic() < deadline:
            link.step(0.1, None)
            self._advance()
        link.disconnect()

    def _drain_wake(self) -> None:
        try:
            while self._wake_out.recv(4096):
                pass
        except BlockingIOError:
            pass
