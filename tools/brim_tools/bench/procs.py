"""Processes of a benchmark: started so that they end with it, and what the kernel says about them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PYTHON = [sys.executable, "-m"]
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """In the child: SIGKILL when the benchmark ends, however it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command: list[str], **more: Any) -> subprocess.Popen[Any]:
    """Start ``command`` away from the terminal's Ctrl-C; it dies with us."""
    path = os.pathsep.join(part for part in sys.path if part)
    environment = os.environ | {"PYTHONPATH": path} | more.pop("env", {})
    return subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        preexec_fn=_die_with_parent,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more},
    )


def end(process: subprocess.Popen[Any], within_s: float = 20.0) -> int:
    """SIGTERM, SIGCONT in case it was stopped, and SIGKILL where that does not help; the exit code."""
    for number in (signal.SIGTERM, signal.SIGCONT):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def tree(pid: int) -> list[int]:
    """``pid`` and its descendants that live now."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of these process trees so far, their ended children included."""
    ticks = 0
    for root in pids:
        for pid in tree(root):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += sum(int(field) for field in fields[11:15])
    return ticks * _TICK_S


def memory_mb(pids: Iterable[int], peak: bool = False) -> float:
    """Resident memory of these process trees, or the sum of their peaks since ``forget_peak``."""
    kib, key = 0, "VmHWM:" if peak else "VmRSS:"
    for root in pids:
        for pid in tree(root):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(key):
                        kib += int(line.split()[1])
    return kib / 1024


def forget_peak(pids: Iterable[int]) -> None:
    """Begin the peak of ``memory_mb`` anew."""
    for root in pids:
        for pid in tree(root):
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")


def written_bytes(pid: int) -> int:
    """What the kernel charges this process with as written to storage."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def freeze(process: subprocess.Popen[Any], within_s: float = 10.0) -> None:
    """SIGSTOP, and wait until every thread stands still: nothing leaves the process after this."""
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: _stands_still(process.pid), "the frozen process stands still", within_s, every_s=0.0005)


def _stands_still(pid: int) -> bool:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return all((task / "stat").read_text().rsplit(")", 1)[1].split()[0] in "TtZ" for task in tasks)


def wait_until(true: Callable[[], Any], what: str, within_s: float, every_s: float = 0.02) -> Any:
    """Poll what another process does; RuntimeError at the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := true()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:.0f} s: {what}")
        time.sleep(every_s)
    return found


def say(text: str) -> None:
    """Progress of long work; standard output is for the result."""
    print(text, file=sys.stderr, flush=True)


class Helper:
    """A process of the benchmark's own: one JSON object a line in, one out. It ends when its input does."""

    def __init__(self, module: str, **job: Any) -> None:
        self.process = start(
            [*PYTHON, f"brim_tools.bench.{module}", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self._name = module
        self._read()

    def ask(self, **command: Any) -> dict[str, Any]:
        self._in.write(json.dumps(command) + "\n")
        self._in.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._out.readline()
        if not line:
            raise RuntimeError(f"the {self._name} ended, exit code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def cpu_s(self) -> float:
        return cpu_s([self.process.pid])

    def close(self) -> None:
        self._in.close()
        end(self.process)
        self._out.close()

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def obey(ready: dict[str, Any], answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The helper's side: say ``ready``, then answer every command until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps(ready), flush=True)
    while line := await reader.readline():
        print(json.dumps(answer(json.loads(line))), flush=True)
