"""What should never happen to the writer, injected: nobody waits for ever, and nothing changes its order."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from brim_gateway import serve
from brim_gateway.app import Gateway
from brim_gateway.errors import StoreFault
from brim_gateway.store import journal, outputs, registry
from brim_gateway.store.database import Database
from brim_gateway.store.outputs import Progress
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Committed, Transaction
from brim_gateway.systemd import Notifier

from tests.gateway.support import RunningGateway, make_config, output
from tests.gateway.test_store import make, with_store


def full() -> sqlite3.OperationalError:
    fault = sqlite3.OperationalError("database or disk is full")
    fault.sqlite_errorcode = sqlite3.SQLITE_FULL
    return fault


async def soon(future: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(future, 5)


def test_a_writer_that_ends_by_its_own_fault_fails_whoever_waits_and_is_no_longer_alive(tmp_path: Path) -> None:
    def boom() -> None:
        raise RuntimeError("boom")

    class Heard(Notifier):
        watched = 0

        def watchdog(self) -> None:
            self.watched += 1

    async def work(store: Store) -> None:
        ended = asyncio.Event()
        store.when_dead(ended.set)
        store._journal.committed = boom  # type: ignore[method-assign,assignment]
        with pytest.raises(StoreFault):
            await soon(store.submit(Transaction(readings=(make(1),))))
        await soon(ended.wait())
        assert store.dead and "boom" in (store.health.last_fault or "")
        with pytest.raises(StoreFault):
            await soon(store.submit(Transaction(readings=(make(2),))))
        notifier = Heard({"WATCHDOG_USEC": "20000"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(serve.feed_watchdog(store, notifier), 0.1)
        assert notifier.watched == 0, "a gateway that stores nothing is not alive"

    with_store(tmp_path, work)
    Database(tmp_path / "brim.db").close()


def test_a_daemon_whose_writer_has_ended_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom() -> bool:
        raise RuntimeError("boom")

    class Doomed(Gateway):
        async def start(self) -> None:
            await super().start()
            self.store._gather = boom  # type: ignore[method-assign]
            asyncio.get_running_loop().call_soon(self.store.run, lambda _: None)

    monkeypatch.setattr(serve, "Gateway", Doomed)
    with pytest.raises(StoreFault, match="boom"):
        asyncio.run(asyncio.wait_for(serve.serve(make_config(tmp_path), tmp_path / "brim.toml"), 10))


def test_a_disk_that_fills_up_amid_a_bad_submissions_neighbours_keeps_their_order(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        apply, seen = store._apply, list[int]()

        def refused_once(transaction: Transaction) -> Committed:
            seq = transaction.readings[0].seq or 0
            seen.append(seq)
            if seq == 2 and seen.count(2) == 2:
                raise full()
            return apply(transaction)

        store._apply = refused_once  # type: ignore[method-assign]
        submitted = [store.submit(Transaction(readings=(make(seq),))) for seq in (1, 2, 3, 2**70, 4)]
        for each in (*submitted[:3], submitted[4]):
            assert (await soon(each)).new == [True]
        with pytest.raises(OverflowError):
            await soon(submitted[3])
        with closing(store.reader()) as reader:
            assert [row.reading.seq for row in journal.read_after(reader, 0, 9)] == [1, 2, 3, 4]

    with_store(tmp_path, work, linger_s=0.05)


def test_a_hurry_that_comes_while_the_last_one_is_served_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brim_gateway.store.store.PROGRESS_LATEST_S", 3_600)

    async def work(store: Store) -> None:
        await store.run(lambda c: outputs.open_places(c, "cab", [("city", True)], 0))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        store.listen(lambda _, noted: done.set_result(None) if noted == {"city": 2} else None)
        take, calls = store._take_noted, list[int]()

        def between() -> None:
            take()
            calls.append(1)
            # The writer's second look is the one before it commits.
            if len(calls) == 2:
                store.note_progress("city", Progress(2), urgent=True)

        store._take_noted = between  # type: ignore[method-assign]
        store.note_progress("city", Progress(1), urgent=True)
        await soon(done)

    with_store(tmp_path, work)


def test_work_sees_the_outputs_as_far_as_they_are(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        await store.run(lambda c: outputs.open_places(c, "cab", [("city", True)], 0))
        store.note_progress("city", Progress(7), urgent=False)
        assert await store.run(outputs.cursors) == {"city": 7} == store.health.cursors

    with_store(tmp_path, work)


def test_a_database_whose_rows_cannot_be_read_is_refused_and_let_go(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "brim.db")) as database:
        database.connection.execute("INSERT INTO bin_states VALUES ('B-1', x'00')")
    with pytest.raises(StoreFault, match="restore a backup"):
        Store(tmp_path / "brim.db")
    Database(tmp_path / "brim.db").close()


def test_a_gateway_that_cannot_be_put_together_lets_its_database_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(_: sqlite3.Connection) -> None:
        raise ValueError("boom")

    config = make_config(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "all_devices", boom)
        with pytest.raises(ValueError, match="boom"):
            Gateway(config)
    Database(config.database).close()


def test_a_disk_that_refuses_a_reload_leaves_the_outputs_as_they_were(tmp_path: Path) -> None:
    config = make_config(tmp_path, output(9))
    with RunningGateway(config) as running:
        gateway = running.gateway
        assert gateway.outputs is not None
        before = dict(gateway.outputs.runners)
        gateway.store._connection.execute("PRAGMA query_only = ON")
        reload = asyncio.run_coroutine_threadsafe(gateway.replace_outputs(()), running.loop)
        with pytest.raises(StoreFault):
            reload.result(5)
        gateway.store._connection.execute("PRAGMA query_only = OFF")
        assert gateway.outputs.runners == before and gateway.config == config
        assert not before["city"]._stopping.is_set()
