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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from brim_gateway.fleet.strangers import Strangers
from brim_gateway.ingest.mqtt_door import Door, Guest, source_of
from brim_gateway.ingest.mqtt_session import Deliver, Refused, Session
from brim_gateway.ingest.mqtt_tls import BUFFER_BYTES, accept_tls
from brim_gateway.ingest.passwords import MAX_PASSWORD_BYTES, verify
from brim_gateway.model import DEV_PATTERN
from brim_gateway.mqtt import server_codec as mqtt
from brim_gateway.ratelog import RateLog

log = logging.getLogger("brim.mqtt")

HANDSHAKE_S = 10
YIELD_S = 4.0
"""While others wait, whoever has been silent about itself for so long goes. An ESP32 computes for up to 2 s."""
LOOK_AGAIN_S = 0.1
HASHING_THREADS = 1
HASHES_WAITING = 64


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the registry holds of a bin that may connect."""

    password_hash: str | None


@dataclass(eq=False, slots=True, kw_only=True)
class _Visitor(Guest):
    """A connection on its way to being a session. ``owned``: a transport has it and will close it."""

    connection: socket.socket
    peer: str
    heard_at: float = 0.0
    owned: bool = False
    task: asyncio.Task[None] | None = None

    def hang_up(self) -> None:
        if not self.owned:
            self.connection.close()


class MqttListener:
    """``deliver(dev, payloads)`` answers a future that resolves after the commit (an exception: never stored).

    ``credentials(dev)`` answers None for a device that is not a Wi-Fi bin of the registry; ``on_listening(dev)``: it
    has subscribed, and can be sent commands.
    """

    def __init__(
        self,
        deliver: Deliver,
        credentials: Callable[[str], Credentials | None],
        *,
        tls: ssl.SSLContext | None,
        max_connections: int = 64,
        max_handshakes: int = 8,
        strangers: Strangers | None = None,
        on_listening: Callable[[str], None] = lambda dev: None,
    ) -> None:
        self.deliver = deliver
        self.on_listening = on_listening
        self.counters: Counter[str] = Counter()
        self.rate_log = RateLog(log)
        self.sessions: dict[str, Session] = {}
        self.open: set[Session] = set()
        self.draining = False
        self.read_buffer = memoryview(bytearray(BUFFER_BYTES))
        self._credentials = credentials
        self._tls = tls
        self.strangers = strangers
        self._door: Door[_Visitor] = Door(max_connections, max_handshakes)
        self._hashers = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="brim-password")
        self._hashes_waiting = 0
        self._proof_key = os.urandom(32)
        self._proven: dict[str, tuple[str, bytes]] = {}
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        self._greeting: set[_Visitor] = set()

    def start(self, sock: socket.socket) -> None:
        """Serve on the bound, listening, non-blocking ``sock``; takes it over."""
        self._socket = sock
        self._accepting = asyncio.get_running_loop().create_task(self._accept(sock))

    async def stop(self, grace_s: float = 2.0) -> None:
        """Take nothing more, let what was taken be committed and acknowledged, then close everything."""
        self.draining = True
        if self._look is not None:
            self._look.cancel()
        tasks = [task for task in (self._accepting, *(one.task for one in self._greeting)) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for guest in self._door.send_home():
            guest.hang_up()
        waits = [asyncio.ensure_future(session.settled.wait()) for session in self.open]
        if waits:
            await asyncio.wait(waits, timeout=grace_s)
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

    @property
    def greeting(self) -> int:
        """Connections in their handshake."""
        return len(self._greeting)

    @property
    def waiting(self) -> int:
        """Connections that wait, unread, for a place."""
        return self._door.waiting

    @property
    def checking(self) -> int:
        """Passwords that are being checked, or wait for it."""
        return self._hashes_waiting

    # The door

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as exc:
                self.rate_log.note("accept failed", str(exc))
                await asyncio.sleep(LOOK_AGAIN_S)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            crowded_out = self._door.arrive(
                _Visitor(source_of(address[0]), connection=connection, peer=f"{address[0]}:{address[1]}")
            )
            if crowded_out is not None:
                self.counters["crowded_out"] += 1
                crowded_out.hang_up()
            self._admit()

    def _admit(self) -> None:
        """Greet everybody for whom there is room now."""
        loop = asyncio.get_running_loop()
        while not self.draining and (guest := self._door.next()) is not None:
            guest.heard_at = loop.time()
            self._greeting.add(guest)
            guest.task = loop.create_task(self._greet(guest))
            guest.task.add_done_callback(partial(self._greeted, guest))
        if self._door.waiting and self._look is None and not self.draining:
            self._look = loop.call_later(LOOK_AGAIN_S, self._look_again)

    async def _greet(self, guest: _Visitor) -> None:
        loop = asyncio.get_running_loop()
        session = Session(self, guest.peer, partial(self._on_proven, guest), partial(self._on_gone, guest))
        guest.owned = True
        if self._tls is None:
            await loop.connect_accepted_socket(lambda: session, guest.connection)
            return

        def heard() -> None:
            guest.heard_at = loop.time()

        await accept_tls(guest.connection, session, self._tls, within_s=HANDSHAKE_S, heard=heard)

    def _greeted(self, guest: _Visitor, task: asyncio.Task[None]) -> None:
        self._greeting.discard(guest)
        fault = None if task.cancelled() else task.exception()
        if task.cancelled() or fault is not None:
            guest.hang_up()
            self._door.leave(guest)
        if fault is not None:
            self.counters["handshake"] += 1
            self.rate_log.note("handshake failed", f"{guest.peer}: {fault}")
        self._door.shaken(guest)
        self._admit()

    def _on_proven(self, guest: _Visitor) -> None:
        self._door.prove(guest)
        self._admit()

    def _on_gone(self, guest: _Visitor) -> None:
        self._door.leave(guest)
        self._admit()

    def _look_again(self) -> None:
        """While somebody waits, end what has been silent about itself: in its handshake, or without a good CONNECT."""
        loop = asyncio.get_running_loop()
        before = loop.time() - YIELD_S
        for guest in [one for one in self._greeting if one.heard_at < before]:
            if guest.task is not None:
                self.counters["yielded"] += 1
                guest.task.cancel()
        for session in [one for one in self.open if one.silent_since is not None and one.silent_since < before]:
            self.counters["yielded"] += 1
            session.abort()
        self._look = loop.call_later(LOOK_AGAIN_S, self._look_again) if self._door.waiting else None

    # Who is it

    async def authenticate(self, common_name: str | None, connect: mqtt.Connect, peer: str) -> str:
        """The dev that has shown who it is. A client certificate's CN stands for the password. Raises Refused."""
        user = connect.user if connect.user is not None else common_name
        if user is None:
            raise Refused(mqtt.BAD_CREDENTIALS, "says no user name")
        known = self._credentials(user)
        if known is None:
            if self.strangers is not None and DEV_PATTERN.match(user):
                self.strangers.note("dev", user, link="wifi", via=peer.rpartition(":")[0], why="not registered")
            raise Refused(mqtt.BAD_CREDENTIALS, "no Wi-Fi bin of this site")
        if common_name is not None:
            if common_name != user:
                raise Refused(mqtt.BAD_CREDENTIALS, f"has the certificate of {common_name!r}")
            return user
        await self._check_password(user, known.password_hash, connect.password)
        return user

    async def _check_password(self, user: str, stored: str | None, password: bytes | None) -> None:
        if stored is None or not password or len(password) > MAX_PASSWORD_BYTES:
            raise Refused(mqtt.BAD_CREDENTIALS, "no password")
        # A bin that connects at each wake pays for the slow hash once in this process's life.
        proof = hmac.digest(self._proof_key, password, hashlib.sha256)
        proven = self._proven.get(user)
        if proven is not None and proven[0] == stored and hmac.compare_digest(proven[1], proof):
            return
        if self._hashes_waiting >= HASHES_WAITING:
            # Not its fault: somebody floods. It may come again, with the same password.
            self.counters["busy"] += 1
            raise Refused(mqtt.SERVER_BUSY, "too many passwords are being checked")
        self._hashes_waiting += 1
        try:
            good = await asyncio.get_running_loop().run_in_executor(self._hashers, verify, password, stored)
        except RuntimeError:
            raise Refused(mqtt.SHUTTING_DOWN, "the gateway stops") from None
        finally:
            self._hashes_waiting -= 1
        if not good:
            raise Refused(mqtt.BAD_CREDENTIALS, "wrong password")
        self._proven[user] = (stored, proof)
