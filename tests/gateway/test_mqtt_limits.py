"""The listener's limits, over real sockets: a flood costs itself, not the bins."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path

import pytest
from brim_gateway.app import listener_tls
from brim_gateway.config import MqttListenerConfig
from brim_gateway.ingest import mqtt_listener
from brim_gateway.ingest.passwords import verify
from brim_gateway.mqtt import server_codec as mqtt
from brim_gateway.pki import SiteFiles, make_site

from tests.gateway.listening import Listening, RawBin, connect_packet, wait_held
from tests.gateway.support import make_config, wait_until

OTHER_HOST = "127.0.0.2"
GARBAGE = b"GET / HTTP/1.1\r\n\r\n"


def site(folder: Path) -> tuple[SiteFiles, ssl.SSLContext]:
    """Certificates, and the TLS that the daemon makes of them."""
    files = make_site(folder / "tls", "cab-1", ["localhost"])
    text = f'[mqtt_listener]\nlisten = "127.0.0.1:0"\ncert = "{files.cert}"\nkey = "{files.key}"\n'
    config = make_config(folder, text).mqtt_listener
    assert isinstance(config, MqttListenerConfig)
    context = listener_tls(config)
    assert context is not None
    return files, context


def connections(port: int, count: int, host: str = "127.0.0.1") -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), 5, source_address=(host, 0)) for _ in range(count)]


def ends(sock: socket.socket, within_s: float) -> bool:
    """Whether the listener ends the connection (perhaps with an alert) in that time."""
    sock.settimeout(within_s)
    try:
        while sock.recv(100):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def test_beyond_its_handshakes_a_source_waits_unread_and_another_source_does_not(tmp_path: Path) -> None:
    _, tls = site(tmp_path)
    with Listening(tls=tls, max_handshakes=8) as listening:
        silent = connections(listening.port, 6)
        wait_until(lambda: listening.listener.greeting == 6, "six handshakes under way")
        (waiting,) = connections(listening.port, 1)
        waiting.sendall(GARBAGE)
        (other,) = connections(listening.port, 1, OTHER_HOST)
        other.sendall(GARBAGE)
        assert ends(other, 5), "read at once: what it sent is no TLS"
        assert not ends(waiting, 0.3), "not read yet"
        silent[0].close()
        assert ends(waiting, 5), "its turn has come"
        for sock in (*silent, waiting, other):
            sock.close()


def test_who_proves_nothing_fills_no_places(tmp_path: Path) -> None:
    with Listening() as listening:
        silent = connections(listening.port, 60)
        # A bin from elsewhere comes in at once; one from the same address when a place of that address is free.
        sock = connections(listening.port, 1, OTHER_HOST)[0]
        sock.sendall(connect_packet("02000000000000bb", b"a-password"))
        assert sock.recv(4) == b"\x20\x02\x00\x00"
        assert len(listening.listener.open) == 17
        neighbour = RawBin(listening.port)
        for one in silent:
            one.close()
        neighbour.welcome().publish(1, 1)
        wait_held(listening, 1)
        neighbour.sock.close()
        sock.close()


@pytest.mark.parametrize("version", [4, 5])
def test_a_flood_of_wrong_passwords_makes_a_good_bin_wait_and_never_a_stranger(
    monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    slow = threading.Event()

    def slowly(password: bytes, stored: str) -> bool:
        assert slow.wait(10)
        return verify(password, stored)

    monkeypatch.setattr(mqtt_listener, "verify", slowly)
    monkeypatch.setattr(mqtt_listener, "HASHES_WAITING", 4)
    with Listening() as listening:
        flood = [RawBin(listening.port, password=b"wrong", version=version) for _ in range(4)]
        wait_until(lambda: len(listening.listener.open) == 4, "four passwords under way")
        wait_until(lambda: listening.call(lambda: listening.listener.checking) == 4, "four passwords under way")
        good = RawBin(listening.port, version=version)
        busy = b"\x20\x02\x00\x03" if version == 4 else b"\x20\x03\x00" + bytes((mqtt.SERVER_BUSY, 0))
        assert good.hear(len(busy)) == busy and good.hear(1) == b"", "come again, it says, not: who are you?"
        slow.set()
        bad = b"\x20\x02\x00\x04" if version == 4 else b"\x20\x03\x00" + bytes((mqtt.BAD_CREDENTIALS, 0))
        for one in flood:
            assert one.hear(len(bad)) == bad
            one.sock.close()
        with RawBin(listening.port, version=version):
            pass
        good.sock.close()


def test_a_rush_beyond_the_places_is_served_in_turn() -> None:
    """120 bins of one address and 8 places: each publishes, hears its PUBACK, and goes."""

    async def one(port: int, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        dev = f"02000000000000{number:02x}"
        writer.write(connect_packet(dev, b"a-password"))
        assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
        writer.write(mqtt.publish(4, f"brim/bin/{dev}/up", b"{}", 1, 1))
        assert await reader.readexactly(4) == mqtt.puback(4, 1)
        writer.close()
        await writer.wait_closed()

    async def rush(port: int) -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(*(one(port, number) for number in range(120)))

    with Listening(max_connections=8) as listening:
        done = threading.Event()

        def commit() -> None:
            while not done.wait(0.005):
                listening.call(listening.store.commit)

        disk = threading.Thread(target=commit)
        disk.start()
        try:
            asyncio.run(rush(listening.port))
        finally:
            done.set()
            disk.join()
        assert len(listening.store.committed) == 120
