"""Logging set up once, by the daemon: one line an entry, plain for people or JSON for machines, never more than a disk
or a journal can bear."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable

from brim_gateway.model import clean_text

MAX_LINE = 1_000
LINES_PER_S = 5.0
BURST_LINES = 500
"""A start with many warnings, or a bad minute, passes whole."""
ERROR_LINES_PER_S = 2.0
ERROR_BURST_LINES = 100
"""Errors of ours have a bucket of their own: no stranger's noise can use it up."""

held_back: Counter[str] = Counter()
"""Lines not written since the start, by level: for /metrics."""


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        return f"{stamp} {record.levelname.lower():7} {record.name}: {_text(self, record)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        entry = {"time": stamp, "level": record.levelname.lower(), "from": record.name, "text": _text(self, record)}
        return json.dumps(entry, ensure_ascii=False)


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = clean_text(record.getMessage(), MAX_LINE)
    if record.exc_info:
        text += " | " + clean_text(formatter.formatException(record.exc_info).replace("\n", " / "), 4 * MAX_LINE)
    return text


class _Bucket:
    def __init__(self, per_s: float, most: float, now: float) -> None:
        self._per_s, self._most, self._left, self._at = per_s, most, most, now
        self.held = 0

    def take(self, now: float) -> bool:
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            self.held += 1
            return False
        self._left -= 1
        return True


class LineLimit(logging.Filter):
    """A token bucket over all lines, and one more for errors. What it holds back is counted, and the first line that
    passes afterwards says how many there were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._all = _Bucket(LINES_PER_S, BURST_LINES, clock())
        self._errors = _Bucket(ERROR_LINES_PER_S, ERROR_BURST_LINES, clock())

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        passes = self._all.take(now)
        if not passes and record.levelno >= logging.ERROR:
            self._all.held -= 1
            passes = self._errors.take(now)
        if not passes:
            held_back[record.levelname.lower()] += 1
            return False
        held = self._all.held + self._errors.held
        if held:
            self._all.held = self._errors.held = 0
            # In front: a long line is cut at its end.
            record.msg, record.args = f"[{held} lines before this one held back] {record.getMessage()}", None
        return True


def set_up(form: str) -> None:
    """``form``: "plain" or "json". Everything goes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Plain())
    handler.addFilter(LineLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # A line that cannot be written (a full disk, a closed pipe) must not write a traceback in its place.
    logging.raiseExceptions = False
