"""A technician's afternoon: a provisioned bin behind a serial line, a running gateway, `brim bin test-uplink`."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from brim_gateway.store.journal import read_after
from brim_tools.demo.backend import free_port
from brim_tools.demo.gateway_process import GatewayProcess

BRIM_BIN = [sys.executable, "-m", "brim_tools", "bin"]
DEV = "70b3d57ed0050001"


@contextmanager
def running_gateway(folder: Path, link: str) -> Iterator[GatewayProcess]:
    """A gateway that knows one bin; the city's broker is away, which must not matter to the bin."""
    gateway = GatewayProcess(folder, free_port())
    gateway.enrol([{"bin": "SE-0180-04711", "dev": DEV, "link": link}])
    gateway.start()
    try:
        yield gateway
    finally:
        assert gateway.stop() == 0, gateway.log.read_text()


@contextmanager
def virtual_bin(folder: Path, gateway: GatewayProcess) -> Iterator[list[str]]:
    """Its addresses: the pseudo-terminal, then socket://."""
    port_file = folder / "bin.port"
    command = [
        *BRIM_BIN, "virtual", "--port-file", str(port_file), "--tcp", "0", "--distance-mm", "640",
        "--keys", str(gateway.keys_file), "--gateway", f"127.0.0.1:{gateway.udp_port}",
        "--mqtt", f"localhost:{gateway.mqtt_port}", "--ca", str(folder / "data" / "tls" / "site-ca.pem"),
    ]  # fmt: skip
    bin_ = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert bin_.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        yield port_file.read_text().split()
    finally:
        bin_.terminate()
        assert bin_.wait(20) == 0


def brim_bin(*words: str) -> dict[str, object]:
    done = subprocess.run([*BRIM_BIN, *words, "--json"], capture_output=True, text=True, timeout=80)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(("link", "address"), [("lorawan", 0), ("wifi", 1)])
def test_a_test_uplink_over_the_cable_is_a_reading_in_the_gateways_journal(
    tmp_path: Path, link: str, address: int
) -> None:
    with running_gateway(tmp_path, link) as gateway, virtual_bin(tmp_path, gateway) as addresses:
        port = addresses[address]
        assert brim_bin("who", "--port", port)["dev"] == DEV
        told = brim_bin("test-uplink", "--port", port)
        assert told["sent"] is True and told["fault"] is None, told
        # Sent is what the bin knows; on LoRaWAN the datagram may be a moment behind its answer.
        deadline = time.monotonic() + 10
        while (held := journal(tmp_path)).get(f"{DEV}:{told['reading']}") is None and time.monotonic() < deadline:
            time.sleep(0.05)
    assert held[f"{DEV}:{told['reading']}"] == ("SE-0180-04711", "ok", 640)


def journal(folder: Path) -> dict[str, tuple[str, str, int | None]]:
    with closing(sqlite3.connect(f"file:{folder / 'data' / 'brim.db'}?mode=ro", uri=True)) as connection:
        rows = [row.reading for row in read_after(connection, 0, 100)]
    return {row.uid: (row.bin, str(row.status), row.distance_mm) for row in rows}
