"""The outputs' side of the database: cursors, what a backend refused, what is held for an output that is gone."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from brim_gateway.errors import RegistryError
from brim_gateway.model import iso_utc
from brim_gateway.store.journal import newest_id

HOLD_REMOVED_US = 7 * 24 * 3600 * 1_000_000
"""So long the readings wait for an output that no configuration names any more."""
UNDATED = 0
"""Removed while the clock was not trusted: the first sweep that trusts it writes the date."""
LETTERS_MOST = 100_000
"""Of each output; the oldest beyond go."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an output stands, and its name at the broker: one for the database's life, so that the broker sends an old
    last will before the new session's first word and never after it."""

    cursor: int
    client_id: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that the backend refused for good. ``part``: which of the messages that this row makes."""

    journal_id: int
    part: int
    topic: str
    reason: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an output is, and what was refused on the way."""

    cursor: int
    letters: tuple[DeadLetter, ...] = ()


def cursors(connection: sqlite3.Connection) -> dict[str, int]:
    """Cursor by output name."""
    return dict(connection.execute("SELECT name, cursor FROM outputs").fetchall())


def open_places(
    connection: sqlite3.Connection,
    site: str,
    wanted: Iterable[tuple[str, bool]],
    now_us: int,
    *,
    clock_trusted: bool = True,
) -> dict[str, Place]:
    """The place of each (name, from_oldest) that the configuration names; a new one begins at now or at the oldest
    reading. What it does not name is marked as removed."""
    names = []
    for name, from_oldest in wanted:
        names.append(name)
        start = 0 if from_oldest else newest_id(connection)
        connection.execute(
            "INSERT INTO outputs (name, cursor, created_us) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
            (name, start, now_us),
        )
        connection.execute("UPDATE outputs SET removed_us = NULL WHERE name = ? AND removed_us IS NOT NULL", (name,))
        connection.execute(
            "UPDATE outputs SET client_id = ? WHERE name = ? AND client_id = ''",
            (f"brim-{site}-{name}-{secrets.token_hex(4)}", name),
        )
    marks = ", ".join("?" * len(names))
    connection.execute(
        f"UPDATE outputs SET removed_us = ? WHERE removed_us IS NULL AND name NOT IN ({marks})",  # noqa: S608
        (now_us if clock_trusted else UNDATED, *names),
    )
    rows = connection.execute("SELECT name, cursor, client_id FROM outputs").fetchall()
    return {name: Place(cursor, client_id) for name, cursor, client_id in rows if name in names}


def note(connection: sqlite3.Connection, progress: Mapping[str, Progress]) -> None:
    """Keep cursors (they never go back) and dead letters."""
    for name, one in progress.items():
        connection.execute("UPDATE outputs SET cursor = max(cursor, ?) WHERE name = ?", (one.cursor, name))
        if one.letters:
            connection.executemany(
                "INSERT INTO dead_letters (output, journal_id, part, topic, reason, at_us) VALUES (?, ?, ?, ?, ?, ?)",
                [(name, it.journal_id, it.part, it.topic, it.reason, it.at_us) for it in one.letters],
            )
            connection.execute(
                "DELETE FROM dead_letters WHERE output = ? AND id <= (SELECT id FROM dead_letters WHERE output = ?"
                " ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (name, name, LETTERS_MOST),
            )


def listing(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every output that the database knows, JSON-ready: also those that no configuration names any more."""
    newest = newest_id(connection)
    found = connection.execute(
        "SELECT name, cursor, removed_us, dropped,"
        " (SELECT count(*) FROM dead_letters WHERE output = name) FROM outputs ORDER BY name"
    ).fetchall()
    return [
        {
            "name": name,
            "waiting": max(0, newest - cursor),
            "dead_letters": letters_count,
            "dropped_unsent": dropped,
            "held_until": _held_until(removed_us),
        }
        for name, cursor, removed_us, dropped, letters_count in found
    ]


def _held_until(removed_us: int | None) -> str | None:
    if removed_us is None:
        return None
    return iso_utc(removed_us + HOLD_REMOVED_US) if removed_us != UNDATED else "7 days after the clock is right"


def letters(connection: sqlite3.Connection, output: str, limit: int) -> list[dict[str, Any]]:
    """The newest dead letters of ``output``, JSON-ready, newest first. Raises RegistryError for an unknown output."""
    _must_exist(connection, output)
    found = connection.execute(
        "SELECT d.id, d.topic, d.reason, d.at_us, j.id FROM dead_letters d LEFT JOIN journal j ON j.id = d.journal_id"
        " WHERE d.output = ? ORDER BY d.id DESC LIMIT ?",
        (output, limit),
    ).fetchall()
    return [
        {"id": letter_id, "topic": topic, "reason": reason, "at": iso_utc(at_us), "still_kept": kept is not None}
        for letter_id, topic, reason, at_us, kept in found
    ]


def oldest_letters(connection: sqlite3.Connection, output: str, after: int, limit: int) -> list[tuple[int, int, int]]:
    """(letter id, journal id, part), oldest first: to be tried again."""
    return connection.execute(
        "SELECT id, journal_id, part FROM dead_letters WHERE output = ? AND id > ? ORDER BY id LIMIT ?",
        (output, after, limit),
    ).fetchall()


def drop_letters(connection: sqlite3.Connection, letter_ids: Collection[int]) -> None:
    """They have been delivered, or cannot be made again."""
    connection.executemany("DELETE FROM dead_letters WHERE id = ?", [(each,) for each in letter_ids])


def forget(connection: sqlite3.Connection, output: str) -> dict[str, Any]:
    """Give up what is held for an output that no configuration names. Raises RegistryError."""
    _must_exist(connection, output)
    row = connection.execute("SELECT cursor, removed_us FROM outputs WHERE name = ?", (output,)).fetchone()
    if row[1] is None:
        raise RegistryError([f"output {output}: the configuration still names it; take it out there first"])
    connection.execute("DELETE FROM outputs WHERE name = ?", (output,))
    connection.execute("DELETE FROM dead_letters WHERE output = ?", (output,))
    return {"output": output, "released": max(0, newest_id(connection) - row[0])}


def _must_exist(connection: sqlite3.Connection, output: str) -> None:
    if connection.execute("SELECT 1 FROM outputs WHERE name = ?", (output,)).fetchone() is None:
        known = ", ".join(sorted(cursors(connection))) or "none"
        raise RegistryError([f"output {output}: not known to this database; known: {known}"])
