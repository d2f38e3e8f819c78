"""The journal lets go of what is old or too much, and never of what an output needs without saying so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from brim_gateway.store import outputs
from brim_gateway.store.database import Database
from brim_gateway.store.outputs import HOLD_REMOVED_US, DeadLetter, Progress
from brim_gateway.store.retention import DAY_US, ROWS_AT_ONCE, Limits, Swept, sweep, used_bytes

NOW_US = 1_795_000_000_000_000
PLENTY = 1 << 40


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(Database(tmp_path / "brim.db")) as database:
        yield database.connection


def fill(connection: sqlite3.Connection, days: range, each: int = 10, size: int = 100) -> int:
    """``each`` rows for every day ago in ``days``; the newest id."""
    newest = int(connection.execute("SELECT coalesce(max(id), 0) FROM journal").fetchone()[0])
    for days_ago in days:
        for _ in range(each):
            newest += 1
            connection.execute(
                "INSERT INTO journal (id, received_us, reading) VALUES (?, ?, ?)",
                (newest, NOW_US - days_ago * DAY_US, b"x" * size),
            )
    return newest


def place(connection: sqlite3.Connection, name: str, cursor: int, *others: str) -> None:
    outputs.open_places(connection, "cab", [(name, True), *((other, True) for other in others)], NOW_US)
    outputs.note(connection, {name: Progress(cursor)})


def ids(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT id FROM journal ORDER BY id")]


def sweep_all(connection: sqlite3.Connection, limits: Limits, now_us: int | None) -> Swept:
    total = sweep(connection, limits, now_us)
    while total.more:
        step = sweep(connection, limits, now_us)
        total.removed += step.removed
        for name, count in step.unsent.items():
            total.unsent[name] = total.unsent.get(name, 0) + count
        total.more = step.more
    return total


def test_what_is_older_than_the_limit_and_handed_over_goes(connection: sqlite3.Connection) -> None:
    newest = fill(connection, range(20, 0, -1))
    place(connection, "city", newest)
    swept = sweep_all(connection, Limits(keep_days=10, keep_bytes=PLENTY), NOW_US)
    assert swept.removed == 100 and ids(connection) == list(range(101, newest + 1)) and not swept.unsent


def test_age_never_touches_what_an_output_still_needs(connection: sqlite3.Connection) -> None:
    newest = fill(connection, range(20, 0, -1))
    place(connection, "city", newest)
    place(connection, "slow", 30, "city")
    sweep_all(connection, Limits(keep_days=10, keep_bytes=PLENTY), NOW_US)
    assert ids(connection)[0] == 31


def test_without_a_clock_to_trust_nothing_goes_by_age(connection: sqlite3.Connection) -> None:
    newest = fill(connection, range(20, 0, -1))
    place(connection, "city", newest)
    assert sweep_all(connection, Limits(keep_days=1, keep_bytes=PLENTY), None).removed == 0
    assert len(ids(connection)) == newest


def test_a_row_from_a_clock_that_ran_ahead_keeps_what_came_after_it(connection: sqlite3.Connection) -> None:
    fill(connection, range(20, 15, -1))
    ahead = fill(connection, range(-900, -899), each=1)
    newest = fill(connection, range(15, 0, -1))
    place(connection, "city", newest)
    sweep_all(connection, Limits(keep_days=10, keep_bytes=PLENTY), NOW_US)
    assert ids(connection)[0] == ahead


def test_the_last_row_stays_so_that_ids_only_rise(connection: sqlite3.Connection) -> None:
    newest = fill(connection, range(20, 10, -1))
    place(connection, "city", newest)
    sweep_all(connection, Limits(keep_days=1, keep_bytes=0), NOW_US)
    assert ids(connection) == [newest]


def test_size_takes_what_is_handed_over_first(connection: sqlite3.Connection) -> None:
    newest = fill(connection, range(3, 0, -1), each=ROWS_AT_ONCE)
    place(connection, "city", ROWS_AT_ONCE + 10)
    limit = used_bytes(connection) * 8 // 10
    swept = sweep_all(connection, Limits(keep_days=0, keep_bytes=limit), None)
    assert swept.removed > 0 and not swept.unsent and used_bytes(connection) <= limit
    assert ids(connection)[0] <= ROWS_AT_ONCE + 11 and ids(connection)[-1] == newest


def test_size_takes_unsent_readings_only_when_nothing_else_is_left_and_counts_them(
    connection: sqlite3.Connection,
) -> None:
    newest = fill(connection, range(4, 0, -1), each=ROWS_AT_ONCE)
    place(connection, "city", 500)
    place(connection, "done", newest, "city")
    limit = used_bytes(connection) * 5 // 10
    swept = sweep_all(connection, Limits(keep_days=0, keep_bytes=limit), None)
    oldest = ids(connection)[0]
    assert swept.unsent == {"city": oldest - 1 - 500} and used_bytes(connection) <= limit
    assert outputs.cursors(connection) == {"city": oldest - 1, "done": newest}
    told = {one["name"]: one["dropped_unsent"] for one in outputs.listing(connection)}
    assert told == {"city": oldest - 1 - 500, "done": 0}


def test_without_any_output_the_journal_is_just_history(connection: sqlite3.Connection) -> None:
    fill(connection, range(20, 0, -1))
    swept = sweep_all(connection, Limits(keep_days=10, keep_bytes=PLENTY), NOW_US)
    assert swept.removed == 100 and not swept.unsent


def test_a_removed_output_holds_its_readings_for_seven_days(connection: sqlite3.Connection) -> None:
    newest = fill(connection, range(20, 0, -1))
    place(connection, "city", newest)
    place(connection, "gone", 30, "city")
    outputs.open_places(connection, "cab", [("city", True)], NOW_US)
    limits = Limits(keep_days=10, keep_bytes=PLENTY)
    sweep_all(connection, limits, NOW_US + HOLD_REMOVED_US)
    assert ids(connection)[0] == 31 and set(outputs.cursors(connection)) == {"city", "gone"}
    swept = sweep(connection, limits, NOW_US + HOLD_REMOVED_US + 1)
    assert swept.outputs_given_up == ["gone"] and set(outputs.cursors(connection)) == {"city"}
    sweep_all(connection, limits, NOW_US + HOLD_REMOVED_US)
    assert ids(connection)[0] == 181, "more than ten days ago, a week later"


def test_an_output_that_comes_back_in_time_goes_on_where_it_was(connection: sqlite3.Connection) -> None:
    fill(connection, range(3, 0, -1))
    place(connection, "city", 12)
    name = outputs.open_places(connection, "cab", [("city", True)], NOW_US)["city"].client_id
    outputs.open_places(connection, "cab", [], NOW_US)
    back = outputs.open_places(connection, "cab", [("city", False)], NOW_US + DAY_US)["city"]
    assert (back.cursor, back.client_id) == (12, name)
    sweep(connection, Limits(0, PLENTY), NOW_US + HOLD_REMOVED_US + 1)
    assert set(outputs.cursors(connection)) == {"city"}


def test_only_a_removed_output_can_be_forgotten(connection: sqlite3.Connection) -> None:
    newest = fill(connection, range(3, 0, -1))
    place(connection, "city", 12)
    outputs.note(connection, {"city": Progress(13, (DeadLetter(13, 0, "t", "no", NOW_US),))})
    with pytest.raises(Exception, match="still names it"):
        outputs.forget(connection, "city")
    with pytest.raises(Exception, match="known: city"):
        outputs.forget(connection, "town")
    outputs.open_places(connection, "cab", [], NOW_US)
    assert outputs.forget(connection, "city") == {"output": "city", "released": newest - 13}
    assert connection.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)


def test_an_output_removed_by_a_clock_that_is_wrong_holds_its_readings_for_seven_days_of_the_right_one(
    connection: sqlite3.Connection,
) -> None:
    fill(connection, range(3, 0, -1))
    place(connection, "city", 12)
    outputs.open_places(connection, "cab", [], 86_400_000_000, clock_trusted=False)
    (listed,) = outputs.listing(connection)
    assert listed["held_until"] == "7 days after the clock is right"
    limits = Limits(keep_days=10, keep_bytes=PLENTY)
    sweep(connection, limits, NOW_US)
    sweep(connection, limits, NOW_US + HOLD_REMOVED_US)
    assert set(outputs.cursors(connection)) == {"city"}
    assert sweep(connection, limits, NOW_US + HOLD_REMOVED_US + 1).outputs_given_up == ["city"]
