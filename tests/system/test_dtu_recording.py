"""Real bins, real frames: 981 receptions of 2016 through the UDP of a running gateway become 977 readings."""

from __future__ import annotations

import csv
import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from brim_gateway.model import Reading, iso_utc
from brim_gateway.store.journal import read_after

RECORDING = Path(__file__).resolve().parents[1] / "data" / "traces" / "dtu_2016_lorawan_frames.csv"
PUBLIC_KEY = "2B7E151628AED2A6ABF7158809CF4F3C"
BRIM = [sys.executable, "-m", "brim_tools", "gateway"]


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def brim(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BRIM, *arguments], capture_output=True, text=True, timeout=60)


@contextmanager
def gateway(folder: Path, *, exceptions: bool) -> Iterator[tuple[int, Path]]:
    """A gateway that knows the recorded bins; yields its UDP port and log."""
    config, log, port = folder / "brim.toml", folder / "log", free_udp_port()
    folder.mkdir(exist_ok=True)
    assert brim("init", "--config", str(config)).returncode == 0
    text = config.read_text().replace('"127.0.0.1:1700"', f'"127.0.0.1:{port}"\ntrust_time = true')
    config.write_text(text.replace('"127.0.0.1:8080"', '"127.0.0.1:0"'))
    with RECORDING.open() as file:
        addresses = sorted({row["dev_addr"] for row in csv.DictReader(file) if row["phy_payload_hex"]})
    columns = "bin,dev,link,decoder,counter,allow_public_key,dev_addr,nwk_s_key,app_s_key"
    extra = "volatile,true" if exceptions else "strict,false"
    rows = [
        f"DTU-{a},00000000{a},lorawan,ascii-distance-cm,{extra},{a},{PUBLIC_KEY},{PUBLIC_KEY}".lower().replace(
            "dtu-", "DTU-"
        )
        for a in addresses
    ]
    table = folder / "bins.csv"
    table.write_text("\n".join([columns, *rows]) + "\n")
    done = brim("bins", "import", str(table), "--config", str(config))
    assert done.returncode == 0, done.stderr
    with log.open("w") as sink:
        daemon = subprocess.Popen(
            [*BRIM, "run", "--config", str(config)], stdout=subprocess.PIPE, stderr=sink, text=True
        )
    try:
        assert daemon.stdout is not None and daemon.stdout.readline().startswith("ready ")
        yield port, log
    finally:
        daemon.terminate()
        assert daemon.wait(20) == 0
        if daemon.stdout is not None:
            daemon.stdout.close()


def play(port: int) -> dict[str, object]:
    done = brim("play", str(RECORDING), "--to", f"127.0.0.1:{port}", "--json")
    assert done.returncode == 0, done.stderr
    account: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return account


def test_every_recorded_frame_verifies_and_each_reading_is_kept_once(tmp_path: Path) -> None:
    with gateway(tmp_path / "with", exceptions=True) as (port, log):
        account = play(port)
        assert refused(tmp_path / "with") == {}
    assert account["acknowledged"] == account["sent"] == 981, account
    rows = readings(tmp_path / "with")
    assert len(rows) == 977 == len({row.uid for row in rows})
    assert "volatile" in log.read_text() and "allow_public_key" in log.read_text()
    with RECORDING.open() as file:
        recorded = [row for row in csv.DictReader(file) if row["phy_payload_hex"]]
    assert len(recorded) == 981
    # Event time is the recorded one, and the distance the ASCII number in the payload, in centimetres.
    assert {iso_utc(row.time_us)[:16] for row in rows} == {row["time_utc"][:16] for row in recorded}
    # One row's own summary says 0 where its frame says 9: the frame is the truth.
    assert {row.distance_mm for row in rows} == {int(row["decrypted"].strip("{}")) * 10 for row in recorded}
    assert {row.time_source for row in rows} == {"concentrator"}


def test_without_the_exceptions_every_frame_is_refused_with_a_reason(tmp_path: Path) -> None:
    with gateway(tmp_path / "without", exceptions=False) as (port, log):
        play(port)
        assert refused(tmp_path / "without") == {"public key": 981}
    assert readings(tmp_path / "without") == []
    assert "public key" in log.read_text() and PUBLIC_KEY.lower() not in log.read_text().lower()


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "time_utc,phy_payload_hex\nnow,zz\n"])
def test_a_file_that_is_no_recording_is_one_line(tmp_path: Path, text: str) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(text)
    done = brim("play", str(bad), "--to", f"127.0.0.1:{free_udp_port()}")
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done.stderr


def refused(folder: Path) -> object:
    """Reasons and counts, as the running daemon tells them."""
    done = brim("status", "--config", str(folder / "brim.toml"), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["refused"]


def readings(folder: Path) -> list[Reading]:
    """What the journal holds, read as an output reads it."""
    connection = sqlite3.connect(f"file:{folder / 'data' / 'brim.db'}?mode=ro", uri=True)
    try:
        return [row.reading for row in read_after(connection, 0, 10_000)]
    finally:
        connection.close()
