"""The configuration's one table of truth. The reader, the JSON Schema and the table in the README all come from it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Section(NamedTuple):
    """A table of the file. ``many``: written ``[[name]]``, any number of times."""

    name: str
    many: bool
    meaning: str


class Key(NamedTuple):
    """One key. ``kind`` names a row of config_kinds.KINDS; ``bounds``: (low, high) of a number or a length, the choices
    of a choice, the schemes of a broker. ``default`` is REQUIRED, None (absent) or what the file would say."""

    section: str
    name: str
    kind: str
    default: Any
    bounds: tuple[Any, ...]
    meaning: str


REQUIRED = "(required)"
TOP = ""

SECTIONS = (
    Section(TOP, False, "The gateway itself."),
    Section("udp", False, "LoRaWAN concentrators: Semtech UDP packet forwarders."),
    Section("mqtt_listener", False, "Wi-Fi bins, which speak MQTT straight to the gateway."),
    Section("http", False, "`/` status page, `/health`, `/metrics`."),
    Section("output", True, "Where readings go: one table for each of the city's brokers."),
)

_PORTS = (0, 65_535)
_ANY = (1, 1_024)

# fmt: off
KEYS = (
    Key(TOP, "site", "topic level", REQUIRED, (), "name of this cabinet, part of every topic"),
    Key(TOP, "data_dir", "path", "data", (), "database, lock, control socket"),
    Key(TOP, "control_socket", "path", None, (),
        "where the command line finds the daemon; `control.sock` in `data_dir`"),
    Key(TOP, "linger_ms", "number", 20, (0, 1_000),
        "how long a commit waits for company; 0 answers sooner and writes more"),
    Key(TOP, "log_format", "choice", "plain", ("plain", "json"), "of the lines on standard error"),
    Key(TOP, "clock", "choice", "ntp", ("ntp", "trusted"),
        "`ntp`: the kernel must say that its clock is synchronised before age deletes anything; `trusted`: this "
        "machine's clock is right without it (GPS, a battery clock that somebody sets)"),
    Key(TOP, "keep_days", "number", 400, (0, 36_500),
        "readings older than this go, if every output has them; 0 keeps them for ever"),
    Key(TOP, "keep_max_mb", "number", 4_096, (1, 16_777_216),
        "the journal's size in MB; beyond it the oldest goes, with an alarm where an output still needed it"),
    Key("udp", "listen", "address", REQUIRED, _PORTS, "`HOST:PORT`; port 0 picks a free one"),
    Key("udp", "allow_gateways", "EUIs", [], (0, 256),
        "concentrators that may speak; empty: any. Semtech UDP has no authentication: name them"),
    Key("udp", "trust_time", "flag", False, (), "take the concentrator's clock as event time, for recordings"),
    Key("udp", "rate_limit", "number", 1_000, (0, 100_000),
        "datagrams a second that one concentrator may send; more is dropped. One with 16 demodulators hears 260 frames"
        " a second at most; 0: no limit"),
    Key("mqtt_listener", "listen", "address", REQUIRED, _PORTS, "`HOST:PORT`"),
    Key("mqtt_listener", "cert", "file", None, (),
        "TLS certificate. Without `cert` and `key`, `plain = true` must be said"),
    Key("mqtt_listener", "key", "secret file", None, (), "its private key"),
    Key("mqtt_listener", "client_ca", "file", None, (),
        "takes client certificates of this authority; the CN is the device"),
    Key("mqtt_listener", "plain", "flag", False, (),
        "no encryption: passwords and readings cross the network readable"),
    Key("mqtt_listener", "max_connections", "number", 64, (1, 4_096), "the next ones wait for a place, unread"),
    Key("mqtt_listener", "max_handshakes", "number", 8, (1, 256),
        "TLS handshakes and password checks at once: more would delay LoRa downlinks"),
    Key("http", "listen", "address", REQUIRED, _PORTS, "`HOST:PORT`; there is no login: keep it on this machine"),
    Key("output", "name", "topic level", REQUIRED, (), "its cursor goes by this name: a new name is a new output"),
    Key("output", "url", "broker", REQUIRED, ("mqtts", "mqtt"),
        "`mqtts://HOST[:PORT]`; `mqtt://` only to this machine, or with `plain = true`"),
    Key("output", "user", "text", None, _ANY, "user name at the broker"),
    Key("output", "password_file", "secret file", None, (), "file (0600) with the password, or `credential:NAME`"),
    Key("output", "ca", "file", None, (),
        "authority of the broker's certificate; the system's if left out. TLS is always verified"),
    Key("output", "cert", "file", None, (), "client certificate"),
    Key("output", "key", "secret file", None, (), "its private key"),
    Key("output", "plain", "flag", False, (), "`mqtt://` to another machine: everything crosses the network readable"),
    Key("output", "protocol", "choice", "auto", ("auto", "5", "3.1.1"),
        "5, then 3.1.1 where the broker refuses it; or one of them"),
    Key("output", "window", "number", 400, (1, 2_000),
        "readings handed to the broker whose acknowledgement is not on our disk yet: as many can come twice after"
        " a crash"),
    Key("output", "from", "choice", "now", ("now", "oldest"), "where a new output begins"),
    Key("output", "client_id", "text", None, (1, 256),
        "at the broker; made and kept by the gateway if left out. A fixed one must be used by nobody else"),
)
# fmt: on


def keys_of(section: str) -> tuple[Key, ...]:
    """The keys of one section, in their order."""
    return tuple(key for key in KEYS if key.section == section)
