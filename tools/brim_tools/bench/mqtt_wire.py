"""As much of MQTT as benchmarks need: packets of a client, and a stream cut into packets. It must cost far less than
what it measures, so it parses only what it needs."""

from __future__ import annotations

import struct
from collections.abc import Iterator

CONNECT, CONNACK, PUBLISH, PUBACK, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x90


def _length(n: int) -> bytes:
    out = b""
    while True:
        out += bytes([n & 127 | (128 if n > 127 else 0)])
        n >>= 7
        if not n:
            return out


def text(value: str) -> bytes:
    """A string with its length before it."""
    return struct.pack(">H", len(value)) + value.encode()


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + _length(len(body)) + body


def connect_packet(client_id: str, user: str = "", password: str = "", *, clean: bool = True) -> bytes:
    """CONNECT of MQTT 3.1.1 without keep-alive."""
    flags = (2 if clean else 0) | (0xC0 if user else 0)
    login = text(user) + text(password) if user else b""
    return packet(CONNECT, text("MQTT") + bytes([4, flags, 0, 0]) + text(client_id) + login)


def subscribe_packet(topic: str) -> bytes:
    """SUBSCRIBE to one filter with QoS 1."""
    return packet(0x82, b"\0\1" + text(topic) + b"\1")


def publish_packet(topic: bytes, number: int, payload: bytes) -> bytes:
    """PUBLISH, QoS 1, MQTT 3.1.1; ``topic`` as ``text()`` gives it."""
    return packet(0x32, topic + struct.pack(">H", number) + payload)


class Splitter:
    """Bytes in, whole packets out."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes, int, int]]:
        """(first byte, buffer, where the packet begins, where it ends) of every packet that is whole now.

        The body is ``buffer[body_at(buffer, start):end]``; most callers look only at its end.
        """
        buffer, at = (self._buffer + data if self._buffer else data), 0
        size = len(buffer)
        while size - at >= 2:
            i = at + 1
            length = buffer[i]
            if length > 127:
                length, shift = length & 127, 7
                while True:
                    i += 1
                    if i >= size:
                        self._buffer = buffer[at:]
                        return
                    length |= (buffer[i] & 127) << shift
                    shift += 7
                    if not buffer[i] & 128:
                        break
            end = i + 1 + length
            if end > size:
                break
            yield buffer[at], buffer, at, end
            at = end
        self._buffer = buffer[at:]


def body_at(buffer: bytes, start: int) -> int:
    """Where the body of the packet at ``start`` begins."""
    i = start + 1
    while buffer[i] & 128:
        i += 1
    return i + 1
