"""Throw mutated and generated inputs at everything that hears strangers.

`python -m tests.faults.fuzz --inputs 1000000 --seed 1 [--only listener|udp|lorawan|control|…]`
Exit code 1 and the input where anything but the declared error comes out, where another client is not served
meanwhile, or where memory grows.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import resource
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.fuzz_common import Target
from tests.faults.fuzz_targets import TARGETS

GROWTH_MOST_BYTES = 8 << 20
"""Of the resident memory between a quarter and the end of a target's inputs: allocator noise stays far below."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target."""

    name: str
    inputs: int
    taken: int
    seconds: float
    growth_bytes: int
    fault: str | None = None


def fuzz(kind: type[Any], inputs: int, seed: int) -> Outcome:
    """``inputs`` of one target. The same seed gives the same inputs."""
    target: Target = kind(random.Random(f"{seed} {kind.__name__}"))
    taken = number = before = 0
    began = time.monotonic()
    data = b""
    try:
        for number in range(1, inputs + 1):
            data = target.make()
            taken += target.feed(data)
            if number == inputs // 4:
                before = _resident_bytes()
        grown = _resident_bytes() - before if before else 0
        data = b""
        target.close()
    except Exception:  # noqa: BLE001 - that is what is looked for
        fault = f"input {number}, seed {seed}: {data.hex()}\n{traceback.format_exc()}"
        return Outcome(kind.name, number, taken, time.monotonic() - began, 0, fault)
    growth = f"memory grew by {grown} bytes" if grown > GROWTH_MOST_BYTES else None
    return Outcome(kind.name, inputs, taken, time.monotonic() - began, grown, growth)


def run(inputs: int, seed: int, only: str | None = None) -> list[Outcome]:
    """All targets, or those of ``only``; at least ``inputs`` in all."""
    logging.getLogger("brim").setLevel(logging.CRITICAL + 1)
    chosen = [one for word, some in TARGETS.items() if only in (None, word) for one in some]
    whole = sum(share for _, share in chosen)
    return [fuzz(kind, max(1, -int(-inputs * share // whole)), seed) for kind, share in chosen]


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(TARGETS))
    given = parser.parse_args()
    began = time.monotonic()
    outcomes = run(given.inputs, given.seed, given.only)
    print(f"{'target':<18}{'inputs':>9}{'taken':>9}{'refused':>9}{'seconds':>9}{'us each':>9}{'growth KiB':>12}")
    for one in outcomes:
        each_us = one.seconds / one.inputs * 1e6
        print(
            f"{one.name:<18}{one.inputs:>9}{one.taken:>9}{one.inputs - one.taken:>9}{one.seconds:>9.1f}{each_us:>9.0f}"
            f"{one.growth_bytes // 1024:>12}"
        )
    faults = [one for one in outcomes if one.fault]
    total = sum(one.inputs for one in outcomes)
    print(f"{total} inputs, seed {given.seed}, {time.monotonic() - began:.0f} s: {len(faults)} faults")
    for one in faults:
        print(f"\n{one.name}: {one.fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
