"""How the litter rises (model microseconds), and when things go wrong (wall seconds). Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

EMPTY_MM = 1000
FULL_MM = 200
_HOUR_US = 3_600_000_000


def rising_litter(rng: random.Random) -> Callable[[int], int | None]:
    """A bin that fills in three to six hours and is emptied a while after it is full, again and again."""
    fill_us = rng.uniform(3.0, 6.0) * _HOUR_US
    wait_us = rng.uniform(0.5, 1.5) * _HOUR_US
    start_us = rng.uniform(0.0, 1.0) * fill_us
    bumps_mm = [rng.uniform(-25.0, 25.0) for _ in range(64)]

    def distance_mm(now_us: int) -> int:
        phase_us = (now_us + start_us) % (fill_us + wait_us)
        share = min(1.0, phase_us / fill_us)
        bump = bumps_mm[int(share * 63)]
        return round(max(120.0, EMPTY_MM - 30 - share * (EMPTY_MM - 150) + bump))

    return distance_mm


@dataclass(frozen=True)
class Timeline:
    """Wall seconds from the first wake."""

    cut_s: float
    outage_s: float
    kill_s: float
    end_s: float
    drain_s: float = 45.0


def timeline(run_s: float) -> Timeline:
    """In the middle the backend is cut off for 10 s, and the gateway is killed while it is."""
    cut_s = max(8.0, run_s * 0.4)
    return Timeline(cut_s=cut_s, outage_s=10.0, kill_s=cut_s + 4.0, end_s=max(run_s, cut_s + 14.0))
