"""The MQTT sides: the listener's parser, its sessions, the listener itself, and our own client's parser."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from typing import Any

from brim_gateway.fleet.strangers import Strangers
from brim_gateway.ingest.mqtt_listener import Credentials, MqttListener
from brim_gateway.ingest.mqtt_session import Deliver, Session
from brim_gateway.ingest.passwords import hash_password
from brim_gateway.mqtt import client_codec, server_codec
from brim_gateway.ratelog import RateLog

from tests.faults.fuzz_common import GOOD, QUIET, SERVED_WITHIN_S
from tests.faults.fuzz_inputs import Mutator

DEV, GOOD_DEV = "02000000000000aa", "02000000000000bb"


def _connect(version: int, dev: str = DEV, password: bytes = b"pw") -> bytes:
    body = b"\x00\x04MQTT" + bytes((version, 0xC2, 0, 60)) + (b"\x00" if version == 5 else b"")
    for part in (b"d", dev.encode(), password):
        body += len(part).to_bytes(2, "big") + part
    return b"\x10" + bytes((len(body),)) + body


def _streams() -> list[bytes]:
    """What clients say, CONNECT first, for both versions."""
    found = []
    up, down = f"brim/bin/{DEV}/up", f"brim/bin/{DEV}/down"
    for version in (4, 5):
        extra = b"\x00" if version == 5 else b""
        subscribe = b"\x00\x02" + extra + len(down).to_bytes(2, "big") + down.encode()
        rest = [
            server_codec.publish(version, up, GOOD, 1, 7),
            server_codec.publish(version, up, GOOD * 3, 0, 0),
            b"\x82" + bytes((len(subscribe) + 1,)) + subscribe + b"\x01",
            b"\xa2" + bytes((len(subscribe),)) + subscribe,
            b"\xc0\x00",
            b"\x40\x02\x00\x01",
        ]
        found += [_connect(version) + b"".join(rest) + b"\xe0\x00", _connect(version) + rest[0], _connect(version)]
        found += [_connect(version) + rest[0] * 5]
    # A will, and properties.
    found.append(bytes.fromhex("101d00044d5154540506003c00000364657600000161000162" + "0000"))
    return found


_MQTT_WORDS = (
    f"brim/bin/{DEV}/up".encode(), b"\x34\x05\x00\x01a\x00\x01", b"\xf0\x00", b"\x30\xff\xff\x7f", b"\xc0\x00",
    b"\x26\x00\x01k\x00\x01v", b"\x23\x00\x01", b"\x00\x04MQTT\x05", b"\x62\x02\x00\x01", b"\x32\x04\x00\x00",
)  # fmt: skip


class ListenerParser:
    """The server's packet parser, however the stream is cut."""

    name, live = "listener parser", False

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._mutator = Mutator(source, _streams(), _MQTT_WORDS)

    def make(self) -> bytes:
        return self._mutator.one()

    def feed(self, data: bytes) -> bool:
        parser = server_codec.Parser()
        cut = int(self._random.random() * (len(data) + 1))
        try:
            for part in (data[:cut], data[cut:]):
                for _ in parser.feed(part):
                    pass
        except server_codec.MqttError as exc:
            assert 0x80 <= exc.code <= 0xA2
            return False
        return True

    def close(self) -> None:
        pass


class _Wire(asyncio.Transport):
    """The far end of a session that is no socket."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        self.said = 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: Any) -> None:
        self.said += len(data)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class _Host:
    """A listener whose store takes everything at once and which knows everybody."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.counters: Counter[str] = Counter()
        self.rate_log = RateLog(QUIET)
        self.sessions: dict[str, Session] = {}
        self.open: set[Session] = set()
        self.draining = False
        self.read_buffer = memoryview(bytearray(16))
        self.deliver: Deliver = self._deliver
        self.on_listening = lambda dev: None
        self._loop = loop

    def _deliver(self, dev: str, payloads: list[bytes]) -> asyncio.Future[Any]:
        assert dev == DEV and payloads
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_result(None)
        return future

    async def authenticate(self, common_name: str | None, connect: server_codec.Connect, peer: str) -> str:
        return DEV


