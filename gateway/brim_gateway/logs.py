"""Logging set up once, by the daemon: one line an entry, plain for people or JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
import time

from brim_gateway.model import clean_text

MAX_LINE = 1_000


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


def set_up(form: str) -> None:
    """``form``: "plain" or "json". Everything goes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Plain())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
