"""What the pages need of the daemon."""

from __future__ import annotations

from typing import Any, Protocol

from brim_gateway.config import Config
from brim_gateway.fleet.directory import Directory
from brim_gateway.store.store import Store


class Source(Protocol):
    """The daemon, as the pages see it. Its methods are called in the event loop and are quick."""

    @property
    def config(self) -> Config: ...

    @property
    def store(self) -> Store: ...

    @property
    def directory(self) -> Directory: ...

    def status(self) -> dict[str, Any]: ...

    def strangers(self) -> list[dict[str, Any]]: ...

    def certificates(self) -> list[dict[str, Any]]: ...
