"""The city's broker of a benchmark: a real mosquitto that can be stopped, started, frozen and thawed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from brim_tools.bench.procs import end, start, wait_until
from brim_tools.demo.backend import free_port

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on an ordinary user's PATH
INFLIGHT = 1_000
"""What the city's broker lets be unacknowledged. Its default is 20, which would measure the broker's patience."""


def find_mosquitto() -> str:
    """The program; RuntimeError with what to do where there is none."""
    program = shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), *_SBIN)))
    if program is None:
        raise RuntimeError("this benchmark needs mosquitto: apt install mosquitto")
    return program


def mosquitto_version() -> str:
    out = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True).stdout
    return out.splitlines()[0].replace(" version", "")


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2):
            return True
    except OSError:
        return False


class Mosquitto:
    """One broker on 127.0.0.1 with ``settings`` as its configuration; ``north_settings()`` for the city's."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        # As root mosquitto would become another user, who may not write here.
        user = "user root\n" if os.geteuid() == 0 else ""
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{user}{settings}")
        self._process: subprocess.Popen[Any]
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> float:
        """Returns when it listens; the time at which it was seen to."""
        self._process = start([find_mosquitto(), "-c", str(self._config)])
        wait_until(lambda: self._process.poll() is not None or listens(self.port), "mosquitto listens", 20.0, 0.001)
        if self._process.poll() is not None:
            raise RuntimeError(f"mosquitto ended at once, exit code {self._process.returncode}")
        return time.perf_counter()

    def stop(self) -> None:
        end(self._process)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Mosquitto:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def north_settings(folder: Path, *, keeps: bool = False) -> str:
    """No queue limit: the north loses nothing of what it was handed. ``keeps``: its subscriptions outlive a stop."""
    kept = f"persistence true\npersistence_location {folder}/\nautosave_interval 0\n" if keeps else ""
    return f"set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages {INFLIGHT}\n{kept}"
