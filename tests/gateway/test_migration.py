"""A database of an earlier version goes on: kept as it was beside the new one, and nothing in it is forgotten."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from brim_gateway.errors import StoreFault
from brim_gateway.model import Reading
from brim_gateway.store import journal, outputs, registry
from brim_gateway.store.database import Database, newest_schema
from brim_gateway.store.numbers import held_seqs
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Transaction

SCHEMA_1 = Path(__file__).parents[1] / "data" / "store" / "schema_1.sql"
SCHEMA_2 = SCHEMA_1.with_name("schema_2.sql")
"""Each written by the version of 2026-11-23 that had this schema."""
WIFI, LORA, VOLATILE = "02000000000000a1", "70b3d5000000000b", "70b3d5000000000c"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database as the first version left it."""
    path = tmp_path / "brim.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA_1.read_text())
    return path


def with_store(path: Path, work: Callable[[Store], Awaitable[None]]) -> None:
    async def life() -> None:
        store = Store(path, 0.0)
        try:
            await work(store)
        finally:
            await asyncio.to_thread(store.close)

    asyncio.run(life())


def reading(dev: str, epoch: int, seq: int | None, **more: Any) -> Reading:
    return Reading(
        dev=dev, bin="OLD-WIFI", epoch=epoch, seq=seq, status="ok", **{"time_us": 5, "received_us": 5} | more
    )


def test_readings_states_cursors_keys_and_counters_are_all_there(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        before = connection.execute("SELECT id, reading, state, events FROM journal ORDER BY id").fetchall()
        states = connection.execute("SELECT * FROM bin_states ORDER BY bin").fetchall()
        devices = connection.execute("SELECT * FROM devices ORDER BY dev").fetchall()
    with closing(Database(old)) as database:
        connection = database.connection
        assert connection.execute("SELECT id, reading, state, events FROM journal ORDER BY id").fetchall() == before
        assert connection.execute("SELECT * FROM bin_states ORDER BY bin").fetchall() == states
        assert connection.execute("SELECT * FROM devices ORDER BY dev").fetchall() == devices
        assert outputs.cursors(connection) == {"city": 100, "gone": 3}
        assert [record.bin for record in registry.all_bins(connection)] == ["OLD-LORA", "OLD-VOLATILE", "OLD-WIFI"]
        assert connection.execute("SELECT count(*) FROM quarantine").fetchone() == (1,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA user_version").fetchone() == (newest_schema(),)


def test_what_was_there_before_is_a_repeat_and_what_was_missing_is_new(old: Path) -> None:
    async def work(store: Store) -> None:
        reader = store.reader()
        assert held_seqs(reader, WIFI, 3, 1, 200) == [n for n in range(1, 131) if n not in (5, 77, 128)]
        assert held_seqs(reader, WIFI, 4, 1, 200) == [1, 2, 3, 64, 65]
        reader.close()
        again = await store.submit(Transaction(tuple(reading(WIFI, 3, seq) for seq in (1, 5, 64, 77, 128, 130, 131))))
        assert again.new == [False, True, False, True, True, False, True]
        epoch4 = await store.submit(Transaction(tuple(reading(WIFI, 4, seq) for seq in (3, 4, 63, 64, 65, 66))))
        assert epoch4.new == [False, True, True, False, False, True]

    with_store(old, work)


def test_a_device_without_numbers_counts_on(old: Path) -> None:
    async def work(store: Store) -> None:
        await store.submit(Transaction((reading(VOLATILE, 0, None, time_us=10**16),)))
        reader = store.reader()
        assert journal.read_after(reader, store.health.newest_id - 1, 1)[0].reading.seq == 6
        reader.close()

    with_store(old, work)


def test_the_old_file_is_kept_as_it_was(old: Path) -> None:
    Database(old).close()
    kept = old.with_name("brim.db.schema-1")
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM journal").fetchone() == (148,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(Database(old)):
        pass
    assert not old.with_name("brim.db.schema-2").exists(), "nothing to keep the second time"


def test_a_migration_that_cannot_keep_the_old_file_changes_nothing(old: Path) -> None:
    old.with_name("brim.db.schema-1.part").mkdir()
    with pytest.raises(StoreFault, match=r"cannot be used: .*; nothing was changed"):
        Database(old)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(old: Path) -> None:
    Database(old).close()
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(f"PRAGMA user_version = {newest_schema() + 1}")
    before = old.read_bytes()
    with pytest.raises(StoreFault, match="install the newer version"):
        Database(old)
    assert old.read_bytes() == before


def test_schema_2_kept_whole_states_and_they_go_on(tmp_path: Path) -> None:
    path = tmp_path / "brim.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA_2.read_text())
    full, silent, emptied, after, late = read(path, 148, 5)
    assert full.state is not None and (full.state.state, full.state.fill_pct) == ("full", 87)
    assert silent.state is not None and (silent.state.state, silent.state.time_us) == ("full", full.reading.time_us)
    assert emptied.state is not None and emptied.state.last_emptied_us == emptied.reading.time_us
    assert after.state is not None and after.state.last_emptied_us == emptied.reading.time_us
    assert late.state is None

    async def work(store: Store) -> None:
        # The table of states ends at row 148: the five rows after it are read again.
        assert after.state in store.states()
        await store.submit(Transaction((reading(WIFI, 4, 71, time_us=10**16, received_us=10**16),)))

    with_store(path, work)
    assert path.with_name("brim.db.schema-2").exists()
    newest = read(path, 153, 1)[0].state
    assert newest is not None and (newest.seq, newest.fill_pct, newest.battery_mv) == (71, 2, 3580)
    assert newest.last_emptied_us == emptied.reading.time_us


def read(path: Path, cursor: int, limit: int) -> list[journal.JournalRow]:
    with closing(sqlite3.connect(path)) as connection:
        return journal.read_after(connection, cursor, limit)
