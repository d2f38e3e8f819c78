"""The proof of "nothing is lost on the way to the city": every part of it, side by side, in one run."""

from __future__ import annotations

import os
import platform
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from brim_tools.bench import crashes, drain, memory, outage, paced, promises, speed
from brim_tools.bench.disks import why_no_disk
from brim_tools.bench.north import INFLIGHT, mosquitto_version
from brim_tools.bench.procs import say


@dataclass(frozen=True)
class Wanted:
    """How much of everything."""

    readings: int = 50_000
    seconds: float = 20.0
    backlog: int = 330_000
    memory_readings: int = 1_000_000
    away_s: float = 20.0
    seed: int = 1
    crashes: int = 200
    protocol: str = "5"
    lying_disk: bool = False


PARTS: dict[str, Callable[[Wanted, str], dict[str, Any]]] = {
    "speed": lambda wanted, no_disk: speed.measure(wanted.readings),
    "paced": lambda wanted, no_disk: paced.measure(wanted.seconds, wanted.protocol, no_disk),
    "drain": lambda wanted, no_disk: drain.measure(wanted.backlog, wanted.protocol),
    "memory": lambda wanted, no_disk: memory.measure(wanted.memory_readings, wanted.protocol),
    "outage": lambda wanted, no_disk: outage.measure(wanted.away_s),
    "crashes": lambda wanted, no_disk: crashes.measure(
        wanted.seed, wanted.crashes, wanted.protocol, no_disk, lying_disk=wanted.lying_disk
    ),
}


def measure(parts: tuple[str, ...], wanted: Wanted) -> dict[str, Any]:
    """{machine…, parts by name}. Raises RuntimeError where a part cannot run at all."""
    no_disk = why_no_disk()
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "north": f"{mosquitto_version()}, max_inflight_messages {INFLIGHT}",
        "disk": f"none ({no_disk})" if no_disk else "ext4 on a loop device",
    }
    for part in parts:
        say(f"{part} …")
        began = time.monotonic()
        result[part] = PARTS[part](wanted, no_disk)
        result[part]["took_s"] = round(time.monotonic() - began)
    result["promises"] = promises.of(result)
    return result


def broken(result: dict[str, Any]) -> bool:
    """Whether a promise was broken that holds on every machine, however slow."""
    return promises.lost(result["promises"]) or not result.get("crashes", {}).get("held", True)


def end_cleanly() -> None:
    """SIGTERM ends a run as Ctrl-C does: processes and mounts go with it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
