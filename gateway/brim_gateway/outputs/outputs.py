"""All outputs of a daemon: started, changed while it runs, stopped, and told of every commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from brim_gateway.clock import Clock
from brim_gateway.config import OutputConfig
from brim_gateway.errors import RegistryError, StoreFault
from brim_gateway.outputs.runner import OutputRunner
from brim_gateway.outputs.tail import Tail
from brim_gateway.store import outputs as table
from brim_gateway.store.journal import JournalRow
from brim_gateway.store.outputs import Place
from brim_gateway.store.store import Store

log = logging.getLogger("brim.output")


class Outputs:
    """``await replace(configs, passwords)`` brings the running outputs in line with a configuration."""

    def __init__(self, site: str, store: Store, clock: Clock) -> None:
        self.runners: dict[str, OutputRunner] = {}
        self._site = site
        self._store = store
        self._clock = clock
        self._tail = Tail()
        self._passwords: dict[str, str | None] = {}
        store.listen(self._on_commit)

    def _on_commit(self, rows: list[JournalRow], noted: Mapping[str, int]) -> None:
        self._tail.extend(rows)
        for name, runner in self.runners.items():
            runner.on_commit(noted.get(name))

    async def replace(self, wanted: Sequence[OutputConfig], passwords: Mapping[str, str | None]) -> None:
        """Start what is new, stop what is gone, start anew what has changed; the others do not notice. Raises
        StoreFault before anything has changed."""
        # First what may fail: where the disk refuses, all outputs go on as they were.
        places = await self._open_places(wanted)
        keep = {
            one.name
            for one in wanted
            if (runner := self.runners.get(one.name)) is not None
            and runner.config == one
            and self._passwords.get(one.name) == passwords.get(one.name)
        }
        gone = [self.runners.pop(name) for name in list(self.runners) if name not in keep]
        await asyncio.gather(*(runner.stop() for runner in gone))
        # Again, where their last acknowledgements are known; otherwise the rows since are handed over once more.
        with suppress(StoreFault):
            places = await self._open_places(wanted)
        self._passwords = dict(passwords)
        for one in wanted:
            if one.name not in keep:
                place = places[one.name]
                self._store.health.cursors[one.name] = place.cursor
                runner = OutputRunner(
                    one, self._site, self._store, self._tail, place, passwords.get(one.name), self._clock.now_us
                )
                self.runners[one.name] = runner
                runner.start()

    async def _open_places(self, wanted: Sequence[OutputConfig]) -> dict[str, Place]:
        names = [(one.name, one.from_oldest) for one in wanted]
        now_us, trusted = self._clock.now_us(), self._clock.trusted()
        return await self._store.run(lambda c: table.open_places(c, self._site, names, now_us, clock_trusted=trusted))

    async def stop(self) -> None:
        """Stop all, at the same time."""
        await asyncio.gather(*(runner.stop() for runner in self.runners.values()))

    async def retry_letters(self, name: str) -> dict[str, Any]:
        """Send the dead letters of ``name`` again. Raises RegistryError for an unknown output."""
        runner = self.runners.get(name)
        if runner is None:
            raise RegistryError([f"output {name}: no such output runs; known: {', '.join(self.runners) or 'none'}"])
        return await runner.retry_letters()
