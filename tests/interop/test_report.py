"""The report names the oracles as they are installed; a newer one means a new run."""

from __future__ import annotations

from tests.interop.oracles import oracles
from tests.interop.report import REPORT, write


def test_the_report_names_the_oracles_with_the_versions_that_are_here() -> None:
    text = REPORT.read_text(encoding="utf-8")
    for one in oracles():
        assert one.found, f"{one.name} is not installed"
        assert f"| {one.name} | {one.found} |" in text, "run python -m tests.interop.report"


def test_a_failed_test_and_a_missing_oracle_are_said() -> None:
    found = [type(one)(one.name, "", one.origin, one.checks) for one in oracles()[:1]]
    text = write("2026-01-01", found, {"test_x.py": {"passed": 3, "failed": 2}})
    assert "| `test_x.py` | 3 | 2 |" in text and f"| {found[0].name} | not installed |" in text
