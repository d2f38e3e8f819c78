"""Rows of a LoRaWAN device reach the store in the order in which the network server made them, whatever the disk does:
what is on it after a power cut uses no counter again."""

from __future__ import annotations

import asyncio
import base64
import random
from typing import Any, cast

import pytest
from brim.lorawan import frames
from brim_gateway.errors import StoreFault
from brim_gateway.fleet.directory import Directory
from brim_gateway.ingest.lorawan import LorawanIngest
from brim_gateway.network.device import DeviceRow, Session
from brim_gateway.network.reception import Reception
from brim_gateway.network.server import NetworkServer
from brim_gateway.network.session import EcbCipher
from brim_gateway.store import registry
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Committed, Transaction

KEY, ADDR, DEV, EUI = bytes(range(16)), b"\x44\x33\x22\x01", "70b3d57ed0000002", "00000000000000aa"
START_US = 1_790_000_000_000_000


def uplink(f_cnt: int) -> bytes:
    cipher = EcbCipher(KEY)
    return frames.build_data(frames.CONFIRMED_UP, cipher, cipher, ADDR, 0, f_cnt, b"", 5, b"x")


class Disk:
    """A store that writes in order, one submission after the other; those of ``bad`` counters are refused."""

    def __init__(self, row: DeviceRow, bad: set[int]) -> None:
        self.row, self.bad = row, bad
        self._waiting: list[tuple[asyncio.Future[Committed], Transaction]] = []

    def submit(self, transaction: Transaction) -> asyncio.Future[Committed]:
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, transaction))
        return future

    def write(self) -> None:
        """Everything submitted so far."""
        waiting, self._waiting = self._waiting, []
        for future, transaction in waiting:
            ups = {row.session.f_cnt_up for row in transaction.devices if row.session is not None}
            if ups & self.bad:
                future.set_exception(StoreFault("a fault of its own"))
                continue
            for row in transaction.devices:
                self.row = row
            future.set_result(Committed())


class Place:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *bad: int) -> None:
        self.now_us = START_US
        row = DeviceRow(DEV, session=Session(1, ADDR[::-1].hex(), KEY, KEY, f_cnt_up=4))
        self.disk = Disk(row, set(bad))
        self.server = NetworkServer([row], random_bytes=random.Random(1).randbytes)
        monkeypatch.setattr(registry, "find_device", lambda reader, dev: self.disk.row)
        nobody: Any = None
        directory = cast(Directory, type("Nobody", (), {"by_dev": {}}))
        self.ingest = LorawanIngest(
            self.server, cast(Store, self.disk), directory, nobody, clock_us=lambda: self.now_us, trust_time=False
        )
        self.ingest.sender = self
        self.ingest.on_pull(EUI)
        self.sent: list[int] = []
        self.acked: list[int] = []

    def send(self, gateway: str, txpk: dict[str, Any]) -> bytes:
        self.sent.append(frames.parse_data(base64.b64decode(txpk["data"])).f_cnt)
        return len(self.sent).to_bytes(2, "big")

    def push(self, f_cnt: int) -> None:
        reception = Reception(uplink(f_cnt), 868_100_000, 7, 125_000, -80.0, 5.0, self.now_us & 0xFFFFFFFF, EUI)
        self.ingest.on_push(EUI, [reception], lambda: self.acked.append(f_cnt))


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_an_uplink_that_is_read_while_an_answer_is_chosen_takes_no_counter_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def life() -> None:
        place = Place(monkeypatch)
        place.push(5)
        await turns()
        place.disk.write()
        await turns()
        place.now_us += 200_000
        # In one turn of the loop: the next uplink is read, and the answer to the last one falls due.
        place.push(6)
        place.ingest._answers.answer(DEV)
        await turns()
        place.disk.write()
        await turns()
        assert place.disk.row.session is not None
        assert len(place.sent) == place.disk.row.session.f_cnt_down == 1
        assert place.disk.row.session.f_cnt_up == 6

    asyncio.run(life())


def test_one_that_cannot_be_stored_takes_back_nothing_of_what_was_stored_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def life() -> None:
        place = Place(monkeypatch, 5)
        place.push(5)
        place.now_us += 70_000
        place.push(6)
        await turns()
        # As a group they carry the newest row; let that be refused once.
        place.disk.bad = {5, 6}
        place.disk.write()
        place.disk.bad = {5}
        await turns()
        place.disk.write()
        await turns()
        place.disk.write()
        await turns()
        assert place.acked == [6]
        stored, known = place.disk.row.session, place.server.device(DEV)
        assert stored is not None and known is not None and known.session is not None
        assert stored.f_cnt_up == known.session.f_cnt_up == 6
        place.now_us += 700_000_000
        again = Reception(uplink(6), 868_100_000, 7, 125_000, -80.0, 5.0, place.now_us & 0xFFFFFFFF, EUI)
        assert place.server.on_uplink(again, place.now_us).kind == "copy"

    asyncio.run(life())
