"""Closed loop: as fast as readings are acknowledged, 400 outstanding, until the last one is in the north."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from brim_tools.bench.ledger import Ledger
from brim_tools.bench.north import Mosquitto, north_settings
from brim_tools.bench.peers import installed_peers
from brim_tools.bench.procs import Helper, cpu_s, memory_mb, say
from brim_tools.bench.relays import BARE, BRIDGE, BRIM, DURABLE, NO_RELAY, Candidate, Relay

OUTSTANDING = 400
WARM_UP = 20  # readings of every bin before the clock starts: logins are hashed, connections made
IDLE_S = 8.0
"""Nothing more came for so long: what is missing is lost."""


def measure(readings: int, brim_only: bool = False) -> dict[str, Any]:
    """Rows of {relay, readings_per_second, cpu_s_per_100k, peak_rss_mb, lost, repeats, ratio_to_bare …}."""
    rows: list[dict[str, Any]] = []
    for candidate in BRIM if brim_only else (NO_RELAY, *BRIM, BARE, BRIDGE, DURABLE, *installed_peers()):
        if candidate.open is None:
            rows.append({"relay": candidate.name, "note": candidate.note})
            continue
        rows.append(run(candidate, max(candidate.bins, int(readings * candidate.share))))
        say(f"speed: {rows[-1]['relay']}: {rows[-1]['readings_per_second']} /s")
    bare = next((row["readings_per_second"] for row in rows if row["relay"] == BARE.name), None)
    for row in rows:
        if bare and "readings_per_second" in row:
            row["ratio_to_bare"] = round(row["readings_per_second"] / bare, 2)
    return {"outstanding": OUTSTANDING, "rows": rows}


def run(candidate: Candidate, readings: int) -> dict[str, Any]:
    """One relay from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name:
        folder = Path(name)
        for part in ("north", "relay"):
            (folder / part).mkdir()
        assert candidate.open is not None
        with (
            Mosquitto(folder / "north", north_settings(folder / "north")) as north,
            candidate.open(folder / "relay", north.port) as relay,
        ):
            ledger = Ledger(folder, candidate.bins, WARM_UP + readings // candidate.bins + 1)
            return {"relay": candidate.name, "note": candidate.note, **_closed_loop(relay, north, ledger)}


def _closed_loop(relay: Relay, north: Mosquitto, ledger: Ledger) -> dict[str, Any]:
    last, window = ledger.each - 1, max(1, OUTSTANDING // ledger.bins)
    with (
        Helper("counter", ledger=ledger.job(), port=north.port, topic=relay.topic_out) as counter,
        Helper(
            "load", ledger=ledger.job(), port=relay.port, logins=relay.logins, topic=relay.topic_in, window=window
        ) as load,
    ):
        load.ask(to=WARM_UP)
        _until_all_came(load, counter, WARM_UP * ledger.bins)
        relay_s, load_s = cpu_s(relay.pids), load.cpu_s() + counter.cpu_s()
        load.ask(to=last)
        _until_all_came(load, counter, last * ledger.bins)
        relay_s, load_s = cpu_s(relay.pids) - relay_s, load.cpu_s() + counter.cpu_s() - load_s
        counts = counter.ask()
        peak = memory_mb(relay.pids, peak=True)
    timed = list(ledger.indices(WARM_UP + 1, [last] * ledger.bins))
    acked = [i for i in timed if ledger.acked[i]]
    waits = sorted(ledger.acked[i] - ledger.sent[i] for i in acked)
    began, ended = min(ledger.sent[i] for i in timed), max(ledger.came[i] for i in timed)
    came = sum(1 for i in timed if ledger.arrivals[i])
    return {
        "bins": ledger.bins,
        "outstanding": window * ledger.bins,
        "readings": len(timed),
        "readings_per_second": round(came / (ended - began)),
        "cpu_s_per_100k": round(relay_s / len(timed) * 1e5, 2),
        "load_cpu_s_per_100k": round(load_s / len(timed) * 1e5, 2),
        "peak_rss_mb": round(peak, 1),
        "lost": sum(1 for i in acked if not ledger.arrivals[i]),
        "not_acknowledged": len(timed) - len(acked),
        "repeats": counts["repeats"],
        "altered": counts["altered"],
        "ack_p50_ms": round(waits[len(waits) // 2] * 1e3, 2),
        "ack_p99_ms": round(waits[len(waits) * 99 // 100] * 1e3, 2),
    }


def _until_all_came(load: Helper, counter: Helper, expected: int) -> None:
    """Until ``expected`` readings are acknowledged and in the north, or nothing has come for IDLE_S."""
    progress, since = -1, time.monotonic()
    while True:
        state, came = load.ask(), counter.ask()["distinct"]
        if state["fault"]:
            raise RuntimeError(f"the relay refuses the bins: {state['fault']}")
        if min(came, state["acknowledged"]) >= expected:
            return
        if came + state["acknowledged"] > progress:
            progress, since = came + state["acknowledged"], time.monotonic()
        if time.monotonic() - since > IDLE_S:
            return
        time.sleep(0.01)
