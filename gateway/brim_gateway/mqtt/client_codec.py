"""MQTT 3.1.1 and 5 packets, as a publishing client writes and reads them. Pure: values in, bytes out, and back.

Only what an output needs: CONNECT with a will, PUBLISH with QoS 1, PUBACK, ping and goodbye. Sections refer to the
OASIS standards "MQTT Version 3.1.1" and "MQTT Version 5.0".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_PACKET_BYTES = 16 * 1024
"""What a broker may send us: a CONNACK with its properties is the largest."""

UNSUPPORTED_VERSION, QUOTA_EXCEEDED = 0x84, 0x97

PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"

_CONNACK, _PUBACK, _PINGRESP, _DISCONNECT = 2, 4, 13, 14
_SESSION_EXPIRY, _RECEIVE_MAXIMUM, _MAXIMUM_QOS, _RETAIN_AVAILABLE = 0x11, 0x21, 0x24, 0x25
_MAXIMUM_PACKET, _ALIAS_MAXIMUM, _KEEP_ALIVE, _REASON_STRING = 0x27, 0x22, 0x13, 0x1F
# Property identifier -> width, or s for a string, b for binary, p for a pair of strings (MQTT 5, 2.2.2.2).
_WIDTHS: dict[int, int | str] = {
    _SESSION_EXPIRY: 4, _RECEIVE_MAXIMUM: 2, _MAXIMUM_QOS: 1, _RETAIN_AVAILABLE: 1, _MAXIMUM_PACKET: 4, 0x12: "s",
    _ALIAS_MAXIMUM: 2, _REASON_STRING: "s", 0x26: "p", 0x28: 1, 0x29: 1, 0x2A: 1, _KEEP_ALIVE: 2, 0x1A: "s", 0x1C: "s",
    0x15: "s", 0x16: "b",
}  # fmt: skip
# MQTT 3.1.1 return codes (3.2.2.3) as the reasons of MQTT 5.
_RETURN_CODES = {0: 0, 1: UNSUPPORTED_VERSION, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}
REASONS = {
    0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x83: "the broker's own reason",
    0x84: "protocol version not supported", 0x85: "client identifier not valid", 0x86: "bad user name or password",
    0x87: "not authorized", 0x88: "server unavailable", 0x89: "server busy", 0x8A: "banned",
    0x8B: "server shutting down", 0x8C: "bad authentication method", 0x8D: "keep alive timeout",
    0x8E: "session taken over", 0x90: "topic name invalid", 0x91: "packet identifier in use",
    0x93: "receive maximum exceeded", 0x95: "packet too large", 0x97: "quota exceeded",
    0x98: "administrative action", 0x99: "payload format invalid", 0x9A: "retain not supported",
    0x9B: "QoS not supported", 0x9C: "use another server", 0x9D: "server moved", 0x9F: "connection rate exceeded",
}  # fmt: skip


class PeerError(ValueError):
    """The broker broke the protocol; the stream is of no more use."""


@dataclass(frozen=True, slots=True)
class Connack:
    """The answer to CONNECT; ``reason`` in MQTT 5's numbers. The rest is what this broker takes (None: it does not
    say)."""

    reason: int
    receive_maximum: int = 65_535
    maximum_qos: int = 2
    retain: bool = True
    maximum_packet: int | None = None
    keep_alive_s: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Puback:
    """A publish was taken (``reason`` < 0x80) or refused. MQTT 3.1.1 cannot refuse."""

    packet_id: int
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Pingresp:
    """The broker lives."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """MQTT 5: the broker says why it closes."""

    reason: int


Packet = Connack | Puback | Pingresp | Goodbye


def reason_text(reason: int) -> str:
    """The reason in words, with its number."""
    return f"{REASONS.get(reason, 'unknown reason')} (0x{reason:02x})"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def connect(
    version: int,
    client_id: str,
    keep_alive_s: int,
    *,
    user: str | None,
    password: str | None,
    will_topic: str,
    will_payload: bytes,
) -> bytes:
    """CONNECT with a clean start and a retained will of QoS 1. ``version`` 4 is 3.1.1."""
    flags = 0x02 | 0x04 | 0x08 | 0x20 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    none = b"\0" if version == 5 else b""
    body = _text("MQTT") + bytes((version, flags)) + keep_alive_s.to_bytes(2, "big") + none + _text(client_id)
    body += none + _text(will_topic) + len(will_payload).to_bytes(2, "big") + will_payload
    for each in (user, password):
        if each is not None:
            body += _text(each)
    return b"\x10" + _varint(len(body)) + body


def properties(content_type: str, expiry_s: int | None, user: tuple[tuple[str, str], ...]) -> bytes:
    """The properties of a PUBLISH with their length (3.3.2.3): UTF-8 payload, content type, expiry, user's own."""
    out = b"\x01\x01\x03" + _text(content_type)
    if expiry_s is not None:
        out += b"\x02" + expiry_s.to_bytes(4, "big")
    for name, value in user:
        out += b"\x26" + _text(name) + _text(value)
    return _varint(len(out)) + out


