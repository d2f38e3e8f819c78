"""A listener alone, in a thread, with a store that the test plays: for what a real store does too rarely."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from brim_gateway.ingest.mqtt_listener import Credentials, MqttListener
from brim_gateway.ingest.passwords import hash_password
from brim_gateway.mqtt import server_codec as mqtt

from tests.gateway.support import DEADLINE_S, wait_until

DEV = "02000000000000aa"
PASSWORD = b"a-password"
_HASH = hash_password(PASSWORD)
T = TypeVar("T")


class PlayedStore:
    """Keeps every transaction waiting until the test says what became of it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, list[bytes], asyncio.Future[None]]] = []
        self.committed: list[bytes] = []

    def deliver(self, dev: str, payloads: list[bytes]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((dev, payloads, future))
        return future

    def commit(self) -> None:
        """Everything that waits is on disk."""
        waiting, self.waiting = self.waiting, []
        for _, payloads, future in waiting:
            self.committed += payloads
            future.set_result(None)

    def fail(self, fault: Exception) -> None:
        """Nothing that waits will ever be on disk."""
        waiting, self.waiting = self.waiting, []
        for _, _, future in waiting:
            future.set_exception(fault)

    def held(self) -> int:
        """Publishes that wait."""
        return sum(len(payloads) for _, payloads, _ in list(self.waiting))


class Listening:
    """``with Listening() as listening``: its port, its store, its listener.

    Any dev may come in with PASSWORD, or the ``known`` ones only.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, known: frozenset[str] | None = None, **limits: Any
    ) -> None:
        self.store = PlayedStore()
        self.faults: list[dict[str, Any]] = []
        self.listener: MqttListener
        self.port = 0
        self._tls = tls
        self._known = known
        self._limits = limits
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="listener")
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def _run(self) -> None:
        async def life() -> None:
            sock = socket.create_server(("127.0.0.1", 0), backlog=256)
            sock.setblocking(False)
            self.port = sock.getsockname()[1]
            self.listener = MqttListener(self.store.deliver, self._credentials, tls=self._tls, **self._limits)
            self.listener.start(sock)
            self._ready.set()
            await self._stop.wait()
            await self.listener.stop(grace_s=0.1)

        self._loop.set_exception_handler(lambda _, fault: self.faults.append(fault))
        try:
            self._loop.run_until_complete(life())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _credentials(self, dev: str) -> Credentials | None:
        return Credentials(_HASH) if self._known is None or dev in self._known else None

    def __enter__(self) -> Listening:
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the listener did not stop"
        assert self.faults == [], "asyncio saw a fault that nobody handled"

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the listener's loop."""

        async def in_loop() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(in_loop(), self._loop).result(DEADLINE_S)


class RawBin:
    """A client that does just what the test says, packet by packet."""

    def __init__(self, port: int, dev: str = DEV, *, version: int = 4, keep_alive_s: int = 60, **more: Any) -> None:
        self.dev = dev
        self.version = version
        self.sock = socket.create_connection(("127.0.0.1", port), 5)
        self.say(connect_packet(dev, more.get("password", PASSWORD), version, keep_alive_s))

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def publish(self, first: int, count: int, payload: bytes = b"{}") -> None:
        """QoS 1 publishes with packet identifiers from ``first`` on."""
        topic = f"brim/bin/{self.dev}/up"
        self.say(b"".join(mqtt.publish(self.version, topic, payload, 1, first + i) for i in range(count)))

    def hear(self, count: int) -> bytes:
        """Exactly ``count`` bytes; fewer where the connection ends."""
        heard = b""
        while len(heard) < count and (more := self.sock.recv(count - len(heard))):
            heard += more
        return heard

    def hear_pubacks(self, first: int, count: int) -> None:
        expected = b"".join(mqtt.puback(self.version, first + i) for i in range(count))
        assert self.hear(len(expected)) == expected

    def is_quiet(self) -> bool:
        """Nothing has come that was not read."""
        self.sock.setblocking(False)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            self.sock.settimeout(5)

    def welcome(self) -> RawBin:
        """Read the CONNACK, which must say yes."""
        head = self.hear(2)
        assert head[:1] == b"\x20" and self.hear(head[1])[1] == 0
        return self

    def __enter__(self) -> RawBin:
        return self.welcome()

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def connect_packet(dev: str, password: bytes, version: int = 4, keep_alive_s: int = 60) -> bytes:
    """CONNECT with user name and password."""
    body = b"\x00\x04MQTT" + bytes((version, 0xC2)) + keep_alive_s.to_bytes(2, "big")
    body += b"\x00" if version == 5 else b""
    for part in (b"d", dev.encode(), password):
        body += len(part).to_bytes(2, "big") + part
    return b"\x10" + bytes((len(body),)) + body


def wait_held(listening: Listening, count: int) -> None:
    wait_until(lambda: listening.store.held() == count, f"{count} publishes at the store")
