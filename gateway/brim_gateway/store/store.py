"""The one thread that writes. Submissions are gathered into one commit; each is answered after that commit.

A submission that the database refuses fails alone; a commit that fails fails all its submissions, so that
nothing is ever acknowledged that is not on disk.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from brim_gateway.errors import StoreFault
from brim_gateway.ratelog import RateLog
from brim_gateway.store import journal, registry
from brim_gateway.store.database import Database, open_reader
from brim_gateway.store.transaction import Committed, Transaction

log = logging.getLogger("brim.store")
T = TypeVar("T")

BATCH_MOST = 2_000
"""Submissions in one commit: more would make the first wait longer than the disk asks for."""
CURSOR_LATEST_S = 1.0
"""A cursor rides on the next commit, and waits no longer than this for one…"""
CURSOR_ROWS_MOST = 50
"""…nor for more rows than these: what it has not noted is sent again after a kill."""


@dataclass(slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    deliver: Callable[[Any, Exception | None], None]
    loop: asyncio.AbstractEventLoop | None
    answer: Any = None
    fault: Exception | None = None


@dataclass(slots=True)
class StoreHealth:
    """For /health and /metrics. Times are monotonic seconds."""

    commits: int = 0
    readings_new: int = 0
    readings_repeated: int = 0
    failed_commits: int = 0
    last_commit_s: float = 0.0
    busy_since: float | None = None
    last_fault: str | None = None
    waiting: int = 0
    newest_id: int = 0
    cursors: dict[str, int] = field(default_factory=dict)


class Store:
    """The journal and the registry behind one writer thread.

    ``linger_s``: how long a commit waits for company, and only while commits follow each other closely.
    Every public method may be called from any thread.
    """

    def __init__(self, path: Path, linger_s: float = 0.02) -> None:
        self.path = path
        self.health = StoreHealth()
        self._database = Database(path)
        self._connection = self._database.connection
        self._states = journal.StateCache(self._connection)
        self._linger_s = linger_s
        self._rate_log = RateLog(log)
        self._jobs: deque[_Job] = deque()
        self._cursors: dict[str, int] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._lingering = False
        self._listeners: list[Callable[[], None]] = []
        self.health.newest_id = journal.newest_id(self._connection)
        self.health.cursors = registry.output_cursors(self._connection)
        self._thread = threading.Thread(target=self._run, name="brim-writer", daemon=True)
        self._thread.start()

    def submit(self, transaction: Transaction) -> asyncio.Future[Committed]:
        """Queue ``transaction``; the future resolves in the running loop after the commit.

        Fails with StoreFault where the disk refuses: then nothing of it is stored.
        """
        return self.run(lambda connection: self._apply(connection, transaction))

    def run(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run ``work`` inside the next transaction; its GatewayError is handed on, its effects are undone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def deliver(answer: T, fault: Exception | None) -> None:
            if future.cancelled():
                return
            if fault is not None:
                future.set_exception(fault)
            else:
                future.set_result(answer)

        self._enqueue(_Job(work, deliver, loop))
        return future

    def run_blocking(self, work: Callable[[sqlite3.Connection], T], timeout_s: float = 30.0) -> T:
        """``run`` for a thread that has no event loop."""
        future: Future[T] = Future()

        def deliver(answer: T, fault: Exception | None) -> None:
            if fault is not None:
                future.set_exception(fault)
            else:
                future.set_result(answer)

        self._enqueue(_Job(work, deliver, None))
        return future.result(timeout_s)

    def note_cursor(self, output: str, cursor: int) -> None:
        """``output`` has handed over every row up to ``cursor``. Written with the next commit, which comes within a
        second or CURSOR_ROWS_MOST rows."""
        with self._wake:
            first = not self._cursors
            self._cursors[output] = cursor
            if (first and not self._lingering) or self._cursor_overdue():
                self._wake.notify()

    def reader(self) -> sqlite3.Connection:
        """A new read-only connection for one thread."""
        return open_reader(self.path)

    def on_commit(self, call: Callable[[], None]) -> None:
        """``call`` (quick, any thread) after every commit that added to the journal."""
        self._listeners.append(call)

    def stuck_for_s(self) -> float:
        """How long the oldest unfinished commit has been under way; 0 when the writer is idle."""
        since = self.health.busy_since
        return 0.0 if since is None else time.monotonic() - since

    def waiting(self) -> int:
        """Submissions that no commit has taken up yet."""
        return len(self._jobs)

    def close(self) -> None:
        """Commit everything that was submitted, then close the file."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    # The writer thread.

    def _enqueue(self, job: _Job) -> None:
        with self._wake:
            closing = self._stopping
            if not closing:
                self._jobs.append(job)
            if self.health.busy_since is None:
                self.health.busy_since = time.monotonic()
            # While the writer waits for company, each newcomer must not wake it.
            if not self._lingering or len(self._jobs) >= BATCH_MOST:
                self._wake.notify()
        if closing:
            job.deliver(None, StoreFault("the store is closing"))

    def _run(self) -> None:
        last_commit = 0.0
        while True:
            batch = self._gather(last_commit)
            # A closing store tries once: a disk that refuses a cursor must not hold up the stop.
            ending = self._stopping and not batch
            if batch or self._cursors:
                self._commit(batch)
            if ending:
                break
            last_commit = time.monotonic()
            with self._wake:
                self.health.busy_since = last_commit if self._jobs else None
        self._database.close()

    def _cursor_overdue(self) -> bool:
        """Whether an output has run too far ahead of what is noted; a disk that refuses is not asked more often."""
        noted = self.health.cursors
        return self.health.last_fault is None and any(
            cursor - noted.get(name, 0) >= CURSOR_ROWS_MOST for name, cursor in self._cursors.items()
        )

    def _gather(self, last_commit: float) -> list[_Job]:
        """Wait for work or a cursor that is due, then for company; empty also when the store is closing."""
        with self._wake:
            while not self._jobs and not self._stopping and not self._cursor_overdue():
                left = CURSOR_LATEST_S - (time.monotonic() - last_commit) if self._cursors else None
                if left is not None and left <= 0:
                    break
                self._wake.wait(left)
            now = time.monotonic()
            linger_until = now + self._linger_s
            if self._jobs and now - last_commit < 10 * self._linger_s:
                self._lingering = True
                while len(self._jobs) < BATCH_MOST and not self._stopping and not self._cursor_overdue():
                    left = linger_until - time.monotonic()
                    if left <= 0:
                        break
                    self._wake.wait(left)
                self._lingering = False
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), BATCH_MOST))]

    def _commit(self, batch: list[_Job]) -> None:
        started = time.monotonic()
        grew_from = self.health.newest_id
        try:
            self._transaction(batch)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the writer goes on and nobody is told "stored"
            self.health.failed_commits += 1
            self.health.last_fault = str(exc)
            self._rate_log.note("commit failed", f"{exc}; nothing of it was acknowledged", logging.ERROR)
            for job in batch:
                job.answer, job.fault = None, StoreFault(f"{self.path}: {exc}")
        else:
            self.health.last_fault = None
            self.health.commits += 1
        self.health.last_commit_s = time.monotonic() - started
        self._answer(batch)
        if self.health.newest_id > grew_from:
            for call in self._listeners:
                call()

    def _transaction(self, batch: list[_Job]) -> None:
        """All of ``batch`` in one commit; where one of them fails, again with each in its own savepoint."""
        connection = self._connection
        newest = self.health.newest_id
        for guarded in (False, True):
            cursors: dict[str, int] = {}
            try:
                connection.execute("BEGIN IMMEDIATE")
                for job in batch:
                    self._do(job, guarded)
                # Last, so that they stand where the outputs are now and not where they were before the batch.
                with self._wake:
                    cursors, self._cursors = self._cursors, {}
                registry.set_cursors(connection, cursors)
                connection.execute("COMMIT")
                self.health.cursors.update(cursors)
                break
            except Exception as exc:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                with self._wake:
                    self._cursors = cursors | self._cursors
                self._states.forget()
                self.health.newest_id = newest
                if guarded or _is_disk_fault(exc):
                    raise
        for job in batch:
            if isinstance(job.answer, Committed):
                new = sum(job.answer.new)
                self.health.readings_new += new
                self.health.readings_repeated += len(job.answer.new) - new

    def _do(self, job: _Job, guarded: bool) -> None:
        job.answer, job.fault = None, None
        if not guarded:
            job.answer = job.work(self._connection)
            return
        self._connection.execute("SAVEPOINT one")
        try:
            job.answer = job.work(self._connection)
        except Exception as exc:
            if _is_disk_fault(exc):
                raise
            self._connection.execute("ROLLBACK TO one")
            self._states.forget()
            job.answer, job.fault = None, exc
        self._connection.execute("RELEASE one")

    def _apply(self, connection: sqlite3.Connection, transaction: Transaction) -> Committed:
        result = Committed()
        for reading in transaction.readings:
            journal.append(connection, self._states, reading, result)
        for row in transaction.devices:
            registry.update_device(connection, row)
        for item in transaction.quarantine:
            journal.set_aside(connection, item)
        self.health.newest_id = max(self.health.newest_id, result.last_id)
        return result

    def forget_state(self, bin_name: str) -> None:
        """A bin's state was removed from the database: it is to be read again. Any thread."""
        self._states.forget(bin_name)

    def _answer(self, batch: Iterable[_Job]) -> None:
        """One call into each loop for the whole batch: waking a loop costs more than the answers do."""
        by_loop: dict[asyncio.AbstractEventLoop | None, list[_Job]] = {}
        for job in batch:
            by_loop.setdefault(job.loop, []).append(job)
        for loop, jobs in by_loop.items():
            if loop is None:
                _deliver(jobs)
            else:
                try:
                    loop.call_soon_threadsafe(_deliver, jobs)
                except RuntimeError:
                    log.warning("%d answers had no event loop left to go to", len(jobs))


def _is_disk_fault(exc: Exception) -> bool:
    """The file or the disk, not one submission, is at fault."""
    return isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.IntegrityError)


def _deliver(jobs: list[_Job]) -> None:
    for job in jobs:
        job.deliver(job.answer, job.fault)
