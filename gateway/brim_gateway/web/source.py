"""What the pages need of the daemon."""

from __future__ import annotations

import sqlite3
from typing import Any, Protocol

from brim_gateway.config import Config
from brim_gateway.store.store import Store


class Source(Protocol):
    """The daemon, as the pages see it."""

    config: Config
    store: Store
    reader: sqlite3.Connection

    def status(self) -> dict[str, Any]: ...

    def last_contacts(self) -> list[tuple[str, int]]: ...
