"""What a fuzz target is, and what all of them need."""

from __future__ import annotations

import logging
from typing import Protocol

SERVED_WITHIN_S = 5.0
"""However hostile the others are, somebody good is answered in that time."""
GOOD = b'{"epoch":1,"seq":7,"status":"ok","distance_mm":812,"age_s":0,"battery_mv":3600,"events":["full"]}'
QUIET = logging.getLogger("brim.fuzz")
QUIET.propagate = False
QUIET.addHandler(logging.NullHandler())


class Target(Protocol):
    """``feed`` answers whether an input was taken (True) or refused as declared (False); any exception is a find.

    ``live``: it speaks over a real socket, so an input costs some ten times as much.
    """

    name: str
    live: bool

    def make(self) -> bytes: ...
    def feed(self, data: bytes) -> bool: ...
    def close(self) -> None: ...