class ListenerSession:
    """A whole session in memory, behind a good CONNECT or without one."""

    name, live = "listener session", False

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._mutator = Mutator(source, _streams(), _MQTT_WORDS)
        self._loop = asyncio.new_event_loop()
        self._host = _Host(self._loop)

    def make(self) -> bytes:
        return self._mutator.one()

    def feed(self, data: bytes) -> bool:
        return self._loop.run_until_complete(self._feed(data))

    async def _feed(self, data: bytes) -> bool:
        gone: list[int] = []
        wire = _Wire()
        session = Session(self._host, "fuzz", lambda: None, lambda: gone.append(1))
        session.connection_made(wire)
        if self._random.random() < 0.7:
            session.received(_connect(4 + int(self._random.random() * 2)))
            await asyncio.sleep(0)
        cut = int(self._random.random() * (len(data) + 1))
        session.received(data[:cut])
        await asyncio.sleep(0)
        session.received(data[cut:])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        taken = not wire.closing
        session.connection_lost(None)
        await asyncio.sleep(0)
        assert gone == [1] and not self._host.open and not self._host.sessions
        return taken

    def close(self) -> None:
        self._loop.close()


class ListenerLive:
    """The listener on a real socket, and a good bin beside the hostile clients that must be served meanwhile."""

    name, live = "listener, live", True

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._mutator = Mutator(source, _streams(), _MQTT_WORDS, most=20_000)
        self._loop = asyncio.new_event_loop()
        self._fault: dict[str, Any] | None = None
        self._loop.set_exception_handler(lambda _, fault: setattr(self, "_fault", fault))
        self._port = self._loop.run_until_complete(self._start())
        self._good = self._loop.run_until_complete(self._come_in())
        self._fed = 0

    async def _start(self) -> int:
        sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        sock.setblocking(False)
        credentials = {dev: Credentials(hash_password(b"pw")) for dev in (DEV, GOOD_DEV)}
        self._listener = MqttListener(self._deliver, credentials.get, tls=None, strangers=Strangers(lambda: 0))
        self._listener.rate_log = RateLog(QUIET)
        self._listener.start(sock)
        return int(sock.getsockname()[1])

    def _deliver(self, _: str, __: list[bytes]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._loop.call_soon(future.set_result, None)
        return future

    async def _come_in(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(_connect(4, GOOD_DEV))
        assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
        return reader, writer

    async def _is_served(self) -> None:
        reader, writer = self._good
        writer.write(server_codec.publish(4, f"brim/bin/{GOOD_DEV}/up", GOOD, 1, 9))
        assert await asyncio.wait_for(reader.readexactly(4), SERVED_WITHIN_S) == server_codec.puback(4, 9)

    def make(self) -> bytes:
        return self._mutator.one()

    def feed(self, data: bytes) -> bool:
        return self._loop.run_until_complete(self._feed(data))

    async def _feed(self, data: bytes) -> bool:
        self._fed += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            if self._random.random() < 0.5:
                writer.write(_connect(4 + int(self._random.random() * 2)))
            writer.write(data)
            writer.write_eof()
            said = await asyncio.wait_for(reader.read(), SERVED_WITHIN_S)
        except ConnectionError:
            said = b""
        writer.close()
        if self._fed % 10 == 0:
            await self._is_served()
        assert self._fault is None, self._fault
        return said[:4] == b"\x20\x02\x00\x00"

    def close(self) -> None:
        self._loop.run_until_complete(self._is_served())
        self._good[1].close()
        self._loop.run_until_complete(self._listener.stop(0.1))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class ClientCodec:
    """What a broker answers our outputs."""

    name, live = "client codec", False

    def __init__(self, source: random.Random) -> None:
        self._random = source
        properties = b"\x21\x00\x40\x27\x00\x00\x40\x00\x24\x01\x25\x01\x1f\x00\x02no\x26\x00\x01k\x00\x01v"
        connack = b"\x00\x00" + bytes((len(properties),)) + properties
        self._mutator = Mutator(
            source,
            [
                b"\x20\x02\x00\x00" + b"\x40\x02\x00\x07" * 3 + b"\xd0\x00",
                b"\x20" + bytes((len(connack),)) + connack + b"\x40\x04\x00\x07\x87\x00\xe0\x02\x8b\x00",
                b"\x40\x03\x00\x09\x97\x40\x0b\x00\x09\x97\x07\x1f\x00\x04full",
                server_codec.suback(5, 3, [1, 0x87]) + server_codec.publish(5, "brim/x", b"payload", 1, 4),
            ],
            _MQTT_WORDS,
        )

    def make(self) -> bytes:
        return self._mutator.one()

    def feed(self, data: bytes) -> bool:
        parser = client_codec.Parser(4 + int(self._random.random() * 2))
        cut = int(self._random.random() * (len(data) + 1))
        try:
            for part in (data[:cut], data[cut:]):
                for _ in parser.feed(part):
                    pass
        except client_codec.PeerError:
            return False
        return True

    def close(self) -> None:
        pass
