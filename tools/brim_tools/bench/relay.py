"""Relays side by side in one run: MQTT in, MQTT out to the same broker. Brim, and the simplest relay there is.

The bare paho relay keeps nothing: what it acknowledges it may forget. Brim decodes, validates and has every reading on
disk before it acknowledges. The ratio of the two is what durability costs here.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brim_tools.demo.backend import Broker, free_port

BINS = 8
WINDOW = 50  # of each bin: 400 outstanding in all
_PYTHON = [sys.executable, "-m"]


@dataclass(frozen=True)
class Relay:
    """Where readings go in, and the process that hands them on."""

    port: int
    topic: str
    north: str
    logins: list[list[str]]
    process: subprocess.Popen[str]


def measure(readings: int, protocols: tuple[str, ...] = ("3.1.1", "5")) -> dict[str, Any]:
    """Rows of {relay, readings_per_second, cpu_s_per_100k, lost, ack_p99_ms, ratio_to_bare …}; the bare relay last."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as folder:
        broker = Broker(Path(folder))
        try:
            for protocol in protocols:
                work = Path(folder) / f"brim-{protocol}"
                work.mkdir()
                with _brim(work, broker.port, protocol) as relay:
                    rows.append({"relay": f"brim, MQTT {protocol}", **_run(relay, broker.port, readings)})
            with _bare(broker.port) as relay:
                rows.append({"relay": "bare paho relay (keeps nothing)", **_run(relay, broker.port, readings)})
        finally:
            broker.close()
    for row in rows:
        row["ratio_to_bare"] = round(row["readings_per_second"] / rows[-1]["readings_per_second"], 2)
    return {"broker": broker.name, "bins": BINS, "outstanding": BINS * WINDOW, "rows": rows}


def _run(relay: Relay, north_port: int, readings: int) -> dict[str, Any]:
    """From the first publish until the last reading is in the north."""
    each = readings // BINS
    counter = _start("count", port=north_port, topic=relay.north, expected=each * BINS, idle_s=20.0)
    assert counter.stdout is not None
    assert counter.stdout.readline() == "ready\n"
    before_s = _cpu_s(relay.process.pid)
    began = time.time()
    publisher = _start("publish", port=relay.port, logins=relay.logins, topic=relay.topic, count=each, window=WINDOW)
    sent, got = _result(publisher), _result(counter)
    return {
        "readings": each * BINS,
        "readings_per_second": round(got["distinct"] / (got["last"] - began)),
        "cpu_s_per_100k": round((_cpu_s(relay.process.pid) - before_s) / sent["acknowledged"] * 1e5, 1),
        "lost": sent["acknowledged"] - got["distinct"],
        "repeats": got["messages"] - got["distinct"],
        "ack_p50_ms": round(sent["ack_p50_ms"], 2),
        "ack_p99_ms": round(sent["ack_p99_ms"], 2),
    }


def _start(verb: str, **job: Any) -> subprocess.Popen[str]:
    command = [*_PYTHON, "brim_tools.bench.mqtt_wire", verb, json.dumps(job)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError("the load generator failed")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100  # clock ticks of 10 ms on every Linux


@contextmanager
def _brim(folder: Path, north_port: int, protocol: str) -> Iterator[Relay]:
    config, port = folder / "brim.toml", free_port()
    config.write_text(
        f'site = "bench"\ndata_dir = "data"\n[mqtt_listener]\nlisten = "127.0.0.1:{port}"\nplain = true\n'
        f'[[output]]\nname = "north"\nurl = "mqtt://127.0.0.1:{north_port}"\nprotocol = "{protocol}"\n'
    )
    passwords = [secrets.token_urlsafe(12) for _ in range(BINS)]
    devs = [f"02000000000000{i:02x}" for i in range(BINS)]
    rows = [f"bench-{i},{devs[i]},wifi,{passwords[i]}" for i in range(BINS)]
    (folder / "bins.csv").write_text("\n".join(["bin,dev,link,mqtt_password", *rows]) + "\n")
    brim = [*_PYTHON, "brim_tools", "gateway"]
    enrol = [*brim, "bins", "import", str(folder / "bins.csv"), "--config", str(config)]
    subprocess.run(enrol, check=True, capture_output=True)
    logins = [[dev, password] for dev, password in zip(devs, passwords, strict=True)]
    command = [*brim, "run", "--config", str(config)]
    with _process(command) as process:
        yield Relay(port, "brim/bin/{dev}/up", "brim/v1/bench/+/reading", logins, process)


@contextmanager
def _bare(north_port: int) -> Iterator[Relay]:
    """A broker for the bins and thirty lines of paho between the two."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as folder:
        south = Broker(Path(folder))
        try:
            with _process([*_PYTHON, "brim_tools.bench.bare_relay", str(south.port), str(north_port)]) as process:
                logins = [[f"02000000000000{i:02x}", ""] for i in range(BINS)]
                yield Relay(south.port, "in/{dev}", "out/#", logins, process)
        finally:
            south.close()


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline().startswith("ready"):
                raise RuntimeError(f"{command[2]} did not start")
            yield process
        finally:
            process.terminate()
            process.wait(20)
