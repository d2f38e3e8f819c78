"""What the daemon does by itself now and then: look at the clock and the certificates, let old readings go."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Any

from brim_gateway.certificates import WARN_DAYS
from brim_gateway.clock import Clock
from brim_gateway.errors import GatewayError
from brim_gateway.store.retention import Limits, Swept, sweep
from brim_gateway.store.store import Store

log = logging.getLogger("brim.upkeep")

LOOK_S = 5.0
SWEEP_EVERY_S = 60.0
CERTIFICATES_EVERY_S = 24 * 3600.0


class Upkeep:
    """``expiries()`` reads the certificates (in a thread); what it said last stands in ``certificates``."""

    def __init__(
        self, store: Store, clock: Clock, limits: Limits, expiries: Callable[[], list[dict[str, Any]]]
    ) -> None:
        self.certificates: list[dict[str, Any]] = []
        self.dropped_unsent = 0
        self._store = store
        self._clock = clock
        self._limits = limits
        self._expiries = expiries
        self._doubt = ""
        self._certificates_at = self._sweep_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; a step under way is finished by the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except GatewayError:
                pass  # a disk that refuses is told of elsewhere
            except Exception:  # what is due now and then is due again, whatever went wrong this time
                log.exception("upkeep: fault of its own")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        self._clock.look()
        if self._clock.why_not() != self._doubt:
            self._doubt = doubt = self._clock.why_not()
            consequence = "no reading goes by age, and no bin is told the time"
            log.warning("clock: %s", f"not trusted: {doubt}; {consequence}" if doubt else "trusted again")
        if now >= self._certificates_at:
            self._certificates_at = now + CERTIFICATES_EVERY_S
            await self.look_at_certificates()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY_S
            await self.sweep()

    async def look_at_certificates(self) -> None:
        """Read them again, and say which ends soon."""
        self.certificates = await asyncio.to_thread(self._expiries)
        for one in self.certificates:
            left = one["days_left"]
            if left is None:
                log.error("certificate %s (%s) cannot be read", one["file"], one["what"])
            elif left < 0:
                log.error("certificate %s (%s) ended on %s", one["file"], one["what"], one["expires"])
            elif left < WARN_DAYS:
                log.warning("certificate %s (%s) ends in %d days", one["file"], one["what"], left)

    async def sweep(self) -> None:
        """Let go of what the limits ask for, a bounded number of rows a transaction."""
        more = True
        while more:
            swept = await self._store.run(self._step)
            self._tell(swept)
            more = swept.more

    def _step(self, connection: sqlite3.Connection) -> Swept:
        # A sweep may take long and a step may wait: the clock may have jumped since the last look.
        self._clock.look()
        return sweep(connection, self._limits, self._clock.now_us() if self._clock.trusted() else None)

    def _tell(self, swept: Swept) -> None:
        for name in swept.outputs_given_up:
            log.warning("output %s: gone from the configuration for 7 days; nothing is held for it any more", name)
        for name, count in swept.unsent.items():
            self.dropped_unsent += count
            log.error(
                "output %s: %d readings that it had not got were removed, the oldest first: the journal is larger than"
                " keep_max_mb",
                name,
                count,
            )
