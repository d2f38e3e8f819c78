"""The relay benchmark in small: it is a test of delivery, never of speed."""

from __future__ import annotations

from brim_tools.bench.relay import BINS, measure


def test_everything_acknowledged_arrives_and_the_row_says_against_what() -> None:
    result = measure(BINS * 100)
    brim = [row for row in result["rows"] if row["relay"].startswith("brim")]
    assert [row["relay"] for row in brim] == ["brim, MQTT 3.1.1", "brim, MQTT 5"]
    for row in brim:
        assert (row["readings"], row["lost"], row["repeats"]) == (BINS * 100, 0, 0)
        assert row["readings_per_second"] > 0 and row["ratio_to_bare"] > 0
    assert result["rows"][-1]["relay"].startswith("bare paho relay")
