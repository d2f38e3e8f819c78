"""What a backend refuses: one message is put aside with its reason, a backend that refuses everything is waited for."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brim_gateway.outputs.runner import REFUSED_IN_A_ROW

from tests.gateway.support import (
    PLAIN_LISTENER,
    Broker,
    City,
    RunningGateway,
    WifiBin,
    make_config,
    output,
    packets,
    reading,
    wait_until,
)


class StrictBroker(Broker):
    """mosquitto with an access list. On MQTT 5 it says "not authorized", on 3.1.1 it acknowledges and forgets."""

    def __init__(self, folder: Path, *rules: str) -> None:
        self._acl = folder / "acl"
        super().__init__(folder, f"acl_file {self._acl}\nuser root\n")
        # Without a limit, 2.0.11 hangs up after it has refused a message.
        self._config.write_text(self._config.read_text().replace("max_queued_messages 0\n", ""))
        self.allow(*rules)

    def allow(self, *rules: str) -> None:
        self._acl.write_text("".join(f"topic {rule}\n" for rule in rules))

    def restart(self) -> None:
        self.stop()
        self.start()


def letters(gateway: RunningGateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.ask("outputs.letters", output="city", limit=100)
    return found


def test_a_refused_message_is_put_aside_with_its_reason_and_holds_up_nobody(tmp_path: Path) -> None:
    broker = StrictBroker(
        tmp_path, "readwrite brim/v1/cab-1/GOOD/#", "readwrite brim/v1/cab-1/gateway/#", "read brim/#"
    )
    broker.start()
    try:
        text = PLAIN_LISTENER + output(broker.port, 'protocol = "5"\n')
        with RunningGateway(make_config(tmp_path, text)) as gateway, City(broker.port) as city:
            bins = {name: gateway.add_wifi(name) for name in ("GOOD", "BAD")}
            with (
                WifiBin(gateway.port("mqtt"), *bins["BAD"]) as bad,
                WifiBin(gateway.port("mqtt"), *bins["GOOD"]) as good,
            ):
                for seq in range(1, 4):
                    bad.publish_and_wait(reading(seq))
                    good.publish_and_wait(reading(seq))
            gateway.wait_drained()
            city.wait_uids(3)
            assert {uid.split(":")[0] for uid in city.uids()} == {bins["GOOD"][0]}
            wait_until(lambda: len(letters(gateway)) == 6, "three readings and three states aside")
            assert {letter["topic"] for letter in letters(gateway)} == {
                "brim/v1/cab-1/BAD/reading",
                "brim/v1/cab-1/BAD/state",
            }
            assert {letter["reason"] for letter in letters(gateway)} == {"not authorized (0x87)"}
            assert gateway.output()["dead_letters"] == 6 and gateway.output()["refused"] == 6
            assert gateway.output()["connected"], "one refusal is no reason to hang up"

            broker.allow("readwrite #")
            broker.restart()
            wait_until(lambda: gateway.output()["connected"], "connected again")
            with City(broker.port) as later:
                assert gateway.ask("outputs.retry", output="city")["tried"] == 6
                later.wait_uids(3)
                assert sorted(later.uids()) == [f"{bins['BAD'][0]}:1:{seq}" for seq in range(1, 4)]
            wait_until(lambda: not letters(gateway), "none is left")
    finally:
        broker.stop()


def test_a_backend_that_refuses_everything_is_waited_for_and_gets_everything_later(tmp_path: Path) -> None:
    broker = StrictBroker(tmp_path, "read brim/#", "readwrite brim/v1/cab-1/gateway/#")
    broker.start()
    try:
        text = PLAIN_LISTENER + output(broker.port, 'protocol = "5"\nwindow = 50\n')
        with RunningGateway(make_config(tmp_path, text)) as gateway:
            dev, password = gateway.add_wifi("B-1")
            with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
                for seq in range(1, 201):
                    bin_.publish(reading(seq))
                bin_.wait_acknowledged(200)
            status = wait_until(
                lambda: (now := gateway.output())["refused"] >= REFUSED_IN_A_ROW and not now["connected"] and now,
                "it has hung up",
            )
            assert "refuses everything: not authorized" in status["last_fault"]
            assert len(letters(gateway)) < REFUSED_IN_A_ROW
            assert status["waiting"] >= 200 - REFUSED_IN_A_ROW, "the rest waits"
            broker.allow("readwrite #")
            broker.restart()
            with City(broker.port) as city:
                gateway.wait_drained()
                gateway.ask("outputs.retry", output="city")
                wait_until(lambda: len(set(city.uids())) == 200, "all of them, put aside or held")
    finally:
        broker.stop()


def serve(
    answer: Callable[[bytes, int], bytes], hello: bytes = b"\x20\x03\x00\x00\x00", silence_s: float | None = None
) -> tuple[socket.socket, Any]:
    """A contract stub of a broker, MQTT 5: ``answer(topic, count)`` is the PUBACK's tail for the count-th publish. It
    hangs up on a client that is silent for ``silence_s``. A ping is seen as ``(b"ping", b"")``."""
    server = socket.create_server(("127.0.0.1", 0))
    seen: list[tuple[bytes, bytes]] = []

    def one(connection: socket.socket) -> None:
        heard_s = time.monotonic()
        # The gateway goes while we speak: that is its right.
        with connection, contextlib.suppress(OSError):
            for packet in packets(connection):
                if packet:
                    heard_s = time.monotonic()
                elif silence_s is not None and time.monotonic() - heard_s > silence_s:
                    return
                if packet[:1] == b"\x10":
                    connection.sendall(hello)
                elif packet[:1] == b"\xc0":
                    seen.append((b"ping", b""))
                    connection.sendall(b"\xd0\x00")
                elif packet and packet[0] >> 4 == 3:
                    at = 3 if packet[1] & 0x80 else 2
                    size = int.from_bytes(packet[at : at + 2], "big")
                    topic, rest = packet[at + 2 : at + 2 + size], packet[at + 2 + size :]
                    seen.append((topic, rest[2:]))
                    tail = rest[:2] + answer(topic, len(seen))
                    connection.sendall(bytes((0x40, len(tail))) + tail)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server, seen


def seqs(seen: list[tuple[bytes, bytes]]) -> list[int]:
    return [
        int(found[1])
        for topic, rest in seen
        if topic.endswith(b"/reading") and (found := re.search(rb'"seq":(\d+)', rest))
    ]


def test_a_full_quota_makes_the_output_slower_and_puts_nothing_aside(tmp_path: Path) -> None:
    server, seen = serve(lambda topic, count: b"\x97" if topic.endswith(b"/reading") and count < 9 else b"")
    with server:
        text = PLAIN_LISTENER + output(server.getsockname()[1], 'protocol = "5"\n')
        with RunningGateway(make_config(tmp_path, text)) as gateway:
            dev, password = gateway.add_wifi("B-1")
            with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
                for seq in range(1, 4):
                    bin_.publish(reading(seq))
                bin_.wait_acknowledged(3)
            gateway.wait_drained()
            assert letters(gateway) == [] and gateway.output()["refused"] >= 1
        found = seqs(seen)
        assert set(found) == {1, 2, 3} and found[-3:] == [1, 2, 3], "in order once it takes them"
        server.shutdown(socket.SHUT_RDWR)


def test_no_more_rows_are_handed_over_than_the_window_while_nothing_is_acknowledged(tmp_path: Path) -> None:
    over = threading.Event()

    def silent(topic: bytes, count: int) -> bytes:
        if count > 1:
            over.wait(30)
        return b""

    server, _ = serve(silent)
    with server:
        text = PLAIN_LISTENER + output(server.getsockname()[1], 'protocol = "5"\nwindow = 7\n')
        with RunningGateway(make_config(tmp_path, text)) as gateway:
            dev, password = gateway.add_wifi("B-1")
            with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
                for seq in range(1, 101):
                    bin_.publish(reading(seq))
                bin_.wait_acknowledged(100)
                runner = gateway.gateway.outputs
                assert runner is not None
                wait_until(lambda: gateway.output()["in_flight"] >= 7, "the window is full")
                rows = len(runner.runners["city"]._sent)
            assert rows == 7 and gateway.output()["waiting"] == 100
            over.set()
        server.shutdown(socket.SHUT_RDWR)


def test_a_message_larger_than_the_broker_takes_is_put_aside_unsent(tmp_path: Path) -> None:
    # Maximum Packet Size 600: a reading's topic, payload and properties are more, the gateway's status is not.
    server, seen = serve(lambda topic, count: b"", b"\x20\x08\x00\x00\x05\x27\x00\x00\x02\x58")
    with server:
        text = PLAIN_LISTENER + output(server.getsockname()[1], 'protocol = "5"\n')
        with RunningGateway(make_config(tmp_path, text)) as gateway:
            dev, password = gateway.add_wifi("B-1")
            with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
                bin_.publish_and_wait(reading(1))
            wait_until(lambda: letters(gateway), "put aside")
            assert {letter["reason"] for letter in letters(gateway)} == {"packet too large (0x95)"}
        assert seqs(seen) == []
        server.shutdown(socket.SHUT_RDWR)


def test_a_broker_that_takes_qos_0_only_is_refused_because_it_acknowledges_nothing(tmp_path: Path) -> None:
    server, seen = serve(lambda topic, count: b"", b"\x20\x05\x00\x00\x02\x24\x00")
    with server:
        with RunningGateway(make_config(tmp_path, output(server.getsockname()[1]))) as gateway:
            wait_until(lambda: "QoS 0 only" in gateway.output()["last_fault"], "said so")
        assert json.dumps(seen) == "[]"
        server.shutdown(socket.SHUT_RDWR)


def test_a_broker_that_wants_to_hear_from_us_every_second_does(tmp_path: Path) -> None:
    # Server Keep Alive 1 s: MQTT 5, section 3.2.2.3.14. It may hang up after one and a half.
    server, seen = serve(lambda topic, count: b"", b"\x20\x06\x00\x00\x03\x13\x00\x01", silence_s=1.5)
    with server:
        text = output(server.getsockname()[1], 'protocol = "5"\n')
        with RunningGateway(make_config(tmp_path, text)) as gateway:
            wait_until(lambda: seen.count((b"ping", b"")) >= 5, "five pings")
            assert (gateway.output()["connected"], gateway.output()["reconnects"]) == (True, 0)
        server.shutdown(socket.SHUT_RDWR)
