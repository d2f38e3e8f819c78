"""The MQTT output against real brokers that come, go, and speak another version."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import iotcore
import paho.mqtt.client as paho
import pytest
from brim_gateway.pki import make_site

from tests.gateway.support import (
    PLAIN_LISTENER,
    Broker,
    City,
    RunningGateway,
    WifiBin,
    free_port,
    make_config,
    mosquitto,
    output,
    packets,
    reading,
    wait_until,
)


def test_a_reading_goes_from_a_wifi_bin_to_the_citys_broker(tmp_path: Path) -> None:
    with (
        mosquitto(tmp_path) as broker,
        City(broker.port) as city,
        RunningGateway(make_config(tmp_path, PLAIN_LISTENER + output(broker.port))) as gateway,
    ):
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            bin_.publish_and_wait(reading(1, 900))
            bin_.publish_and_wait(reading(2, 100, events=["full"]))
        wait_until(lambda: len(city.of("/reading")) == 2 and city.of("/event/full"), "two readings and the event")
        message = city.of("/reading")[0]
        assert message.topic == "brim/v1/cab-1/B-1/reading" and message.qos == 1 and not message.retain
        assert ("uid", f"{dev}:1:1") in message.properties.UserProperty
        assert 1_209_500 < message.properties.MessageExpiryInterval <= 1_209_600
        assert json.loads(city.of("gateway/status")[0].payload) == {"status": "online"}
        gateway.wait_drained()
        with City(broker.port) as newcomer:
            wait_until(lambda: len(newcomer.messages) == 2, "the retained state and status")
            state = json.loads(newcomer.of("/state")[0].payload)
            assert (state["fill_pct"], state["state"]) == (100, "full") and newcomer.of("/state")[0].retain
    assert json.loads(city.of("gateway/status")[-1].payload) == {"status": "offline"}


def test_a_broker_that_goes_and_comes_back_gets_every_reading_in_order(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    text = PLAIN_LISTENER + output(broker.port, 'from = "oldest"\n')
    broker.start()
    try:
        with RunningGateway(make_config(tmp_path, text)) as gateway:
            dev, password = gateway.add_wifi("B-1")
            with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
                with City(broker.port) as city:
                    bin_.publish_and_wait(reading(1))
                    wait_until(lambda: city.uids(), "the first")
                broker.stop()
                for seq in range(2, 302):
                    bin_.publish(reading(seq))
                wait_until(lambda: len(bin_.acknowledged) == 301, "acknowledged while the city is away")
                assert gateway.ask("status")["outputs"][0]["waiting"] >= 300
                broker.start()
                with City(broker.port) as city:
                    gateway.wait_drained()
                    # What was handed over before this subscriber came is not lost, only not seen by it.
                    seqs = [int(uid.rpartition(":")[2]) for uid in city.uids()]
                    assert seqs == sorted(seqs)
            assert gateway.ask("status")["outputs"][0]["acknowledged"] == 301
    finally:
        broker.stop()


def test_a_restart_goes_on_where_the_cursor_stands(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker, City(broker.port) as city:
        config = make_config(tmp_path, PLAIN_LISTENER + output(broker.port))
        for seq in (1, 2):
            with RunningGateway(config) as gateway:
                dev, password = gateway.add_wifi(f"B-{seq}")
                with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
                    bin_.publish_and_wait(reading(seq))
                city.wait_uids(seq)
                gateway.wait_drained()
        assert [uid.rpartition(":")[2] for uid in city.uids()] == ["1", "2"]


def test_a_broker_of_mqtt_3_only_is_spoken_to_in_3_1_1(tmp_path: Path) -> None:
    """rumqttd, the embedded broker from PyPI: it takes MQTT 5 only on listeners made for it."""
    with (
        iotcore.Broker(port=free_port(), listen="127.0.0.1") as broker,
        City(broker.port, paho.MQTTv311) as city,
        RunningGateway(make_config(tmp_path, PLAIN_LISTENER + output(broker.port))) as gateway,
    ):
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            for seq in range(1, 51):
                bin_.publish(reading(seq))
            wait_until(lambda: len(city.uids()) == 50, "fifty readings")
        assert city.uids() == [f"{dev}:1:{seq}" for seq in range(1, 51)]
        assert gateway.ask("status")["outputs"][0]["protocol"] == "3.1.1"


class HalfDeadBroker:
    """Accepts, answers CONNECT as told, acknowledges as told. ``versions`` are the CONNECT versions it saw."""

    def __init__(self, answers: list[str]) -> None:
        self.versions: list[int] = []
        self.published = 0
        self._answers = answers
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._open: list[socket.socket] = []

    def __enter__(self) -> HalfDeadBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._open:
            one.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.append(connection)
            connect = connection.recv(4096)
            version = connect[connect.index(b"MQTT") + 4]
            self.versions.append(version)
            answer = self._answers[min(len(self.versions), len(self._answers)) - 1]
            if answer == "hang up":
                connection.close()
            elif answer == "version":
                connection.sendall(b"\x20\x02\x00\x01")
                connection.close()
            elif answer == "password":
                connection.sendall(b"\x20\x03\x00\x87\x00" if version == 5 else b"\x20\x02\x00\x05")
                connection.close()
            else:
                connection.sendall(b"\x20\x03\x00\x00\x00" if version == 5 else b"\x20\x02\x00\x00")
                if answer == "welcome and go":
                    connection.recv(4096)
                    connection.close()


def test_what_a_broker_takes_at_once_is_never_exceeded(tmp_path: Path) -> None:
    """A reading with its event and state is three messages; this broker's Receive Maximum is two (MQTT 5, 4.9)."""
    most = 0
    seen: list[bytes] = []

    def serve(server: socket.socket) -> None:
        nonlocal most
        connection, _ = server.accept()
        held: list[bytes] = []
        with connection:
            for packet in packets(connection):
                if packet[:1] == b"\x10":
                    connection.sendall(b"\x20\x06\x00\x00\x03\x21\x00\x02")
                elif packet and packet[0] >> 4 == 3:
                    at = 3 if packet[1] & 0x80 else 2
                    topic = int.from_bytes(packet[at : at + 2], "big")
                    held.append(packet[at + 2 + topic : at + 4 + topic])
                    seen.append(packet[at + 2 : at + 2 + topic])
                    most = max(most, len(held))
                elif not packet and held:
                    connection.sendall(b"".join(b"\x40\x02" + mid for mid in held))
                    held.clear()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        text = PLAIN_LISTENER + output(server.getsockname()[1], 'protocol = "5"\n')
        with RunningGateway(make_config(tmp_path, text)) as gateway:
            dev, password = gateway.add_wifi("B-1")
            with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
                bin_.publish_and_wait(reading(1, events=["full", "tilted"]))
                bin_.publish_and_wait(reading(2))
            gateway.wait_drained()
        thread.join(5)
    assert most == 2
    assert len([topic for topic in seen if topic.endswith((b"/reading", b"/full", b"/tilted"))]) == 4


