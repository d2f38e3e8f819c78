"""One connection to an MQTT broker: connect, publish, and be told of acknowledgements.

A link is used once: whatever goes wrong, it is thrown away and a new one is made, so that nothing old is resent behind
the cursor's back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from typing import Protocol, cast

from brim_gateway.config import OutputConfig
from brim_gateway.model import clean_text
from brim_gateway.mqtt import client_codec as mqtt
from brim_gateway.outputs.messages import Message

KEEP_ALIVE_S = 20
CONNECT_S = 5.0
ACK_WITHIN_S = 30.0
"""A broker that answers pings and never acknowledges is as good as gone."""
TICK_S = 2.0
UNSENT_MOST_BYTES = 256 * 1024


class LinkLost(Exception):
    """The connection is gone or was never there. ``answered``: the broker sent a CONNACK; ``wrong_version``: it does
    not speak this version of MQTT, or hung up on it; ``refused``: it does not want us; ``busy``: it wants less."""

    def __init__(
        self,
        text: str,
        *,
        answered: bool = True,
        wrong_version: bool = False,
        refused: bool = False,
        busy: bool = False,
    ) -> None:
        super().__init__(text)
        self.answered = answered
        self.wrong_version = wrong_version
        self.refused = refused
        self.busy = busy


class Owner(Protocol):
    """Who is told. ``on_ack`` comes once for each PUBACK, ``on_ready`` after a handful of them and when the broker
    reads again; both only while the link is open."""

    def on_ack(self, packet_id: int, reason: int) -> None: ...

    def on_ready(self) -> None: ...


class MqttLink(asyncio.Protocol):
    """``await open()``, then ``publish``; ``lost`` resolves with LinkLost when the connection is gone."""

    def __init__(
        self,
        config: OutputConfig,
        version: int,
        password: str | None,
        will: Message,
        client_id: str,
        owner: Owner,
    ) -> None:
        self._config = config
        self._version = version
        self._owner = owner
        self._hello = mqtt.connect(
            version,
            client_id,
            KEEP_ALIVE_S,
            user=config.user,
            password=password,
            will_topic=will.topic,
            will_payload=will.payload,
        )
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[LinkLost] = self._loop.create_future()
        self.limits = mqtt.Connack(0)
        self.in_flight: set[int] = set()
        self.writable = True
        self._answer: asyncio.Future[mqtt.Connack] = self._loop.create_future()
        self._parser = mqtt.Parser(version)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._next_id = 0
        self._keep_alive_s = KEEP_ALIVE_S
        self._wrote_at = self._heard_at = self._acked_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Connect and be welcomed, within CONNECT_S. Raises LinkLost."""
        config = self._config
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.create_connection(lambda: self, config.host, config.port, ssl=context)
        except TimeoutError:
            raise LinkLost("cannot connect: no answer", answered=False) from None
        except (OSError, ssl.SSLError, ValueError) as exc:
            raise LinkLost(f"cannot connect: {_reason(exc)}", answered=False) from None
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.wait((self._answer, self.lost), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self.drop()
            raise LinkLost("no answer to CONNECT", answered=False) from None
        if not self._answer.done():
            lost = self.lost.result()
            raise LinkLost(f"hung up before CONNACK: {lost}", answered=False, wrong_version=True)
        self._welcome(self._answer.result())

    def _welcome(self, answer: mqtt.Connack) -> None:
        if answer.reason:
            self.drop()
            wrong_version = answer.reason == mqtt.UNSUPPORTED_VERSION
            text = f"refused: {mqtt.reason_text(answer.reason)} {clean_text(answer.text)}".rstrip()
            raise LinkLost(text, wrong_version=wrong_version, refused=not wrong_version)
        if answer.maximum_qos < 1:
            self.drop()
            raise LinkLost("refused: the broker takes QoS 0 only, which acknowledges nothing", refused=True)
        self.limits = answer
        self._keep_alive_s = min(KEEP_ALIVE_S, answer.keep_alive_s or KEEP_ALIVE_S)
        self._acked_at = self._loop.time()
        self._tick()

    def fits(self, message: Message) -> bool:
        """Whether the broker takes a packet of this size."""
        most = self.limits.maximum_packet
        return most is None or len(message.payload) + len(message.topic) + 512 < most

    @property
    def room(self) -> int:
        """How many more messages may be in flight."""
        return self.limits.receive_maximum - len(self.in_flight) if self.writable else 0

    def publish(self, message: Message) -> int:
        """Queue with QoS 1 until ``flush``; the packet identifier that ``on_ack`` will name."""
        packet_id = self._next_id % 0xFFFF + 1
        while packet_id in self.in_flight:
            packet_id = packet_id % 0xFFFF + 1
        self._next_id = packet_id
        if not self.in_flight:
            self._acked_at = self._loop.time()
        self.in_flight.add(packet_id)
        packed = b""
        if self._version == 5:
            packed = mqtt.properties(message.content_type, message.expiry_s, message.properties)
        retain = message.retain and self.limits.retain
        self._out.append(mqtt.publish(message.topic, message.payload, packet_id, retain=retain, packed=packed))
        return packet_id

    def flush(self) -> None:
        """Write what was queued, with one system call."""
        if self._out and self._transport is not None:
            self._wrote_at = self._loop.time()
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def goodbye(self) -> None:
        """Say goodbye, so that the will is not sent."""
        if self._transport is not None:
            self.flush()
            self._transport.write(mqtt.DISCONNECT)
            self._transport.close()
        self._end(LinkLost("closed by us"))

    def drop(self) -> None:
        """Close without a word."""
        if self._transport is not None:
            self._transport.abort()
        self._end(LinkLost("dropped"))

    def _end(self, why: LinkLost) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.lost.done():
            self.lost.set_result(why)

    def _fail(self, why: LinkLost) -> None:
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def _tick(self) -> None:
        """Keep alive, and notice a broker that is silent."""
        now = self._loop.time()
        if self.in_flight and now - self._acked_at > ACK_WITHIN_S:
            self._fail(LinkLost(f"nothing acknowledged for {ACK_WITHIN_S:.0f} s"))
            return
        if now - self._heard_at > 1.5 * self._keep_alive_s:
            self._fail(LinkLost(f"silent for {now - self._heard_at:.0f} s"))
            return
        if now - min(self._wrote_at, self._heard_at) >= self._keep_alive_s / 2 and self._transport is not None:
            self._wrote_at = now
            self._transport.write(mqtt.PINGREQ)
        self._timer = self._loop.call_later(min(TICK_S, self._keep_alive_s / 4), self._tick)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(UNSENT_MOST_BYTES)
        self._transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        if self.lost.done():
            return
        self._heard_at = self._loop.time()
        try:
            for packet in self._parser.feed(data):
                if type(packet) is mqtt.Puback:
                    if packet.packet_id in self.in_flight:
                        self.in_flight.remove(packet.packet_id)
                        self._acked_at = self._heard_at
                        self._owner.on_ack(packet.packet_id, packet.reason)
                elif type(packet) is mqtt.Connack:
                    if self._answer.done():
                        raise mqtt.PeerError("a second CONNACK")
                    self._answer.set_result(packet)
                elif type(packet) is mqtt.Goodbye:
                    raise mqtt.PeerError(mqtt.reason_text(packet.reason))
        except mqtt.PeerError as exc:
            self._fail(LinkLost(f"closed: {exc}"))
            return
        if self._answer.done():
            self._owner.on_ready()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._owner.on_ready()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(LinkLost(f"connection lost: {exc}" if exc else "the broker closed the connection"))


def _reason(exc: Exception) -> str:
    """In the words of the system; asyncio's own repeat the address."""
    plain = isinstance(exc, OSError) and not isinstance(exc, ssl.SSLError) and (exc.errno or 0) > 0
    return os.strerror(exc.errno or 0).lower() if isinstance(exc, OSError) and plain else str(exc)


def tls_context(config: OutputConfig) -> ssl.SSLContext:
    """Verified by default, with the system's authorities or the one given. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
    if config.cert is not None and config.key is not None:
        context.load_cert_chain(config.cert, config.key)
    return context


async def connect(link: MqttLink, config: OutputConfig) -> None:
    """Open ``link`` with the certificates as they are now. Raises LinkLost."""
    context = None
    if config.tls:
        try:
            # In a thread: reading a system's authorities takes many milliseconds.
            context = await asyncio.to_thread(tls_context, config)
        except (OSError, ssl.SSLError) as exc:
            raise LinkLost(f"certificate or key cannot be used: {exc}", answered=False) from None
    try:
        await link.open(context)
    except BaseException:
        with contextlib.suppress(Exception):
            link.drop()
        raise
