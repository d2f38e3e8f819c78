"""What the daemon does now and then goes on, whatever goes wrong in it once."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from brim_gateway import serve, upkeep
from brim_gateway.clock import Clock
from brim_gateway.store.retention import Limits
from brim_gateway.store.store import Store
from brim_gateway.systemd import Notifier
from brim_gateway.upkeep import Upkeep

from tests.gateway.support import wait_until
from tests.gateway.test_store import with_store

LIMITS = Limits(keep_days=10, keep_bytes=1 << 40)


def test_a_fault_in_one_look_does_not_end_the_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_S", 0.01)
    monkeypatch.setattr(upkeep, "CERTIFICATES_EVERY_S", 0.0)
    calls: list[int] = []

    def expiries() -> list[dict[str, Any]]:
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("boom")
        return [{"file": "f", "what": "w", "expires": "e", "days_left": 400}]

    async def work(store: Store) -> None:
        keeper = Upkeep(store, Clock("trusted"), LIMITS, expiries)
        keeper.start()
        await asyncio.to_thread(wait_until, lambda: keeper.certificates, "read at last")
        await keeper.stop()

    with_store(tmp_path, work)


def test_a_clock_that_jumps_amid_a_sweep_removes_nothing_by_age(tmp_path: Path) -> None:
    now = [2_000_000_000_000_000]
    clock = Clock("trusted", wall=lambda: now[0], boot=lambda: 0)

    async def work(store: Store) -> None:
        await store.run(
            lambda c: c.executemany(
                "INSERT INTO journal (id, received_us, reading) VALUES (?, ?, x'00')",
                [(i, now[0]) for i in range(1, 9)],
            )
        )
        now[0] += 20 * 24 * 3_600 * 1_000_000
        await Upkeep(store, clock, LIMITS, list).sweep()
        assert await store.run(lambda c: c.execute("SELECT count(*) FROM journal").fetchone()[0]) == 8
        assert "jumped" in clock.why_not()

    with_store(tmp_path, work)


def test_a_reload_that_ends_in_a_surprise_does_not_deafen_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def surprised(_: Any, __: Path) -> None:
        asked.append(signal.SIGHUP)
        raise RuntimeError("boom")

    def heard(count: int) -> bool:
        return len(asked) == count

    async def life() -> None:
        monkeypatch.setattr(serve, "reload", surprised)
        reloading = asyncio.Event()
        task = asyncio.ensure_future(serve._reload_when_asked(None, Path(), reloading, Notifier({})))  # type: ignore[arg-type]
        for count in (1, 2):
            reloading.set()
            await asyncio.to_thread(wait_until, partial(heard, count), "heard")
        task.cancel()

    asyncio.run(life())
