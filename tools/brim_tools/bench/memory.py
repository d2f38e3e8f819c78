"""Memory with every place taken by a bin over TLS, /health and /metrics being read, and no end of readings."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from brim_tools.bench.daemon import TOPIC_IN, TOPIC_OUT, Gateway, Setup
from brim_tools.bench.ledger import Ledger
from brim_tools.bench.north import Mosquitto, north_settings
from brim_tools.bench.procs import Helper, memory_mb, say, wait_until

BINS = 64
WINDOW = 6
POLL_S = 1.0
SETTLED_AT = 0.2
"""The slope is that of the readings after this share: before it caches fill and buffers find their size."""
STALLED_S = 60.0


def measure(readings: int, protocol: str) -> dict[str, Any]:
    """{rss_connected_mb, rss_peak_mb, slope_mb_per_million, samples: [[readings, MB] …]}."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for part in ("north", "relay"):
            (folder / part).mkdir()
        north = stack.enter_context(Mosquitto(folder / "north", north_settings(folder / "north")))
        setup = Setup(bins=BINS, protocol=protocol, tls=True)
        gateway = stack.enter_context(Gateway(folder / "relay", north.port, setup))
        gateway.start()
        ledger = Ledger(folder, BINS, readings // BINS + 2)
        job = ledger.job()
        counter = stack.enter_context(Helper("counter", ledger=job, port=north.port, topic=TOPIC_OUT))
        load = stack.enter_context(
            Helper(
                "load", ledger=job, port=gateway.port, logins=gateway.logins, topic=TOPIC_IN, window=WINDOW,
                ca=str(gateway.ca),
            )
        )  # fmt: skip
        wait_until(lambda: load.ask()["connected"] == BINS, f"{BINS} bins are connected", 60.0)
        _poll(gateway)
        connected = memory_mb([gateway.pid])
        load.ask(to=readings // BINS)
        samples = _watch(gateway, load, readings // BINS * BINS)
        total = sum(load.ask()["made"])
        wait_until(lambda: counter.ask()["distinct"] >= total, "everything in the north", 600.0)
        return {
            "bins": BINS,
            "readings": total,
            "rss_connected_mb": round(connected, 1),
            "rss_peak_mb": round(memory_mb([gateway.pid], peak=True), 1),
            "slope_mb_per_million": round(slope([one for one in samples if one[0] >= total * SETTLED_AT]), 2),
            "samples": [[count, round(mb, 1)] for count, mb in samples],
        }


def _poll(gateway: Gateway) -> None:
    gateway.get("health")
    gateway.get("metrics")


def _watch(gateway: Gateway, load: Helper, total: int) -> list[tuple[int, float]]:
    """Every second: the two pages, and a sample of (readings acknowledged, MB)."""
    samples: list[tuple[int, float]] = []
    moved = time.monotonic()
    while not samples or samples[-1][0] < total:
        time.sleep(POLL_S)
        _poll(gateway)
        samples.append((load.ask()["acknowledged"], memory_mb([gateway.pid])))
        if len(samples) > 1 and samples[-1][0] > samples[-2][0]:
            moved = time.monotonic()
        if time.monotonic() - moved > STALLED_S:
            raise RuntimeError(f"memory: no acknowledgement for {STALLED_S:.0f} s")
        if len(samples) % 20 == 0:
            say(f"memory: {samples[-1][0]} readings, {samples[-1][1]:.1f} MB")
    return samples


def slope(samples: list[tuple[int, float]]) -> float:
    """Least squares: MB per million readings; 0 for fewer than two samples."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread * 1e6 if spread else 0.0
