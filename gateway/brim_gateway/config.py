"""The configuration: a TOML file in, frozen dataclasses out, or every error at once with its line and a hint.

Secrets are never in the file: it names files that hold them. Relative paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from brim_gateway.config_lines import line_numbers
from brim_gateway.errors import ConfigInvalid
from brim_gateway.model import BIN_PATTERN

T = TypeVar("T")

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Address:
    """``host:port``; port 0 picks a free one."""

    host: str
    port: int

    def is_loopback(self) -> bool:
        return self.host in LOOPBACK or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UdpConfig:
    """Concentrators. An empty ``allow_gateways`` takes any; ``trust_time``: their clock is the event time."""

    listen: Address
    allow_gateways: tuple[str, ...] = ()
    trust_time: bool = False


@dataclass(frozen=True, slots=True)
class MqttListenerConfig:
    """Wi-Fi bins. Either ``cert`` and ``key``, or ``plain`` (no encryption, said explicitly)."""

    listen: Address
    cert: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    plain: bool = False
    max_connections: int = 64


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Health, metrics, status page."""

    listen: Address


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """One MQTT backend. ``protocol``: "auto" (5, falling back to 3.1.1), "5" or "3.1.1"."""

    name: str
    host: str
    port: int
    tls: bool
    user: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    protocol: str = "auto"
    window: int = 100
    from_oldest: bool = False
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a daemon needs to know."""

    site: str
    data_dir: Path
    control_socket: Path
    linger_ms: int = 20
    log_format: str = "plain"
    udp: UdpConfig | None = None
    mqtt_listener: MqttListenerConfig | None = None
    http: HttpConfig | None = None
    outputs: tuple[OutputConfig, ...] = field(default=())

    @property
    def database(self) -> Path:
        return self.data_dir / "brim.db"


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigInvalid with one line a problem."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigInvalid([f"{path}: cannot be read: {exc}; `brim gateway init` writes one"]) from None
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """Check ``text`` as the file at ``path``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigInvalid([f"{path}: not TOML: {exc}"]) from None
    reader = _Reader(raw, line_numbers(text), path)
    config = _config(reader)
    if reader.problems or config is None:
        raise ConfigInvalid([line for _, line in sorted(reader.problems)])
    return config


class _Reader:
    """One table of the file. Every getter notes a problem and returns its default instead of raising."""

    def __init__(self, raw: Mapping[str, Any], lines: Mapping[str, int], path: Path, prefix: str = "") -> None:
        self.raw = raw
        self.problems: list[tuple[int, str]] = []
        self._lines = lines
        self._path = path
        self._prefix = prefix
        self._used: set[str] = set()

    def problem(self, key: str, text: str) -> None:
        line = self._lines.get(self._prefix + key) or self._lines.get(self._prefix.rstrip("."), 1)
        name = (self._prefix + key).rstrip(".")
        self.problems.append((line, f"{self._path}:{line}: {name}: {text}"))

    def table(self, raw: Any, prefix: str) -> _Reader:
        """A reader of a nested table that notes its problems here."""
        child = _Reader(raw if isinstance(raw, dict) else {}, self._lines, self._path, prefix)
        child.problems = self.problems
        if not isinstance(raw, dict):
            child.problem("", "must be a table")
        return child

    def optional_table(self, name: str) -> _Reader | None:
        self._used.add(name)
        return self.table(self.raw[name], name + ".") if name in self.raw else None

    def tables(self, name: str) -> list[_Reader]:
        self._used.add(name)
        found = self.raw.get(name, [])
        if not isinstance(found, list):
            self.problem(name, f"write [[{name}]], with two brackets")
            return []
        return [self.table(raw, f"{name}[{i}].") for i, raw in enumerate(found)]

    def text(self, key: str, default: str | None = None, required: bool = False) -> str | None:
        self._used.add(key)
        value = self.raw.get(key)
        if value is None:
            if required:
                self.problem(key, "is missing")
            return default
        if not isinstance(value, str) or not value or len(value) > 1024:
            self.problem(key, "must be a text in quotes")
            return default
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key, choices[0]) or choices[0]
        if value not in choices:
            self.problem(key, f"must be one of {', '.join(choices)}")
        return value

    def flag(self, key: str) -> bool:
        self._used.add(key)
        value = self.raw.get(key, False)
        if not isinstance(value, bool):
            self.problem(key, "must be true or false")
            return False
        return value

    def number(self, key: str, default: int, low: int, high: int) -> int:
        self._used.add(key)
        value = self.raw.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.problem(key, f"must be a whole number from {low} to {high}")
            return default
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        self._used.add(key)
        value = self.raw.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.problem(key, 'must be a list of texts, e.g. ["…", "…"]')
            return ()
        return tuple(value)

    def path(self, key: str, default: str | None = None, must_exist: bool = True) -> Path | None:
        value = self.text(key, default)
        if value is None:
            return None
        found = (self._path.parent / value).absolute()
        if must_exist and not found.is_file():
            self.problem(key, f"{found}: no such file")
        return found

    def secret_file(self, key: str) -> Path | None:
        found = self.path(key)
        if found is not None and found.is_file() and found.stat().st_mode & 0o077:
            self.problem(key, f"{found}: others may read it; run: chmod 600 {found}")
        return found

    def address(self, key: str) -> Address:
        value = self.text(key, required=True) or "127.0.0.1:0"
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            self.problem(key, 'must be "HOST:PORT", e.g. "127.0.0.1:1700"')
            return Address("127.0.0.1", 0)
        return Address(host.strip("[]"), int(port))

    def refuse_unknown(self) -> None:
        """A key that nobody asked for is a typing error somebody would search for long."""
        for key in self.raw:
            if key not in self._used:
                self.problem(key, f"unknown; known here: {', '.join(sorted(self._used))}")


