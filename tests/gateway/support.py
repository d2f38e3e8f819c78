"""What the gateway's tests share: a daemon in a thread, a broker, free ports, waits that end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from brim_gateway.app import Gateway
from brim_gateway.config import Config, parse
from brim_gateway.offline import perform
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

DEADLINE_S = 10.0


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until(true: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    """Poll another process's or thread's progress; fails loudly at the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := true()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        threading.Event().wait(0.005)
    return found


def make_config(folder: Path, text: str = "") -> Config:
    """A configuration with only what ``text`` says, in ``folder``."""
    return parse(f'site = "cab-1"\ndata_dir = "data"\nlinger_ms = 2\nclock = "trusted"\n{text}', folder / "brim.toml")


PLAIN_LISTENER = '[mqtt_listener]\nlisten = "127.0.0.1:0"\nplain = true\n'
HTTP = '[http]\nlisten = "127.0.0.1:0"\n'
UDP = '[udp]\nlisten = "127.0.0.1:0"\n'


def output(port: int, more: str = "") -> str:
    """An [[output]] to a broker on loopback."""
    return f'[[output]]\nname = "city"\nurl = "mqtt://127.0.0.1:{port}"\n{more}'


class RunningGateway:
    """A daemon in a thread of its own; leaving the block stops it as SIGTERM does."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.gateway: Gateway
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._fault: BaseException | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="gateway")

    def _run(self) -> None:
        async def life() -> None:
            try:
                self.gateway = Gateway(self.config)
                await self.gateway.start()
            except BaseException as exc:  # noqa: BLE001 - handed to the test
                self._fault = exc
                return
            finally:
                self._started.set()
            await self._stop.wait()
            await self.gateway.stop()

        try:
            self.loop.run_until_complete(life())
        finally:
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    def __enter__(self) -> RunningGateway:
        self._thread.start()
        assert self._started.wait(DEADLINE_S)
        if self._fault is not None:
            self._thread.join()
            raise self._fault
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the gateway did not stop"

    def ask(self, verb: str, **args: Any) -> Any:
        return perform(self.config, verb, args)

    def port(self, name: str) -> int:
        return int(self.gateway.addresses[name].rpartition(":")[2])

    def add_wifi(self, name: str, **more: str) -> tuple[str, str]:
        """(dev, password) of a new Wi-Fi bin."""
        added = self.ask("bins.add", rows=[[name, {"bin": name, "link": "wifi", **more}]])
        return added["keys"][0]["dev"], added["keys"][0]["mqtt_password"]

    def output(self) -> dict[str, Any]:
        """The first output, as `status` tells it."""
        found: dict[str, Any] = self.ask("status")["outputs"][0]
        return found

    def wait_drained(self) -> None:
        wait_until(lambda: self.output()["waiting"] == 0, "everything handed over")

    def rows(self) -> list[dict[str, Any]]:
        """The journal's readings, in order."""
        reader = self.gateway.store.reader()
        try:
            return [json.loads(row[0]) for row in reader.execute("SELECT reading FROM journal ORDER BY id")]
        finally:
            reader.close()


def reading(seq: int, distance_mm: int = 500, epoch: int = 1, **more: Any) -> bytes:
    """A reading as any MQTT client may send it."""
    return json.dumps({"epoch": epoch, "seq": seq, "status": "ok", "distance_mm": distance_mm, **more}).encode()


class WifiBin:
    """paho as a bin."""

    def __init__(self, port: int, dev: str, password: str, version: int = paho.MQTTv311) -> None:
        self.dev = dev
        self.acknowledged: list[int] = []
        self.received: list[bytes] = []
        self.connack: Any = None
        self.gone = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=dev, protocol=MQTTProtocolVersion(version))
        self.client.username_pw_set(dev, password)
        self.client.max_inflight_messages_set(1_000)
        self.client.on_connect = self._on_connect
        self.client.on_publish = self._on_publish
        self.client.on_message = self._on_message
        self.client.on_disconnect = self._on_disconnect
        self.client.connect("127.0.0.1", port)

    def _on_connect(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self.connack = reason

    def _on_publish(self, _: Any, __: Any, mid: int, ___: Any, ____: Any) -> None:
        self.acknowledged.append(mid)

    def _on_message(self, _: Any, __: Any, message: Any) -> None:
        self.received.append(message.payload)

    def _on_disconnect(self, *_: Any) -> None:
        self.gone.set()

    def __enter__(self) -> WifiBin:
        self.client.loop_start()
        wait_until(lambda: self.connack is not None or self.gone.is_set(), "CONNACK")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, payload: bytes, topic: str | None = None, qos: int = 1) -> int:
        return self.client.publish(topic or f"brim/bin/{self.dev}/up", payload, qos=qos).mid

    def wait_acknowledged(self, count: int) -> None:
        wait_until(lambda: len(self.acknowledged) == count, f"{count} PUBACKs")

    def publish_and_wait(self, payload: bytes) -> None:
        mid = self.publish(payload)
        wait_until(lambda: mid in self.acknowledged, "PUBACK")


class Broker:
    """A real mosquitto on loopback that can be stopped and started again."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        # Its default queue of 1,000 would drop what a slow subscriber of ours has not read yet.
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n{more}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or "mosquitto"
        self._process = subprocess.Popen(
            [program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._answers, "mosquitto listens")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
            return True
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class City:
    """A subscriber at the broker: everything that arrives below brim/#."""

    def __init__(self, port: int, version: int = paho.MQTTv5) -> None:
        self.messages: list[Any] = []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion(version))
        self._client.on_connect = lambda client, *_: client.subscribe("brim/#", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _, __, message: self.messages.append(message)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> City:
        self._client.loop_start()
        assert self._ready.wait(DEADLINE_S), "no SUBACK"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def of(self, end: str) -> list[Any]:
        """Messages whose topic ends so."""
        return [message for message in list(self.messages) if message.topic.endswith(end)]

    def wait_uids(self, count: int) -> None:
        wait_until(lambda: len(self.uids()) == count, f"{count} readings at the city")

    def uids(self) -> list[str]:
        return [json.loads(message.payload)["uid"] for message in self.of("/reading")]


def packets(connection: socket.socket) -> Iterator[bytes]:
    """The MQTT packets of a client, until it goes; b"" where it says nothing for a moment."""
    buffer = b""
    connection.settimeout(0.05)
    while True:
        try:
            chunk = connection.recv(65_536)
        except TimeoutError:
            yield b""
            continue
        if not chunk:
            return
        buffer += chunk
        while len(buffer) >= 2:
            length, at = buffer[1] & 0x7F, 2
            if buffer[1] & 0x80:
                length, at = length | buffer[2] << 7, 3
            if len(buffer) < at + length:
                break
            packet, buffer = buffer[: at + length], buffer[at + length :]
            yield packet


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[Broker]:
    """A started broker, gone afterwards."""
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
