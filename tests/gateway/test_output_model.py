"""An output against a backend that acknowledges in any order, refuses, forgets and hangs up, from a seed: every row
arrives or is a dead letter, the cursor on disk passes nothing else, and no crash repeats more than the window."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
from brim_gateway.clock import Clock
from brim_gateway.config import OutputConfig
from brim_gateway.outputs import pace
from brim_gateway.outputs.outputs import Outputs
from brim_gateway.outputs.runner import OutputRunner
from brim_gateway.outputs.tail import Tail
from brim_gateway.store import outputs as table
from brim_gateway.store.journal import JournalRow
from brim_gateway.store.outputs import Place
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Transaction

from tests.gateway.support import wait_until
from tests.gateway.test_store import make

WINDOW = 8
ROWS = 300


class Moody:
    """A broker of MQTT 5 that does everything at random but lie. ``taken``: seqs that it has acknowledged."""

    def __init__(self, dice: random.Random) -> None:
        self.calm = False
        self.taken: set[int] = set()
        self.connections: list[list[int]] = []
        self._dice = dice
        self._refused: set[int] = set()
        self._open: dict[asyncio.StreamWriter, list[tuple[bytes, int | None]]] = {}
        self.server: asyncio.Server

    async def start(self) -> int:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self.server.close()
        for writer in self._open:
            writer.close()
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dice, heard = self._dice, list[int]()
        self.connections.append(heard)
        waiting = self._open[writer] = []
        try:
            while True:
                head = (await reader.readexactly(1))[0]
                length = shift = 0
                while (byte := (await reader.readexactly(1))[0]) & 0x80:
                    length, shift = length | (byte & 0x7F) << shift, shift + 7
                body = await reader.readexactly(length | byte << shift)
                if head >> 4 == 1:
                    writer.write(b"\x20\x03\x00\x00\x00")
                elif head >> 4 == 3:
                    size = int.from_bytes(body[:2], "big")
                    found = re.search(rb'"seq":(\d+)', body) if body[2 : 2 + size].endswith(b"/reading") else None
                    seq = int(found[1]) if found else None
                    heard += [seq] if seq is not None else []
                    waiting.append((body[2 + size : 4 + size], seq))
                self.nudge()
                if not self.calm and dice.random() < 0.02:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.pop(writer)
            writer.close()

    def nudge(self) -> None:
        """Answer some of what waits, in any order; everything once it is ``calm``."""
        for writer, waiting in self._open.items():
            self._dice.shuffle(waiting)
            for packet_id, seq in waiting[: len(waiting) if self.calm else self._dice.randint(0, len(waiting))]:
                self._answer(writer, packet_id, seq)
                waiting.remove((packet_id, seq))

    def _answer(self, writer: asyncio.StreamWriter, packet_id: bytes, seq: int | None) -> None:
        if seq is not None and not self.calm and self._dice.random() < 0.05:
            quota = self._dice.random() < 0.2
            self._refused.update([] if quota else [seq])
            writer.write(b"\x40\x03" + packet_id + (b"\x97" if quota else b"\x87"))
            return
        if seq is not None:
            self.taken.add(seq)
        writer.write(b"\x40\x02" + packet_id)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_backend_does_nothing_is_lost_and_little_repeated(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RETRY_S", "REFUSED_RETRY_S", "RETRY_MOST_S"):
        monkeypatch.setattr(pace, name, 0.01)
    monkeypatch.setattr("brim_gateway.outputs.runner.REFUSED_RETRY_S", 0.01)
    dice = random.Random(seed)

    async def life() -> None:
        broker = Moody(dice)
        config = OutputConfig(
            name="city", host="127.0.0.1", port=await broker.start(), tls=False, protocol="5", window=WINDOW
        )
        store, tail = Store(tmp_path / "brim.db", 0.001), Tail()
        reader = store.reader()
        place = (await store.run(lambda c: table.open_places(c, "cab", [("city", True)], 0)))["city"]
        runner: OutputRunner | None = None

        def on_disk() -> tuple[int, set[int]]:
            letters = {row[0] for row in reader.execute("SELECT journal_id FROM dead_letters")}
            return table.cursors(reader)["city"], letters

        def on_commit(rows: list[JournalRow], noted: Mapping[str, int]) -> None:
            tail.extend(rows)
            if runner is not None:
                runner.on_commit(noted.get("city"))
            cursor = reader.execute("SELECT cursor FROM outputs").fetchone()[0]
            settled = broker.taken | on_disk()[1]
            # Row ids and seqs are the same here.
            assert set(range(1, cursor + 1)) <= settled, "the cursor passed a row that nobody has"

        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        store.listen(on_commit)

        def start(cursor: int) -> OutputRunner:
            new = OutputRunner(config, "cab", store, tail, Place(cursor, place.client_id), None, lambda: 0)
            new.start()
            return new

        runner = start(0)
        seq, repeats = 0, [0]
        while seq < ROWS:
            count = dice.randint(1, 30)
            await store.submit(Transaction(readings=tuple(make(seq + i + 1) for i in range(count))))
            seq += count
            await asyncio.sleep(dice.random() * 0.02)
            broker.nudge()
            if dice.random() < 0.15:
                # As after SIGKILL: only what is on disk is known of this output.
                runner._stopping.set()
                if runner._link is not None:
                    runner._link.drop()
                if runner._task is not None:
                    runner._task.cancel()
                    await asyncio.gather(runner._task, return_exceptions=True)
                cursor, _ = on_disk()
                repeats.append(len([one for one in broker.taken if one > cursor]))
                runner = start(cursor)
        broker.calm = True
        broker.nudge()
        await asyncio.to_thread(wait_until, lambda: store.health.cursors["city"] >= seq, "everything handed over")
        assert broker.taken | on_disk()[1] == set(range(1, seq + 1))
        assert max(repeats) <= WINDOW, repeats
        # Order of a bin is kept in each connection.
        for heard in broker.connections:
            assert heard == sorted(heard)
        await runner.stop()
        reader.close()
        await asyncio.to_thread(store.close)
        await broker.stop()
        assert not faults, faults

    asyncio.run(life())


def test_a_new_connection_does_not_widen_the_window_while_the_disk_refuses_the_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "RETRY_S", 0.01)

    async def life() -> None:
        broker = Moody(random.Random(0))
        broker.calm = True
        config = OutputConfig(
            name="city", host="127.0.0.1", port=await broker.start(), tls=False, protocol="5", window=WINDOW
        )
        store, tail = Store(tmp_path / "brim.db", 0.001), Tail()
        place = (await store.run(lambda c: table.open_places(c, "cab", [("city", True)], 0)))["city"]
        await store.submit(Transaction(readings=tuple(make(seq) for seq in range(1, 101))))
        runner = OutputRunner(config, "cab", store, tail, place, None, lambda: 0)
        store.listen(lambda rows, noted: runner.on_commit(noted.get("city")))

        def all_it_may(connections: int) -> bool:
            status = runner.status
            return len(broker.connections) == connections and status.cursor >= WINDOW and not status.in_flight

        await store.run(lambda c: c.execute("PRAGMA query_only = ON"))
        runner.start()
        for count in range(1, 5):
            await asyncio.to_thread(wait_until, partial(all_it_may, count), "as much as it may")
            assert runner._link is not None
            runner._link.drop()
        assert broker.taken == set(range(1, WINDOW + 1))
        store._connection.execute("PRAGMA query_only = OFF")
        await asyncio.to_thread(wait_until, lambda: len(broker.taken) == 100, "everything handed over")
        await runner.stop()
        await asyncio.to_thread(store.close)
        await broker.stop()

    asyncio.run(life())


class Fussy(Moody):
    """Takes everything but the readings in ``never``."""

    def __init__(self, never: set[int]) -> None:
        super().__init__(random.Random(0))
        self.calm = True
        self.asked: list[int] = []
        self.never = never

    def _answer(self, writer: asyncio.StreamWriter, packet_id: bytes, seq: int | None) -> None:
        self.asked += [seq] if seq is not None else []
        if seq in self.never:
            writer.write(b"\x40\x03" + packet_id + b"\x87")
        else:
            super()._answer(writer, packet_id, seq)


def with_output(path: Path, broker: Moody, work: Callable[[Store, Outputs], Awaitable[None]]) -> None:
    """``work`` with a running output "city" that begins at the oldest reading."""

    async def life() -> None:
        config = OutputConfig("city", "127.0.0.1", await broker.start(), tls=False, protocol="5", from_oldest=True)
        store = Store(path / "brim.db", 0.001)
        outputs = Outputs("cab", store, Clock("trusted"))
        await outputs.replace([config], {})
        await work(store, outputs)
        await outputs.stop()
        await asyncio.to_thread(store.close)
        await broker.stop()

    asyncio.run(life())


def test_letters_that_are_refused_again_do_not_stand_before_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brim_gateway.outputs.runner.ROWS_AT_ONCE", 5)
    broker = Fussy(set(range(1, 13)))
    monkeypatch.setattr("brim_gateway.outputs.runner.REFUSED_IN_A_ROW", 1_000)

    async def work(store: Store, outputs: Outputs) -> None:
        rows = tuple(make(seq, fill_pct=None, distance_mm=None) for seq in range(1, 21))
        await store.submit(Transaction(readings=rows))
        await asyncio.to_thread(wait_until, lambda: store.health.cursors["city"] == 20, "handed over or put aside")
        broker.never = set(range(1, 6))
        for tried in (5, 5, 2):
            assert (await outputs.retry_letters("city"))["tried"] == tried
        await asyncio.to_thread(wait_until, lambda: broker.taken == set(range(6, 21)), "all but the first five")

    with_output(tmp_path, broker, work)


def test_letters_that_are_asked_for_twice_at_once_are_sent_once(tmp_path: Path) -> None:
    broker = Fussy({1, 2})

    async def work(store: Store, outputs: Outputs) -> None:
        await store.submit(Transaction(readings=(make(1), make(2), make(3))))
        await asyncio.to_thread(wait_until, lambda: store.health.cursors["city"] == 3, "handed over or put aside")
        broker.never = set()
        first, second = await asyncio.gather(outputs.retry_letters("city"), outputs.retry_letters("city"))
        assert (first["tried"], second["tried"]) == (2, 0)
        await asyncio.to_thread(wait_until, lambda: broker.taken == {1, 2, 3}, "taken now")
        assert sorted(broker.asked) == [1, 1, 2, 2, 3]

    with_output(tmp_path, broker, work)


def test_a_row_that_cannot_be_said_is_a_dead_letter_and_holds_up_nobody(tmp_path: Path) -> None:
    broker = Fussy(set())

    async def work(store: Store, outputs: Outputs) -> None:
        # A trusted concentrator's clock may say anything.
        year_0 = -62_200_000_000_000_000
        rows = (make(1), make(2, epoch=2, dev="00b3d57ed0051f2b", time_us=year_0), make(3))
        await store.submit(Transaction(readings=rows))
        await asyncio.to_thread(wait_until, lambda: store.health.cursors["city"] == 3, "past all three")
        assert broker.taken == {1, 3} and outputs.runners["city"].status.reconnects == 0
        (letter,) = await store.run(lambda c: table.letters(c, "city", 9))
        assert "cannot be made into a message" in letter["reason"]
        assert (await outputs.retry_letters("city"))["no_longer_kept"] == 1

    with_output(tmp_path, broker, work)
