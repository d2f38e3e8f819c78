"""The one thread that writes. Submissions are gathered into one commit; each is answered after that commit.

What the disk refuses (full, read-only, failing) is held and tried again: it is answered later, not lost, and nothing is
ever acknowledged that is not on disk.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from brim_gateway.errors import StoreFault
from brim_gateway.model import BinState
from brim_gateway.ratelog import RateLog
from brim_gateway.store import journal, outputs, registry, states
from brim_gateway.store.database import Database, open_reader
from brim_gateway.store.journal import Journal, JournalRow
from brim_gateway.store.outputs import Progress
from brim_gateway.store.transaction import Committed, Transaction

log = logging.getLogger("brim.store")
T = TypeVar("T")

BATCH_MOST = 2_000
"""Submissions in one commit: more would make the first wait longer than the disk asks for."""
COMPANY_ENOUGH = 128
"""A commit waits for no more company than this: by then the disk's time is shared among many."""
PROGRESS_LATEST_S = 1.0
"""An output's cursor is written down after this time, or at once where the output says that it is urgent."""
RETRY_S = (0.5, 1.0, 2.0, 5.0)
"""After a disk refused a commit."""
_DISK_FAULTS = frozenset(
    (
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS,
    )
)  # fmt: skip

Listener = Callable[[list[JournalRow], Mapping[str, int]], None]


@dataclass(slots=True)
class _Job:
    """A Transaction is patient: it waits for the disk. Work is not: whoever asked wants to know."""

    work: Transaction | Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any] | Future[Any]
    loop: asyncio.AbstractEventLoop | None
    answer: Any = None
    fault: Exception | None = None

    def deliver(self) -> None:
        if self.future.done():
            return
        if self.fault is not None:
            self.future.set_exception(self.fault)
        else:
            self.future.set_result(self.answer)