def _config(reader: _Reader) -> Config | None:
    site = reader.text("site", "site", required=True) or ""
    if not BIN_PATTERN.match(site):
        reader.problem("site", "letters, digits, . _ : and - only (it becomes a topic level)")
    data_dir = reader.path("data_dir", "data", must_exist=False)
    if data_dir is None:
        return None
    config = Config(
        site=site,
        data_dir=data_dir,
        control_socket=reader.path("control_socket", must_exist=False) or data_dir / "control.sock",
        linger_ms=reader.number("linger_ms", 20, 0, 1_000),
        log_format=reader.choice("log_format", ("plain", "json")),
        udp=_section(reader, "udp", _udp),
        mqtt_listener=_section(reader, "mqtt_listener", _mqtt_listener),
        http=_section(reader, "http", lambda table: HttpConfig(table.address("listen"))),
        outputs=tuple(_output(table) for table in reader.tables("output")),
    )
    if len(str(config.control_socket).encode()) > 107:
        reader.problem("control_socket", "longer than the 107 bytes a Unix socket may have; choose a shorter path")
    seen: set[str] = set()
    for index, output in enumerate(config.outputs):
        if output.name in seen:
            reader.problem(f"output[{index}].name", "used twice; each output needs its own name")
        seen.add(output.name)
    reader.refuse_unknown()
    return config


def _section(reader: _Reader, name: str, build: Callable[[_Reader], T]) -> T | None:
    table = reader.optional_table(name)
    if table is None:
        return None
    built = build(table)
    table.refuse_unknown()
    return built


def _udp(table: _Reader) -> UdpConfig:
    allow = tuple(eui.lower() for eui in table.texts("allow_gateways"))
    if any(len(eui) != 16 or eui.strip("0123456789abcdef") for eui in allow):
        table.problem("allow_gateways", "each must be 16 hexadecimal digits")
    return UdpConfig(table.address("listen"), allow, table.flag("trust_time"))


def _mqtt_listener(table: _Reader) -> MqttListenerConfig:
    config = MqttListenerConfig(
        listen=table.address("listen"),
        cert=table.path("cert"),
        key=table.secret_file("key"),
        client_ca=table.path("client_ca"),
        plain=table.flag("plain"),
        max_connections=table.number("max_connections", 64, 1, 4_096),
    )
    if (config.cert is None) != (config.key is None):
        table.problem("cert", "cert and key belong together")
    if config.cert is None and not config.plain:
        table.problem("listen", "give cert and key for TLS, or say plain = true for no encryption")
    if config.cert is not None and config.plain:
        table.problem("plain", "plain = true and a certificate contradict each other")
    if config.client_ca is not None and config.cert is None:
        table.problem("client_ca", "client certificates need TLS: give cert and key")
    return config


def _output(table: _Reader) -> OutputConfig:
    name = table.text("name", "output", required=True) or ""
    if not BIN_PATTERN.match(name):
        table.problem("name", "letters, digits, . _ : and - only")
    url = table.text("url", required=True) or "mqtts://invalid"
    host, port, tls = _broker(table, url)
    plain = table.flag("plain")
    if not tls and not plain and not Address(host, port).is_loopback():
        table.problem("url", "mqtt:// sends everything readable; use mqtts://, or say plain = true")
    start = table.choice("from", ("now", "oldest"))
    output = OutputConfig(
        name=name,
        host=host,
        port=port,
        tls=tls,
        user=table.text("user"),
        password_file=table.secret_file("password_file"),
        ca=table.path("ca"),
        cert=table.path("cert"),
        key=table.secret_file("key"),
        protocol=table.choice("protocol", ("auto", "5", "3.1.1")),
        window=table.number("window", 100, 1, 1_000),
        from_oldest=start == "oldest",
        client_id=table.text("client_id") or "",
    )
    if (output.cert is None) != (output.key is None):
        table.problem("cert", "cert and key belong together")
    if output.password_file is not None and output.user is None:
        table.problem("password_file", "needs a user")
    if not tls:
        for key in ("ca", "cert"):
            if key in table.raw:
                table.problem(key, "only with mqtts://")
    table.refuse_unknown()
    return output


def _broker(table: _Reader, url: str) -> tuple[str, int, bool]:
    hint = 'must be "mqtts://HOST[:PORT]" or "mqtt://HOST[:PORT]"'
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        table.problem("url", hint)
        return "invalid", 8883, True
    if parts.username or parts.password:
        table.problem("url", "no password here: use user and password_file")
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.query:
        table.problem("url", hint)
    tls = parts.scheme != "mqtt"
    return parts.hostname or "invalid", port or (8883 if tls else 1883), tls
