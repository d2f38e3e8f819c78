"""The journal's SQL: appending each reading once, reading on from a cursor. No thread, no commit."""

from __future__ import annotations

import sqlite3
from collections import deque

import msgspec

from brim_gateway.insight.state import advance
from brim_gateway.model import BinState, Event, Reading
from brim_gateway.store.carried import pack, read_reading, unpack
from brim_gateway.store.numbers import Numbers
from brim_gateway.store.states import BinStates
from brim_gateway.store.transaction import Committed, Quarantined

QUARANTINE_ROWS = 1_000
QUARANTINE_PAYLOAD_BYTES = 1_024
REPEAT_WINDOW_US = 2_000_000
"""A device without numbers repeats a value within this time: that is one reading."""
REPEATS_KNOWN = 8
UNNUMBERED_MOST = 4_096

_encode = msgspec.json.Encoder().encode
_events = msgspec.json.Decoder(list[Event]).decode
_INSERT = "INSERT INTO journal (id, received_us, reading, state, events) VALUES (?, ?, ?, ?, ?)"


class JournalRow(msgspec.Struct, frozen=True):
    """One row as an output reads it. ``state`` and ``events`` are what this reading changed."""

    id: int
    reading: Reading
    state: BinState | None
    events: tuple[Event, ...]


class Journal:
    """The appending side, with what the open transaction has added so far. The writer's thread alone."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.states = BinStates(connection)
        self.newest_id = newest_id(connection)
        self._connection = connection
        self._numbers = Numbers(connection)
        self._next_id = self.newest_id + 1
        self._rows: list[JournalRow] = []
        self._unwritten = 0
        # Of devices without numbers: the last few values, until the next start.
        self._values: dict[str, deque[Reading]] = {}

    def append(self, reading: Reading, result: Committed) -> None:
        """Append ``reading`` unless its uid was there before; ``result`` says whether it was new."""
        if reading.seq is None:
            reading = self._number(reading)
        if reading.seq is None or not self._numbers.take(reading.dev, reading.epoch, reading.seq):
            result.new.append(False)
            return
        state, events = advance(self.states.get(reading.bin), reading)
        if state is not None:
            self.states.put(state)
        self._rows.append(JournalRow(self._next_id, reading, state, tuple(events)))
        self._next_id += 1
        result.new.append(True)

    def write(self) -> None:
        """Bring what was appended into the file, inside the open transaction."""
        new = self._rows[self._unwritten :]
        self._unwritten = len(self._rows)
        self._connection.executemany(
            _INSERT,
            [
                (
                    row.id,
                    row.reading.received_us,
                    _encode(row.reading),
                    None if row.state is None else pack(row.reading, row.state),
                    _encode(row.events) if row.events else None,
                )
                for row in new
            ],
        )
        self._numbers.write()

    def committed(self) -> list[JournalRow]:
        """The transaction stands: its rows."""
        rows, self._rows, self._unwritten = self._rows, [], 0
        self.newest_id = self._next_id - 1
        self._numbers.committed()
        self.states.committed()
        return rows

    def rolled_back(self) -> None:
        """Nothing of the transaction stands."""
        self._rows, self._unwritten = [], 0
        self._next_id = self.newest_id + 1
        self._numbers.rolled_back()
        self.states.rolled_back()
        self._values.clear()

    def _number(self, reading: Reading) -> Reading:
        """The reading with the next number of its device; unnumbered if it repeats one of the last few."""
        values = self._values.setdefault(reading.dev, deque(maxlen=REPEATS_KNOWN))
        for other in values:
            if abs(other.time_us - reading.time_us) <= REPEAT_WINDOW_US and (other.status, other.distance_mm) == (
                reading.status,
                reading.distance_mm,
            ):
                return reading
        values.append(reading)
        if len(self._values) > UNNUMBERED_MOST:
            del self._values[next(iter(self._values))]
        return msgspec.structs.replace(reading, seq=self._numbers.highest(reading.dev, reading.epoch) + 1)


def set_aside(connection: sqlite3.Connection, item: Quarantined) -> None:
    """Keep what cannot be read; the oldest beyond QUARANTINE_ROWS goes."""
    cursor = connection.execute(
        "INSERT INTO quarantine (dev, source, received_us, reason, payload) VALUES (?, ?, ?, ?, ?)",
        (item.dev, item.source, item.received_us, item.reason[:200], item.payload[:QUARANTINE_PAYLOAD_BYTES]),
    )
    connection.execute("DELETE FROM quarantine WHERE id <= ?", ((cursor.lastrowid or 0) - QUARANTINE_ROWS,))


def read_after(connection: sqlite3.Connection, cursor: int, limit: int) -> list[JournalRow]:
    """Up to ``limit`` rows with id > ``cursor``, in order."""
    rows = connection.execute(
        "SELECT id, reading, state, events FROM journal WHERE id > ? ORDER BY id LIMIT ?", (cursor, limit)
    ).fetchall()
    return [_row(*row) for row in rows]


def read_row(connection: sqlite3.Connection, row_id: int) -> JournalRow | None:
    """One row, or None where it is no longer kept."""
    row = connection.execute("SELECT id, reading, state, events FROM journal WHERE id = ?", (row_id,)).fetchone()
    return _row(*row) if row else None


def _row(row_id: int, reading: bytes, state: bytes | None, events: bytes | None) -> JournalRow:
    known = read_reading(reading)
    return JournalRow(
        row_id,
        known,
        unpack(known, state) if state is not None else None,
        tuple(_events(events)) if events is not None else (),
    )


def newest_id(connection: sqlite3.Connection) -> int:
    """The id of the last row, 0 for an empty journal. The last row is never removed, so ids only rise."""
    row = connection.execute("SELECT max(id) FROM journal").fetchone()
    return int(row[0] or 0)


def newest_received_us(connection: sqlite3.Connection) -> int:
    """When the last row arrived, UTC microseconds; 0 for an empty journal."""
    row = connection.execute("SELECT received_us FROM journal ORDER BY id DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 0
