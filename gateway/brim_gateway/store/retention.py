"""What the journal may let go. One step removes a bounded number of rows, oldest first, inside a transaction.

Age counts only while the clock can be trusted, and never touches what an output still needs. Size counts always: when
everything handed over is gone and the file is still too large, unsent readings go too, and each output's are counted.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from brim_gateway.store.outputs import HOLD_REMOVED_US, UNDATED

ROWS_AT_ONCE = 2_000
DAY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """``keep_days`` 0: no limit by age. ``keep_bytes``: of the database's pages in use."""

    keep_days: int
    keep_bytes: int


@dataclass(slots=True)
class Swept:
    """One step: rows removed; readings an output had not got, by output; outputs given up; whether more is due."""

    removed: int = 0
    unsent: dict[str, int] = field(default_factory=dict)
    outputs_given_up: list[str] = field(default_factory=list)
    more: bool = False


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of pages that hold something."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def sweep(connection: sqlite3.Connection, limits: Limits, now_us: int | None) -> Swept:
    """One step. ``now_us`` None: the clock is not trusted, so nothing goes by age."""
    swept = Swept()
    if now_us is not None:
        _give_up_outputs(connection, now_us, swept)
    newest = connection.execute("SELECT max(id) FROM journal").fetchone()[0] or 0
    row = connection.execute("SELECT min(cursor) FROM outputs").fetchone()
    # The last row stays, so that ids only rise.
    handed_over = min(newest - 1, newest if row[0] is None else row[0])
    if now_us is not None and limits.keep_days:
        to = _expired_to(connection, now_us - limits.keep_days * DAY_US, handed_over)
        _remove(connection, to, swept)
    if not swept.removed and used_bytes(connection) > limits.keep_bytes:
        oldest = connection.execute("SELECT min(id) FROM journal").fetchone()[0] or 0
        to = min(oldest + ROWS_AT_ONCE - 1, newest - 1)
        _remove(connection, min(to, handed_over) if oldest <= handed_over else to, swept)
    swept.more = bool(swept.removed)
    return swept


def _give_up_outputs(connection: sqlite3.Connection, now_us: int, swept: Swept) -> None:
    connection.execute("UPDATE outputs SET removed_us = ? WHERE removed_us = ?", (now_us, UNDATED))
    for (name,) in connection.execute(
        "SELECT name FROM outputs WHERE removed_us < ?", (now_us - HOLD_REMOVED_US,)
    ).fetchall():
        connection.execute("DELETE FROM outputs WHERE name = ?", (name,))
        connection.execute("DELETE FROM dead_letters WHERE output = ?", (name,))
        swept.outputs_given_up.append(name)


def _expired_to(connection: sqlite3.Connection, horizon_us: int, handed_over: int) -> int:
    """The last of the oldest rows that arrived before ``horizon_us`` without a break, 0 for none."""
    last = 0
    for row_id, received_us in connection.execute(
        "SELECT id, received_us FROM journal WHERE id <= ? ORDER BY id LIMIT ?", (handed_over, ROWS_AT_ONCE)
    ):
        if received_us >= horizon_us:
            break
        last = row_id
    return last


def _remove(connection: sqlite3.Connection, to: int, swept: Swept) -> None:
    for name, cursor in connection.execute("SELECT name, cursor FROM outputs WHERE cursor < ?", (to,)).fetchall():
        unsent = connection.execute("SELECT count(*) FROM journal WHERE id > ? AND id <= ?", (cursor, to)).fetchone()[0]
        if unsent:
            swept.unsent[name] = unsent
            connection.execute(
                "UPDATE outputs SET dropped = dropped + ?, cursor = ? WHERE name = ?", (unsent, to, name)
            )
    swept.removed += connection.execute("DELETE FROM journal WHERE id <= ?", (to,)).rowcount
