"""What a key of the configuration may hold: the kinds of value, how each is read, and what it is in JSON Schema.

Pure but for the look at files that must exist. A kind reads a TOML value and returns what the program uses, or
raises Wrong with a hint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from brim_gateway import credentials
from brim_gateway.model import BIN_PATTERN

LOOPBACK = ("localhost", "127.0.0.1", "::1")
Bounds = tuple[Any, ...]

_ADDRESS_HINT = 'must be "HOST:PORT", e.g. "127.0.0.1:1700"'
_BROKER_HINT = 'must be "mqtts://HOST[:PORT]" or "mqtt://HOST[:PORT]"'
_EUI = re.compile(r"[0-9a-fA-F]{16}\Z")


class Wrong(Exception):
    """The value cannot be taken; the text says what it must be."""


@dataclass(frozen=True, slots=True)
class Address:
    """``host:port``; port 0 picks a free one."""

    host: str
    port: int

    def is_loopback(self) -> bool:
        return self.host in LOOPBACK or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Broker(NamedTuple):
    """Where an output goes."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where the file stands, and whether its secrets must be at hand now."""

    folder: Path
    need_credentials: bool = True


class Kind(NamedTuple):
    """``read(value, bounds, place)`` and ``schema(bounds)`` of one kind of value."""

    read: Callable[[Any, Bounds, Place], Any]
    schema: Callable[[Bounds], dict[str, Any]]


def _plain_text(value: Any, longest: int = 1_024) -> str:
    if not isinstance(value, str) or not value or len(value) > longest:
        raise Wrong("must be a text in quotes")
    return value


def _level(value: Any, bounds: Bounds, _: Place) -> str:
    text = _plain_text(value)
    if not BIN_PATTERN.match(text):
        raise Wrong("letters, digits, . _ : and - only (it becomes a topic level)")
    return text


def _text(value: Any, bounds: Bounds, _: Place) -> str:
    return _plain_text(value, bounds[1])


def _choice(value: Any, bounds: Bounds, _: Place) -> str:
    if _plain_text(value) not in bounds:
        raise Wrong(f"must be one of {', '.join(bounds)}")
    return str(value)


def _flag(value: Any, bounds: Bounds, _: Place) -> bool:
    if not isinstance(value, bool):
        raise Wrong("must be true or false")
    return value


def _number(value: Any, bounds: Bounds, _: Place) -> int:
    low, high = bounds
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Wrong(f"must be a whole number from {low} to {high}")
    return value


def _euis(value: Any, bounds: Bounds, _: Place) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Wrong('must be a list of texts, e.g. ["…", "…"]')
    if len(value) > bounds[1]:
        raise Wrong(f"at most {bounds[1]}")
    if not all(_EUI.match(one) for one in value):
        raise Wrong("each must be 16 hexadecimal digits")
    return tuple(one.lower() for one in value)


def _path(value: Any, bounds: Bounds, place: Place) -> Path:
    text = _plain_text(value)
    if "\0" in text:
        raise Wrong("a path has no NUL character")
    return (place.folder / text).absolute()


def _file(value: Any, bounds: Bounds, place: Place) -> Path:
    if isinstance(value, str) and value.startswith(credentials.PREFIX):
        return _credential(value, place)
    found = _path(value, bounds, place)
    try:
        is_there = found.is_file()
    except OSError as exc:
        raise Wrong(f"{found}: {exc.strerror}") from None
    if not is_there:
        raise Wrong(f"{found}: no such file")
    return found


def _credential(value: str, place: Place) -> Path:
    try:
        found = credentials.path_of(value)
    except ValueError as exc:
        raise Wrong(str(exc)) from None
    if place.need_credentials and not found.is_file():
        raise Wrong(f"{found}: no such credential; LoadCredential= in the unit gives it")
    return found


def _secret(value: Any, bounds: Bounds, place: Place) -> Path:
    found = _file(value, bounds, place)
    if not credentials.is_credential(value) and found.stat().st_mode & 0o077:
        raise Wrong(f"{found}: others may read it; run: chmod 600 {found}")
    return found


def _address(value: Any, bounds: Bounds, _: Place) -> Address:
    low, high = bounds
    if not isinstance(value, str) or not value:
        raise Wrong(f"is missing or no text; {_ADDRESS_HINT}")
    host, _colon, port = value.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or not low <= int(port) <= high:
        raise Wrong(_ADDRESS_HINT)
    return Address(host.strip("[]"), int(port))


def _broker(value: Any, bounds: Bounds, _: Place) -> Broker:
    try:
        parts = urlsplit(_plain_text(value))
        port = parts.port
    except ValueError:
        raise Wrong(_BROKER_HINT) from None
    if parts.username or parts.password:
        raise Wrong("no password here: use user and password_file")
    if parts.scheme not in bounds or not parts.hostname or parts.path.strip("/") or parts.query:
        raise Wrong(_BROKER_HINT)
    tls = parts.scheme != "mqtt"
    return Broker(parts.hostname, port or (8883 if tls else 1883), tls)


def _string(pattern: str | None = None) -> Callable[[Bounds], dict[str, Any]]:
    def schema(bounds: Bounds) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 1_024}
        return made | ({"pattern": pattern} if pattern else {})

    return schema


KINDS: dict[str, Kind] = {
    "topic level": Kind(_level, _string("^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")),
    "text": Kind(_text, lambda bounds: {"type": "string", "minLength": bounds[0], "maxLength": bounds[1]}),
    "choice": Kind(_choice, lambda bounds: {"enum": list(bounds)}),
    "flag": Kind(_flag, lambda _: {"type": "boolean"}),
    "number": Kind(_number, lambda bounds: {"type": "integer", "minimum": bounds[0], "maximum": bounds[1]}),
    "EUIs": Kind(
        _euis,
        lambda bounds: {
            "type": "array",
            "maxItems": bounds[1],
            "items": {"type": "string", "pattern": "^[0-9a-fA-F]{16}$"},
        },
    ),
    "path": Kind(_path, _string()),
    "file": Kind(_file, _string()),
    "secret file": Kind(_secret, _string()),
    "address": Kind(_address, _string("^.+:[0-9]{1,5}$")),
    "broker": Kind(_broker, _string("^mqtts?://[^/@?]+/?$")),
}
"""Kind by name. "file": must exist; "secret file": and nobody else may read it; both take ``credential:NAME``."""
