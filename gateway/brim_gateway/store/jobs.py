"""What is asked of the writer, and how the answers come back into the loops that asked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from brim_gateway.store.journal import JournalRow
from brim_gateway.store.transaction import Transaction

Listener = Callable[[list[JournalRow], Mapping[str, int]], None]


@dataclass(slots=True)
class Job:
    """A Transaction is patient: it waits for the disk. Work is not: whoever asked wants to know."""

    work: Transaction | Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any] | Future[Any]
    loop: asyncio.AbstractEventLoop | None
    answer: Any = None
    fault: Exception | None = None

    def deliver(self) -> None:
        """Tell whoever still waits."""
        if self.future.done():
            return
        if self.fault is not None:
            self.future.set_exception(self.fault)
        else:
            self.future.set_result(self.answer)


def deliver(jobs: list[Job], listener: Listener | None, rows: list[JournalRow], noted: Mapping[str, int]) -> None:
    """Every answer of a commit, then its rows."""
    for job in jobs:
        job.deliver()
    if listener is not None and (rows or noted):
        listener(rows, noted)
