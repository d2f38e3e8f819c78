"""One connection of a Wi-Fi bin: packets in, acknowledgements out in the order of the publishes."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, cast

from brim_gateway.mqtt import server_codec as mqtt
from brim_gateway.ratelog import RateLog

CONNECT_WITHIN_S = 10.0
PENDING_MOST = 64
"""Publishes of one bin that wait for their commit; reading pauses beyond, and MQTT 5 is told (Receive Maximum)."""
UNSENT_MOST_BYTES = 64 * 1024
DEFAULT_IDLE_S = 300.0
"""For a client that wants no keep-alive: no bin is silent so long while it is awake."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One publish of an authenticated bin."""

    dev: str
    payload: bytes
    qos: int


class Host(Protocol):
    """What a session needs of its listener."""

    deliver: Callable[[Arrival], Awaitable[object]]
    counters: Counter[str]
    rate_log: RateLog
    sessions: dict[str, Session]
    open: set[Session]
    draining: bool

    async def authenticate(self, session_cn: str | None, connect: mqtt.Connect) -> str | None: ...


class Session(asyncio.Protocol):
    """Made by the listener; ``release`` is called once, when the connection is gone."""

    def __init__(self, listener: Host, peer: str, release: Callable[[], None]) -> None:
        self.peer = peer
        self.dev = ""
        self.settled = asyncio.Event()
        self.settled.set()
        self._listener = listener
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = mqtt.Parser()
        self._version = 4
        self._pending: deque[tuple[int, asyncio.Future[object]]] = deque()
        self._out = bytearray()
        self._flush_due = False
        self._paused = False
        self._connecting: asyncio.Task[None] | None = None
        self._held_back: list[mqtt.Packet] = []
        self._down_qos: int | None = None
        self._next_id = 0
        self._idle_s = CONNECT_WITHIN_S
        self._last_heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(UNSENT_MOST_BYTES)
        self._listener.open.add(self)
        self._listener.counters["connections"] += 1
        self._timer = self._loop.call_later(CONNECT_WITHIN_S, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self._listener.open.discard(self)
        if self._listener.sessions.get(self.dev) is self:
            del self._listener.sessions[self.dev]
        self.settled.set()
        self._release()

    def pause_writing(self) -> None:
        """The client does not read what we answer: it is dropped rather than buffered."""
        self.close(0, "does not read its acknowledgements")

    def data_received(self, data: bytes) -> None:
        if self._listener.draining or self._transport is None:
            return
        if self._version and self.dev:
            self._last_heard = self._loop.time()
        try:
            for packet in self._parser.feed(data):
                if self._transport is None or self._transport.is_closing():
                    return
                if self._connecting is not None:
                    self._hold_back(packet)
                else:
                    self._handle(packet)
        except mqtt.MqttError as exc:
            self._refuse(exc)

    # Incoming packets

    def _hold_back(self, packet: mqtt.Packet) -> None:
        """A client may send on before its CONNACK (MQTT 5, 3.1.4); little of that is kept."""
        self._held_back.append(packet)
        if len(self._held_back) > PENDING_MOST:
            raise mqtt.MqttError("too much before CONNACK", mqtt.PROTOCOL_ERROR)

    def _handle(self, packet: mqtt.Packet) -> None:
        match packet:
            case mqtt.Publish():
                self._publish(packet)
            case mqtt.Connect():
                self._version = packet.version
                self._connecting = self._loop.create_task(self._connect(packet))
            case mqtt.Ping():
                self._write(mqtt.PINGRESP_BYTES)
            case mqtt.Subscribe():
                self._write(mqtt.suback(self._version, packet.packet_id, [self._grant(*f) for f in packet.filters]))
            case mqtt.Unsubscribe():
                if f"brim/bin/{self.dev}/down" in packet.filters:
                    self._down_qos = None
                self._write(mqtt.unsuback(self._version, packet.packet_id, len(packet.filters)))
            case mqtt.Disconnect():
                self.close(0, "")
            case _:
                # The client's PUBACK of a command: commands are repeated by meaning, so nothing waits for it.
                pass

    def _publish(self, packet: mqtt.Publish) -> None:
        if packet.topic != f"brim/bin/{self.dev}/up":
            self._listener.counters["topic"] += 1
            raise mqtt.MqttError("publish to a topic that is not this bin's own", mqtt.NOT_AUTHORIZED)
        if packet.retain and self._version == 5:
            raise mqtt.MqttError("retain was not offered", 0x9A)
        stored = self._listener.deliver(Arrival(self.dev, packet.payload, packet.qos))
        future = asyncio.ensure_future(stored)
        self._pending.append((packet.packet_id, future))
        self.settled.clear()
        future.add_done_callback(self._committed)
        if len(self._pending) >= PENDING_MOST and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _committed(self, _: asyncio.Future[object]) -> None:
        """Acknowledge every leading publish that is on disk; order is that of the publishes (4.6)."""
        while self._pending and self._pending[0][1].done():
            packet_id, future = self._pending.popleft()
            if future.cancelled() or future.exception() is not None:
                self._listener.counters["not_stored"] += 1
                self._listener.rate_log.note("not stored", f"{self.dev}: {future.exception()}")
                self.close(mqtt.SERVER_UNAVAILABLE, "the store refuses")
                return
            if packet_id:
                self._listener.counters["acknowledged"] += 1
                self._write(mqtt.puback(self._version, packet_id))
        if not self._pending:
            self.settled.set()
        if self._paused and len(self._pending) < PENDING_MOST // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    async def _connect(self, connect: mqtt.Connect) -> None:
        reason = 0
        dev = None
        if connect.auth_method:
            reason = 0x8C
        elif connect.version == 4 and not connect.client_id and not connect.clean:
            reason = 0x85
        else:
            try:
                dev = await self._listener.authenticate(self._common_name(), connect)
            except RuntimeError:  # the hashing threads are gone: the gateway stops
                self.close(0, "gateway stops")
                return
            reason = 0 if dev is not None else mqtt.BAD_CREDENTIALS
        if self._transport is None:
            return
        if dev is None:
            self._listener.counters["refused"] += 1
            self._listener.rate_log.note("connect refused", f"{self.peer}: user {connect.user!r}")
            self._write(mqtt.connack(connect.version, reason))
            self._flush()
            self._transport.close()
            return
        earlier = self._listener.sessions.get(dev)
        if earlier is not None:
            earlier.close(mqtt.TAKEN_OVER, "the same bin has connected again")
        self._welcome(dev, connect)

    def _welcome(self, dev: str, connect: mqtt.Connect) -> None:
        self.dev = dev
        self._listener.sessions[dev] = self
        self._idle_s = connect.keep_alive_s * 1.5 if connect.keep_alive_s else DEFAULT_IDLE_S
        self._last_heard = self._loop.time()
        self._tick()
        assigned = "" if connect.client_id else "brim-" + secrets.token_hex(6)
        self._write(mqtt.connack(connect.version, 0, receive_maximum=PENDING_MOST, assigned_id=assigned))
        self._connecting = None
        held_back, self._held_back = self._held_back, []
        try:
            for packet in held_back:
                self._handle(packet)
        except mqtt.MqttError as exc:
            self._refuse(exc)

    def _common_name(self) -> str | None:
        """CN of the client certificate that TLS has verified."""
        certificate = self._transport.get_extra_info("peercert") if self._transport else None
        if not certificate:
            return None
        for part in certificate.get("subject", ()):
            for name, value in part:
                if name == "commonName":
                    return str(value)
        return None

    def _grant(self, topic: str, qos: int) -> int:
        if topic != f"brim/bin/{self.dev}/down":
            self._listener.counters["topic"] += 1
            self._listener.rate_log.note("subscription refused", f"{self.dev}: {topic!r}")
            return mqtt.NOT_AUTHORIZED
        self._down_qos = min(qos, 1)
        return self._down_qos

    # Outgoing

    def send_down(self, payload: bytes) -> bool:
        """A command to this bin; False when it has not subscribed or is going."""
        if self._down_qos is None or self._transport is None or self._transport.is_closing():
            return False
        self._next_id = self._next_id % 0xFFFF + 1
        topic = f"brim/bin/{self.dev}/down"
        self._write(mqtt.publish(self._version, topic, payload, self._down_qos, self._next_id))
        return True

    def close(self, reason: int, why: str) -> None:
        """Say why (MQTT 5) and go. What was published and not yet acknowledged stays unacknowledged."""
        if self._transport is None or self._transport.is_closing():
            return
        if why:
            self._listener.rate_log.note("connection closed", f"{self.dev or self.peer}: {why}")
        if reason and self._version == 5 and self.dev:
            self._write(mqtt.disconnect(reason))
        self._flush()
        self._transport.close()

    def _refuse(self, fault: mqtt.MqttError) -> None:
        self._listener.counters["protocol"] += 1
        if fault.code == mqtt.BAD_VERSION and not self.dev:
            self._write(mqtt.connack(4, mqtt.BAD_VERSION))
        self.close(fault.code, str(fault))

    def _write(self, data: bytes) -> None:
        """Gathered until the loop's next turn: one system call answers a whole commit."""
        self._out += data
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(bytes(self._out))
        self._out.clear()

    def _tick(self) -> None:
        """CONNECT in time, and afterwards a packet within one and a half keep-alives (3.1.2.10)."""
        if self._timer is not None:
            self._timer.cancel()
        left = self._last_heard + self._idle_s - self._loop.time()
        if left <= 0:
            if self._transport is not None:
                self._listener.counters["silent"] += 1
                self.close(mqtt.KEEP_ALIVE_TIMEOUT, "silent for too long")
                self._loop.call_later(1.0, self.abort)
            return
        self._timer = self._loop.call_later(left, self._tick)

    @property
    def unproven_since(self) -> float | None:
        """Loop time since when it has not shown who it is; None once it has."""
        return None if self.dev else self._last_heard

    def abort(self) -> None:
        """Go without a word and without waiting for the other side."""
        if self._transport is not None:
            self._transport.abort()
