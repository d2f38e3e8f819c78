"""MQTT 3.1.1 and 5 packets, as a server reads and writes them. Pure: bytes in, values out, and back.

Sections refer to the OASIS standards "MQTT Version 3.1.1" and "MQTT Version 5.0".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from brim_gateway.mqtt.packet_body import AUTH_METHOD, TOPIC_ALIAS, Body
from brim_gateway.mqtt.packet_body import MALFORMED as MALFORMED
from brim_gateway.mqtt.packet_body import PROTOCOL_ERROR as PROTOCOL_ERROR
from brim_gateway.mqtt.packet_body import MqttError as MqttError

MAX_PACKET_BYTES = 16 * 1024
"""A report has 27 bytes; anything near this is not a bin."""

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = 1, 2, 3, 4, 5, 6, 7, 8
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 9, 10, 11, 12, 13, 14, 15

# Reason codes of MQTT 5, 2.4.
BAD_VERSION, BAD_CREDENTIALS, NOT_AUTHORIZED = 0x84, 0x86, 0x87
SERVER_UNAVAILABLE, SERVER_BUSY, SHUTTING_DOWN, KEEP_ALIVE_TIMEOUT, TAKEN_OVER = 0x88, 0x89, 0x8B, 0x8D, 0x8E
BAD_CLIENT_ID, BAD_AUTH_METHOD, RETAIN_NOT_SUPPORTED = 0x85, 0x8C, 0x9A
TOPIC_ALIAS_INVALID, PACKET_TOO_LARGE, QOS_NOT_SUPPORTED = 0x94, 0x95, 0x9B


@dataclass(frozen=True, slots=True)
class Connect:
    """``version`` 4 is MQTT 3.1.1, 5 is MQTT 5; ``receive_maximum`` is what the client takes unacknowledged."""

    version: int
    client_id: str
    keep_alive_s: int
    clean: bool
    user: str | None
    password: bytes | None = field(repr=False)
    auth_method: bool = False


class Publish(msgspec.Struct, frozen=True, gc=False):
    """``packet_id`` is 0 where ``qos`` is 0. The packet that comes often: a struct costs a quarter of a dataclass."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    retain: bool = False
    dup: bool = False


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Topic filters with the QoS asked for."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Topic filters to drop."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The client's PUBACK of a message from us."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """PINGREQ."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A clean goodbye."""


Packet: TypeAlias = Connect | Publish | Subscribe | Unsubscribe | Acknowledged | Ping | Disconnect


