"""Wi-Fi, TLS and as much of MQTT 3.1.1 as a bin needs: CONNECT, SUBSCRIBE, PUBLISH with QoS 1, PUBACK.

Every wait but the name's look-up, which lwIP ends by itself, is bounded by the deadline: MicroPython's TLS sockets
forget a timeout, so they are non-blocking and polled.
The gateway's certificate is checked against the pinned CA and its name; its PUBACK means that it holds the readings.
"""

import select
import socket
import ssl

from brim.core.ticks import ticks_add, ticks_left
from brim.links import Exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from brim.core.hal import Clock

    class WifiIdentity(Protocol):
        """Either mqtt_pass, or cert and key (DER)."""

        dev_eui: bytes
        ssid: str
        wifi_key: str
        mqtt_host: str
        mqtt_port: int
        tls_name: str
        mqtt_pass: "bytes | None"
        ca: bytes
        cert: "bytes | None"
        key: "bytes | None"


WIFI_MS = 10000
WIFI_STEP_MS = 100
TCP_S = 5
TLS_MS = 8000
PUBACK_MS = 4000
KEEPALIVE_S = 60
MAX_PACKET_BYTES = 1024
READ_BYTES = 256

# MQTT 3.1.1, 2.2.1: packet type in the high nibble
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90, 0xE0
QOS1 = 0x02
FLAG_CLEAN, FLAG_PASSWORD, FLAG_USER = 0x02, 0x40, 0x80


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _packet(kind: int, body: bytes) -> bytes:
    size = len(body)
    head = bytes((kind,))
    while size > 127:
        head += bytes((size & 127 | 128,))
        size >>= 7
    return head + bytes((size,)) + body


def split_packet(buffer: bytes) -> "tuple[int, bytes, bytes] | None":
    """(first byte, body, rest) of the first whole packet, None while it is not whole; OSError if it is too long."""
    size = 0
    for i in range(1, min(5, len(buffer))):
        size |= (buffer[i] & 127) << 7 * (i - 1)
        if size > MAX_PACKET_BYTES:
            break
        if not buffer[i] & 128:
            end = i + 1 + size
            return (buffer[0], buffer[i + 1 : end], buffer[end:]) if len(buffer) >= end else None
    else:
        if len(buffer) < 5:
            return None
    raise OSError("packet")


def connect_packet(client: bytes, password: "bytes | None") -> bytes:
    """MQTT 3.1.1, 3.1: user name and client id are the bin's EUI; a clean session."""
    flags = FLAG_CLEAN | FLAG_USER | (0 if password is None else FLAG_PASSWORD)
    body = _field(b"MQTT") + bytes((4, flags)) + KEEPALIVE_S.to_bytes(2, "big") + _field(client) + _field(client)
    return _packet(CONNECT, body if password is None else body + _field(password))


