"""The journal's SQL: appending with uniqueness on integers, reading on from a cursor. No thread, no commit."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import msgspec

from brim_gateway.insight.state import advance
from brim_gateway.model import BinState, Event, Reading
from brim_gateway.store.transaction import Committed, Quarantined

QUARANTINE_ROWS = 1_000
QUARANTINE_PAYLOAD_BYTES = 1_024
REPEAT_WINDOW_US = 2_000_000
"""A device that forgets its counter repeats a value within this time: that is one reading."""

_encode = msgspec.json.Encoder().encode
_reading = msgspec.json.Decoder(Reading).decode
_state = msgspec.json.Decoder(BinState).decode
_events = msgspec.json.Decoder(list[Event]).decode


def dev_number(dev: str) -> int:
    """16 hex digits as SQLite's signed 64-bit integer."""
    number = int(dev, 16)
    return number - (1 << 64) if number >= 1 << 63 else number


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One row as an output reads it. ``state`` and ``events`` are what this reading changed."""

    id: int
    reading: Reading
    state: BinState | None
    events: tuple[Event, ...]


class StateCache:
    """The bins' states as the open transaction sees them. ``forget()`` after a rollback."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._states: dict[str, BinState] = {}

    def get(self, bin_name: str) -> BinState | None:
        # One look-up: another thread may forget the bin at any time.
        state = self._states.get(bin_name)
        if state is None:
            row = self._connection.execute("SELECT state FROM bin_states WHERE bin = ?", (bin_name,)).fetchone()
            state = _state(row[0]) if row else None
            if state is not None:
                self._states[bin_name] = state
        return state

    def put(self, state: BinState) -> None:
        self._states[state.bin] = state
        self._connection.execute(
            "INSERT INTO bin_states (bin, state) VALUES (?, ?) ON CONFLICT (bin) DO UPDATE SET state = excluded.state",
            (state.bin, _encode(state)),
        )

    def forget(self, bin_name: str | None = None) -> None:
        """Forget one bin's cached state, or all."""
        if bin_name is None:
            self._states.clear()
        else:
            self._states.pop(bin_name, None)


def append(connection: sqlite3.Connection, states: StateCache, reading: Reading, result: Committed) -> None:
    """Append ``reading`` unless its uid is there; note in ``result`` whether it was new and what it changed."""
    dev = dev_number(reading.dev)
    numbered = reading if reading.seq is not None else _number(connection, dev, reading)
    if numbered is None or _held(connection, dev, numbered):
        result.new.append(False)
        return
    state, events = advance(states.get(numbered.bin), numbered)
    cursor = connection.execute(
        "INSERT INTO journal (dev, epoch, seq, time_us, received_us, reading, state, events) VALUES (?,?,?,?,?,?,?,?)",
        (
            dev,
            numbered.epoch,
            numbered.seq,
            numbered.time_us,
            numbered.received_us,
            _encode(numbered),
            _encode(state) if state is not None else None,
            _encode(events) if events else None,
        ),
    )
    if state is not None:
        states.put(state)
        result.states.append(state)
    result.new.append(True)
    result.last_id = cursor.lastrowid or 0


def _held(connection: sqlite3.Connection, dev: int, reading: Reading) -> bool:
    found = connection.execute(
        "SELECT 1 FROM journal WHERE dev = ? AND epoch = ? AND seq = ?", (dev, reading.epoch, reading.seq)
    ).fetchone()
    return found is not None


def _number(connection: sqlite3.Connection, dev: int, reading: Reading) -> Reading | None:
    """The reading with the next number of its device, or None if it repeats one of the last few."""
    rows = connection.execute(
        "SELECT seq, time_us, reading FROM journal WHERE dev = ? AND epoch = ? ORDER BY seq DESC LIMIT 8",
        (dev, reading.epoch),
    ).fetchall()
    for _, time_us, body in rows:
        if abs(time_us - reading.time_us) <= REPEAT_WINDOW_US:
            other = _reading(body)
            if (other.status, other.distance_mm) == (reading.status, reading.distance_mm):
                return None
    return msgspec.structs.replace(reading, seq=rows[0][0] + 1 if rows else 1)


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
    return [
        JournalRow(
            row_id,
            _reading(reading),
            _state(state) if state is not None else None,
            tuple(_events(events)) if events is not None else (),
        )
        for row_id, reading, state, events in rows
    ]


def held_seqs(connection: sqlite3.Connection, dev: str, epoch: int, low: int, high: int) -> list[int]:
    """The sequence numbers in [low, high] of ``epoch`` that the journal holds, ascending."""
    rows = connection.execute(
        "SELECT seq FROM journal WHERE dev = ? AND epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (dev_number(dev), epoch, low, high),
    ).fetchall()
    return [row[0] for row in rows]


def newest_id(connection: sqlite3.Connection) -> int:
    """The id of the last row, 0 for an empty journal."""
    row = connection.execute("SELECT max(id) FROM journal").fetchone()
    return int(row[0] or 0)


def all_states(connection: sqlite3.Connection) -> list[BinState]:
    """What is believed of every bin."""
    return [_state(row[0]) for row in connection.execute("SELECT state FROM bin_states ORDER BY bin")]
