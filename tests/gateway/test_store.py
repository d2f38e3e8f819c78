"""The journal keeps what it acknowledges, once, and tells what was new."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from brim_gateway.errors import RegistryError, StoreFault
from brim_gateway.model import BinRecord, Reading
from brim_gateway.network.device import DeviceRow, abp_session
from brim_gateway.outputs.letters import remade
from brim_gateway.store import journal, outputs, registry
from brim_gateway.store.database import Database
from brim_gateway.store.journal import QUARANTINE_ROWS
from brim_gateway.store.numbers import held_seqs
from brim_gateway.store.outputs import Progress
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Quarantined, Transaction
from msgspec.structs import replace

from tests.gateway.support import wait_until

DEV = "f0b3d57ed0051f2a"


def make(seq: int | None, *, epoch: int = 1, dev: str = DEV, time_us: int = 0, **more: Any) -> Reading:
    values: dict[str, Any] = {"distance_mm": 500, "fill_pct": 50, "status": "ok", "events": ()} | more
    return Reading(dev=dev, bin=f"bin-{dev[-2:]}", epoch=epoch, seq=seq, time_us=time_us, received_us=time_us, **values)


def with_store(path: Path, work: Callable[[Store], Awaitable[None]], linger_s: float = 0.0) -> None:
    async def life() -> None:
        store = Store(path / "brim.db", linger_s)
        try:
            await work(store)
        finally:
            await asyncio.to_thread(store.close)

    asyncio.run(life())


def test_a_reading_is_new_once_and_readable_after_its_future(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        first = await store.submit(Transaction(readings=(make(1), make(2), make(1))))
        assert first.new == [True, True, False]
        second = await store.submit(Transaction(readings=(make(2), make(3))))
        assert second.new == [False, True]
        reader = store.reader()
        assert [row.reading.seq for row in journal.read_after(reader, 0, 10)] == [1, 2, 3]
        assert [row.reading.seq for row in journal.read_after(reader, 1, 1)] == [2]
        assert held_seqs(reader, DEV, 1, 2, 99) == [2, 3]
        reader.close()

    with_store(tmp_path, work)


def test_the_same_number_in_another_epoch_or_of_another_device_is_another_reading(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        others = (make(1), make(1, epoch=2), make(1, dev="00b3d57ed0051f2a"))
        assert (await store.submit(Transaction(readings=others))).new == [True, True, True]

    with_store(tmp_path, work)


def test_a_device_that_forgets_its_counter_gets_journal_numbers_and_repeats_within_two_seconds_are_one(
    tmp_path: Path,
) -> None:
    async def work(store: Store) -> None:
        def at(seconds: float, distance_mm: int = 370) -> Reading:
            return make(None, epoch=0, time_us=int(seconds * 1e6), distance_mm=distance_mm)

        result = await store.submit(Transaction(readings=(at(0), at(1.9), at(2.1), at(2.2, 380), at(7200))))
        assert result.new == [True, False, True, True, True]
        reader = store.reader()
        assert [row.reading.uid for row in journal.read_after(reader, 0, 9)] == [f"{DEV}:0:{i}" for i in (1, 2, 3, 4)]
        reader.close()

    with_store(tmp_path, work)


def test_a_late_old_reading_adds_history_and_changes_no_state(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.submit(Transaction(readings=(make(5, fill_pct=80, time_us=50),)))
        late = await store.submit(Transaction(readings=(make(4, fill_pct=10, time_us=40),)))
        assert late.new == [True]
        reader = store.reader()
        assert [state.fill_pct for state in store.states()] == [80]
        assert journal.read_after(reader, 1, 9)[0].state is None
        reader.close()

    with_store(tmp_path, work)


def test_one_bad_submission_fails_alone(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        def refuse(_: sqlite3.Connection) -> None:
            raise RegistryError(["no"])

        good, bad, huge, also_good = (
            store.submit(Transaction(readings=(make(1),))),
            store.run(refuse),
            store.submit(Transaction(readings=(make(2**70), make(3)))),
            store.submit(Transaction(readings=(make(2),))),
        )
        assert (await good).new == [True] and (await also_good).new == [True]
        with pytest.raises(RegistryError):
            await bad
        with pytest.raises(OverflowError):
            await huge
        reader = store.reader()
        assert [row.reading.seq for row in journal.read_after(reader, 0, 9)] == [1, 2]
        reader.close()

    with_store(tmp_path, work, linger_s=0.05)


def test_readings_and_device_counters_are_committed_together(tmp_path: Path) -> None:
    row = DeviceRow(DEV, session=abp_session("01020304", os.urandom(16), os.urandom(16)))
    later, removed = replace(row, join_nonce=5), replace(row, dev="00" * 8)

    async def work(store: Store) -> None:
        await store.run(lambda connection: registry.save_device(connection, row))
        await store.submit(Transaction(readings=(make(1),), devices=(later, removed)))

    with_store(tmp_path, work)
    database = Database(tmp_path / "brim.db")
    assert registry.all_devices(database.connection) == [later], "and what was removed stays removed"
    database.close()


def test_the_quarantine_is_bounded_in_rows_and_bytes(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        items = [Quarantined(DEV, "mqtt", i, "why", b"x" * 5_000) for i in range(QUARANTINE_ROWS + 50)]
        await store.submit(Transaction(quarantine=tuple(items)))
        reader = store.reader()
        count, longest, oldest = reader.execute(
            "SELECT count(*), max(length(payload)), min(received_us) FROM quarantine"
        ).fetchone()
        assert (count, longest, oldest) == (QUARANTINE_ROWS, 1_024, 50)
        reader.close()

    with_store(tmp_path, work)


def test_cursors_survive_and_never_go_back(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.submit(Transaction(readings=(make(1), make(2))))
        made = await store.run(lambda c: outputs.open_places(c, "cab", [("old", True), ("new", False)], 0))
        assert {name: place.cursor for name, place in made.items()} == {"old": 0, "new": 2}
        store.note_progress("old", Progress(2), urgent=False)
        store.note_progress("new", Progress(1), urgent=False)

    with_store(tmp_path, work)
    database = Database(tmp_path / "brim.db")
    assert outputs.cursors(database.connection) == {"old": 2, "new": 2}
    database.close()


def test_an_urgent_cursor_does_not_wait_for_company(tmp_path: Path) -> None:
    async def prepare(store: Store) -> None:
        await store.run(lambda connection: outputs.open_places(connection, "cab", [("city", True)], 0))

    async def work(store: Store) -> None:
        # This commit would wait an hour for company.
        waiting = store.submit(Transaction(readings=(make(1),)))
        store.note_progress("city", Progress(50), urgent=True)
        await asyncio.wait_for(waiting, 5)
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        store.listen(lambda rows, noted: told.set_result((rows, noted)))
        store.note_progress("city", Progress(100), urgent=True)
        assert await asyncio.wait_for(told, 5) == ([], {"city": 100})

    with_store(tmp_path, prepare)
    with_store(tmp_path, work, linger_s=3_600)
    database = Database(tmp_path / "brim.db")
    assert outputs.cursors(database.connection) == {"city": 100}
    database.close()


def test_a_store_whose_disk_refuses_still_closes(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.run(lambda connection: connection.execute("PRAGMA query_only = ON"))
        store.note_progress("city", Progress(7), urgent=True)

    with_store(tmp_path, work)


def test_only_one_process_may_write(tmp_path: Path) -> None:
    database = Database(tmp_path / "brim.db")
    with pytest.raises(StoreFault, match="in use by another"):
        Database(tmp_path / "brim.db")
    database.close()
    Database(tmp_path / "brim.db").close()


def test_the_file_is_private_durable_and_its_readers_cannot_write(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.submit(Transaction(readings=(make(1),)))
        assert store.path.stat().st_mode & 0o777 == 0o600
        reader = store.reader()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM journal")
        reader.close()
        assert await store.run(lambda c: c.execute("PRAGMA synchronous").fetchone()[0]) == 2
        assert await store.run(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"

    with_store(tmp_path, work)


@pytest.mark.parametrize("damage", ["torn", "not a database", "newer"])
def test_a_file_that_cannot_be_trusted_is_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "brim.db"
    database = Database(path)
    for i in range(400):
        registry.save_bin(database.connection, BinRecord(bin=f"b{i}", dev=f"{i:016x}", link="wifi"))
    database.close()
    if damage == "torn":
        content = path.read_bytes()
        path.write_bytes(content[:4096] + os.urandom(len(content) // 2) + content[4096 + len(content) // 2 :])
    elif damage == "newer":
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        path.write_bytes(b"hello " * 1000)
    with pytest.raises(StoreFault, match=r"restore a backup|install the newer version") as fault:
        Database(path)
    assert "\n" not in str(fault.value), "one line"


@pytest.mark.parametrize("loss", ["gone", "emptied"])
def test_a_database_that_was_lost_is_not_taken_for_a_first_start(tmp_path: Path, loss: str) -> None:
    path = tmp_path / "brim.db"
    Database(path).close()
    path.unlink() if loss == "gone" else path.write_bytes(b"")
    with pytest.raises(StoreFault, match=r"gone or empty; restore a backup, or remove brim\.db\.lock"):
        Database(path)
    path.with_name("brim.db.lock").unlink()
    Database(path).close()


def test_a_first_start_that_was_cut_off_begins_again(tmp_path: Path) -> None:
    (tmp_path / "brim.db").touch()
    (tmp_path / "brim.db.lock").touch()
    Database(tmp_path / "brim.db").close()


def test_a_full_disk_holds_what_was_submitted_until_there_is_room(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.submit(Transaction(readings=(make(1),)))
        pages = await store.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await store.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        held = store.submit(Transaction(readings=tuple(make(seq) for seq in range(2, 3_000))))
        small = store.submit(Transaction(readings=(make(3_000),)))
        fault = await asyncio.to_thread(wait_until, lambda: store.health.last_fault, "the disk's refusal")
        assert "full" in fault and store.health.newest_id == 1
        with pytest.raises(StoreFault, match="full"):
            await store.run(lambda c: c.execute("CREATE TABLE t AS SELECT randomblob(1000000)"))
        await store.run(lambda _: None)
        assert not held.done() and not small.done(), "nothing is acknowledged that is not on disk"
        await store.run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
        assert all((await held).new) and (await small).new == [True]
        assert store.health.readings_new == 3_000

    with_store(tmp_path, work)


def test_a_store_that_closes_on_a_full_disk_fails_what_it_held(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        pages = await store.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await store.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        held = store.submit(Transaction(readings=tuple(make(seq) for seq in range(2, 3_000))))
        await asyncio.to_thread(store.close)
        with pytest.raises(StoreFault, match="closing"):
            await held

    with_store(tmp_path, work)


def test_many_submissions_share_a_commit(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await asyncio.gather(*(store.submit(Transaction(readings=(make(seq),))) for seq in range(1, 2_001)))
        assert store.health.readings_new == 2_000 and store.health.commits < 200

    with_store(tmp_path, work, linger_s=0.02)


def test_what_was_submitted_before_the_close_is_on_disk_after_it(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        for seq in range(1, 200):
            store.submit(Transaction(readings=(make(seq),)))
        await asyncio.to_thread(store.close)
        with pytest.raises(StoreFault):
            await store.submit(Transaction(readings=(make(200),)))

    async def life() -> None:
        await work(Store(tmp_path / "brim.db", 0.01))

    asyncio.run(life())
    database = Database(tmp_path / "brim.db")
    assert journal.newest_id(database.connection) == 199
    assert msgspec.json.decode(database.connection.execute("SELECT reading FROM journal").fetchone()[0])["seq"] == 1
    database.close()


def test_a_state_from_a_clock_that_ran_ahead_does_not_stand_until_that_time_comes(tmp_path: Path) -> None:
    day_us = 86_400_000_000

    async def work(store: Store) -> None:
        for time_us, fill in ((900 * day_us, 90), (100 * day_us, 10), (100 * day_us - 1, 20)):
            await store.submit(Transaction(readings=(make(None, epoch=0, time_us=time_us, fill_pct=fill),)))
        assert [state.fill_pct for state in store.states()] == [10], (
            "and a late old reading changes nothing then either"
        )

    with_store(tmp_path, work)


def test_a_state_that_was_refused_goes_out_as_what_is_believed_by_now(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.submit(Transaction(readings=(make(1, fill_pct=11), make(2, fill_pct=22))))
        believed = {state.bin: state for state in store.states()}
        letters = [(7, 1, 0), (8, 1, 1), (9, 99, 0)]
        made, gone = await store.run(lambda c: remade(c, letters, "cab", believed, 0))
        assert gone == [9] and [letter for letter, _ in made] == [7, 8]
        assert [msgspec.json.decode(message.payload)["fill_pct"] for _, message in made] == [11, 22]

    with_store(tmp_path, work)
