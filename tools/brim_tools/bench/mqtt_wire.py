"""A bare MQTT 3.1.1 client for benchmarks: one publisher that keeps a window full, one subscriber that counts.

Run as a process of its own (`python -m brim_tools.bench.mqtt_wire publish|count …`), one JSON line at the end. It must
cost far less than what it measures, so it parses only what it needs.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

_READING = b'{"epoch":1,"seq":%d,"status":"ok","distance_mm":%d,"spread_mm":4,"echoes":12,"battery_mv":3600}'
_UID = re.compile(rb'"uid":"([^"]+)"')
_SEQ = re.compile(rb'"seq":(\d+)')


def _length(n: int) -> bytes:
    out = b""
    while True:
        out += bytes([n & 127 | (128 if n > 127 else 0)])
        n >>= 7
        if not n:
            return out


def _text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()


def _packet(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _length(len(body)) + body


def connect_packet(client_id: str, user: str = "", password: str = "", *, clean: bool = True) -> bytes:
    flags = (2 if clean else 0) | (0xC0 if user else 0)
    login = _text(user) + _text(password) if user else b""
    return _packet(0x10, _text("MQTT") + bytes([4, flags, 0, 0]) + _text(client_id) + login)


class _Client(asyncio.Protocol):
    """Splits the stream into (first byte, body) and hands each to `on_packet`."""

    def __init__(self, hello: bytes, on_packet: Callable[[_Client, int, bytes], None]) -> None:
        self._hello = hello
        self._on_packet = on_packet
        self._buffer = b""
        self.transport: Any = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        buffer, at = self._buffer + data, 0
        while len(buffer) - at >= 2:
            length = shift = 0
            i = at + 1
            while i < len(buffer):
                length |= (buffer[i] & 127) << shift
                shift += 7
                i += 1
                if not buffer[i - 1] & 128:
                    break
            else:
                break
            if buffer[i - 1] & 128 or len(buffer) - i < length:
                break
            self._on_packet(self, buffer[at], buffer[i : i + length])
            at = i + length
        self._buffer = buffer[at:]


async def publish(port: int, logins: list[list[str]], topic: str, count: int, window: int) -> dict[str, Any]:
    """`count` readings of every login, each with `window` unacknowledged at most; seconds and acknowledgement times."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = len(logins)
    waits_s: list[float] = []

    async def one(user: str, password: str) -> None:
        target = _text(topic.replace("{dev}", user))
        sent, acked = 0, 0
        times: dict[int, float] = {}

        def send(client: _Client) -> None:
            nonlocal sent
            out = bytearray()
            now = time.perf_counter()
            while sent < count and sent - acked < window:
                sent += 1
                number = (sent - 1) % 65535 + 1
                times[number] = now
                out += _packet(0x32, target + struct.pack(">H", number) + _READING % (sent, 200 + sent % 700))
            if out:
                client.transport.write(bytes(out))

        def on_packet(client: _Client, first: int, body: bytes) -> None:
            nonlocal acked, left
            if first == 0x20:
                if body[1]:
                    done.set_exception(ConnectionError(f"CONNACK {body[1]}"))
                    return
            elif first == 0x40:
                acked += 1
                waits_s.append(time.perf_counter() - times.pop(struct.unpack(">H", body[:2])[0]))
                if acked == count:
                    left -= 1
                    if not left:
                        done.set_result(None)
                    return
            if sent - acked <= window // 2 or first == 0x20:
                send(client)

        hello = connect_packet(user, user, password)
        await loop.create_connection(lambda: _Client(hello, on_packet), "127.0.0.1", port)

    started = time.perf_counter()
    for user, password in logins:
        await one(user, password)
    await done
    seconds = time.perf_counter() - started
    waits_s.sort()
    return {
        "acknowledged": len(waits_s),
        "seconds": seconds,
        "ack_p50_ms": waits_s[len(waits_s) // 2] * 1e3,
        "ack_p99_ms": waits_s[len(waits_s) * 99 // 100] * 1e3,
    }


async def count(port: int, topic: str, expected: int, idle_s: float) -> dict[str, Any]:
    """Count distinct readings under `topic` until `expected` are there or nothing has come for `idle_s`."""
    loop = asyncio.get_running_loop()
    seen: set[bytes] = set()
    messages, first_s, last_s = 0, 0.0, time.perf_counter()

    def on_packet(client: _Client, first: int, body: bytes) -> None:
        nonlocal messages, first_s, last_s
        if first == 0x20:
            client.transport.write(_packet(0x82, b"\0\1" + _text(topic) + b"\1"))
            return
        if first == 0x90:
            print("ready", flush=True)
            return
        if first >> 4 != 3:
            return
        n = int.from_bytes(body[:2], "big") + 2
        if first & 6:
            client.transport.write(b"\x40\x02" + body[n : n + 2])
        name = _UID.search(body) or _SEQ.search(body)
        if name is None:
            return
        messages += 1
        last_s = time.perf_counter()
        first_s = first_s or last_s
        seen.add(name[1] if name.re is _UID else body[2:n] + name[1])

    hello = connect_packet("bench-north", clean=False)
    _, client = await loop.create_connection(lambda: _Client(hello, on_packet), "127.0.0.1", port)
    while len(seen) < expected and not client.lost and time.perf_counter() - last_s < idle_s:  # noqa: ASYNC110
        await asyncio.sleep(0.02)  # an event for every message would cost what is measured
    return {"distinct": len(seen), "messages": messages, "seconds": last_s - first_s, "last": time.time()}


def main() -> None:
    job = json.loads(sys.argv[2])
    work = publish(**job) if sys.argv[1] == "publish" else count(**job)
    print(json.dumps(asyncio.run(work)), flush=True)


if __name__ == "__main__":
    main()
