"""What the relay benchmark says of its figures."""

from __future__ import annotations

from typing import Any

from brim_tools.bench import promises, report
from brim_tools.bench.memory import slope

CRASHES: dict[str, Any] = {
    "seed": 1, "crashes": 3, "seconds": 60, "protocol": "5", "acknowledged": 900, "lost_in_journal": 0,
    "lost_in_north": 0, "doubled_in_journal": 0, "altered": 0, "repeats_in_north": 9, "connections": 4,
    "most_repeats_of_a_connection": 5, "most_in_flight": 100, "window": 100, "connections_over_window": 0,
    "integrity": "ok", "unsettled": "", "lost_at": [], "kinds": {"kill": 3}, "held": True,
    "restart_to_ready_s": {"median": 0.4, "most": 0.5}, "not_run": ["power cut not run: not root"], "took_s": 61,
}  # fmt: skip


def of(part: dict[str, Any]) -> dict[str, Any]:
    return {"crashes": part}


def test_a_lost_reading_or_too_many_repeats_break_the_promise() -> None:
    assert not promises.lost(promises.of(of(CRASHES)))
    for key in ("lost_in_journal", "lost_in_north", "doubled_in_journal", "altered"):
        assert promises.lost(promises.of(of(CRASHES | {key: 1}))), key
    assert promises.lost(promises.of(of(CRASHES | {"most_repeats_of_a_connection": 101})))


def test_a_slow_machine_breaks_no_promise_that_holds_everywhere() -> None:
    rows = promises.of(of(CRASHES | {"seconds": 3_600}))
    assert [row["promise"] for row in rows if not row["held"]] == ["crashes: minutes"]
    assert not promises.lost(rows)


def test_the_table_says_what_was_not_run() -> None:
    machine = {
        "date": "d",
        "cores": 2,
        "kernel": "k",
        "python": "p",
        "sqlite": "s",
        "north": "n",
        "disk": "none (not root)",
    }
    text = "\n".join(report.lines({**machine, **of(CRASHES), "promises": promises.of(of(CRASHES))}))
    assert "power cut not run: not root" in text
    assert "NOT HELD" not in text


def test_the_slope_of_memory_is_in_mb_per_million_readings() -> None:
    assert slope([(0, 10.0), (500_000, 11.0), (1_000_000, 12.0)]) == 2.0
    assert slope([(0, 10.0)]) == 0.0