class Parser:
    """Cuts a byte stream into packets. The first packet must be CONNECT and sets the version; none may follow.

    After an MqttError the stream is of no more use.
    """

    def __init__(self) -> None:
        self.version = 0
        self._rest = b""
        self._topic = (b"", "")

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield each packet that is complete now; raises MqttError."""
        data = self._rest + data
        at, end = 0, len(data)
        try:
            while at + 2 <= end:
                head, length, start = data[at], data[at + 1], at + 2
                if length & 0x80:
                    start, length = _long_header(data, at)
                    if not start:
                        break
                if start + length > end:
                    break
                at = start + length
                if head >> 4 == PUBLISH and self.version:
                    yield self._publish(head, data, start, at)
                else:
                    yield self._packet(head, data[start:at])
        finally:
            self._rest = data[at:]

    def _packet(self, head: int, data: bytes) -> Packet:
        kind, flags = head >> 4, head & 0x0F
        if (kind == CONNECT) != (self.version == 0):
            raise MqttError("CONNECT must come first, and once", PROTOCOL_ERROR)
        body = Body(data)
        if flags != (2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0):
            raise MqttError("reserved flags")
        if kind == CONNECT:
            connect = _connect(body)
            self.version = connect.version
            return connect
        if kind == PINGREQ:
            body.finish()
            return Ping()
        if kind == SUBSCRIBE:
            return self._subscribe(body)
        if kind == UNSUBSCRIBE:
            return self._unsubscribe(body)
        if kind == PUBACK:
            packet_id = body.number(2)
            self._reason(body)
            return Acknowledged(packet_id)
        if kind == DISCONNECT:
            self._reason(body)
            return Disconnect()
        raise MqttError("a client never sends this packet, or it belongs to QoS 2", PROTOCOL_ERROR)

    def _reason(self, body: Body) -> None:
        """The optional reason code and properties of MQTT 5."""
        if self.version == 5 and body.at < body.end:
            body.number(1)
            if body.at < body.end:
                body.properties()
        body.finish()

    def _publish(self, head: int, data: bytes, at: int, end: int) -> Publish:
        """The packet's body is ``data[at:end]``. By index and without a cursor: all readings come this way."""
        qos = head >> 1 & 3
        if qos == 3 or (qos == 0 and head & 8):
            raise MqttError("QoS 3, or a duplicate of QoS 0")
        if qos == 2:
            raise MqttError("QoS 2 is not offered", QOS_NOT_SUPPORTED)
        name_at = at + 2
        at = name_at + (data[at] << 8 | data[at + 1]) if name_at <= end else end + 1
        id_at, at = at, at + 2 * qos
        if at > end:
            raise MqttError("packet cut short")
        name = data[name_at:id_at]
        if name != self._topic[0]:
            self._topic = name, _topic_name(name)
        packet_id = data[id_at] << 8 | data[id_at + 1] if qos else 0
        if qos and not packet_id:
            raise MqttError("packet identifier 0")
        if self.version == 5:
            if at < end and not data[at]:
                at += 1
            else:
                body = Body(data[at:end])
                if TOPIC_ALIAS in body.properties():
                    raise MqttError("topic alias was not offered", TOPIC_ALIAS_INVALID)
                at += body.at
        return Publish(self._topic[1], data[at:end], qos, packet_id, head & 1 == 1, head & 8 == 8)

    def _subscribe(self, body: Body) -> Subscribe:
        packet_id = _packet_id(body)
        if self.version == 5:
            body.properties()
        filters: list[tuple[str, int]] = []
        while body.at < body.end:
            topic, options = body.string(), body.number(1)
            if options & 3 == 3 or options & (0xC0 if self.version == 5 else 0xFC):
                raise MqttError("subscription options")
            filters.append((topic, options & 3))
        if not filters:
            raise MqttError("SUBSCRIBE without a filter", PROTOCOL_ERROR)
        return Subscribe(packet_id, tuple(filters))

    def _unsubscribe(self, body: Body) -> Unsubscribe:
        packet_id = _packet_id(body)
        if self.version == 5:
            body.properties()
        filters: list[str] = []
        while body.at < body.end:
            filters.append(body.string())
        if not filters:
            raise MqttError("UNSUBSCRIBE without a filter", PROTOCOL_ERROR)
        return Unsubscribe(packet_id, tuple(filters))


def _long_header(data: bytes, at: int) -> tuple[int, int]:
    """(start of the body, its length) of the packet at ``at``; start 0 while the fixed header is incomplete (2.2.3)."""
    length = 0
    for i in range(4):
        if len(data) < at + 2 + i:
            return 0, 0
        byte = data[at + 1 + i]
        length |= (byte & 0x7F) << 7 * i
        if not byte & 0x80:
            if length > MAX_PACKET_BYTES:
                raise MqttError("packet too large", PACKET_TOO_LARGE)
            return at + 2 + i, length
    raise MqttError("remaining length too long")


def _topic_name(name: bytes) -> str:
    """UTF-8 without U+0000 and wildcards, not empty (4.7)."""
    try:
        topic = name.decode("utf-8")
    except UnicodeDecodeError:
        raise MqttError("text is not UTF-8") from None
    if not topic or "\0" in topic or "+" in topic or "#" in topic:
        raise MqttError("topic name")
    return topic


def _packet_id(body: Body) -> int:
    packet_id = body.number(2)
    if packet_id == 0:
        raise MqttError("packet identifier 0")
    return packet_id


