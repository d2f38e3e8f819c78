"""One outage, the same for every relay: the north goes, the relay is killed in the middle and starts again, the north
comes back. Bins publish throughout and repeat what was not acknowledged; what was acknowledged is the relay's to keep.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from brim_tools.bench.ledger import Ledger
from brim_tools.bench.north import Mosquitto, north_settings
from brim_tools.bench.peers import installed_peers
from brim_tools.bench.procs import Helper, say, wait_until
from brim_tools.bench.relays import BARE, BRIDGE, BRIM, DURABLE, Candidate

RATE = 200
WINDOW = 60
BEFORE_S = 2.0
DOWN_S = 1.0
"""Between the kill and the next start."""
AFTER_S = 2.0
IDLE_S = 8.0
"""Nothing more came for so long: what is missing is lost."""


def measure(seconds: float) -> dict[str, Any]:
    """Rows of {relay, acknowledged, lost, lost_percent, repeats}; the north is away for ``seconds``."""
    rows: list[dict[str, Any]] = []
    for candidate in (BRIM[1], BARE, BRIDGE, DURABLE, *installed_peers()):
        if candidate.open is None:
            rows.append({"relay": candidate.name, "note": candidate.note})
            continue
        rows.append(run(candidate, seconds))
        say(f"outage: {candidate.name}: lost {rows[-1]['lost']} of {rows[-1]['acknowledged']}")
    return {"rate": RATE, "away_s": seconds, "rows": rows}


def run(candidate: Candidate, seconds: float) -> dict[str, Any]:
    """One relay through the outage."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name:
        folder = Path(name)
        for part in ("north", "relay"):
            (folder / part).mkdir()
        assert candidate.open is not None
        # The north keeps its subscriptions, so that the counter misses nothing of the first second.
        settings = north_settings(folder / "north", keeps=True)
        each = int(RATE * (BEFORE_S + seconds + DOWN_S + AFTER_S + 60) / candidate.bins)
        ledger = Ledger(folder, candidate.bins, each)
        with (
            Mosquitto(folder / "north", settings) as north,
            candidate.open(folder / "relay", north.port) as relay,
            Helper("counter", ledger=ledger.job(), port=north.port, topic=relay.topic_out) as counter,
            Helper(
                "load", ledger=ledger.job(), port=relay.port, logins=relay.logins, topic=relay.topic_in, window=WINDOW
            ) as load,
        ):
            load.ask(rate=RATE)
            time.sleep(BEFORE_S)
            north.stop()
            time.sleep(seconds / 2)
            relay.crash()
            time.sleep(DOWN_S)
            relay.again()
            time.sleep(seconds / 2)
            north.start()
            time.sleep(AFTER_S)
            load.ask(rate=0)
            wait_until(lambda: not load.ask()["unacknowledged"], "the bins' outboxes are empty", 60.0)
            _until_no_more_comes(load, counter)
            made, repeats = load.ask()["made"], counter.ask()["repeats"]
        acked = [i for i in ledger.indices(1, made) if ledger.acked[i]]
        lost = sum(1 for i in acked if not ledger.arrivals[i])
        return {
            "relay": candidate.name,
            "acknowledged": len(acked),
            "lost": lost,
            "lost_percent": round(100 * lost / len(acked), 1),
            "repeats": repeats,
        }


def _until_no_more_comes(load: Helper, counter: Helper) -> None:
    expected, most, moved = load.ask()["acknowledged"], -1, time.monotonic()
    while most < expected and time.monotonic() - moved < IDLE_S:
        time.sleep(0.05)
        came = counter.ask()["distinct"]
        if came > most:
            most, moved = came, time.monotonic()
