"""Secrets that systemd hands over: ``credential:NAME`` in the configuration is a file in $CREDENTIALS_DIRECTORY."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from brim_gateway.errors import ConfigInvalid

PREFIX = "credential:"
UNIT = "brim-gateway.service"
RUNNING = Path("/run/credentials") / UNIT
"""Where systemd keeps what it gave to the running daemon: the command line of root finds it there too."""
MAX_SECRET_BYTES = 64 * 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


def is_credential(value: Any) -> bool:
    """Whether the configuration names a credential and not a file."""
    return isinstance(value, str) and value.startswith(PREFIX)


def path_of(value: str) -> Path:
    """Where ``credential:NAME`` stands. Raises ValueError for a name that systemd would not take."""
    name = value.removeprefix(PREFIX)
    if not _NAME.match(name):
        raise ValueError(f"{PREFIX}NAME: letters, digits, . _ and - only")
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return (Path(given) if given else RUNNING) / name


def is_given_by_systemd(path: Path) -> bool:
    """Whether ``path`` came from ``path_of``."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return path.parent in (RUNNING, Path(given) if given else RUNNING)


def read_secret(path: Path) -> str:
    """What a secret file holds (MAX_SECRET_BYTES at most), without the line end behind it. Raises ConfigInvalid."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES)
        return content.decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigInvalid([f"{path}: password cannot be read: {why}"]) from None
