"""What a bin says of itself, against what happened: a part of `python -m brim_tools.bench sensing`."""

from __future__ import annotations

from pathlib import Path

import pytest
from brim.core.fill import judge
from brim_tools.bench import sensing

TRACES = Path(__file__).parents[1] / "data" / "traces"


@pytest.mark.parametrize("seed", [11, 12])
def test_a_bin_knows_when_it_was_emptied_and_never_says_full_too_early(seed: int) -> None:
    found = sensing.measure(TRACES, bins=20, days=30, measurements=500, seed=seed)["emptyings"]
    assert found["emptied_days"] > 200
    assert found["accuracy_pct"] >= 99.1 and found["recall_pct"] >= 98.2
    assert found["p95_error_mm"] <= 20
    assert found["false_full"] == 0


@pytest.mark.parametrize("name", sensing.FAULTS)
def test_no_fault_of_a_sensor_is_taken_for_a_full_bin(name: str) -> None:
    found = sensing.faults(5_000, 7)[name]
    assert found["false_full"] == 0
    # It is a fault indeed: some of it is seen.
    assert set(found["statuses"]) - {"ok"}


def test_there_is_never_a_number_without_five_echoes() -> None:
    for echoes in ([], [0] * 15, [900] * 4 + [0] * 11, [20] * 15, [6_000] * 15):
        assert judge(echoes, 30, 4_500).distance_mm is None


def test_the_real_traces_are_judged_without_a_false_alarm_of_a_fault() -> None:
    for readings in sensing.dtu_readings(TRACES):
        judged, believed = sensing.Judged(), 0
        for value in readings:
            status, distance_mm = judged.sees([10 * value] * 5)
            assert status in ("ok", "jumped", "too_close", "stuck")
            believed += status == "ok"
            assert distance_mm is None or distance_mm == 10 * value
        # Half an hour and more lies between two readings of these bins: much of what they saw changed meanwhile.
        assert believed > len(readings) // 2
