"""The demo as a user starts it, and what its account must say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

KEYS = {
    "runtime", "bins", "links", "readings_measured", "readings_delivered", "lost", "duplicated", "joins",
    "gateway_kills", "backend_outage_s", "repeats", "counter_reuse", "heap_peak_bytes", "seconds",
}  # fmt: skip


def demo(*arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, object]]:
    command = [sys.executable, "-m", "brim_tools", "demo", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    lines = done.stdout.splitlines()
    assert lines, done.stderr[-2000:]
    return done, json.loads(lines[-1])


@pytest.mark.timeout(120)
def test_the_demo_loses_nothing_through_an_outage_and_a_kill() -> None:
    done, account = demo("--once", "--bins", "6")
    assert done.returncode == 0, done.stderr[-3000:]
    assert account.keys() >= KEYS
    assert str(account["runtime"]).startswith("micropython 1.29")
    assert account["links"] == {"lorawan": 3, "wifi": 3} and account["joins"] == 3
    assert (account["gateway_kills"], account["backend_outage_s"]) == (1, 10.0)
    assert (account["lost"], account["duplicated"], account["counter_reuse"], account["crashes"]) == (0, 0, 0, 0)
    measured = account["readings_measured"]
    assert isinstance(measured, int) and measured >= 30 and account["readings_delivered"] == measured
    assert isinstance(account["seconds"], float) and account["seconds"] <= 90
    heap = account["heap_peak_bytes"]
    assert isinstance(heap, int) and 0 < heap <= 110_000


@pytest.mark.timeout(120)
def test_the_same_firmware_runs_on_cpython_where_there_is_no_micropython() -> None:
    done, account = demo("--bins", "2", "--minutes", "0.3", "--runtime", "cpython")
    assert done.returncode == 0, done.stderr[-3000:]
    assert str(account["runtime"]).startswith("cpython 3.")
    assert account["lost"] == 0 and int(str(account["readings_measured"])) >= 4


def test_wrong_use_is_one_line_and_exit_code_2() -> None:
    command = [sys.executable, "-m", "brim_tools", "demo", "--runtime", "pypy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "pypy" in done.stderr
