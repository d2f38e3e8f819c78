"""A small part of the fuzzing, with the seed of the day of its writing; the whole is `python -m tests.faults.fuzz`."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.faults.fuzz import fuzz
from tests.faults.fuzz_targets import TARGETS

KINDS = [kind for some in TARGETS.values() for kind, _ in some]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_only_the_declared_error_comes_out(kind: type[Any]) -> None:
    outcome = fuzz(kind, 300 if kind.live else 2_000, seed=20261123)
    assert outcome.fault is None, outcome.fault
    # Inputs that are all refused at the first byte, or all taken, would test nothing.
    assert 0 < outcome.taken < outcome.inputs


def test_an_undeclared_error_is_found_and_its_input_told() -> None:
    class Faulty:
        name, live = "faulty", False

        def __init__(self, source: random.Random) -> None:
            self._random = source

        def make(self) -> bytes:
            return self._random.randbytes(4)

        def feed(self, data: bytes) -> bool:
            if data[0] == 0x2A:
                raise KeyError(data)
            return True

        def close(self) -> None:
            pass

    outcome = fuzz(Faulty, 10_000, seed=1)
    assert outcome.fault is not None and "KeyError" in outcome.fault and ": 2a" in outcome.fault
    assert fuzz(Faulty, 10_000, seed=1).inputs == outcome.inputs, "the same seed, the same input"


def test_growing_memory_is_found() -> None:
    class Hoarder:
        name, live = "hoarder", False
        kept: list[bytes] = []

        def __init__(self, source: random.Random) -> None:
            pass

        def make(self) -> bytes:
            return b"x"

        def feed(self, data: bytes) -> bool:
            self.kept.append(bytes(bytearray(50_000)))
            return True

        def close(self) -> None:
            self.kept.clear()

    outcome = fuzz(Hoarder, 1_000, seed=1)
    assert outcome.fault is not None and "memory grew" in outcome.fault
