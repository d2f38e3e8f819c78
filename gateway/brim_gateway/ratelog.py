"""Log lines that a stranger can cause, held to a few a minute each, with outside text made harmless."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from brim_gateway.model import clean_text

PERIOD_S = 60.0
LINES_PER_PERIOD = 5
MAX_KINDS = 256


class RateLog:
    """``note(kind, text)`` logs at most LINES_PER_PERIOD lines a kind and period and tells how many it held back."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}

    def note(self, kind: str, text: str, level: int = logging.WARNING) -> None:
        """``kind`` is one of a few fixed words of ours; ``text`` may hold words from outside."""
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = "other"
        now = self._clock()
        since, count = self._kinds.get(kind, (now, 0))
        if now - since >= PERIOD_S:
            if count > LINES_PER_PERIOD:
                self._log.log(level, "%s: %d more like this held back", kind, count - LINES_PER_PERIOD)
            since, count = now, 0
        self._kinds[kind] = (since, count + 1)
        if count < LINES_PER_PERIOD:
            self._log.log(level, "%s: %s", kind, clean_text(text, 200))
