"""Does a bin know when it was emptied and when it is full? Labelled bin-days under measured noise, through the
firmware's own judgement.

Litter falls in at random; crews empty at fills as measured in Edinburgh (5,529 emptyings). What the ranger adds is
drawn from two real bins (Technical University of Denmark): how far each reading lies from the median of five around it.
Spikes and missing echoes come on top, 30 % of all. Modelled: the way of litter, the faults.
"""

from __future__ import annotations

import csv
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brim.core.events import EMPTIED, FULL, Senses, events_of
from brim.core.fill import judge
from brim.core.history import consider
from brim.core.rtc_state import Memory
from brim.core.settings import defaults

EMPTY_MM, FULL_MM = 1000, 200
BLIND_MM, MAX_MM = 30, 4500
SENSE_S, CONFIRM_S, DAY_S = 900, 120, 86_400
ECHOES = 15
ECHO_NOISE_MM = 3.0
SPIKES, MISSING = 0.15, 0.15


@dataclass
class Judged:
    """The firmware's judgement of one bin, as a wake does it; no radio, no sleep."""

    memory: Memory = field(default_factory=Memory)
    events: int = 0
    settings: dict[str, int] = field(default_factory=defaults)

    def sees(self, echoes: list[int]) -> tuple[str, int | None]:
        measured = judge(echoes, BLIND_MM, MAX_MM)
        measured = consider(measured, self.memory, EMPTY_MM, FULL_MM)
        self.events = events_of(measured, self.events, self.memory, Senses(), self.settings)
        return measured.status, measured.distance_mm


def residuals_mm(readings_cm: Sequence[int]) -> list[int]:
    """How far each reading lies from the median of the five around it, in mm."""
    return [
        round(10 * (readings_cm[at] - statistics.median(readings_cm[at - 2 : at + 3])))
        for at in range(2, len(readings_cm) - 2)
    ]


def burst(rng: random.Random, distance_mm: float, spikes: float = SPIKES, missing: float = MISSING) -> list[int]:
    """The echoes of one measurement: some are missing (0), some come from anywhere."""
    echoes = []
    for _ in range(ECHOES):
        chance = rng.random()
        if chance < missing:
            echoes.append(0)
        elif chance < missing + spikes:
            echoes.append(rng.randrange(1, MAX_MM))
        else:
            echoes.append(max(0, round(rng.gauss(distance_mm, ECHO_NOISE_MM))))
    return echoes


@dataclass
class Litter:
    """The true level of a bin. Most falls in by day; a crew comes when `target` is reached, or some hours later."""

    rng: random.Random
    fills_before: Sequence[float]
    fill: float = 0.0
    emptied_at_s: float = -1.0

    def __post_init__(self) -> None:
        self._per_hour = self.rng.uniform(0.008, 0.04)
        self._target = self._next_target()
        self._crew_at_s: float | None = None

    def _next_target(self) -> float:
        return max(0.02, self.rng.choice(self.fills_before))

    def advance(self, from_s: float, to_s: float) -> None:
        hour = from_s / 3600 % 24
        rate = self._per_hour * (1.5 if 7 <= hour < 22 else 0.2)
        expected = rate * (to_s - from_s) / 3600
        # Items of 1.5 % each on average.
        while expected > 0 and self.rng.random() < expected / 0.015:
            self.fill = min(1.1, self.fill + self.rng.expovariate(1 / 0.015))
            expected -= 0.015
        if self._crew_at_s is None and self.fill >= self._target:
            self._crew_at_s = to_s + self.rng.uniform(0, 6 * 3600)
        if self._crew_at_s is not None and to_s >= self._crew_at_s:
            self.fill, self.emptied_at_s, self._crew_at_s = 0.0, to_s, None
            self._target = self._next_target()

    @property
    def distance_mm(self) -> float:
        return EMPTY_MM - self.fill * (EMPTY_MM - FULL_MM)


