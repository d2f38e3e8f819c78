"""The demo's backend where no mosquitto is installed, and its line that can be cut."""

from __future__ import annotations

import queue
import socket
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from brim_tools.demo import backend
from paho.mqtt.enums import CallbackAPIVersion


def test_without_mosquitto_the_broker_from_pypi_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(backend, "_SBIN", ())
    broker = backend.Broker(tmp_path)
    try:
        assert broker.name.startswith("iotcore")
        got: queue.Queue[tuple[str, dict[str, object]]] = queue.Queue()
        city = backend.City(broker.port, lambda topic, payload: got.put((topic, payload)))
        sender = mqtt.Client(CallbackAPIVersion.VERSION2)
        sender.connect("127.0.0.1", broker.port)
        sender.loop_start()
        sender.publish("brim/v1/site/bin/reading", '{"uid": "a:1:1"}', qos=1).wait_for_publish(5)
        assert got.get(timeout=10) == ("brim/v1/site/bin/reading", {"uid": "a:1:1"})
        sender.disconnect()
        sender.loop_stop()
        city.close()
    finally:
        broker.close()


def test_a_cut_line_breaks_what_is_open_and_refuses_what_is_new() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = backend.Line(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", line.port), 5) as client:
            far, _ = server.accept()
            client.sendall(b"hello")
            assert far.recv(5) == b"hello"
            line.cut()
            assert client.recv(5) == b""
            far.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", line.port), 5)
        line.restore()
        with socket.create_connection(("127.0.0.1", line.port), 5) as client:
            far, _ = server.accept()
            far.sendall(b"again")
            assert client.recv(5) == b"again"
            far.close()
        line.close()
