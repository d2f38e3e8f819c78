"""One connection of a Wi-Fi bin: packets in, acknowledgements out in the order of the publishes.

What one read of the socket brings is one transaction, and what one commit settles is one write. While PENDING_MOST
publishes wait for their commit, further ones are held back here, pings are answered, and in the end the socket is no
longer read: a slow or full disk costs a bin nothing but time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol, cast

from brim_gateway.mqtt import server_codec as mqtt
from brim_gateway.ratelog import RateLog

CONNECT_WITHIN_S = 10.0
PENDING_MOST = 64
"""Publishes of one bin that wait for their commit; MQTT 5 is told (Receive Maximum)."""
HELD_MOST_BYTES = 64 * 1024
"""Read beyond those, so that pings among them are still answered; then reading pauses."""
UNSENT_MOST_BYTES = 64 * 1024
DEFAULT_IDLE_S = 300.0
"""For a client that wants no keep-alive: no bin is silent so long while it is awake."""

Deliver = Callable[[str, list[bytes]], "asyncio.Future[Any]"]
"""``deliver(dev, payloads)``: resolves when all of them are on disk, however late; fails where they never will be."""


class Refused(Exception):
    """This client may not come in; ``reason`` is MQTT 5's word for why."""

    def __init__(self, reason: int, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class Host(Protocol):
    """What a session needs of its listener."""

    deliver: Deliver
    on_listening: Callable[[str], None]
    counters: Counter[str]
    rate_log: RateLog
    sessions: dict[str, Session]
    open: set[Session]
    draining: bool
    read_buffer: memoryview

    async def authenticate(self, common_name: str | None, connect: mqtt.Connect, peer: str) -> str: ...


class Session(asyncio.BufferedProtocol):
    """Made by the listener. ``proven`` is called when the client has shown who it is, ``gone`` once at the end."""

    def __init__(self, listener: Host, peer: str, proven: Callable[[], None], gone: Callable[[], None]) -> None:
        self.peer = peer
        self.dev = ""
        self.settled = asyncio.Event()
        self.settled.set()
        self._listener = listener
        self._proven = proven
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = mqtt.Parser()
        self._version = 4
        self._up = self._down = ""
        self._taken_ids: list[int] = []
        self._taken: list[bytes] = []
        self._under_way: deque[tuple[list[int], asyncio.Future[Any]]] = deque()
        self._pending = 0
        self._held_back: deque[mqtt.Packet] = deque()
        self._held_bytes = 0
        self._paused = False
        self._out = bytearray()
        self._flush_due = False
        self._connecting: asyncio.Task[None] | None = None
        self._down_qos: int | None = None
        self._next_id = 0
        self._idle_s = CONNECT_WITHIN_S
        self._last_heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(UNSENT_MOST_BYTES)
        self._listener.open.add(self)
        self._listener.counters["connections"] += 1
        self._last_heard = self._loop.time()
        self._timer = self._loop.call_later(CONNECT_WITHIN_S, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._held_back.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self._listener.open.discard(self)
        if self._listener.sessions.get(self.dev) is self:
            del self._listener.sessions[self.dev]
        self.settled.set()
        self._gone()

    def pause_writing(self) -> None:
        """The client does not read what we answer: it is dropped rather than buffered."""
        self.close(0, "does not read its acknowledgements")

    def get_buffer(self, sizehint: int) -> memoryview:
        """One for all sessions: it is emptied before the loop turns to another."""
        return self._listener.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received(bytes(self._listener.read_buffer[:nbytes]))

    # Incoming packets

    def received(self, data: bytes) -> None:
        """What one read of the socket brought."""
        if self._listener.draining or not self._is_open():
            return
        if self.dev:
            self._last_heard = self._loop.time()
        if self._held_back:
            self._held_bytes += len(data)
        try:
            for packet in self._parser.feed(data):
                self._in_turn(packet)
                if not self._is_open():
                    return
        except mqtt.MqttError as exc:
            self._refuse(exc)
        else:
            self._hand_over()
        if self._held_bytes > HELD_MOST_BYTES:
            self._pause(True)

    def _in_turn(self, packet: mqtt.Packet) -> None:
        """Handle ``packet``, or hold it back behind what waits: for CONNACK (MQTT 5, 3.1.4) or for the disk."""
        waiting = bool(self._held_back) or self._connecting is not None
        if isinstance(packet, mqtt.Publish):
            if waiting or self._pending >= PENDING_MOST:
                self._held_back.append(packet)
            else:
                self._publish(packet)
        elif isinstance(packet, mqtt.Ping) and self.dev:
            self._write(mqtt.PINGRESP_BYTES)
        elif waiting:
            self._held_back.append(packet)
        else:
            self._handle(packet)

    def _handle(self, packet: mqtt.Packet) -> None:
        match packet:
            case mqtt.Publish():
                self._publish(packet)
            case mqtt.Connect():
                self._version = packet.version
                self._connecting = self._loop.create_task(self._connect(packet))
                self._pause(True)
            case mqtt.Ping():
                self._write(mqtt.PINGRESP_BYTES)
            case mqtt.Subscribe():
                self._write(mqtt.suback(self._version, packet.packet_id, [self._grant(*f) for f in packet.filters]))
                if self.listens:
                    self._listener.on_listening(self.dev)
            case mqtt.Unsubscribe():
                if self._down in packet.filters:
                    self._down_qos = None
                self._write(mqtt.unsuback(self._version, packet.packet_id, len(packet.filters)))
            case mqtt.Disconnect():
                self._hand_over()
                self.close(0, "")
            case _:
                # The client's PUBACK of a command: commands are repeated by meaning, so nothing waits for it.
                pass

    def _publish(self, packet: mqtt.Publish) -> None:
        if packet.topic != self._up:
            self._listener.counters["topic"] += 1
            raise mqtt.MqttError("publish to a topic that is not this bin's own", mqtt.NOT_AUTHORIZED)
        if packet.retain and self._version == 5:
            raise mqtt.MqttError("retain was not offered", mqtt.RETAIN_NOT_SUPPORTED)
        self._taken_ids.append(packet.packet_id)
        self._taken.append(packet.payload)
        self._pending += 1

    def _hand_over(self) -> None:
        """What has been taken goes to the store as one transaction."""
        if not self._taken:
            return
        stored = self._listener.deliver(self.dev, self._taken)
        self._under_way.append((self._taken_ids, stored))
        self._taken, self._taken_ids = [], []
        self.settled.clear()
        if len(self._under_way) == 1:
            stored.add_done_callback(self._committed)

    def _committed(self, _: asyncio.Future[Any]) -> None:
        """Acknowledge what is on disk, in the order of the publishes (4.6). One commit settles many transactions:
        only the first under way has this callback."""
        while self._under_way and self._under_way[0][1].done():
            packet_ids, future = self._under_way.popleft()
            if future.cancelled() or future.exception() is not None:
                self._never_stored(future)
                return
            self._pending -= len(packet_ids)
            asked = [packet_id for packet_id in packet_ids if packet_id]
            self._listener.counters["acknowledged"] += len(asked)
            for packet_id in asked:
                self._out += mqtt.puback(self._version, packet_id)
        self._go_on()
        self._flush()
        if self._under_way:
            self._under_way[0][1].add_done_callback(self._committed)
        else:
            self.settled.set()

    def _never_stored(self, failed: asyncio.Future[Any]) -> None:
        """Close without an acknowledgement: the bin keeps its readings and sends them again."""
        self._listener.counters["not_stored"] += 1
        why = "cancelled" if failed.cancelled() else str(failed.exception())
        self._listener.rate_log.note("not stored", f"{self.dev}: {why}")
        for _, future in self._under_way:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._under_way.clear()
        self.close(mqtt.SERVER_UNAVAILABLE, "the store refuses")

    def _go_on(self) -> None:
        """There is room again: what was held back has its turn, then the socket."""
        try:
            while self._held_back and self._is_open():
                if self._pending >= PENDING_MOST and isinstance(self._held_back[0], mqtt.Publish):
                    break
                self._handle(self._held_back.popleft())
        except mqtt.MqttError as exc:
            self._refuse(exc)
            return
        self._hand_over()
        if not self._held_back:
            self._held_bytes = 0
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        if paused is self._paused or self._transport is None:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            # It could not be heard meanwhile, so it was not silent.
            self._last_heard = self._loop.time() if self.dev else self._last_heard
            self._transport.resume_reading()

    # Coming in

    async def _connect(self, connect: mqtt.Connect) -> None:
        try:
            if connect.auth_method:
                raise Refused(mqtt.BAD_AUTH_METHOD, "enhanced authentication")
            if connect.version == 4 and not connect.client_id and not connect.clean:
                raise Refused(mqtt.BAD_CLIENT_ID, "a kept session without a client identifier")
            dev = await self._listener.authenticate(self._common_name(), connect, self.peer)
        except Refused as exc:
            self._turn_away(connect, exc)
            return
        if not self._is_open():
            return
        earlier = self._listener.sessions.get(dev)
        if earlier is not None:
            earlier.close(mqtt.TAKEN_OVER, "the same bin has connected again")
        self._welcome(dev, connect)

    def _turn_away(self, connect: mqtt.Connect, refusal: Refused) -> None:
        if not self._is_open() or self._transport is None:
            return
        self._listener.counters["refused"] += 1
        self._listener.rate_log.note("connect refused", f"{self.peer}: user {connect.user!r}: {refusal}")
        self._write(mqtt.connack(connect.version, refusal.reason))
        self._flush()
        self._transport.close()

    def _welcome(self, dev: str, connect: mqtt.Connect) -> None:
        self.dev = dev
        self._up, self._down = f"brim/bin/{dev}/up", f"brim/bin/{dev}/down"
        self._listener.sessions[dev] = self
        self._connecting = None
        self._idle_s = connect.keep_alive_s * 1.5 if connect.keep_alive_s else DEFAULT_IDLE_S
        self._last_heard = self._loop.time()
        self._tick()
        assigned = "" if connect.client_id else "brim-" + secrets.token_hex(6)
        self._write(mqtt.connack(connect.version, 0, receive_maximum=PENDING_MOST, assigned_id=assigned))
        self._proven()
        self._go_on()

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
        if topic != self._down:
            self._listener.counters["topic"] += 1
            self._listener.rate_log.note("subscription refused", f"{self.dev}: {topic!r}")
            return mqtt.NOT_AUTHORIZED
        self._down_qos = min(qos, 1)
        return self._down_qos

    # Outgoing

    def send_down(self, payload: bytes) -> bool:
        """A command to this bin; False when it has not subscribed or is going."""
        if self._down_qos is None or not self._is_open():
            return False
        self._next_id = self._next_id % 0xFFFF + 1
        self._write(mqtt.publish(self._version, self._down, payload, self._down_qos, self._next_id))
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

    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _refuse(self, fault: mqtt.MqttError) -> None:
        """End a client that broke the protocol; what it published before that is taken."""
        self._hand_over()
        self._listener.counters["protocol"] += 1
        if fault.code == mqtt.BAD_VERSION and not self.dev:
            self._write(mqtt.connack(4, mqtt.BAD_VERSION))
        self.close(fault.code, str(fault))

    def _write(self, data: bytes) -> None:
        """Gathered until the loop's next turn."""
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
        if self.dev and self._paused:
            self._last_heard = self._loop.time()
        left = self._last_heard + self._idle_s - self._loop.time()
        if left <= 0:
            if self._transport is not None:
                self._listener.counters["silent"] += 1
                self.close(mqtt.KEEP_ALIVE_TIMEOUT, "silent for too long")
                self._loop.call_later(1.0, self.abort)
            return
        self._timer = self._loop.call_later(left, self._tick)

    @property
    def silent_since(self) -> float | None:
        """Loop time since when it has not said who it is; None once it has."""
        return None if self.dev or self._connecting is not None else self._last_heard

    @property
    def listens(self) -> bool:
        """It has subscribed to its commands."""
        return self._down_qos is not None

    @property
    def is_paused(self) -> bool:
        """Its socket is not read: it waits for the disk, or for its password to be checked."""
        return self._paused

    def abort(self) -> None:
        """Go without a word and without waiting for the other side."""
        if self._transport is not None:
            self._transport.abort()
