"""What every stranger meets: the real daemon, plain or with TLS, two bins, and a disk that the test can stop."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brim_gateway.pki import make_site

from tests.gateway.support import PLAIN_LISTENER, RunningGateway, make_config, wait_until

LINE_WITHIN_S = 20.0


@dataclass
class World:
    """A running gateway and what a bin of it is given."""

    gateway: RunningGateway
    ca: Path | None
    dev: str = field(init=False)
    password: str = field(init=False)
    other: str = field(init=False)
    _go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.dev, self.password = self.gateway.add_wifi("B-1")
        self.other, _ = self.gateway.add_wifi("B-2")

    @property
    def port(self) -> int:
        return self.gateway.port("mqtt")

    def given(self, version: int) -> dict[str, Any]:
        """What a stranger's program is started with."""
        ca = str(self.ca) if self.ca else None
        return {
            "port": self.port,
            "ca": ca,
            "dev": self.dev,
            "password": self.password,
            "other": self.other,
            "version": version,
        }

    def seqs(self) -> list[int]:
        """The readings on disk."""
        return [row["seq"] for row in self.gateway.rows()]

    def stop_disk(self) -> None:
        """No commit ends before ``start_disk``."""
        store = self.gateway.gateway.store
        self.gateway.loop.call_soon_threadsafe(lambda: store.run(lambda _: self._go_on.wait(30)))

    def start_disk(self) -> None:
        self._go_on.set()

    def wait_published(self, count: int) -> None:
        counters = self.gateway.gateway.wifi.counters
        wait_until(lambda: counters["publishes"] == count, f"{count} publishes taken in")

    def command(self, payload: bytes) -> None:
        """Send a command to the bin."""
        listener = self.gateway.gateway.listener
        assert listener is not None
        self.gateway.loop.call_soon_threadsafe(listener.send, self.dev, payload)

    def cut(self) -> None:
        """Break the bin's connection."""
        listener = self.gateway.gateway.listener
        assert listener is not None
        self.gateway.loop.call_soon_threadsafe(lambda: listener.sessions[self.dev].abort())
        wait_until(lambda: self.dev not in listener.sessions, "the connection is gone")


@contextlib.contextmanager
def world(folder: Path, *, tls: bool) -> Iterator[World]:
    """The daemon of this test."""
    if tls:
        files = make_site(folder / "tls", "cab-1", ["localhost"])
        listener = f'[mqtt_listener]\nlisten = "127.0.0.1:0"\ncert = "{files.cert}"\nkey = "{files.key}"\n'
    else:
        listener = PLAIN_LISTENER
    with RunningGateway(make_config(folder, listener)) as gateway:
        here = World(gateway, files.ca if tls else None)
        try:
            yield here
        finally:
            here.start_disk()


class Stranger:
    """A program that says what it sees, a line a step."""

    def __init__(self, command: list[str], **more: Any) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            bufsize=0,
            **more,
        )
        self._unread = b""

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def line(self, within_s: float = LINE_WITHIN_S) -> str | None:
        """Its next line; None where none comes in that time. Fails where the program has ended."""
        assert self._process.stdout is not None and self._process.stderr is not None
        deadline = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                more = os.read(self._process.stdout.fileno(), 4096)
                assert more, f"it ended: {self._process.stderr.read().decode()[-2_000:]}"
                self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def tell(self, text: str = "") -> None:
        """A line on its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    def ends_well(self) -> None:
        assert self._process.stderr is not None
        assert self._process.wait(LINE_WITHIN_S) == 0, self._process.stderr.read().decode()[-2_000:]


def as_text(given: dict[str, Any]) -> str:
    return json.dumps(given)
