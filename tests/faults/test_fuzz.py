"""A small part of the fuzzing, with the seed of the day of its writing; the whole is `python -m tests.faults.fuzz`."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from brim.lorawan.mac import Mac
from brim_gateway.network.reception import Reception, UplinkResult
from brim_gateway.network.server import NetworkServer

from tests.faults.fuzz import fuzz
from tests.faults.fuzz_lorawan import LorawanDevice, LorawanServer
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


def test_a_server_that_believes_an_unsigned_frame_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = NetworkServer.on_uplink

    def careless(self: NetworkServer, reception: Reception, now_us: int) -> UplinkResult:
        result = real(self, reception, now_us)
        if result.kind == "refused" and result.reason == "mic":
            f_cnt = reception.phy[6] | reception.phy[7] << 8
            return replace(result, kind="data", dev="70b3d57ed0000004", f_cnt=f_cnt)
        return result

    monkeypatch.setattr(NetworkServer, "on_uplink", careless)
    outcome = fuzz(LorawanServer, 2_000, seed=1)
    assert outcome.fault is not None and "AssertionError" in outcome.fault


def test_a_device_that_believes_an_unsigned_frame_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Mac.on_frame

    def careless(self: Mac, phy: bytes, snr_db: int) -> Any:
        found = real(self, phy, snr_db)
        return [] if found is None and len(phy) > 12 else found

    monkeypatch.setattr(Mac, "on_frame", careless)
    outcome = fuzz(LorawanDevice, 2_000, seed=1)
    assert outcome.fault is not None and "nobody signed" in outcome.fault


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
