"""A second opinion on one output: connect as it does, by paho and not by our own client, publish, and read back.

MQTT 3.1.1 cannot say that a publish was refused: mosquitto with a denying ACL answers success and drops it. Only what
comes back proves that it was taken.
"""

from __future__ import annotations

import json
import queue
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from brim_gateway.config import OutputConfig
from brim_gateway.credentials import read_secret
from brim_gateway.errors import ConfigInvalid
from brim_gateway.model import clean_text

WITHIN_S = 5.0
"""For each step: a broker that needs longer is as good as not there."""
UNSUPPORTED_VERSION = 0x84


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the report. ``verdict``: "ok", "note" (worth knowing) or "mend"."""

    verdict: str
    what: str
    text: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class _Failed(Exception):
    def __init__(self, what: str, text: str) -> None:
        super().__init__(text)
        self.step = Step("mend", what, clean_text(text, 300))


class _WrongVersion(Exception):
    """The broker does not speak this version of MQTT."""


def probe(config: OutputConfig, site: str, *, publish: bool = True, within_s: float = WITHIN_S) -> Iterator[Step]:
    """One Step after the other, the last is "mend" where one failed. ``publish`` False stops after CONNACK."""
    try:
        yield from _reach(config, within_s)
        versions = {"5": (5,), "3.1.1": (4,), "auto": (5, 4)}[config.protocol]
        for version in versions:
            try:
                yield from _talk(config, site, version, publish, within_s)
            except _WrongVersion as exc:
                if version == versions[-1]:
                    raise _Failed("CONNACK", str(exc)) from None
                yield Step("note", "CONNACK", f"{exc}; trying 3.1.1")
            else:
                return
    except _Failed as exc:
        yield exc.step


def _reach(config: OutputConfig, within_s: float) -> Iterator[Step]:
    """DNS, TCP, TLS: each by itself, so that the first that fails has a name."""
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise _Failed("DNS", f"{config.host}: {exc}; look at the url and this machine's name server") from None
    addresses = sorted({str(one[4][0]) for one in found})
    yield Step("ok", "DNS", f"{config.host} is {', '.join(addresses)}")
    try:
        connection = socket.create_connection((config.host, config.port), within_s)
    except OSError as exc:
        why = exc.strerror or exc
        raise _Failed("TCP", f"port {config.port}: {why}; is the broker there, is a firewall between?") from None
    with connection:
        yield Step("ok", "TCP", f"connected to {connection.getpeername()[0]} port {config.port}")
        if not config.tls:
            yield Step("note", "TLS", "none: this output crosses the network readable")
            return
        try:
            with _context(config).wrap_socket(connection, server_hostname=config.host) as wrapped:
                certificate: dict[str, Any] = wrapped.getpeercert() or {}
                yield Step("ok", "TLS", f"{wrapped.version()}, verified until {certificate.get('notAfter')}")
        except ssl.SSLCertVerificationError as exc:
            raise _Failed("TLS", f"not verified: {exc.verify_message}; set ca to the broker's authority") from None
        except (OSError, ValueError) as exc:
            raise _Failed("TLS", f"{exc}; does the broker speak TLS on this port, and know our certificate?") from None


def _context(config: OutputConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
    if config.cert is not None and config.key is not None:
        context.load_cert_chain(config.cert, config.key)
    return context


class _Client:
    """paho with its callbacks as a queue of (what, value)."""

    def __init__(self, config: OutputConfig, site: str, version: int, within_s: float) -> None:
        self.within_s = within_s
        self.events: queue.Queue[tuple[str, Any, Any]] = queue.Queue()
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        name = f"brim-{site}-{config.name}"[:100] + f"-test-{secrets.token_hex(3)}"
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5 if version == 5 else paho.MQTTv311
        )
        self.client.connect_timeout = within_s
        if config.user is not None:
            password = read_secret(config.password_file) if config.password_file else None
            self.client.username_pw_set(config.user, password)
        if config.tls:
            self.client.tls_set_context(_context(config))
        put = self.events.put
        self.client.on_connect = lambda _, __, ___, reason, ____: put(("CONNACK", None, reason))
        self.client.on_disconnect = lambda _, __, ___, reason, ____: put(("gone", None, reason))
        self.client.on_subscribe = lambda _, __, mid, reasons, ___: put(("SUBACK", mid, reasons))
        self.client.on_publish = lambda _, __, mid, reason, ___: put(("PUBACK", mid, reason))
        self.client.on_message = lambda _, __, message: self.messages.put((message.topic, bytes(message.payload)))

    def wait(self, what: str, deadline: float) -> tuple[Any, Any] | None:
        """The next event of that name; None at the deadline; raises _Failed where the connection goes."""
        while (left := deadline - time.monotonic()) > 0:
            try:
                name, about, value = self.events.get(timeout=left)
            except queue.Empty:
                break
            if name == what:
                return about, value
            if name == "gone" and what == "CONNACK":
                raise _WrongVersion("the broker hung up on CONNECT without a reason")
            if name == "gone":
                hint = "; it may refuse a topic so: look at its ACL" if what == "PUBACK" else ""
                raise _Failed(what, f"the broker hung up instead: {value}{hint}")
        return None


def _talk(config: OutputConfig, site: str, version: int, publish: bool, within_s: float) -> Iterator[Step]:
    words = "MQTT 5" if version == 5 else "MQTT 3.1.1"
    try:
        link = _Client(config, site, version, within_s)
        link.client.connect(config.host, config.port, keepalive=20)
    except (OSError, ValueError) as exc:
        raise _Failed("CONNECT", str(exc)) from None
    except ConfigInvalid as exc:
        raise _Failed("password", str(exc)) from None
    link.client.loop_start()
    try:
        answer = link.wait("CONNACK", time.monotonic() + within_s)
        if answer is None:
            raise _Failed("CONNACK", f"none within {within_s:g} s")
        reason: ReasonCode = answer[1]
        if reason.value == UNSUPPORTED_VERSION:
            raise _WrongVersion(f"{words}: {reason}")
        if reason.value != 0:
            raise _Failed("CONNACK", f"{words}: {reason}; look at user, password_file and the broker's list of users")
        yield Step("ok", "CONNACK", f"{words}: {reason}")
        if publish:
            yield from _there_and_back(link, site, version)
    finally:
        link.client.disconnect()
        link.client.loop_stop()


def _there_and_back(link: _Client, site: str, version: int) -> Iterator[Step]:
    topics = (f"brim/v1/{site}/gateway/test", f"brim/v1/{site}/_test/reading")
    nonce = secrets.token_hex(8)
    payload = json.dumps({"v": 1, "test": True, "nonce": nonce}).encode()
    link.client.subscribe([(topic, 1) for topic in topics])
    deadline = time.monotonic() + link.within_s
    subscribed = link.wait("SUBACK", deadline)
    if subscribed is None:
        raise _Failed("SUBACK", f"none within {link.within_s:g} s")
    refused = [str(reason) for reason in subscribed[1] if reason.is_failure]
    if refused:
        yield Step("note", "SUBACK", f"refused ({refused[0]}): this user may not read, so nothing can be read back")
    else:
        yield Step("ok", "SUBACK", f"{', '.join(str(reason) for reason in subscribed[1])}")
    topic_of = {link.client.publish(topic, payload, qos=1).mid: topic for topic in topics}
    for _ in topics:
        answer = link.wait("PUBACK", time.monotonic() + link.within_s)
        if answer is None:
            raise _Failed("PUBACK", f"none within {link.within_s:g} s: a broker that does not acknowledge")
        mid, reason = answer
        if reason.is_failure:
            raise _Failed("PUBACK", f"{topic_of[mid]}: {reason} (0x{reason.value:02x}); look at the broker's ACL")
        yield Step("ok", "PUBACK", f"{topic_of[mid]}: {reason}")
    if not refused:
        yield _read_back(link, set(topics), nonce, version)


def _read_back(link: _Client, missing: set[str], nonce: str, version: int) -> Step:
    """Whether what we published comes to us as a subscriber."""
    deadline = time.monotonic() + link.within_s
    while missing and (left := deadline - time.monotonic()) > 0:
        try:
            topic, payload = link.messages.get(timeout=left)
        except queue.Empty:
            break
        if nonce.encode() in payload:
            missing.discard(topic)
    if not missing:
        return Step("ok", "read back", "the broker delivered what it acknowledged")
    what = f"{', '.join(sorted(missing))}: the broker acknowledged and did not deliver: look at its ACL"
    if version == 5:
        return Step("note", "read back", f"{what} (MQTT 5 names a refusal, so this user may write but not read)")
    return Step("mend", "read back", f"{what} (this user must be able to write and, for this test, read brim/v1/#)")