@pytest.mark.parametrize("refusal", ["version", "hang up"])
def test_both_kinds_of_refusing_mqtt_5_lead_to_3_1_1(tmp_path: Path, refusal: str) -> None:
    with (
        HalfDeadBroker([refusal, "welcome"]) as broker,
        RunningGateway(make_config(tmp_path, output(broker.port))) as gateway,
    ):
        wait_until(lambda: gateway.ask("status")["outputs"][0]["connected"], "connected")
        assert broker.versions == [5, 4]
        assert gateway.ask("status")["outputs"][0]["protocol"] == "3.1.1"


def test_a_broker_that_is_going_down_does_not_talk_us_out_of_mqtt_5(tmp_path: Path) -> None:
    with (
        HalfDeadBroker(["welcome and go", "hang up", "hang up", "welcome"]) as broker,
        RunningGateway(make_config(tmp_path, output(broker.port))) as gateway,
    ):
        wait_until(lambda: len(broker.versions) == 4 and gateway.output()["connected"], "connected again")
        assert broker.versions == [5, 5, 5, 5]


def test_a_broker_that_never_acknowledges_moves_no_cursor_and_holds_back_nobody(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as good, HalfDeadBroker(["welcome"]) as dead:
        two = output(good.port) + output(dead.port).replace('"city"', '"dead"')
        with RunningGateway(make_config(tmp_path, PLAIN_LISTENER + two)) as gateway, City(good.port) as city:
            dev, password = gateway.add_wifi("B-1")
            with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
                bin_.publish_and_wait(reading(1))
            wait_until(lambda: city.uids(), "the good one has it")

            def waiting() -> dict[str, Any]:
                return {one["name"]: one["waiting"] for one in gateway.ask("status")["outputs"]}

            wait_until(lambda: waiting() == {"city": 0, "dead": 1}, "one waits, one does not")


def test_a_refused_password_is_said_and_not_hammered(tmp_path: Path) -> None:
    with (
        HalfDeadBroker(["password"]) as broker,
        RunningGateway(make_config(tmp_path, output(broker.port))) as gateway,
    ):
        status = verdict(gateway)
        assert "refused" in status["last_fault"] and not status["connected"]
        assert not threading.Event().wait(1.2) and len(broker.versions) == 1


def verdict(gateway: RunningGateway) -> dict[str, Any]:
    """The output, once it is connected or says why it is not."""

    def decided() -> dict[str, Any] | None:
        status = gateway.output()
        return status if status["connected"] or status["last_fault"] else None

    found: dict[str, Any] = wait_until(decided, "a verdict")
    return found


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_with_another_authority_is_not_trusted(tmp_path: Path) -> None:
    ours = make_site(tmp_path / "ours", "cab-1", ["localhost"])
    theirs = make_site(tmp_path / "theirs", "other", ["localhost"])
    port = free_port()
    conf = tmp_path / "tls.conf"
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n"
        f"certfile {theirs.cert}\nkeyfile {theirs.key}\ncafile {theirs.ca}\n"
    )
    broker = Broker(tmp_path)
    broker.port, broker._config = port, conf
    broker.start()
    try:
        for ca, good in ((ours.ca, False), (theirs.ca, True)):
            text = f'[[output]]\nname = "city"\nurl = "mqtts://localhost:{port}"\nca = "{ca}"\n'
            with RunningGateway(make_config(tmp_path, text)) as gateway:
                status = verdict(gateway)
                assert status["connected"] == good
                assert good or "certificate" in status["last_fault"].lower()
    finally:
        broker.stop()
