"""What happens in a history of crashes, drawn from a seed. Pure: the same seed gives the same plan everywhere."""

from __future__ import annotations

import random
from dataclasses import dataclass

NORTHS = ("up", "stopped", "silent", "never_acks", "loses_acks")
DISKS = ("plain", "slow_10", "slow_50", "full")
HOWS = ("kill", "power")
MOMENTS = ("load", "drain", "again")
RATES = (200, 2_000)


@dataclass(frozen=True)
class Crash:
    """One crash of the gateway and the restart after it.

    ``north``: what is wrong with the city meanwhile. ``disk``: how the gateway's disk is while it runs towards this
    crash. ``moment``: under load with the fault present, while the backlog drains after the fault, or again before the
    restart of the crash before has settled. ``after_s``: how long the fault outlasts the restart (0: it ends before).
    """

    number: int
    rate: int
    north: str
    disk: str
    how: str
    moment: str
    quiet_s: float  # before the fault
    fault_s: float
    drain_s: float
    after_s: float

    @property
    def sync_ms(self) -> int:
        return int(self.disk.removeprefix("slow_")) if self.disk.startswith("slow_") else 0


# The first crashes of every plan: each fault once, so that a short history has them all.
_OPENING = (
    ("stopped", "plain", "kill", "drain", 2_000),
    ("never_acks", "plain", "power", "load", 200),
    ("up", "plain", "kill", "again", 200),
    ("loses_acks", "slow_10", "power", "load", 2_000),
    ("silent", "plain", "kill", "load", 2_000),
    ("up", "full", "power", "load", 200),
    ("stopped", "slow_50", "power", "drain", 200),
    ("silent", "plain", "power", "again", 2_000),
)


def plan(seed: int, crashes: int) -> list[Crash]:
    """``crashes`` crashes. After the opening every pair (north, how) comes equally often, in an order of chance."""
    chance = random.Random(seed)
    deck = [(north, how) for north in NORTHS for how in HOWS]
    made: list[Crash] = []
    while len(made) < crashes:
        if len(made) < len(_OPENING):
            north, disk, how, moment, rate = _OPENING[len(made)]
            made.append(_crash(len(made), chance, rate, north, disk, how, moment))
            continue
        chance.shuffle(deck)
        for north, how in deck:
            moment = chance.choices(MOMENTS, (6, 3, 2))[0]
            disk = chance.choices(DISKS, (12, 3, 2, 3))[0]
            rate = chance.choices(RATES, (3, 2))[0]
            made.append(_crash(len(made), chance, rate, north, disk, how, moment))
    return made[:crashes]


def _crash(number: int, chance: random.Random, rate: int, north: str, disk: str, how: str, moment: str) -> Crash:
    if moment == "again":  # the daemon has hardly started: what was wrong with the city still is, or nothing
        north, disk = "up", "plain" if disk == "full" else disk
    if moment == "drain" and north == "up":
        moment = "load"
    return Crash(
        number=number,
        rate=rate,
        north=north,
        disk=disk,
        how=how,
        moment=moment,
        quiet_s=round(chance.uniform(0.2, 1.5), 3),
        fault_s=round(chance.uniform(0.6, 2.5), 3) if north != "up" or disk == "full" else 0.0,
        drain_s=round(chance.uniform(0.4, 1.2), 3) if moment == "drain" else 0.0,
        after_s=round(chance.uniform(0.3, 2.0), 3) if chance.random() < 0.4 and north != "up" else 0.0,
    )
