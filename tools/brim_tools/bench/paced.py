"""A steady stream: how long a reading takes from its bin to the city, and what each costs in CPU and in disk writes."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from brim_tools.bench.daemon import TOPIC_IN, TOPIC_OUT, Gateway, Setup
from brim_tools.bench.disks import Disk
from brim_tools.bench.ledger import Ledger
from brim_tools.bench.north import Mosquitto, north_settings
from brim_tools.bench.procs import Helper, cpu_s, say, wait_until, written_bytes
from brim_tools.bench.relays import BARE, BRIDGE, Candidate, Relay, brim

RATE = 500
WRITE_RATES = (200, 2_000)
WARM_UP_S = 3.0
ARRIVED_WITHIN_S = 30.0
WINDOW = 60
"""Unacknowledged readings of a bin; the gateway takes 64."""
_DISK_MB = 2_048


def measure(seconds: float, protocol: str, no_disk: str) -> dict[str, Any]:
    """{rate, rows: latency and CPU of each relay, writes: bytes on the device per reading}."""
    setup = Setup(protocol=protocol)
    rows = []
    for candidate in (
        Candidate("brim, linger_ms = 20", brim(replace(setup, linger_ms=20))),
        Candidate("brim, linger_ms = 0", brim(replace(setup, linger_ms=0))),
        BARE,
        BRIDGE,
    ):
        rows.append(run(candidate, RATE, seconds))
        say(f"paced: {candidate.name}: p50 {rows[-1]['p50_ms']} ms, p99 {rows[-1]['p99_ms']} ms")
    writes = [device_writes(setup, rate, seconds, no_disk) for rate in WRITE_RATES]
    return {"rate": RATE, "seconds": seconds, "rows": rows, "writes": writes}


def run(candidate: Candidate, rate: int, seconds: float) -> dict[str, Any]:
    """One relay at ``rate`` for ``seconds`` after a warm-up. Latency is from the making of a reading on."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name:
        folder = Path(name)
        for part in ("north", "relay"):
            (folder / part).mkdir()
        assert candidate.open is not None
        with (
            Mosquitto(folder / "north", north_settings(folder / "north")) as north,
            candidate.open(folder / "relay", north.port) as relay,
        ):
            ledger = _ledger(folder, candidate.bins, rate, seconds)
            with _Stream(ledger, relay, north, rate) as stream:
                before_s = cpu_s(relay.pids)
                stream.go_on(seconds)
                used_s = cpu_s(relay.pids) - before_s
                stream.stop()
                return {"relay": candidate.name, "cpu_s_per_100k": _per_100k(used_s, stream), **stream.latency()}


def device_writes(setup: Setup, rate: int, seconds: float, no_disk: str) -> dict[str, Any]:
    """Bytes written per reading, by the device's own counter where the gateway can have a disk of its own."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for part in ("north", "relay"):
            (folder / part).mkdir()
        disk = None if no_disk else Disk(folder, _DISK_MB)
        if disk is not None:
            stack.callback(disk.close)
        north = stack.enter_context(Mosquitto(folder / "north", north_settings(folder / "north")))
        data = disk.path / "data" if disk else None
        gateway = stack.enter_context(Gateway(folder / "relay", north.port, setup, data))
        gateway.start()
        relay = Relay(gateway.port, TOPIC_IN, TOPIC_OUT, gateway.logins, [gateway.pid])
        ledger = _ledger(folder, setup.bins, rate, seconds)
        with _Stream(ledger, relay, north, rate) as stream:

            def written() -> int:
                return disk.written_bytes() if disk else written_bytes(gateway.pid)

            before = written()
            stream.go_on(seconds)
            stream.stop()
            count = len(stream.timed())
            return {
                "rate": rate,
                "linger_ms": setup.linger_ms,
                "bytes_per_reading": round((written() - before) / count),
                "counted_by": "the loop device" if disk else "/proc/PID/io",
            }


def _ledger(folder: Path, bins: int, rate: int, seconds: float) -> Ledger:
    return Ledger(folder, bins, int(rate * (WARM_UP_S + seconds + 5) / bins) + 100)


def _per_100k(used_s: float, stream: _Stream) -> float:
    return round(used_s / len(stream.timed()) * 1e5, 1)


class _Stream:
    """Load and counter at a steady rate; entered when the warm-up is over."""

    def __init__(self, ledger: Ledger, relay: Relay, north: Mosquitto, rate: int) -> None:
        self._ledger, self._rate = ledger, rate
        self._stack = ExitStack()
        job = ledger.job()
        self._counter = self._stack.enter_context(Helper("counter", ledger=job, port=north.port, topic=relay.topic_out))
        self._load = self._stack.enter_context(
            Helper("load", ledger=job, port=relay.port, logins=relay.logins, topic=relay.topic_in, window=WINDOW)
        )
        self._from = [0] * ledger.bins
        self._to = [0] * ledger.bins

    def __enter__(self) -> _Stream:
        self._load.ask(to=2)
        wait_until(lambda: self._counter.ask()["distinct"] >= 2 * self._ledger.bins, "the first readings", 30.0)
        self._load.ask(rate=self._rate)
        time.sleep(WARM_UP_S)
        self._from = self._load.ask()["made"]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def go_on(self, seconds: float) -> None:
        time.sleep(seconds)
        self._to = self._load.ask()["made"]

    def stop(self) -> None:
        """No more load; what is under way arrives, or is lost."""
        made = sum(self._load.ask(rate=0)["made"])
        try:
            wait_until(lambda: self._counter.ask()["distinct"] >= made, "everything in the north", ARRIVED_WITHIN_S)
        except RuntimeError as fault:
            say(f"paced: {fault}")

    def timed(self) -> list[int]:
        ledger = self._ledger
        return [
            number * ledger.each + seq
            for number in range(ledger.bins)
            for seq in range(self._from[number] + 1, self._to[number] + 1)
        ]

    def latency(self) -> dict[str, Any]:
        ledger, timed = self._ledger, self.timed()
        came = sorted(ledger.came[i] - ledger.sent[i] for i in timed if ledger.arrivals[i])
        acked = sorted(ledger.acked[i] - ledger.sent[i] for i in timed if ledger.acked[i])
        return {
            "readings": len(timed),
            "lost": sum(1 for i in timed if ledger.acked[i] and not ledger.arrivals[i]),
            "p50_ms": _ms(came, 50),
            "p99_ms": _ms(came, 99),
            "most_ms": _ms(came, 100),
            "ack_p50_ms": _ms(acked, 50),
            "ack_p99_ms": _ms(acked, 99),
        }


def _ms(ordered: list[float], percent: int) -> float:
    return round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * 1e3, 2)
