"""The north is away and a backlog grows; the gateway is started again on it; the north comes back, bins go on."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from brim_tools.bench.daemon import TOPIC_IN, TOPIC_OUT, Gateway, Setup
from brim_tools.bench.ledger import Ledger
from brim_tools.bench.north import Mosquitto, north_settings
from brim_tools.bench.procs import Helper, forget_peak, memory_mb, say, wait_until

BINS = 8
WINDOW = 50
LIVE_RATE = 1_000
LIVE_MOST_S = 300
WARM_UP = 20_000
"""Readings before the first look at the memory: what is loaded and cached once is loaded by then."""
LIVE_BEFORE_BACK_S = 2.0


def measure(backlog: int, protocol: str) -> dict[str, Any]:
    """Growth, restart, drain; see the keys."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for part in ("north", "relay"):
            (folder / part).mkdir()
        # It keeps its subscriptions, so that the counter misses nothing of the first second.
        settings = north_settings(folder / "north", keeps=True)
        north = stack.enter_context(Mosquitto(folder / "north", settings))
        gateway = stack.enter_context(Gateway(folder / "relay", north.port, Setup(bins=BINS, protocol=protocol)))
        gateway.start()
        ledger = Ledger(folder, BINS, (WARM_UP + backlog + LIVE_RATE * LIVE_MOST_S) // BINS)
        job = ledger.job()
        counter = stack.enter_context(Helper("counter", ledger=job, port=north.port, topic=TOPIC_OUT))
        load = stack.enter_context(
            Helper("load", ledger=job, port=gateway.port, logins=gateway.logins, topic=TOPIC_IN, window=WINDOW)
        )
        return _Drain(ledger, north, gateway, counter, load, backlog).run()


class _Drain:
    def __init__(
        self, ledger: Ledger, north: Mosquitto, gateway: Gateway, counter: Helper, load: Helper, backlog: int
    ) -> None:
        self._ledger, self._north, self._gateway = ledger, north, gateway
        self._counter, self._load, self._backlog = counter, load, backlog

    def run(self) -> dict[str, Any]:
        warm = WARM_UP // BINS
        self._load.ask(to=warm)
        self._came(WARM_UP)
        rss_before = memory_mb([self._gateway.pid])
        self._north.stop()
        began, last = time.perf_counter(), warm + self._backlog // BINS
        self._load.ask(to=last)
        wait_until(lambda: not self._load.ask()["unacknowledged"], "the backlog is acknowledged", 600.0)
        grown_s = time.perf_counter() - began
        rss_with = memory_mb([self._gateway.pid])
        say(f"drain: {self._backlog} readings held after {grown_s:.0f} s, {rss_with - rss_before:.1f} MB more")
        return {
            "backlog": self._backlog,
            "live_rate": LIVE_RATE,
            "taken_in_per_second": round(self._backlog / grown_s),
            "rss_before_mb": round(rss_before, 1),
            "rss_with_backlog_mb": round(rss_with, 1),
            "rss_backlog_adds_mb": round(rss_with - rss_before, 1),
            **self._restart(),
            **self._back(warm, last),
        }

    def _came(self, expected: int) -> None:
        wait_until(lambda: self._counter.ask()["distinct"] >= expected, "everything in the north", 600.0)

    def _restart(self) -> dict[str, Any]:
        """SIGKILL and start on the whole backlog. The bins are there before it is."""
        self._gateway.kill()
        began = self._gateway.launch()
        self._load.ask(rate=LIVE_RATE)
        ready = self._gateway.ready()
        live = wait_until(lambda: self._acked_since(began), "the first acknowledgement", 60.0)
        return {"restart_to_ready_s": round(ready - began, 2), "restart_to_first_ack_s": round(live - began, 2)}

    def _acked_since(self, began: float) -> float:
        """The earliest acknowledgement after ``began``; 0 for none yet."""
        ledger, made = self._ledger, self._load.ask()["made"]
        start = (WARM_UP + self._backlog) // BINS + 1
        times = [ledger.acked[i] for i in ledger.indices(start, made) if ledger.acked[i] > began]
        return min(times, default=0.0)

    def _back(self, warm: int, last: int) -> dict[str, Any]:
        ledger, pids = self._ledger, [self._gateway.pid]
        time.sleep(LIVE_BEFORE_BACK_S)
        rss = memory_mb(pids)
        forget_peak(pids)
        back = self._north.start()
        self._came(WARM_UP + self._backlog)
        held = list(ledger.indices(warm + 1, [last] * BINS))
        wait_until(lambda: all(ledger.arrivals[i] for i in held), "the backlog is in the north", 600.0, every_s=0.2)
        peak = memory_mb(pids, peak=True)
        state = self._load.ask(rate=0)
        self._came(sum(state["made"]))
        first, ended = min(ledger.came[i] for i in held), max(ledger.came[i] for i in held)
        live = list(ledger.indices(last + 1, state["made"]))
        meanwhile = [i for i in live if ledger.sent[i] > back and ledger.sent[i] < ended]
        waits = sorted(ledger.acked[i] - ledger.sent[i] for i in meanwhile)
        counts = self._counter.ask()
        return {
            "back_to_first_reading_s": round(first - back, 2),
            "drained_per_second": round(len(held) / (ended - first)),
            "live_while_draining": len(meanwhile),
            "live_ack_p99_ms": round(waits[len(waits) * 99 // 100] * 1e3, 1) if waits else None,
            "rss_before_drain_mb": round(rss, 1),
            "rss_peak_in_drain_mb": round(peak, 1),
            "lost": sum(1 for i in (*held, *live) if ledger.acked[i] and not ledger.arrivals[i]),
            "repeats": counts["repeats"],
        }
