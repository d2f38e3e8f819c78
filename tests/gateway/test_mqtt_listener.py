"""The listener for Wi-Fi bins, with clients nobody here wrote and with hostile ones."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from brim.wire.report import Reading, encode_report
from brim_gateway.decoders.table import DECODERS
from brim_gateway.ingest import mqtt_listener, mqtt_session
from brim_gateway.pki import make_site
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.gateway.support import PLAIN_LISTENER, RunningGateway, WifiBin, make_config, reading, wait_until


def test_paho_publishes_and_what_is_acknowledged_is_in_the_journal(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        for version, epoch in ((paho.MQTTv311, 1), (paho.MQTTv5, 2)):
            dev, password = gateway.add_wifi(f"B-{epoch}")
            with WifiBin(gateway.port("mqtt"), dev, password, version) as bin_:
                mids = [bin_.publish(reading(seq, epoch=epoch)) for seq in range(1, 201)]
                bin_.wait_acknowledged(200)
                # In order, as MQTT asks for.
                assert bin_.acknowledged == mids
            assert [row["seq"] for row in gateway.rows() if row["epoch"] == epoch] == list(range(1, 201))


def test_a_report_in_its_own_bytes_is_taken_like_json(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            newest = Reading(4, 2, "ok", 300, 2, 9, events=1)
            bin_.publish_and_wait(encode_report([newest, Reading(4, 1, "no_echo", age_s=900)], 1))
            bin_.publish_and_wait(encode_report([newest], 0))
        assert [(row["seq"], row["status"]) for row in gateway.rows()] == [(1, "no_echo"), (2, "ok")]


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_only_a_registered_bin_with_its_own_password_comes_in(tmp_path: Path, version: int) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        other, _ = gateway.add_wifi("B-2")
        gateway.ask("bins.add", rows=[["B-3", {"bin": "B-3", "dev": "02000000000000aa"}]])
        for user, secret in ((dev, "wrong"), (other, password), ("02000000000000aa", password), ("nobody", password)):
            with WifiBin(gateway.port("mqtt"), user, secret, version) as bin_:
                assert bin_.connack.is_failure, user
        with WifiBin(gateway.port("mqtt"), dev, password, version) as bin_:
            assert not bin_.connack.is_failure
        assert gateway.gateway.listener is not None and gateway.gateway.listener.counters["refused"] == 4


def test_a_bin_sees_and_speaks_on_its_own_topics_only(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        other, _ = gateway.add_wifi("B-2")
        with WifiBin(gateway.port("mqtt"), dev, password, paho.MQTTv5) as bin_:
            granted: list[int] = []
            bin_.client.on_subscribe = lambda _, __, ___, codes, ____: granted.extend(code.value for code in codes)
            topics = ["#", "brim/bin/+/down", f"brim/bin/{other}/down", f"brim/bin/{dev}/up", f"brim/bin/{dev}/down"]
            bin_.client.subscribe([(topic, SubscribeOptions(1)) for topic in topics])
            wait_until(lambda: len(granted) == 5, "SUBACK")
            assert [code >= 0x80 for code in granted] == [True, True, True, True, False]
            listener = gateway.gateway.listener
            assert listener is not None
            gateway.loop.call_soon_threadsafe(listener.send, dev, b"\x01order")
            wait_until(lambda: bin_.received == [b"\x01order"], "the command")
            bin_.publish(reading(1), topic=f"brim/bin/{other}/up")
            assert bin_.gone.wait(5), "a publish to a foreign topic ends the connection"
        assert gateway.rows() == []


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_qos_0_is_taken_and_qos_2_refused(tmp_path: Path, version: int) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password, version) as bin_:
            bin_.publish(reading(1), qos=0)
            bin_.publish_and_wait(reading(2))
            assert [row["seq"] for row in gateway.rows()] == [1, 2]
        with WifiBin(gateway.port("mqtt"), dev, password, paho.MQTTv311) as bin_:
            bin_.publish(reading(3), qos=2)
            assert bin_.gone.wait(5)
        assert len(gateway.rows()) == 2


def test_what_cannot_be_read_is_put_aside_and_acknowledged_so_that_it_jams_nothing(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            for payload in (b"", b"\xff\xff", b"{", b"{" * 5_000, reading(1), b"x" * 3_000):
                bin_.publish_and_wait(payload)
        assert [row["seq"] for row in gateway.rows()] == [1]
        reader = gateway.gateway.store.reader()
        rows = reader.execute("SELECT dev, reason, payload FROM quarantine ORDER BY id").fetchall()
        reader.close()
        assert len(rows) == 5 and {row[0] for row in rows} == {dev} and max(len(row[2]) for row in rows) <= 1_024
        assert gateway.ask("status")["wifi"]["quarantined"] == 5


def test_a_decoder_with_a_fault_of_its_own_jams_no_bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(payload: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(DECODERS, "ascii-distance-cm", faulty)
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1", decoder="ascii-distance-cm")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            bin_.publish_and_wait(b"{37}")
            bin_.publish_and_wait(b"{38}")
        assert gateway.gateway.wifi.counters["quarantined"] == 2


def test_on_a_full_disk_a_bin_waits_and_everything_it_published_arrives(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        store = gateway.gateway.store
        pages = store.run_blocking(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        store.run_blocking(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            for seq in range(1, 301):
                bin_.publish(reading(seq))
            wait_until(lambda: store.health.last_fault, "the disk is full")
            # A PUBACK may still be on its way; none comes without its row.
            assert len(bin_.acknowledged) <= len(gateway.rows()) < 300 and not bin_.gone.is_set()
            store.run_blocking(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
            bin_.wait_acknowledged(300)
        assert [row["seq"] for row in gateway.rows()] == list(range(1, 301))


def test_the_same_bin_again_takes_the_place_of_the_old_connection(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        port = gateway.port("mqtt")
        with WifiBin(port, dev, password, paho.MQTTv5) as first, WifiBin(port, dev, password) as second:
            assert first.gone.wait(5)
            second.publish_and_wait(reading(1))


def test_new_keys_end_the_old_connection_and_the_old_password(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            fresh = gateway.ask("keys.replace", bin="B-1")["keys"][0]["mqtt_password"]
            assert bin_.gone.wait(5)
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            assert bin_.connack.is_failure
        with WifiBin(gateway.port("mqtt"), dev, fresh) as bin_:
            bin_.publish_and_wait(reading(1))


def raw(port: int, data: bytes) -> bytes:
    """Send and read to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(4096):
            answer += chunk
    return answer


