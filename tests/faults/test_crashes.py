"""A history of crashes in small, as the benchmark runs it in large: every fault of the north and of the disk once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
from brim_tools.bench.crash_plan import DISKS, HOWS, MOMENTS, NORTHS, RATES, plan

CRASHES = 8


def bench(*arguments: str) -> tuple[int, dict[str, Any]]:
    """In a process of its own: its mounts are nobody else's."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "brim_tools.bench", "relay", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=110)
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, result


def test_crashes_and_faults_lose_nothing_that_was_acknowledged() -> None:
    code, result = bench("--only", "crashes", "--crashes", str(CRASHES), "--seed", "2")
    part = result["crashes"]
    print(json.dumps(part))
    assert part["crashes"] == CRASHES and part["acknowledged"] > 1_000
    assert (part["lost_in_journal"], part["lost_in_north"], part["lost_at"]) == (0, 0, [])
    assert (part["doubled_in_journal"], part["altered"], part["integrity"]) == (0, 0, "ok")
    assert part["connections_over_window"] == 0, part
    assert part["unsettled"] == "" and part["held"] and code == 0
    if os.geteuid() != 0:
        assert "power cut not run: not root" in part["not_run"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("cc"), reason="needs root for a disk, and a C compiler")
def test_a_disk_that_only_says_it_has_written_is_found_out() -> None:
    """Of the benchmark itself: a history that finds nothing here would find nothing anywhere."""
    code, result = bench("--only", "crashes", "--crashes", "2", "--seed", "5", "--lying-disk")
    part = result["crashes"]
    assert part["lost_in_journal"] > 0 and not part["held"] and code == 1


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan(7, 200) == plan(7, 200) != plan(8, 200)
    assert plan(7, 200)[:50] == plan(7, 50)


def test_a_plan_has_every_fault_from_its_beginning_and_all_pairs_in_its_length() -> None:
    for crashes in (plan(3, CRASHES), plan(3, 200)):
        assert {crash.north for crash in crashes} == set(NORTHS)
        assert {crash.disk for crash in crashes} == set(DISKS)
        assert {crash.how for crash in crashes} == set(HOWS)
        assert {crash.moment for crash in crashes} == set(MOMENTS)
        assert {crash.rate for crash in crashes} == set(RATES)
    long = plan(3, 200)
    assert len({(crash.north, crash.how, crash.rate) for crash in long}) == len(NORTHS) * len(HOWS) * len(RATES)
    assert [crash.number for crash in long] == list(range(200))