def publish(topic: str, payload: bytes, packet_id: int, *, retain: bool, packed: bytes) -> bytes:
    """PUBLISH with QoS 1. ``packed``: from ``properties`` on MQTT 5, empty on 3.1.1."""
    name = topic.encode()
    length = 4 + len(name) + len(packed) + len(payload)
    return b"".join(
        (
            b"\x33" if retain else b"\x32",
            _varint(length),
            len(name).to_bytes(2, "big"),
            name,
            packet_id.to_bytes(2, "big"),
            packed,
            payload,
        )
    )


class Parser:
    """Cuts what a broker sends into packets. After a PeerError the stream is of no more use."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield each packet that is complete now; raises PeerError."""
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while size - at >= 2:
            # Nearly everything is a PUBACK of two bytes' body.
            if buffer[at] == 0x40 and buffer[at + 1] == 2:
                if size - at < 4:
                    break
                yield Puback(buffer[at + 2] << 8 | buffer[at + 3])
                at += 4
                continue
            found = _length(buffer, at)
            if found is None or found[0] + found[1] > size:
                break
            start, length = found
            yield self._packet(buffer[at], buffer[start : start + length])
            at = start + length
        self._buffer = buffer[at:]

    def _packet(self, head: int, body: bytes) -> Packet:
        if head & 0x0F:
            raise PeerError("reserved flags")
        kind = head >> 4
        if kind == _CONNACK:
            return self._connack(body)
        if kind == _PUBACK and len(body) >= 2:
            reason = body[2] if self._version == 5 and len(body) > 2 else 0
            if len(body) > 3:
                _read_properties(body[3:])
            return Puback(int.from_bytes(body[:2], "big"), reason)
        if kind == _PINGRESP and not body:
            return Pingresp()
        if kind == _DISCONNECT and self._version == 5:
            return Goodbye(body[0] if body else 0)
        raise PeerError(f"packet of kind {kind} that nobody asked for, or cut short")

    def _connack(self, body: bytes) -> Connack:
        if len(body) < 2:
            raise PeerError("CONNACK cut short")
        if self._version == 4 or len(body) == 2:
            # A broker that knows 3.1.1 only answers a CONNECT of MQTT 5 in its own way.
            return Connack(_RETURN_CODES.get(body[1], 0x80))
        found = _read_properties(body[2:])
        most = found.get(_RECEIVE_MAXIMUM)
        return Connack(
            body[1],
            receive_maximum=max(1, most) if isinstance(most, int) else 65_535,
            maximum_qos=_number(found, _MAXIMUM_QOS, 2),
            retain=_number(found, _RETAIN_AVAILABLE, 1) != 0,
            maximum_packet=_optional(found, _MAXIMUM_PACKET),
            keep_alive_s=_optional(found, _KEEP_ALIVE),
            text=str(found.get(_REASON_STRING, "")),
        )


def _number(found: dict[int, int | str], key: int, default: int) -> int:
    value = found.get(key, default)
    return value if isinstance(value, int) else default


def _optional(found: dict[int, int | str], key: int) -> int | None:
    value = found.get(key)
    return value if isinstance(value, int) else None


def _length(buffer: bytes, at: int) -> tuple[int, int] | None:
    """(start of the body, its length), or None while the fixed header is incomplete (2.2.3)."""
    length = 0
    for i in range(4):
        if at + 1 + i >= len(buffer):
            return None
        byte = buffer[at + 1 + i]
        length |= (byte & 0x7F) << 7 * i
        if not byte & 0x80:
            if length > MAX_PACKET_BYTES:
                raise PeerError("packet too large")
            return at + 2 + i, length
    raise PeerError("remaining length too long")


def _read_properties(data: bytes) -> dict[int, int | str]:
    """Numbers and strings by identifier; the rest is checked for form. Raises PeerError."""
    found: dict[int, int | str] = {}
    head = _length(b"\0" + data, 0)
    if head is None or head[0] - 1 + head[1] > len(data):
        raise PeerError("properties cut short")
    at, stop = head[0] - 1, head[0] - 1 + head[1]
    while at < stop:
        key = data[at]
        width = _WIDTHS.get(key)
        at += 1
        if isinstance(width, int):
            found[key] = int.from_bytes(data[at : at + width], "big")
            at += width
        elif width is not None:
            for _ in range(2 if width == "p" else 1):
                length = int.from_bytes(data[at : at + 2], "big")
                if width == "s":
                    found[key] = data[at + 2 : at + 2 + length].decode("utf-8", "replace")
                at += 2 + length
        else:
            raise PeerError("unknown property")
    if at != stop:
        raise PeerError("properties longer than said")
    return found
