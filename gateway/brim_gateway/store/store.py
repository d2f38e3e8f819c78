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
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import msgspec

from brim_gateway.errors import StoreFault
from brim_gateway.model import BinState
from brim_gateway.ratelog import RateLog
from brim_gateway.store import journal, outputs, states
from brim_gateway.store.database import Database, open_reader
from brim_gateway.store.devices import Devices
from brim_gateway.store.faults import RETRY_S, is_disk_fault
from brim_gateway.store.health import StoreHealth
from brim_gateway.store.jobs import Job, Listener, deliver
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
        try:
            self._journal = Journal(self._connection)
            self._devices = Devices(self._connection)
            self.health.newest_id = self._journal.newest_id
            self.health.cursors = outputs.cursors(self._connection)
        except (sqlite3.Error, msgspec.MsgspecError) as exc:
            self._database.close()
            raise StoreFault(f"{path}: what it holds cannot be read: {exc}; restore a backup") from exc
        self._linger_s = linger_s
        self._rate_log = RateLog(log)
        self._jobs: deque[Job] = deque()
        self._urgent: deque[Job] = deque()
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
        self._closed = False
        self._fault: BaseException | None = None
        self._in_hand: list[Job] = []
        self._listener: tuple[asyncio.AbstractEventLoop, Listener] | None = None
        self._mourner: tuple[asyncio.AbstractEventLoop, Callable[[], None]] | None = None
        self._thread = threading.Thread(target=self._run, name="brim-writer", daemon=True)
        self._thread.start()

    def submit(self, transaction: Transaction) -> asyncio.Future[Committed]:
        """Queue ``transaction``; the future resolves in the running loop after the commit, however long the disk
        refuses it. Fails with StoreFault where the store closes first; then nothing of it is stored."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed] = loop.create_future()
        self._enqueue(self._jobs, Job(transaction, future, loop))
        return future

    def run(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run ``work`` in a transaction of its own; what it raises is handed on and its effects are undone.
        StoreFault at once where the disk refuses."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(self._urgent, Job(work, future, loop))
        return future

    def run_blocking(self, work: Callable[[sqlite3.Connection], T], timeout_s: float = 30.0) -> T:
        """``run`` for a thread that has no event loop."""
        future: Future[T] = Future()
        self._enqueue(self._urgent, Job(work, future, None))
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

    def when_dead(self, call: Callable[[], None]) -> None:
        """``call()`` in the running loop if the writer ends by a fault of its own. Nothing is stored after that."""
        self._mourner = (asyncio.get_running_loop(), call)

    @property
    def dead(self) -> bool:
        """The writer has ended and was not asked to; ``health.last_fault`` says why."""
        return self._fault is not None

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

    def _enqueue(self, queue: deque[Job], job: Job) -> None:
        queue.append(job)
        # The writer sets `_sleeping` before it looks at the queues: either it sees the job or it is woken here.
        if self._sleeping or queue is self._urgent or len(queue) == COMPANY_ENOUGH:
            self._ring()
        # The writer sets `_closed` before it empties the queues for the last time.
        if self._closed:
            self._close_queues()

    def _ring(self) -> None:
        self._sleeping = False
        self._bell.put(None)

    # The writer thread.

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except BaseException as exc:  # nothing should come here; if it does, nobody may wait for ever
            self._fault = exc
            self.health.last_fault = f"the writer ended: {type(exc).__name__}: {exc}"
            log.critical("%s; nothing more is taken", self.health.last_fault, exc_info=exc)
        self._closed = True
        self._close_queues()
        with suppress(sqlite3.Error):
            self._database.close()
        if self._fault is not None and self._mourner is not None:
            with suppress(RuntimeError):
                self._mourner[0].call_soon_threadsafe(self._mourner[1])

    def _write_until_closed(self) -> None:
        while True:
            stopping = self._gather()
            while self._urgent:
                self._in_hand = [self._urgent.popleft()]
                self._alone(self._in_hand[0])
            held = time.monotonic() < self._held_until and not stopping
            self._in_hand = [] if held else [self._jobs.popleft() for _ in range(min(len(self._jobs), BATCH_MOST))]
            self._commit(self._in_hand, flush=stopping or self._flush_due())
            self._in_hand = []
            if stopping and (not self._jobs or self._refusals):
                break

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

    def _alone(self, job: Job) -> None:
        """Work in a transaction of its own, on tables that are up to date: states and outputs' progress too."""
        assert callable(job.work)
        self._take_noted()
        progress = dict(self._progress)
        self.health.busy_since = time.monotonic()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._journal.states.flush(self._journal.newest_id)
            outputs.note(self._connection, progress)
            job.answer = job.work(self._connection)
            self._connection.execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - whoever asked is told
            self._roll_back()
            job.fault = StoreFault(f"{self.path}: {exc}") if is_disk_fault(exc) else exc
            self._post([job], [], {})
        else:
            self._flushed()
            self._post([job], [], self._written_down(progress))
        self._devices.forget()
        self.health.busy_since = None

    def _commit(self, batch: list[Job], *, flush: bool) -> bool:
        """False: the disk refused it, and all of it waits in the queue again."""
        started = time.monotonic()
        progress = self._progress_due(started)
        if not (batch or progress or flush):
            return True
        settled = True
        self.health.busy_since = started
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                assert isinstance(job.work, Transaction)
                job.answer = self._apply(job.work)
            self._journal.write()
            self._devices.write()
            outputs.note(self._connection, progress)
            if flush:
                self._journal.states.flush(self._journal.newest_id)
            self._connection.execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - whatever it is, the writer goes on and nobody is told "stored"
            self._roll_back()
            settled = self._refused(batch, exc)
        else:
            if flush:
                self._flushed()
            self._stands(batch, self._written_down(progress))
        self._last_commit = time.monotonic()
        self.health.last_commit_s = self._last_commit - started
        self.health.busy_since = None
        return settled

    def _progress_due(self, now: float) -> dict[str, Progress]:
        """What is to be written of the outputs' progress now: each time costs a page."""
        # Put back before what was noted is taken: who notes comes first with the note and then with the hurry.
        hurry, self._hurry = self._hurry, False
        self._take_noted()
        if hurry or self._stopping or now - self._progress_since >= PROGRESS_LATEST_S:
            return dict(self._progress)
        return {}

    def _written_down(self, progress: Mapping[str, Progress]) -> dict[str, int]:
        """The transaction with ``progress`` stands: the cursors now on disk."""
        for name in progress:
            del self._progress[name]
        noted = {name: one.cursor for name, one in progress.items()}
        self.health.cursors |= noted
        return noted

    def _apply(self, transaction: Transaction) -> Committed:
        result = Committed()
        for reading in transaction.readings:
            self._journal.append(reading, result)
        for row in transaction.devices:
            self._devices.put(row)
        for item in transaction.quarantine:
            journal.set_aside(self._connection, item)
        return result

    def _stands(self, batch: list[Job], noted: dict[str, int]) -> None:
        rows = self._journal.committed()
        health = self.health
        health.last_fault = None
        health.commits += 1
        health.newest_id = self._journal.newest_id
        health.readings_new += len(rows)
        health.readings_repeated += sum(len(job.answer.new) for job in batch) - len(rows)
        self._refusals = 0
        self._post(batch, rows, noted)

    def _refused(self, batch: list[Job], exc: Exception) -> bool:
        """A disk's refusal holds everything back (False); any other fault is that of one submission, which fails
        alone."""
        self.health.failed_commits += 1
        if is_disk_fault(exc) or not batch:
            self.health.last_fault = str(exc)
            self._held_until = time.monotonic() + RETRY_S[min(self._refusals, len(RETRY_S) - 1)]
            self._refusals += 1
            self._jobs.extendleft(reversed(batch))
            text = f"{exc}; nothing of it was acknowledged, it is tried again"
            self._rate_log.note("commit failed", text, logging.ERROR)
            return False
        if len(batch) == 1:
            batch[0].fault = exc
            self._rate_log.note("submission refused", f"{type(exc).__name__}: {exc}", logging.ERROR)
            self._post(batch, [], {})
        else:
            for at, job in enumerate(batch):
                if not self._commit([job], flush=False):
                    # Now it is the disk: the others wait behind this one, in their order.
                    self._jobs.popleft()
                    self._jobs.extendleft(reversed(batch[at:]))
                    return False
        return True

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as exc:  # the next BEGIN fails too then, and this is tried again
            self._rate_log.note("rollback failed", str(exc), logging.ERROR)
        self._journal.rolled_back()
        self._devices.forget()

    def _flushed(self) -> None:
        self._journal.states.flushed(self._journal.newest_id)
        self._flushed_at = time.monotonic()

    def _post(self, jobs: list[Job], rows: list[JournalRow], noted: Mapping[str, int]) -> None:
        """One call into each loop for the whole commit: waking a loop costs more than the answers do."""
        by_loop: dict[asyncio.AbstractEventLoop | None, list[Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.loop, []).append(job)
        if self._listener is not None and (rows or noted):
            by_loop.setdefault(self._listener[0], [])
        for loop, answered in by_loop.items():
            listener = self._listener[1] if self._listener is not None and self._listener[0] is loop else None
            try:
                if loop is None:
                    deliver(answered, None, rows, noted)
                else:
                    loop.call_soon_threadsafe(deliver, answered, listener, rows, noted)
            except RuntimeError:
                log.warning("%d answers had no event loop left to go to", len(answered))

    def _close_queues(self) -> None:
        left, self._in_hand = self._in_hand, []
        for queue in (self._urgent, self._jobs):
            with suppress(IndexError):  # both ends may be at it
                while True:
                    left.append(queue.popleft())
        for job in left:
            job.fault = StoreFault("the store is closing")
        self._post(left, [], {})
