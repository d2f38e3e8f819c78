"""What is believed of every bin, in memory; the table follows every few seconds.

Each journal row carries the state it led to, so the table needs no commit of its own: at the opening the rows after
``states_to`` bring it up to date.
"""

from __future__ import annotations

import sqlite3

import msgspec

from brim_gateway.model import BinState
from brim_gateway.store.carried import read_reading, unpack

FLUSH_S = 5.0
FLUSH_ROWS = 30_000
"""At most so many rows are read again at the opening."""

_encode = msgspec.json.Encoder().encode
_state = msgspec.json.Decoder(BinState).decode
_STATES_TO = "INSERT OR REPLACE INTO counters (name, value) VALUES ('states_to', ?)"
_PUT = "INSERT OR REPLACE INTO bin_states (bin, state) VALUES (?, ?)"


class BinStates:
    """The writer's thread changes them; ``all()`` may be called from any thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._states = {state.bin: state for state in all_states(connection)}
        self._open: dict[str, BinState] = {}
        self._unflushed: set[str] = set()
        self._flushed_to = _states_to(connection)
        self._replay()

    def _replay(self) -> None:
        known = {row[0] for row in self._connection.execute("SELECT bin FROM bins")}
        for reading, kept in self._connection.execute(
            "SELECT reading, state FROM journal WHERE id > ? AND state IS NOT NULL ORDER BY id", (self._flushed_to,)
        ):
            state = unpack(read_reading(reading), kept)
            if state.bin in known or state.bin in self._states:
                self._states[state.bin] = state
                self._unflushed.add(state.bin)

    def get(self, bin_name: str) -> BinState | None:
        """As the open transaction sees it."""
        return self._open.get(bin_name) or self._states.get(bin_name)

    def put(self, state: BinState) -> None:
        """Part of the open transaction; the caller keeps it in a journal row too."""
        self._open[state.bin] = state

    def committed(self) -> None:
        """What was put stays."""
        self._states |= self._open
        self._unflushed.update(self._open)
        self._open.clear()

    def rolled_back(self) -> None:
        """What was put since the last commit was not."""
        self._open.clear()

    def all(self) -> list[BinState]:
        """Every bin's state, by name of the bin."""
        return sorted(self._states.copy().values(), key=lambda state: state.bin)

    def forget(self, bin_name: str) -> None:
        """The bin was removed."""
        self._states.pop(bin_name, None)
        self._unflushed.discard(bin_name)

    @property
    def unflushed(self) -> bool:
        """Whether the table lags."""
        return bool(self._unflushed)

    def due(self, newest_id: int, since_s: float) -> bool:
        """Whether the table should follow now."""
        return bool(self._unflushed) and (since_s >= FLUSH_S or newest_id - self._flushed_to >= FLUSH_ROWS)

    def flush(self, newest_id: int) -> None:
        """Bring the table up to ``newest_id``, the last committed row, inside the open transaction."""
        if self._unflushed:
            states = [state for name in list(self._unflushed) if (state := self._states.get(name)) is not None]
            self._connection.executemany(_PUT, [(state.bin, _encode(state)) for state in states])
            self._connection.execute(_STATES_TO, (newest_id,))

    def flushed(self, newest_id: int) -> None:
        """The transaction with ``flush`` is committed."""
        self._unflushed.clear()
        self._flushed_to = newest_id


def _states_to(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM counters WHERE name = 'states_to'").fetchone()
    return int(row[0]) if row else 0


def all_states(connection: sqlite3.Connection) -> list[BinState]:
    """What the table says, by name of the bin; it may lag the journal by FLUSH_S."""
    return [_state(row[0]) for row in connection.execute("SELECT state FROM bin_states ORDER BY bin")]