def emptyings(
    residuals: Sequence[int], fills_before: Sequence[float], bins: int, days: int, seed: int
) -> dict[str, Any]:
    """Bin-days: was it emptied, and did it say so? Also the error of every number and every false `full`."""
    rng = random.Random(seed)
    days_right: Counter[tuple[bool, bool]] = Counter()
    false_full = 0
    errors: list[float] = []
    statuses: Counter[str] = Counter()
    for _ in range(bins):
        litter, judged = Litter(rng, fills_before), Judged()
        truth, said = [False] * days, [False] * days
        now_s = 0.0
        while now_s < days * DAY_S:
            before = judged.events
            surface_mm = litter.distance_mm + rng.choice(residuals)
            status, distance_mm = judged.sees(burst(rng, surface_mm))
            statuses[status] += 1
            day = int(now_s // DAY_S)
            if distance_mm is not None:
                errors.append(abs(distance_mm - surface_mm))
            if judged.events & EMPTIED and not before & EMPTIED:
                # What happened just before midnight may be said just after it.
                at_s = litter.emptied_at_s
                said[int(at_s // DAY_S) if 0 <= now_s - at_s < 2 * SENSE_S else day] = True
            if judged.events & FULL and not before & FULL and litter.fill < 0.75:
                false_full += 1
            step_s = CONFIRM_S if judged.memory.unsure else SENSE_S
            emptied_before = litter.emptied_at_s
            litter.advance(now_s, now_s + step_s)
            if litter.emptied_at_s != emptied_before and litter.emptied_at_s < days * DAY_S:
                truth[int(litter.emptied_at_s // DAY_S)] = True
            now_s += step_s
        days_right.update(zip(truth, said, strict=True))
    hits, misses = days_right[True, True], days_right[True, False]
    right = hits + days_right[False, False]
    errors.sort()
    return {
        "bin_days": bins * days,
        "emptied_days": hits + misses,
        "accuracy_pct": round(100 * right / (bins * days), 2),
        "recall_pct": round(100 * hits / max(1, hits + misses), 2),
        "false_alarms": days_right[False, True],
        "false_full": false_full,
        "p95_error_mm": round(errors[len(errors) * 95 // 100], 1),
        "measurements": sum(statuses.values()),
        "statuses": dict(statuses),
    }


# Faults: generators of bursts over a bin that is a third full at most. None of them may become full.


def _condensation(rng: random.Random, distance_mm: float) -> Iterator[list[int]]:
    """Drops on the sensor: most echoes at once, for hours; then they run off."""
    while True:
        for _ in range(rng.randrange(4, 40)):
            yield [rng.randrange(5, 45) if rng.random() < 0.8 else round(distance_mm) for _ in range(ECHOES)]
        for _ in range(rng.randrange(4, 40)):
            yield burst(rng, distance_mm)


def _hanging_bag(rng: random.Random, distance_mm: float) -> Iterator[list[int]]:
    """It swings: some echoes from it, some from behind it."""
    while True:
        bag_mm = rng.uniform(60, 400)
        for _ in range(rng.randrange(2, 60)):
            yield [
                round(rng.gauss(bag_mm, 40)) if rng.random() < 0.55 else round(rng.gauss(distance_mm, ECHO_NOISE_MM))
                for _ in range(ECHOES)
            ]
        for _ in range(rng.randrange(2, 60)):
            yield burst(rng, distance_mm)


def _cross_talk(rng: random.Random, distance_mm: float) -> Iterator[list[int]]:
    while True:
        yield burst(rng, distance_mm, spikes=0.5, missing=0.1)


def _no_echo(rng: random.Random, distance_mm: float) -> Iterator[list[int]]:
    while True:
        yield burst(rng, distance_mm, spikes=0.1, missing=rng.choice((0.5, 0.9, 1.0)))


def _silent(rng: random.Random, distance_mm: float) -> Iterator[list[int]]:
    while True:
        yield [] if rng.random() < 0.5 else burst(rng, distance_mm)


def _stuck(rng: random.Random, distance_mm: float) -> Iterator[list[int]]:
    """It says the same whatever lies there: its least, its most, or what it saw last."""
    for _ in range(20):
        yield burst(rng, distance_mm)
    value = rng.choice((0, 20, 4500, round(distance_mm)))
    while True:
        yield [value] * ECHOES


def _single_spikes(rng: random.Random, distance_mm: float) -> Iterator[list[int]]:
    """Whole measurements that are wrong, one at a time: a hand, a bird, a thrown bag on its way."""
    while True:
        near = rng.random() < 0.1
        yield burst(rng, rng.uniform(40, 250) if near else distance_mm)
        if near:
            yield burst(rng, distance_mm)


FAULTS: dict[str, Callable[[random.Random, float], Iterator[list[int]]]] = {
    "condensation": _condensation,
    "hanging bag": _hanging_bag,
    "cross-talk": _cross_talk,
    "no echo": _no_echo,
    "silent sensor": _silent,
    "stuck sensor": _stuck,
    "single spikes": _single_spikes,
}


def faults(measurements: int, seed: int) -> dict[str, dict[str, Any]]:
    """For each fault: how often a bin that is at most a third full said `full` (none), and what it said instead."""
    found = {}
    for name, fault in FAULTS.items():
        rng, full, statuses = random.Random(f"{seed} {name}"), 0, Counter[str]()
        for _ in range(max(1, measurements // 500)):
            judged, distance_mm = Judged(), rng.uniform(730, 1000)
            source = fault(rng, distance_mm)
            for _ in range(500):
                before = judged.events
                status, _ = judged.sees(next(source))
                statuses[status] += 1
                full += bool(judged.events & FULL and not before & FULL)
        found[name] = {"false_full": full, "statuses": dict(statuses)}
    return found


def measure(traces: Path, bins: int, days: int, measurements: int, seed: int) -> dict[str, Any]:
    """Everything above; see the keys of `emptyings` and `faults`."""
    residuals = [one for readings in dtu_readings(traces) for one in residuals_mm(readings)]
    return {
        "emptyings": emptyings(residuals, edinburgh_fills(traces), bins, days, seed),
        "faults": faults(measurements, seed),
    }


def dtu_readings(traces: Path) -> list[list[int]]:
    """The readings (about cm) of each node with more than a handful, in order of time."""
    nodes: dict[str, list[tuple[str, int]]] = {}
    with (traces / "dtu_2016_lorawan_frames.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["raw_value"].strip():
                nodes.setdefault(row["node_eui"], []).append((row["time_utc"], int(row["raw_value"])))
    return [[value for _, value in sorted(readings)] for readings in nodes.values() if len(readings) > 50]


def edinburgh_fills(traces: Path) -> list[float]:
    """How full bins were when they were emptied, 0..0.8 of their depth."""
    fills: list[float] = []
    with (traces / "edinburgh_2016_fills.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            fills += [0.8 * int(row["fill_before_pct_of_80pct"]) / 100] * int(row["emptyings"])
    return fills
