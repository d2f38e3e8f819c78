"""The clock of the simulation: an event queue that either keeps pace with the wall clock or jumps.

Paced, the world never runs ahead of the wall: a real gateway lives in the same seconds. Unpaced, it jumps from event
to event as soon as every bin that computes has said what it waits for; that is how bin-years pass in minutes.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable
from typing import Any


class Event:
    """A callback due at `time_us`; `cancel()` makes it nothing."""

    __slots__ = ("callback", "order", "time_us")

    def __init__(self, time_us: int, order: int, callback: Callable[[], None]) -> None:
        self.time_us = time_us
        self.order = order
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: Event) -> bool:
        return (self.time_us, self.order) < (other.time_us, other.order)

    def cancel(self) -> None:
        self.callback = None


class World:
    """Events in model time (microseconds from the start) and the file descriptors that matter meanwhile."""

    def __init__(self, *, paced: bool) -> None:
        self.paced = paced
        self._events: list[Event] = []
        self._order = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._wall_start = time.monotonic_ns()
        self._now_us = 0
        self._stopped = False

    @property
    def now_us(self) -> int:
        """Model time; when paced, the microseconds since the world began."""
        return max(self._now_us, self._wall_us()) if self.paced else self._now_us

    def _wall_us(self) -> int:
        return (time.monotonic_ns() - self._wall_start) // 1000

    def at(self, time_us: int, callback: Callable[[], None]) -> Event:
        event = Event(time_us, next(self._order), callback)
        heapq.heappush(self._events, event)
        return event

    def after(self, delay_us: int, callback: Callable[[], None]) -> Event:
        return self.at(self.now_us + delay_us, callback)

    def watch(self, fileobj: Any, callback: Callable[[], None]) -> None:
        """Call back whenever `fileobj` is readable. Only a paced world reads descriptors between events."""
        self._selector.register(fileobj, selectors.EVENT_READ, callback)

    def unwatch(self, fileobj: Any) -> None:
        self._selector.unregister(fileobj)

    def stop(self) -> None:
        self._stopped = True

    def run(self, until_us: int | None = None) -> None:
        """Work until `until_us`, until `stop()`, or (unpaced) until nothing is left to happen."""
        self._stopped = False
        while not self._stopped:
            while self._events and self._events[0].callback is None:
                heapq.heappop(self._events)
            due_us = self._events[0].time_us if self._events else None
            if until_us is not None and (self.now_us if self.paced or due_us is None else due_us) >= until_us:
                self._now_us = max(self._now_us, until_us)
                return
            if self.paced:
                self._poll(due_us, until_us)
            elif due_us is None:
                return
            if due_us is not None and (not self.paced or due_us <= self._wall_us()):
                self._fire(heapq.heappop(self._events))

    def _poll(self, due_us: int | None, until_us: int | None) -> None:
        limits = [limit for limit in (due_us, until_us) if limit is not None]
        timeout_s = max(0.0, (min(limits) - self._wall_us()) / 1e6) if limits else 0.2
        for key, _ in self._selector.select(min(timeout_s, 0.2)):
            key.data()

    def _fire(self, event: Event) -> None:
        self._now_us = max(self._now_us, event.time_us)
        if event.callback is not None:
            event.callback()

    def close(self) -> None:
        self._selector.close()
