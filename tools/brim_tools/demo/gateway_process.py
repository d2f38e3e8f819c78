"""The gateway of the demo: the real daemon in a process of its own, set up by the commands an operator would type."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from brim_tools.demo.backend import free_port

SITE = "demo-cabinet"
_BRIM = [sys.executable, "-m", "brim_tools", "gateway"]


class GatewayProcess:
    """Config, registry and process in `folder`. `kill()` is SIGKILL; `start()` brings it back on the same ports."""

    def __init__(self, folder: Path, backend_port: int) -> None:
        self.config = folder / "brim.toml"
        self.log = folder / "gateway.log"
        self.keys_file = folder / "keys.json"
        self.udp_port, self.mqtt_port, self.http_port = free_port(socket.SOCK_DGRAM), free_port(), free_port()
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._brim(
            "init", "--site", SITE, "--tls-name", "localhost",
            "--wifi", f"127.0.0.1:{self.mqtt_port}", "--output-url", f"mqtt://127.0.0.1:{backend_port}",
        )  # fmt: skip
        text = self.config.read_text()
        text = text.replace('"127.0.0.1:1700"', f'"127.0.0.1:{self.udp_port}"')
        self.config.write_text(text.replace('"127.0.0.1:8080"', f'"127.0.0.1:{self.http_port}"'))

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/"

    @property
    def site_ca_pem(self) -> str:
        return (self._folder / "data" / "tls" / "site-ca.pem").read_text()

    def _brim(self, *arguments: str) -> str:
        done = subprocess.run(
            [*_BRIM, *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        if done.returncode:
            raise RuntimeError(f"brim gateway {arguments[0]} failed: {(done.stderr or done.stdout).strip()[:500]}")
        return done.stdout

    def enrol(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        """Register bins as an operator does, with a CSV; returns the keys file's entries."""
        columns = list(rows[0])
        table = self._folder / "bins.csv"
        lines = [",".join(columns), *(",".join(row[column] for column in columns) for row in rows)]
        table.write_text("\n".join(lines) + "\n")
        self._brim("bins", "import", str(table), "--keys-file", str(self.keys_file))
        keys: list[dict[str, str]] = json.loads(self.keys_file.read_text())
        return keys

    def start(self, *, wait: bool = True) -> None:
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*_BRIM, "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the demo, which ends it after the drain
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until the daemon prints its ready line; RuntimeError with the end of its log if it ends instead."""
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ready "):
                return
        raise RuntimeError(f"the gateway did not start: {self.log.read_text()[-800:]}")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._ended()

    def stop(self) -> int:
        """SIGTERM, then SIGKILL; the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._ended()

    def _ended(self) -> int:
        assert self._process is not None
        if self._process.stdout is not None:
            self._process.stdout.close()
        return self._process.wait()

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.page + "health", timeout=5) as answer:  # noqa: S310 - our own address
            result: dict[str, Any] = json.load(answer)
            return result
