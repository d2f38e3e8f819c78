"""One connection to an MQTT broker by paho, driven by its owner's thread: connect, publish, step.

A link is used once: whatever goes wrong, it is thrown away and a new one is made, so that nothing old is resent
behind the cursor's back.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from brim_gateway.config import OutputConfig
from brim_gateway.outputs.messages import Message

KEEP_ALIVE_S = 20
CONNECT_S = 5.0
UNSUPPORTED_VERSION = 0x84


class _Packed(Properties):
    """Properties that are packed already: paho's own class takes half of the time of a publish."""

    def __init__(self, packed: bytes) -> None:
        object.__setattr__(self, "packed", packed)

    def pack(self) -> bytes:
        packed: bytes = object.__getattribute__(self, "packed")
        return packed


def pack_properties(message: Message) -> bytes:
    """The properties of a PUBLISH with their length (MQTT 5, 3.3.2.3): UTF-8 payload, content type, expiry, user's."""
    out = b"\x01\x01\x03" + _text(message.content_type)
    if message.expiry_s is not None:
        out += b"\x02" + message.expiry_s.to_bytes(4, "big")
    for name, value in message.properties:
        out += b"\x26" + _text(name) + _text(value)
    if len(out) < 0x80:
        return bytes((len(out),)) + out
    return bytes((len(out) & 0x7F | 0x80, len(out) >> 7)) + out


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


class LinkLost(Exception):
    """The connection is gone or was never there. ``answered``: the broker sent a CONNACK;
    ``wrong_version``: it does not speak this version of MQTT, or hung up on it; ``refused``: it does not want us."""

    def __init__(self, text: str, *, answered: bool = True, wrong_version: bool = False, refused: bool = False) -> None:
        super().__init__(text)
        self.answered = answered
        self.wrong_version = wrong_version
        self.refused = refused


class MqttLink:
    """Connects in the constructor (at most a few seconds). ``on_ack(mid, reason)`` is called inside ``step``."""

    def __init__(
        self,
        config: OutputConfig,
        version: int,
        password: str | None,
        will: Message,
        client_id: str,
        on_ack: Callable[[int, int], None],
    ) -> None:
        self.window = config.window
        self._version = version
        self._on_ack = on_ack
        self._connack: ReasonCode | None = None
        self._closed: str | None = None
        self._client = self._make_client(config, password, will, client_id)
        self._connect(config)

    def _make_client(self, config: OutputConfig, password: str | None, will: Message, client_id: str) -> paho.Client:
        protocol = paho.MQTTv5 if self._version == 5 else paho.MQTTv311
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol)
        client.connect_timeout = CONNECT_S
        # Our own window is the narrower one; paho must never queue beside it.
        client.max_inflight_messages_set(config.window + 8)
        if config.user is not None:
            client.username_pw_set(config.user, password)
        if config.tls:
            client.tls_set_context(tls_context(config))
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    def _connect(self, config: OutputConfig) -> None:
        try:
            self._client.connect(config.host, config.port, keepalive=KEEP_ALIVE_S)
        except (OSError, ssl.SSLError, ValueError) as exc:
            self.drop()
            raise LinkLost(f"cannot connect: {exc}", answered=False) from None
        deadline = time.monotonic() + CONNECT_S
        while (code := self._answer()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self.drop()
                raise LinkLost("no answer to CONNECT", answered=False)
            try:
                self.step(left, None)
            except LinkLost as exc:
                code = self._answer()
                if code is None:
                    raise LinkLost(f"hung up before CONNACK: {exc}", answered=False, wrong_version=True) from None
                break
        if code.value != 0:
            self.drop()
            wrong_version = code.value == UNSUPPORTED_VERSION
            raise LinkLost(f"refused: {code}", wrong_version=wrong_version, refused=not wrong_version)

    def _answer(self) -> ReasonCode | None:
        return self._connack

    def publish(self, message: Message) -> int:
        """Send with QoS 1; returns the packet identifier that ``on_ack`` will name."""
        properties: Properties | None = None
        if self._version == 5:
            properties = _Packed(pack_properties(message))
        info = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lost(paho.error_string(info.rc))
        return info.mid

    def step(self, timeout_s: float, wake: socket.socket | None) -> None:
        """Wait for the broker or for ``wake``, at most ``timeout_s``; handle what came. Raises LinkLost."""
        connection = self._client.socket()
        if connection is None:
            self._lost("connection closed")
            return
        pending = getattr(connection, "pending", None)
        waiting = select.poll()
        waiting.register(connection, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        if wake is not None:
            waiting.register(wake, select.POLLIN)
        buffered = bool(pending and pending())
        ready = dict(waiting.poll(0 if buffered else timeout_s * 1000))
        mask = ready.get(connection.fileno(), 0)
        codes = []
        if buffered or mask & (select.POLLIN | select.POLLHUP | select.POLLERR):
            codes.append(self._client.loop_read())
        if mask & select.POLLOUT:
            codes.append(self._client.loop_write())
        codes.append(self._client.loop_misc())
        for code in codes:
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._lost(paho.error_string(code))
        if self._closed is not None:
            self._lost(self._closed)

    def disconnect(self) -> None:
        """Say goodbye, so that the will is not sent."""
        self._client.disconnect()
        self.drop()

    def drop(self) -> None:
        """Close without a word."""
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _lost(self, text: str) -> None:
        self.drop()
        raise LinkLost(self._closed or text)

    def _on_connect(self, _: paho.Client, __: Any, ___: Any, reason: ReasonCode, properties: Properties | None) -> None:
        self._connack = reason
        most = getattr(properties, "ReceiveMaximum", None)
        if isinstance(most, int):
            self.window = max(1, min(self.window, most))

    def _on_publish(self, _: paho.Client, __: Any, mid: int, reason: ReasonCode, ___: Properties | None) -> None:
        self._on_ack(mid, reason.value)

    def _on_disconnect(self, _: paho.Client, __: Any, ___: Any, reason: ReasonCode, ____: Properties | None) -> None:
        self._closed = f"closed: {reason}"


def tls_context(config: OutputConfig) -> ssl.SSLContext:
    """Verified by default, with the system's authorities or the one given."""
    context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
    if config.cert is not None and config.key is not None:
        context.load_cert_chain(config.cert, config.key)
    return context