class WifiLink:
    """See brim.links. `wlan` is the board's station interface."""

    ACKNOWLEDGES = True

    def __init__(self, wlan: "Any", identity: "WifiIdentity", clock: "Clock") -> None:
        self._wlan = wlan
        self._id = identity
        self._clock = clock
        self._client = "".join([f"{byte:02x}" for byte in identity.dev_eui]).encode()
        self._tcp: "Any" = None
        self._tls: "Any" = None
        self._poll: "Any" = None
        self._buffer = b""
        self._packet_id = 1
        self._commands: "list[bytes]" = []

    def open(self, deadline_ms: int) -> "str | None":
        """Wi-Fi, TLS and MQTT; None, or the name of what failed: wifi, dns, tcp, tls, mqtt, refused."""
        step = "wifi"
        try:
            if not self._join(self._within(deadline_ms, WIFI_MS)):
                return step
            step = "dns"
            address = socket.getaddrinfo(self._id.mqtt_host, self._id.mqtt_port, 0, socket.SOCK_STREAM)[0][-1]
            step = "tcp"
            self._tcp = socket.socket()
            self._tcp.settimeout(min(TCP_S, ticks_left(deadline_ms, self._clock.ticks_ms()) // 1000 + 1))
            self._tcp.connect(address)
            step = "tls"
            self._wrap()
            until_ms = self._within(deadline_ms, TLS_MS)
            self._write(connect_packet(self._client, self._id.mqtt_pass), until_ms)
            step = "mqtt"
            kind, body = self._read_packet(until_ms)
            if kind != CONNACK or len(body) != 2:
                return step
            if body[1]:
                return "refused"
            topic = _field(b"brim/bin/" + self._client + b"/down")
            self._write(_packet(SUBSCRIBE, b"\x00\x01" + topic + b"\x01"), until_ms)
        except (OSError, ValueError):
            return step
        return None

    def exchange(self, payload: bytes, deadline_ms: int) -> Exchange:
        """Publish and wait for its PUBACK. Fault: "mqtt" for a broken connection, "puback" for none in time."""
        self._packet_id = self._packet_id % 0xFFFF + 1
        packet_id = self._packet_id.to_bytes(2, "big")
        until_ms = self._within(deadline_ms, PUBACK_MS)
        sent = held = False
        fault = None
        try:
            topic = _field(b"brim/bin/" + self._client + b"/up")
            self._write(_packet(PUBLISH | QOS1, topic + packet_id + payload), until_ms)
            sent = True
            while not held:
                kind, body = self._read_packet(until_ms)
                if kind == PUBACK and body == packet_id:
                    held = True
                elif kind & 0xF0 == PUBLISH:
                    self._take_command(kind, body, until_ms)
        except (OSError, ValueError) as error:
            fault = "puback" if error.args and error.args[0] == "late" else "mqtt"
        commands, self._commands = self._commands, []
        return Exchange(sent, held, commands, fault)

    def state(self) -> bytes:
        return b""

    def close(self) -> None:
        try:
            if self._tls is not None:
                self._tls.write(bytes((DISCONNECT, 0)))
        except (OSError, ValueError):
            pass
        for end in (self._tls, self._tcp):
            try:
                if end is not None:
                    end.close()
            except OSError:
                pass
        self._tls = self._tcp = None
        try:
            self._wlan.disconnect()
            self._wlan.active(False)
        except OSError:
            pass

    def _within(self, deadline_ms: int, limit_ms: int) -> int:
        """The earlier of the deadline and limit_ms from now, on the clock's ticks."""
        now = self._clock.ticks_ms()
        return ticks_add(now, max(0, min(limit_ms, ticks_left(deadline_ms, now))))

    def _left_ms(self, until_ms: int) -> int:
        """Milliseconds left; OSError("late") when there are none."""
        left = ticks_left(until_ms, self._clock.ticks_ms())
        if left <= 0:
            raise OSError("late")
        return left

    def _wait(self, until_ms: int) -> None:
        """Until the connection can go on; OSError("late") when it cannot in time."""
        if not self._poll.poll(self._left_ms(until_ms)):
            raise OSError("late")

    def _join(self, until_ms: int) -> bool:
        # Off and on again: a station that lost its network may refuse a second connect (micropython 17661).
        self._wlan.active(False)
        self._wlan.active(True)
        self._wlan.connect(self._id.ssid, self._id.wifi_key)
        while not self._wlan.isconnected():
            if ticks_left(until_ms, self._clock.ticks_ms()) <= 0:
                return False
            self._clock.sleep_ms(WIFI_STEP_MS)
        return True

    def _wrap(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_mode = ssl.CERT_REQUIRED  # type: ignore[attr-defined]
        # By keyword: the first positional argument is a file name.
        context.load_verify_locations(cadata=self._id.ca)
        if self._id.cert and self._id.key:
            context.load_cert_chain(self._id.cert, self._id.key)
        self._tcp.setblocking(False)
        # The handshake runs inside the first writes, which are bounded.
        self._tls = context.wrap_socket(self._tcp, server_hostname=self._id.tls_name, do_handshake_on_connect=False)
        self._poll = select.poll()
        self._poll.register(self._tls, select.POLLIN)

    def _write(self, data: bytes, until_ms: int) -> None:
        while data:
            done = self._tls.write(data)
            if done:
                data = data[done:]
            else:
                self._poll.modify(self._tls, select.POLLOUT)
                self._wait(until_ms)
        self._poll.modify(self._tls, select.POLLIN)

    def _read_packet(self, until_ms: int) -> "tuple[int, bytes]":
        """(first byte, body); OSError("late") in time, any other OSError for a broken connection."""
        while True:
            found = split_packet(self._buffer)
            if found:
                self._buffer = found[2]
                return found[0], found[1]
            data = self._tls.read(READ_BYTES)
            if data:
                self._buffer += data
            elif data is not None:
                raise OSError("closed")
            else:
                self._wait(until_ms)
            self._left_ms(until_ms)

    def _take_command(self, kind: int, body: bytes, until_ms: int) -> None:
        """A PUBLISH to this bin: keep its payload, acknowledge it if it wants that."""
        at = 2 + int.from_bytes(body[:2], "big")
        if kind & 0x06:
            self._write(_packet(PUBACK, body[at : at + 2]), until_ms)
            at += 2
        self._commands.append(body[at:])
