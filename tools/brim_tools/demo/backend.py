"""The city's side of the demo: a real broker, a subscriber that counts, and a line to it that can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on an ordinary user's PATH


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """mosquitto where it is installed, otherwise the broker that comes from PyPI; on 127.0.0.1 only."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        program = shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), *_SBIN)))
        self._mosquitto: subprocess.Popen[bytes] | None = None
        self._embedded: Any = None
        if program is not None:
            self.name = "mosquitto"
            config = folder / "mosquitto.conf"
            config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
            self._mosquitto = subprocess.Popen(
                [program, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the demo, which ends it after the drain
            )
            try:
                _wait_for(self.port)
            except BaseException:
                self.close()
                raise
        else:
            import iotcore

            self.name = "iotcore (rumqttd)"
            self._embedded = iotcore.Broker(port=self.port, listen="127.0.0.1")
            self._embedded.start()

    def close(self) -> None:
        if self._mosquitto is not None:
            self._mosquitto.terminate()
            self._mosquitto.wait(10)
        if self._embedded is not None:
            self._embedded.stop()


def _wait_for(port: int, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the broker does not listen on port {port}")


class Line:
    """A TCP line to the broker. `cut()` breaks every connection and refuses new ones; the broker keeps running."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.restore()

    def restore(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            with self._lock:
                if listener is not self._listener:
                    near.close()
                    far.close()
                    return
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()


class City:
    """Subscribes as the city's platform would and gives every reading, event and state to `on_message`."""

    def __init__(self, port: int, on_message: Callable[[str, dict[str, Any]], None]) -> None:
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="city", clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe("brim/v1/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()

        def received(client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
            on_message(message.topic, json.loads(message.payload))

        self._client.on_message = received
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not self._ready.wait(10):
            raise RuntimeError("the city's subscription is not answered")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