@dataclass(slots=True)
class StoreHealth:
    """For /health and /metrics. Times are monotonic seconds. ``cursors``: as they are on disk."""

    commits: int = 0
    readings_new: int = 0
    readings_repeated: int = 0
    failed_commits: int = 0
    last_commit_s: float = 0.0
    busy_since: float | None = None
    last_fault: str | None = None
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
        self._journal = Journal(self._connection)
        self._linger_s = linger_s
        self._rate_log = RateLog(log)
        self._jobs: deque[_Job] = deque()
        self._urgent: deque[_Job] = deque()
        self._noted: deque[tuple[str, Progress]] = deque()
        self._progress: dict[str, Progress] = {}
        self._progress_since = 0.0
        self._hurry = False
        self._held_until = 0.0
        self._refusals = 0
        self._flushed_at = self._last_commit = time.monotonic()
        # Queues and flags are shared without a lock: each is changed in one step, and a ring is never missed.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._sleeping = False
        self._stopping = False
        self._listener: tuple[asyncio.AbstractEventLoop, Listener] | None = None
        self.health.newest_id = self._journal.newest_id
        self.health.cursors = outputs.cursors(self._connection)
        self._thread = threading.Thread(target=self._run, name="brim-writer", daemon=True)
        self._thread.start()

    def submit(self, transaction: Transaction) -> asyncio.Future[Committed]:
        """Queue ``transaction``; the future resolves in the running loop after the commit, however long the disk
        refuses it. Fails with StoreFault where the store closes first; then nothing of it is stored."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed] = loop.create_future()
        self._enqueue(self._jobs, _Job(transaction, future, loop))
        return future

    def run(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run ``work`` in a transaction of its own; what it raises is handed on and its effects are undone.
        StoreFault at once where the disk refuses."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(self._urgent, _Job(work, future, loop))
        return future

    def run_blocking(self, work: Callable[[sqlite3.Connection], T], timeout_s: float = 30.0) -> T:
        """``run`` for a thread that has no event loop."""
        future: Future[T] = Future()
        self._enqueue(self._urgent, _Job(work, future, None))
        return future.result(timeout_s)

    def note_progress(self, output: str, progress: Progress, *, urgent: bool) -> None:
        """``output`` has handed over every row up to its cursor, except for the letters. Written with a commit within
        PROGRESS_LATEST_S; at once where it is ``urgent``. The listener is told when it is on disk."""
        self._noted.append((output, progress))
        if urgent:
            self._hurry = True
        # A sleeping writer has set no alarm for it.
        if self._sleeping or urgent:
            self._ring()

    def listen(self, call: Listener) -> None:
        """``call(new rows, cursors now on disk)`` in the running loop after each commit that has either."""
        self._listener = (asyncio.get_running_loop(), call)

    def reader(self) -> sqlite3.Connection:
        """A new read-only connection for one thread."""
        return open_reader(self.path)

    def states(self) -> list[BinState]:
        """What is believed of every bin now, by name."""
        return self._journal.states.all()

    def stuck_for_s(self) -> float:
        """How long the oldest unfinished commit has been under way; 0 when the writer is idle or holds back."""
        since = self.health.busy_since
        return 0.0 if since is None else time.monotonic() - since

    def waiting(self) -> int:
        """Submissions that are not committed yet."""
        return len(self._jobs)

    def forget_state(self, bin_name: str) -> None:
        """A bin was removed."""
        self._journal.states.forget(bin_name)

    def close(self) -> None:
        """Commit everything that was submitted, then close the file."""
        self._stopping = True
        self._ring()
        self._thread.join()

    def _enqueue(self, queue: deque[_Job], job: _Job) -> None:
        queue.append(job)
        # The writer sets `_sleeping` before it looks at the queues: either it sees the job or it is woken here.
        if self._sleeping or queue is self._urgent or len(queue) == COMPANY_ENOUGH:
            self._ring()
        if not self._thread.is_alive():
            self._close_queues()

    def _ring(self) -> None:
        self._sleeping = False
        self._bell.put(None)

    # The writer thread.

    def _run(self) -> None:
        while True:
            stopping = self._gather()
            while self._urgent:
                self._alone(self._urgent.popleft())
            held = time.monotonic() < self._held_until and not stopping
            batch = [] if held else [self._jobs.popleft() for _ in range(min(len(self._jobs), BATCH_MOST))]
            self._commit(batch, flush=stopping or self._flush_due())
            if stopping and (not self._jobs or self._refusals):
                break
        self._close_queues()
        self._database.close()
        self._close_queues()

    def _gather(self) -> bool:
        """Wait until there is something to write, then for company. True: the store is closing."""
        while not self._stopping and not self._urgent:
            self._sleeping = True
            self._take_noted()
            left = self._nothing_until()
            if left is not None and left <= 0:
                break
            self._wait(left)
        self._sleeping = False
        if self._jobs and time.monotonic() - self._last_commit < 10 * self._linger_s:
            until = time.monotonic() + self._linger_s
            while not (self._stopping or self._urgent or self._hurry):
                left = until - time.monotonic()
                if left <= 0 or len(self._jobs) >= COMPANY_ENOUGH:
                    break
                self._wait(left)
        return self._stopping

    def _wait(self, seconds: float | None) -> None:
        """Until somebody rings, or so long. Earlier for nothing is fine."""
        with suppress(Empty):
            self._bell.get(timeout=seconds)

    def _take_noted(self) -> None:
        while self._noted:
            name, new = self._noted.popleft()
            if not self._progress:
                self._progress_since = time.monotonic()
            old = self._progress.get(name)
            self._progress[name] = new if old is None else Progress(new.cursor, old.letters + new.letters)

    def _nothing_until(self) -> float | None:
        """Seconds until there will be something to write; ≤ 0: now; None: only what comes can tell."""
        now = time.monotonic()
        held_s = self._held_until - now
        due = []
        if self._jobs or (self._progress and self._hurry):
            due.append(held_s)
        if self._progress:
            due.append(max(held_s, self._progress_since + PROGRESS_LATEST_S - now))
        if self._journal.states.unflushed:
            due.append(max(held_s, self._flushed_at + states.FLUSH_S - now))
        return min(due, default=None)

    def _flush_due(self) -> bool:
        since_s = time.monotonic() - self._flushed_at
        return self._journal.states.due(self._journal.newest_id, since_s) and time.monotonic() >= self._held_until

    def _alone(self, job: _Job) -> None:
        """Work in a transaction of its own, on tables that are up to date."""
        assert callable(job.work)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._journal.states.flush(self._journal.newest_id)
            job.answer = job.work(self._connection)
            self._connection.execute("COMMIT")
            self._flushed()
        except Exception as exc:  # noqa: BLE001 - whoever asked is told
            self._roll_back()
            job.fault = StoreFault(f"{self.path}: {exc}") if _is_disk_fault(exc) else exc
        self._post([job], [], {})

    def _commit(self, batch: list[_Job], *, flush: bool) -> None:
        started = time.monotonic()
        progress = self._progress_due(started)
        if not (batch or progress or flush):
            return
        self.health.busy_since = started
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                assert isinstance(job.work, Transaction)
                job.answer = self._apply(job.work)
            self._journal.write()
            outputs.note(self._connection, progress)
            if flush:
                self._journal.states.flush(self._journal.newest_id)
            self._connection.execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - whatever it is, the writer goes on and nobody is told "stored"
            self._roll_back()
            self._refused(batch, exc)
        else:
            if flush:
                self._flushed()
            for name in progress:
                del self._progress[name]
            self._stands(batch, progress)
        self._last_commit = time.monotonic()
        self.health.last_commit_s = self._last_commit - started
        self.health.busy_since = None

    def _progress_due(self, now: float) -> dict[str, Progress]:
        """What is to be written of the outputs' progress now: each time costs a page."""
        self._take_noted()
        if not (self._hurry or self._stopping or now - self._progress_since >= PROGRESS_LATEST_S):
            return {}
        self._hurry = False
        return dict(self._progress)

    def _apply(self, transaction: Transaction) -> Committed:
        result = Committed()
        for reading in transaction.readings:
            self._journal.append(reading, result)
        for row in transaction.devices:
            registry.update_device(self._connection, row)
        for item in transaction.quarantine:
            journal.set_aside(self._connection, item)
        return result

    def _stands(self, batch: list[_Job], progress: Mapping[str, Progress]) -> None:
        rows = self._journal.committed()
        health = self.health
        health.last_fault = None
        health.commits += 1
        health.newest_id = self._journal.newest_id
        health.readings_new += len(rows)
        health.readings_repeated += sum(len(job.answer.new) for job in batch) - len(rows)
        noted = {name: one.cursor for name, one in progress.items()}
        health.cursors |= noted
        self._refusals = 0
        self._post(batch, rows, noted)

    def _refused(self, batch: list[_Job], exc: Exception) -> None:
        """A disk's refusal holds everything back; any other fault is that of one submission, which fails alone."""
        self.health.failed_commits += 1
        if _is_disk_fault(exc) or not batch:
            self.health.last_fault = str(exc)
            self._held_until = time.monotonic() + RETRY_S[min(self._refusals, len(RETRY_S) - 1)]
            self._refusals += 1
            self._jobs.extendleft(reversed(batch))
            text = f"{exc}; nothing of it was acknowledged, it is tried again"
            self._rate_log.note("commit failed", text, logging.ERROR)
        elif len(batch) == 1:
            batch[0].fault = exc
            self._rate_log.note("submission refused", f"{type(exc).__name__}: {exc}", logging.ERROR)
            self._post(batch, [], {})
        else:
            for job in batch:
                self._commit([job], flush=False)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._journal.rolled_back()

    def _flushed(self) -> None:
        self._journal.states.flushed(self._journal.newest_id)
        self._flushed_at = time.monotonic()

    def _post(self, jobs: list[_Job], rows: list[JournalRow], noted: Mapping[str, int]) -> None:
        """One call into each loop for the whole commit: waking a loop costs more than the answers do."""
        by_loop: dict[asyncio.AbstractEventLoop | None, list[_Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.loop, []).append(job)
        if self._listener is not None and (rows or noted):
            by_loop.setdefault(self._listener[0], [])
        for loop, answered in by_loop.items():
            listener = self._listener[1] if self._listener is not None and self._listener[0] is loop else None
            try:
                if loop is None:
                    _deliver(answered, None, rows, noted)
                else:
                    loop.call_soon_threadsafe(_deliver, answered, listener, rows, noted)
            except RuntimeError:
                log.warning("%d answers had no event loop left to go to", len(answered))

    def _close_queues(self) -> None:
        for queue in (self._urgent, self._jobs):
            while queue:
                job = queue.popleft()
                job.fault = StoreFault("the store is closing")
                self._post([job], [], {})


def _is_disk_fault(exc: Exception) -> bool:
    """The file or the disk, not one submission, is at fault."""
    code = getattr(exc, "sqlite_errorcode", None)
    return isinstance(exc, sqlite3.Error) and code is not None and (code & 0xFF) in _DISK_FAULTS


def _deliver(jobs: list[_Job], listener: Listener | None, rows: list[JournalRow], noted: Mapping[str, int]) -> None:
    for job in jobs:
        job.deliver()
    if listener is not None and (rows or noted):
        listener(rows, noted)
