"""The demo as a user starts it, and what its account must say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_drains_and_leaves_nothing_running(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "brim_tools", "demo", "--json", "--bins", "2"]
    run = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert run.stdout is not None and run.stderr is not None
    for line in run.stderr:
        if "measures" in line:
            break
    os.killpg(run.pid, number)
    out, told = run.communicate(timeout=90)
    assert run.returncode == 0, told
    account = json.loads(out.splitlines()[-1])
    assert (account["lost"], account["altered"]) == (0, 0) and account["readings_measured"] > 0
    assert list(tmp_path.iterdir()) == []
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(str(tmp_path).encode() in line for line in running)
