"""Work that runs beside the event that caused it, and is waited for at the stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """``spawn`` coroutines in the running loop; a fault of one is logged with its origin and disturbs no other."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log, self._what = log, what
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)

    async def settle(self, within_s: float) -> None:
        """Wait for what runs, and for what that starts, but no longer than that."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while self._running and (left_s := deadline - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left_s)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("fault while %s", self._what, exc_info=task.exception())