def _connect(body: Body) -> Connect:
    name, version = body.string(), body.number(1)
    if name != "MQTT" or version not in (4, 5):
        raise MqttError("not MQTT 3.1.1 or 5", BAD_VERSION)
    flags = body.number(1)
    will, will_qos, has_password, has_user = flags & 4, flags >> 3 & 3, flags & 0x40, flags & 0x80
    if flags & 1 or will_qos == 3 or (not will and flags & 0x38) or (version == 4 and has_password and not has_user):
        raise MqttError("connect flags")
    keep_alive_s = body.number(2)
    seen = body.properties() if version == 5 else set()
    client_id = body.string()
    if will:
        # A bin's will would go to nobody: it is read to stay in step, and dropped.
        if version == 5:
            body.properties()
        body.string()
        body.binary()
    user = body.string() if has_user else None
    password = body.binary() if has_password else None
    body.finish()
    return Connect(version, client_id, keep_alive_s, bool(flags & 2), user, password, AUTH_METHOD in seen)


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _frame(head: int, body: bytes) -> bytes:
    return bytes((head,)) + _varint(len(body)) + body


# MQTT 5 reason -> MQTT 3.1.1 return code (3.2.2.3); what has no counterpart is "server unavailable".
_RETURN_CODES = {0: 0, BAD_VERSION: 1, BAD_CREDENTIALS: 4, NOT_AUTHORIZED: 5}


def connack(version: int, reason: int, *, receive_maximum: int = 64, assigned_id: str = "") -> bytes:
    """The answer to CONNECT. On 5 it tells our limits: QoS 1, no retain, packets of 16 KiB, no shared subscription."""
    if version != 5:
        return bytes((CONNACK << 4, 2, 0, _RETURN_CODES.get(reason, 3)))
    properties = b""
    if reason == 0:
        properties = b"\x21" + receive_maximum.to_bytes(2, "big") + b"\x24\x01\x25\x00"
        properties += b"\x27" + MAX_PACKET_BYTES.to_bytes(4, "big") + b"\x28\x00\x2a\x00"
        properties += b"\x11\x00\x00\x00\x00"
        if assigned_id:
            properties += b"\x12" + len(assigned_id).to_bytes(2, "big") + assigned_id.encode()
    return _frame(CONNACK << 4, bytes((0, reason)) + _varint(len(properties)) + properties)


def puback(version: int, packet_id: int, reason: int = 0) -> bytes:
    """PUBACK; the reason shows on 5 only."""
    if version == 5 and reason:
        return bytes((PUBACK << 4, 3)) + packet_id.to_bytes(2, "big") + bytes((reason,))
    return bytes((PUBACK << 4, 2)) + packet_id.to_bytes(2, "big")


def suback(version: int, packet_id: int, granted: list[int]) -> bytes:
    """SUBACK with 0, 1 or a refusal (0x80 and above) for each filter; 3.1.1 knows only 0x80."""
    codes = bytes(granted) if version == 5 else bytes(min(code, 0x80) for code in granted)
    return _frame(SUBACK << 4, packet_id.to_bytes(2, "big") + (b"\0" if version == 5 else b"") + codes)


def unsuback(version: int, packet_id: int, count: int) -> bytes:
    """UNSUBACK."""
    return _frame(UNSUBACK << 4, packet_id.to_bytes(2, "big") + (b"\0" + bytes(count) if version == 5 else b""))


def publish(version: int, topic: str, payload: bytes, qos: int, packet_id: int) -> bytes:
    """A message to the client."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name
    if qos:
        body += packet_id.to_bytes(2, "big")
    return _frame(PUBLISH << 4 | qos << 1, body + (b"\0" if version == 5 else b"") + payload)


def disconnect(reason: int) -> bytes:
    """Only MQTT 5 lets a server say why it goes."""
    return bytes((DISCONNECT << 4, 1, reason))


PINGRESP_BYTES = bytes((PINGRESP << 4, 0))
