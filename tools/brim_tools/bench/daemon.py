"""The gateway under measurement: the daemon as an operator starts it, in a process of its own.

A black box: configuration, ports, HTTP, signals. Its database is looked at only to check what it promised.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import time
import urllib.request
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from brim_gateway.config import OutputConfig

from brim_tools.bench.ledger import dev_of
from brim_tools.bench.procs import PYTHON, end, freeze, start
from brim_tools.demo.backend import free_port

_BRIM = [*PYTHON, "brim_tools", "gateway"]
TOPIC_IN, TOPIC_OUT = "brim/bin/{dev}/up", "brim/v1/bench/+/reading"
DEFAULT_WINDOW = next(int(str(field.default)) for field in fields(OutputConfig) if field.name == "window")
START_WITHIN_S = 60.0


@dataclass(frozen=True)
class Setup:
    """What a row of a benchmark changes in the configuration."""

    bins: int = 8
    protocol: str = "5"
    linger_ms: int = 20
    window: int = DEFAULT_WINDOW
    tls: bool = False


class Gateway:
    """Configuration, bins and process in ``folder``; the database in ``data_dir`` (there too, if not given)."""

    def __init__(self, folder: Path, north_port: int, setup: Setup, data_dir: Path | None = None) -> None:
        self.setup = setup
        self.port, self.http_port = free_port(), free_port()
        self.data_dir = data_dir or folder / "data"
        self.config, self.log = folder / "brim.toml", folder / "gateway.log"
        self.ca = self._certificates(folder) if setup.tls else None
        self.config.write_text(
            f'site = "bench"\ndata_dir = {json.dumps(str(self.data_dir))}\nlinger_ms = {setup.linger_ms}\n'
            f"control_socket = {json.dumps(str(folder / 'control.sock'))}\n"
            f'[mqtt_listener]\nlisten = "127.0.0.1:{self.port}"\n'
            + ('cert = "tls/data/tls/server.pem"\nkey = "tls/data/tls/server.key"\n' if setup.tls else "plain = true\n")
            + f'[http]\nlisten = "127.0.0.1:{self.http_port}"\n'
            f'[[output]]\nname = "north"\nurl = "mqtt://127.0.0.1:{north_port}"\n'
            f'protocol = "{setup.protocol}"\nwindow = {setup.window}\n'
        )
        self.logins = self._enrol(folder)
        self._process: subprocess.Popen[Any] | None = None

    @property
    def database(self) -> Path:
        return self.data_dir / "brim.db"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _run(self, *arguments: str, config: Path | None = None) -> None:
        command = [*_BRIM, *arguments, "--config", str(config or self.config)]
        done = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = done.communicate(timeout=120)
        if done.returncode:
            raise RuntimeError(f"brim gateway {' '.join(arguments[:2])} failed: {out.strip()[-500:]}")

    def _certificates(self, folder: Path) -> Path:
        """The certificates that `init` makes for a site."""
        (folder / "tls").mkdir()
        config = folder / "tls" / "brim.toml"
        self._run("init", "--site", "bench", "--tls-name", "localhost", "--wifi", "127.0.0.1:8883", config=config)
        return folder / "tls" / "data" / "tls" / "site-ca.pem"

    def _enrol(self, folder: Path) -> list[list[str]]:
        logins = [[dev_of(i), secrets.token_urlsafe(12)] for i in range(self.setup.bins)]
        rows = [f"bench-{i},{dev},wifi,{password}" for i, (dev, password) in enumerate(logins)]
        table = folder / "bins.csv"
        table.write_text("\n".join(["bin,dev,link,mqtt_password", *rows]) + "\n")
        self._run("bins", "import", str(table))
        return logins

    def launch(self, env: dict[str, str] | None = None) -> float:
        """Start it and return at once; the time of the exec."""
        with self.log.open("a") as log:
            began = time.perf_counter()
            self._process = start(
                [*_BRIM, "run", "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=env or {},
            )
        return began

    def ready(self) -> float:
        """Wait for the line that says that it serves; the time when it came."""
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ready "):
                return time.perf_counter()
        raise RuntimeError(f"the gateway did not start: {self.log.read_text()[-800:]}")

    def start(self, env: dict[str, str] | None = None) -> float:
        """Start it; seconds from exec to ready."""
        began = self.launch(env)
        return self.ready() - began

    def freeze(self) -> None:
        assert self._process is not None
        freeze(self._process)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._gone()

    def stop(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            end(self._process)
            self._gone()

    def _gone(self) -> None:
        assert self._process is not None
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def get(self, path: str) -> str:
        """One page of its HTTP port."""
        address = f"http://127.0.0.1:{self.http_port}/{path}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
