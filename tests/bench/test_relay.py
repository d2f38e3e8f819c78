"""The relay benchmark in small: tests of delivery and of the benchmark itself, never of speed."""

from __future__ import annotations

import pytest
from brim_tools.bench import speed
from brim_tools.bench.relays import BARE, BRIDGE, BRIM, Candidate


@pytest.mark.parametrize("candidate", [*BRIM[:2], BARE, BRIDGE], ids=lambda candidate: candidate.name)
def test_everything_acknowledged_arrives_once_and_unaltered(candidate: Candidate) -> None:
    row = speed.run(candidate, 800)
    assert (row["readings"], row["lost"], row["not_acknowledged"]) == (800, 0, 0)
    assert (row["repeats"], row["altered"]) == (0, 0)
    assert row["readings_per_second"] > 0 and row["peak_rss_mb"] > 0
