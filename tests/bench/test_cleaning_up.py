"""However a benchmark ends, its processes and its mounts end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def processes_in(folder: Path) -> list[int]:
    """Processes whose command line names ``folder``, the benchmark itself excepted."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def loops_in(folder: Path) -> list[str]:
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if str(folder) in path.read_text():
                found.append(path.parts[3])
    return found


def wait_until(true: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_nothing_of_a_run_outlives_it(tmp_path: Path, number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "brim_tools.bench", "relay", "--only", "crashes", "--crashes", "50"]
    process = subprocess.Popen(
        command,
        env=environment | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # Broker, counter, proxy, load and gateway.
        wait_until(lambda: len(processes_in(tmp_path)) >= 5, "the history has begun")
        assert bool(loops_in(tmp_path)) == (os.geteuid() == 0)
    finally:
        process.send_signal(number)
        process.wait(30)
    wait_until(lambda: not processes_in(tmp_path), "all processes have ended")
    wait_until(lambda: not loops_in(tmp_path), "all disks are gone")
    if number == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []
