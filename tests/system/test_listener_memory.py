"""What a connected bin costs the cabinet."""

from __future__ import annotations

import socket
import ssl
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

from brim_gateway.ingest.mqtt_tls import BUFFER_BYTES

from tests.gateway.listening import Listening, RawBin, connect_packet
from tests.gateway.test_mqtt_limits import site
from tests.system.daemon import Daemon

BINS = 60
MOST_EACH_BYTES = 128 * 1024
"""asyncio's own buffer alone would be 256 KiB."""


def test_an_idle_bin_on_tls_costs_the_daemon_less_than_half_of_asyncios_buffer(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    logins = daemon.add_wifi(BINS + 1)
    context = ssl.create_default_context(cafile=str(daemon.files.ca))
    with daemon, ExitStack() as stack:

        def connect(number: int) -> None:
            plain = socket.create_connection(("localhost", daemon.ports["mqtt"]), 10)
            secured = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            secured.sendall(connect_packet(logins[number].dev, logins[number].password.encode()))
            assert secured.recv(4) == b"\x20\x02\x00\x00"

        # The first one pays for what is loaded once.
        connect(BINS)
        before = daemon.resident_bytes()
        for number in range(BINS):
            connect(number)
        each = (daemon.resident_bytes() - before) // BINS
        assert daemon.ask("status")["wifi_connected"] == BINS + 1
    print(f"{each} bytes for each idle TLS bin")
    assert each < MOST_EACH_BYTES


def test_pythons_part_of_a_tls_connection_is_one_small_buffer(tmp_path: Path) -> None:
    files, tls = site(tmp_path)
    context = ssl.create_default_context(cafile=str(files.ca))
    with Listening(tls=tls, max_connections=20) as listening, ExitStack() as stack:

        def connect(number: int) -> None:
            plain = socket.create_connection(("127.0.0.1", listening.port), 5)
            secured = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            secured.sendall(connect_packet(f"02000000000000{number:02x}", b"a-password"))
            assert secured.recv(4) == b"\x20\x02\x00\x00"

        connect(0)
        tracemalloc.start()
        try:
            for number in range(1, 11):
                connect(number)
            each = tracemalloc.get_traced_memory()[0] // 10
        finally:
            tracemalloc.stop()
        assert len(listening.listener.sessions) == 11
    # Both ends are in this process: the client's own objects are counted, too.
    print(f"{each} bytes of Python objects for each")
    assert BUFFER_BYTES < each < 3 * BUFFER_BYTES


def test_a_tls_bin_that_is_not_read_makes_the_daemon_hold_little(tmp_path: Path) -> None:
    files, tls = site(tmp_path)
    context = ssl.create_default_context(cafile=str(files.ca))
    with Listening(tls=tls) as listening:
        bin_ = RawBin.__new__(RawBin)
        plain = socket.create_connection(("127.0.0.1", listening.port), 5)
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            bin_.dev, bin_.version, bin_.sock = "02000000000000aa", 4, secured
            bin_.say(connect_packet(bin_.dev, b"a-password"))
            bin_.welcome()
            tracemalloc.start()
            try:
                secured.settimeout(1)
                sent = 0
                try:
                    while sent < 64_000_000:
                        bin_.publish(1, 1, b"x" * 10_000)
                        sent += 10_000
                except TimeoutError:
                    pass
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert sent < 20_000_000 and held < 1_000_000
