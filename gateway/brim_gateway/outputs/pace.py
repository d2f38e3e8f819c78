"""How long an output waits before it asks a backend again that it has lost. Pure but for the dice."""

from __future__ import annotations

import random

RETRY_S = 0.5
RETRY_OFTEN_FOR_S = 300.0
"""So long a lost backend is asked every RETRY_S; then less and less often."""
RETRY_MOST_S = 60.0
REFUSED_RETRY_S = 5.0
"""After the broker refused us: asking twice a second would not change its mind."""
STEADY_S = 60.0
"""A connection that lasted so long was a good one, even if there was nothing to hand over."""


class Pace:
    """Times are the loop's. A backend that lets us in, takes no reading and hangs up has not come back."""

    def __init__(self) -> None:
        self._lost_at: float | None = None
        self._connected_at: float | None = None
        self._pause_s = RETRY_S

    def connected(self, now: float) -> None:
        """The backend let us in."""
        self._connected_at = now

    def taken(self) -> None:
        """The backend took a reading: it works."""
        self._lost_at, self._pause_s = None, RETRY_S

    def lost(self, now: float, *, busy: bool, refused: bool) -> float:
        """The connection is gone, or there was none: seconds until the next attempt."""
        if self._connected_at is not None and now - self._connected_at >= STEADY_S:
            self.taken()
        self._connected_at = None
        if self._lost_at is None:
            self._lost_at = now
        if busy or now - self._lost_at > RETRY_OFTEN_FOR_S:
            self._pause_s = min(2 * self._pause_s, RETRY_MOST_S)
        least_s = REFUSED_RETRY_S if refused else RETRY_S
        # Half to one and a half: a city's cabinets must not all come back at once.
        return max(least_s, self._pause_s * (0.5 + random.random()) if self._pause_s > RETRY_S else RETRY_S)
