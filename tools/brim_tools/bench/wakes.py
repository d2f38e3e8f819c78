"""How many wakes of the real firmware one core does in virtual time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from brim_tools.virtual.chips import Litter
from brim_tools.virtual.firmware_image import build_image
from brim_tools.virtual.interpreter import Zygote
from brim_tools.virtual.street import Street

# A reading at every wake, or none after the first: the litter does not move and the heartbeat is a day.
_EVERY_WAKE = {"sense_s": 900, "heartbeat_s": 900}
_NO_UPLINK = {"sense_s": 900, "heartbeat_s": 86_400, "delta_mm": 500}


def measure(days: float) -> dict[str, Any]:
    """Rows of {what, wakes, seconds, per_second, calls_per_wake}; the first is the floor: only boot and sleep."""
    image = build_image()
    rows = []
    with Zygote(one_core=True) as zygote:
        runtime = zygote.version
        rows.append(_floor(zygote, 200))
        for what, settings in (("measuring, no radio", _NO_UPLINK), ("measuring and an uplink", _EVERY_WAKE)):
            with Street(zygote, image, settings=settings, litter=lambda rng: Litter(lambda now_us: 800)) as street:
                street.run(0.05)  # join first
                before = street.bins[0].counters.wakes, street.bins[0].counters.calls
                started = time.perf_counter()
                street.run(days)
                seconds = time.perf_counter() - started
                counters = street.bins[0].counters
                wakes, calls = counters.wakes - before[0], counters.calls - before[1]
                rows.append(
                    {
                        "what": what,
                        "wakes": wakes,
                        "seconds": round(seconds, 2),
                        "per_second": round(wakes / seconds, 1),
                        "calls_per_wake": round(calls / wakes, 1),
                        "missing": len(street.missing),
                    }
                )
    floor = rows[0]["per_second"]
    for row in rows:
        row["ratio_to_floor"] = round(row["per_second"] / floor, 3)
    return {"runtime": runtime, "rows": rows}


def _floor(zygote: Zygote, count: int) -> dict[str, Any]:
    """Fork, boot, mount the flash, sleep: what every wake costs before the firmware's first line."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare"
        bare.mkdir()
        (bare / "chip").symlink_to(build_image() / "chip")
        (bare / "boot.py").write_text("")
        (bare / "main.py").write_text("import machine\nmachine.deepsleep(900000)\n")
        with Street(zygote, bare) as street:
            started = time.perf_counter()
            street.run(count / 96)
            seconds = time.perf_counter() - started
            counters = street.bins[0].counters
            return {
                "what": "an interpreter that only sleeps",
                "wakes": counters.wakes,
                "seconds": round(seconds, 2),
                "per_second": round(counters.wakes / seconds, 1),
                "calls_per_wake": round(counters.calls / counters.wakes, 1),
            }
