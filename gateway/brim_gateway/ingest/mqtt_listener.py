"""The MQTT server for Wi-Fi bins: a bin publishes its readings, and PUBACK leaves only when they are committed.

No routing between clients, no retained messages, no kept sessions. A bin (user name = dev) may publish to
``brim/bin/{dev}/up`` and subscribe to ``brim/bin/{dev}/down``, and to nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from brim_gateway.ingest.mqtt_session import Arrival, Session
from brim_gateway.ingest.passwords import MAX_PASSWORD_BYTES, verify
from brim_gateway.mqtt import server_codec as mqtt
from brim_gateway.ratelog import RateLog

log = logging.getLogger("brim.mqtt")

HANDSHAKE_S = 10.0
YIELD_S = 2.0
"""When all places are taken, whoever has not shown who it is for so long gives its place to the next one."""
LOOK_AGAIN_S = 0.1
HASHING_THREADS = 1
HASHES_WAITING = 64


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the registry holds of a bin that may connect."""

    password_hash: str | None


class MqttListener:
    """``deliver(arrival)`` returns an awaitable that resolves after the commit (an exception: not stored).

    ``credentials(dev)`` answers None for a device that is not a Wi-Fi bin of the registry.
    """

    def __init__(
        self,
        deliver: Callable[[Arrival], Awaitable[object]],
        credentials: Callable[[str], Credentials | None],
        *,
        tls: ssl.SSLContext | None,
        max_connections: int = 64,
    ) -> None:
        self.deliver = deliver
        self.counters: Counter[str] = Counter()
        self.rate_log = RateLog(log)
        self.sessions: dict[str, Session] = {}
        self.open: set[Session] = set()
        self.draining = False
        self._credentials = credentials
        self._tls = tls
        self._room = asyncio.Semaphore(max_connections)
        self._hashers = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="brim-password")
        self._hashes_waiting = 0
        self._proof_key = os.urandom(32)
        self._proven: dict[str, tuple[str, bytes]] = {}
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._greeting: dict[asyncio.Task[None], float] = {}

    def start(self, sock: socket.socket) -> None:
        """Serve on the bound, listening, non-blocking ``sock``; takes it over."""
        self._socket = sock
        self._accepting = asyncio.get_running_loop().create_task(self._accept(sock))

    async def stop(self, grace_s: float = 2.0) -> None:
        """Take nothing more, let what was taken be committed and acknowledged, then close everything."""
        self.draining = True
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        for task in self._greeting:
            task.cancel()
        await asyncio.gather(*self._greeting, return_exceptions=True)
        waits = [session.settled.wait() for session in self.open]
        if waits:
            await asyncio.wait([asyncio.ensure_future(wait) for wait in waits], timeout=grace_s)
        for session in list(self.open):
            session.close(mqtt.SHUTTING_DOWN, "gateway stops")
        if self._socket is not None:
            self._socket.close()
        self._hashers.shutdown(wait=False, cancel_futures=True)

    def send(self, dev: str, payload: bytes) -> bool:
        """Send a command to a bin that is connected and has subscribed. False: it is not there."""
        session = self.sessions.get(dev)
        return session is not None and session.send_down(payload)

    def forget(self, dev: str) -> None:
        """The bin was removed or its password changed: it must show its credentials again."""
        self._proven.pop(dev, None)
        session = self.sessions.get(dev)
        if session is not None:
            session.close(mqtt.NOT_AUTHORIZED, "registration changed")

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # At the limit the kernel's backlog holds the next ones: they wait instead of failing.
            while self._room.locked():
                self._make_room(loop.time() - YIELD_S)
                await asyncio.sleep(LOOK_AGAIN_S)
            await self._room.acquire()
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as exc:
                self._room.release()
                self.rate_log.note("accept failed", str(exc))
                await asyncio.sleep(0.1)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = f"{address[0]}:{address[1]}"
            task = loop.create_task(self._greet(connection, peer))
            self._greeting[task] = loop.time()
            task.add_done_callback(lambda done: self._greeting.pop(done, None))

    def _make_room(self, before: float) -> None:
        """End what has been silent about itself since ``before``: in its handshake, or without a good CONNECT."""
        for task, since in self._greeting.items():
            if since < before:
                self.counters["yielded"] += 1
                task.cancel()
        for session in [one for one in self.open if one.unproven_since is not None and one.unproven_since < before]:
            self.counters["yielded"] += 1
            session.abort()

    async def _greet(self, connection: socket.socket, peer: str) -> None:
        """The TLS handshake. The place is given back once: by the session when its connection is lost, or here
        where none came to be (asyncio tells a protocol nothing of a handshake that failed)."""
        loop = asyncio.get_running_loop()
        place = [self._room.release]
        handed_over = False

        def release() -> None:
            while place:
                place.pop()()

        def session() -> Session:
            nonlocal handed_over
            handed_over = True
            return Session(self, peer, release)

        try:
            await loop.connect_accepted_socket(
                session, connection, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_S if self._tls else None
            )
        except BaseException as exc:
            release()
            if not handed_over:
                connection.close()
            if not isinstance(exc, OSError):
                raise
            self.counters["handshake"] += 1
            self.rate_log.note("handshake failed", f"{peer}: {exc}")

    async def authenticate(self, session_cn: str | None, connect: mqtt.Connect) -> str | None:
        """The dev that has shown who it is, or None. A client certificate's CN stands for the password."""
        user = connect.user if connect.user is not None else session_cn
        if user is None or (known := self._credentials(user)) is None:
            return None
        if session_cn is not None:
            return user if session_cn == user else None
        stored, password = known.password_hash, connect.password
        if stored is None or not password or len(password) > MAX_PASSWORD_BYTES:
            return None
        # A bin that connects at each wake pays for the slow hash once in this process's life.
        proof = hmac.digest(self._proof_key, password, hashlib.sha256)
        proven = self._proven.get(user)
        if proven is not None and proven[0] == stored and hmac.compare_digest(proven[1], proof):
            return user
        if self._hashes_waiting >= HASHES_WAITING:
            self.counters["busy"] += 1
            return None
        self._hashes_waiting += 1
        try:
            good = await asyncio.get_running_loop().run_in_executor(self._hashers, verify, password, stored)
        finally:
            self._hashes_waiting -= 1
        if not good:
            return None
        self._proven[user] = (stored, proof)
        return user