def test_garbage_ends_its_own_connection_and_nothing_else(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            for garbage in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"\x00" * 100,
                b"\x10\xff\xff\xff\x7f",
                b"\x16\x03\x01",
                b"\xff",
            ):
                assert raw(gateway.port("mqtt"), garbage * 3) == b""
            assert raw(gateway.port("mqtt"), b"\x10\x0c\x00\x04MQTT\x03\x02\x00\x3c\x00\x00")[:2] == b"\x20\x02"
            bin_.publish_and_wait(reading(1))
        assert gateway.ask("status")["mqtt"]["protocol"] >= 4


def test_a_client_that_never_says_connect_and_one_that_falls_silent_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "CONNECT_WITHIN_S", 0.2)
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        with socket.create_connection(("127.0.0.1", gateway.port("mqtt")), 5) as mute:
            assert mute.recv(1) == b""
        with socket.create_connection(("127.0.0.1", gateway.port("mqtt")), 5) as silent:
            body = b"\x00\x04MQTT\x04\xc2\x00\x01\x00\x01d"
            for part in (dev.encode(), password.encode()):
                body += len(part).to_bytes(2, "big") + part
            silent.sendall(b"\x10" + bytes((len(body),)) + body)
            assert silent.recv(4) == b"\x20\x02\x00\x00"
            # Keep-alive 1 s: gone after one and a half.
            assert silent.recv(1) == b""
        assert gateway.ask("status")["mqtt"]["silent"] == 2


def test_beyond_the_limit_of_connections_the_next_one_waits_for_a_place(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER + "max_connections = 2\n")) as gateway:
        dev, password = gateway.add_wifi("B-1")
        port = gateway.port("mqtt")
        with socket.create_connection(("127.0.0.1", port), 5), socket.create_connection(("127.0.0.1", port), 5) as one:
            bin_ = WifiBin(port, dev, password)
            bin_.client.loop_start()
            assert not threading.Event().wait(0.2) and bin_.connack is None
            one.close()
            wait_until(lambda: bin_.connack is not None, "a place")
            bin_.publish_and_wait(reading(1))
            bin_.__exit__()


def tls_listener(tmp_path: Path, places: int) -> str:
    files = make_site(tmp_path / "tls", "cab-1", ["localhost"])
    where = f'[mqtt_listener]\nlisten = "127.0.0.1:0"\nmax_connections = {places}\n'
    return where + f'cert = "{files.cert}"\nkey = "{files.key}"\n'


def shake_hands(port: int, folder: Path) -> None:
    context = ssl.create_default_context(cafile=str(folder / "tls" / "site-ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", port), 5) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        assert secured.version()


def test_handshakes_that_fail_give_their_places_back(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, tls_listener(tmp_path, 2))) as gateway:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", gateway.port("mqtt")), 5) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while stranger.recv(100):
                    pass
        shake_hands(gateway.port("mqtt"), tmp_path)


def test_who_says_nothing_gives_its_place_to_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_listener, "YIELD_S", 0.3)
    with RunningGateway(make_config(tmp_path, tls_listener(tmp_path, 2))) as gateway:
        silent = [socket.create_connection(("127.0.0.1", gateway.port("mqtt"))) for _ in range(4)]
        shake_hands(gateway.port("mqtt"), tmp_path)
        for one in silent:
            one.close()


def test_a_bin_that_has_shown_who_it_is_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_listener, "YIELD_S", 0.3)
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER + "max_connections = 2\n")) as gateway:
        dev, password = gateway.add_wifi("B-1")
        port = gateway.port("mqtt")
        with WifiBin(port, dev, password) as bin_:
            with (
                socket.create_connection(("127.0.0.1", port), 5) as silent,
                socket.create_connection(("127.0.0.1", port), 5),
            ):
                assert silent.recv(1) == b"", "it had to go for the one that waits, the bin not"
            bin_.publish_and_wait(reading(1))
