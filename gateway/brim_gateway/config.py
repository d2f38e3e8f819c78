"""The configuration: a TOML file in, frozen dataclasses out, or every error at once with its line and a hint.

Secrets are never in the file: it names files that hold them, or systemd's credentials. Relative paths are relative to
the file. Which keys there are stands in config_table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from brim_gateway.config_kinds import LOOPBACK as LOOPBACK
from brim_gateway.config_kinds import Address as Address
from brim_gateway.config_kinds import Place
from brim_gateway.config_lines import line_numbers
from brim_gateway.config_reader import Problems, Table, read
from brim_gateway.config_table import TOP
from brim_gateway.errors import ConfigInvalid

T = TypeVar("T")

SOCKET_PATH_BYTES = 107
"""What a Unix socket's name may have (sun_path)."""
_INVALID = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class UdpConfig:
    """Concentrators. An empty ``allow_gateways`` takes any; ``trust_time``: their clock is the event time;
    ``rate_limit``: datagrams a second of one concentrator, 0 for any number."""

    listen: Address
    allow_gateways: tuple[str, ...] = ()
    trust_time: bool = False
    rate_limit: int = 1_000


@dataclass(frozen=True, slots=True)
class MqttListenerConfig:
    """Wi-Fi bins. Either ``cert`` and ``key``, or ``plain`` (no encryption, said explicitly)."""

    listen: Address
    cert: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    plain: bool = False
    max_connections: int = 64
    max_handshakes: int = 8


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Health, metrics, status page."""

    listen: Address


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """One MQTT backend. ``protocol``: "auto" (5, falling back to 3.1.1), "5" or "3.1.1".

    ``window``: rows handed over whose acknowledgement is not on our disk yet, which bounds the repeats after a crash.
    """

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
    window: int = 400
    from_oldest: bool = False
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a daemon needs to know. ``keep_days`` 0: for ever; ``clock``: "ntp" or "trusted"."""

    site: str
    data_dir: Path
    control_socket: Path
    linger_ms: int = 20
    log_format: str = "plain"
    clock: str = "ntp"
    keep_days: int = 400
    keep_max_mb: int = 4_096
    udp: UdpConfig | None = None
    mqtt_listener: MqttListenerConfig | None = None
    http: HttpConfig | None = None
    outputs: tuple[OutputConfig, ...] = field(default=())

    @property
    def database(self) -> Path:
        return self.data_dir / "brim.db"


def load(path: Path, *, need_credentials: bool = True) -> Config:
    """Read and check the file. Raises ConfigInvalid with one line a problem.

    ``need_credentials`` False is for commands that use no secret: outside of the unit systemd gives none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigInvalid([f"{path}: cannot be read: no such file; `brim gateway init` writes one"]) from None
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigInvalid([f"{path}: cannot be read: {why}"]) from None
    return parse(text, path, need_credentials=need_credentials)


def parse(text: str, path: Path, *, need_credentials: bool = True) -> Config:
    """Check ``text`` as the file at ``path``."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConfigInvalid([f"{path}: not TOML: {exc}"]) from None
    problems = Problems(path, line_numbers(text))
    config = _config(read(raw, problems, Place(path.parent, need_credentials)))
    if problems.found:
        raise ConfigInvalid(problems.texts())
    return config


def _config(tables: dict[str, list[Table]]) -> Config:
    (top,) = tables[TOP]
    values = top.values
    config = Config(
        site=values["site"] or "",
        data_dir=values["data_dir"],
        control_socket=values["control_socket"] or values["data_dir"] / "control.sock",
        linger_ms=values["linger_ms"],
        log_format=values["log_format"],
        clock=values["clock"],
        keep_days=values["keep_days"],
        keep_max_mb=values["keep_max_mb"],
        udp=_section(tables["udp"], _udp),
        mqtt_listener=_section(tables["mqtt_listener"], _mqtt_listener),
        http=_section(tables["http"], lambda table: HttpConfig(table.values["listen"] or _INVALID)),
        outputs=tuple(_output(table) for table in tables["output"]),
    )
    if len(str(config.control_socket).encode(errors="replace")) > SOCKET_PATH_BYTES:
        top.problem(
            "control_socket",
            f"longer than the {SOCKET_PATH_BYTES} bytes a Unix socket may have; choose a shorter path",
        )
    seen: set[str] = set()
    for table in tables["output"]:
        name = table.values["name"]
        if name in seen:
            table.problem("name", "used twice; each output needs its own name")
        if name is not None:
            seen.add(name)
    return config


def _section(tables: list[Table], build: Callable[[Table], T]) -> T | None:
    return build(tables[0]) if tables else None


def _udp(table: Table) -> UdpConfig:
    return UdpConfig(**table.values | {"listen": table.values["listen"] or _INVALID})


def _mqtt_listener(table: Table) -> MqttListenerConfig:
    said = table.said
    if ("cert" in said) != ("key" in said):
        table.problem("cert" if "cert" in said else "key", "cert and key belong together")
    if "cert" not in said and not table.values["plain"]:
        table.problem("listen", "give cert and key for TLS, or say plain = true for no encryption")
    if "cert" in said and table.values["plain"]:
        table.problem("plain", "plain = true and a certificate contradict each other")
    if "client_ca" in said and "cert" not in said:
        table.problem("client_ca", "client certificates need TLS: give cert and key")
    return MqttListenerConfig(**table.values | {"listen": table.values["listen"] or _INVALID})


def _output(table: Table) -> OutputConfig:
    said, values = table.said, dict(table.values)
    broker, plain, start = values.pop("url"), values.pop("plain"), values.pop("from")
    if broker is not None and not broker.tls:
        if not plain and not Address(broker.host, broker.port).is_loopback():
            table.problem("url", "mqtt:// sends everything readable; use mqtts://, or say plain = true")
        for key in ("ca", "cert"):
            if key in said:
                table.problem(key, "only with mqtts://")
    if ("cert" in said) != ("key" in said):
        table.problem("cert" if "cert" in said else "key", "cert and key belong together")
    if "password_file" in said and "user" not in said:
        table.problem("password_file", "needs a user")
    return OutputConfig(
        name=values.pop("name") or "",
        host=broker.host if broker is not None else "invalid",
        port=broker.port if broker is not None else 0,
        tls=broker is None or broker.tls,
        from_oldest=start == "oldest",
        client_id=values.pop("client_id") or "",
        **values,
    )
