"""The daemon as a process of its own, with TLS for Wi-Fi bins and UDP for concentrators, and no city."""

from __future__ import annotations

import os
import resource
import secrets
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brim_gateway.config import parse
from brim_gateway.offline import perform
from brim_gateway.pki import make_site

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@dataclass(frozen=True)
class WifiLogin:
    """What a Wi-Fi bin is given."""

    dev: str
    password: str


class Daemon:
    """``with Daemon(folder) as daemon``; register before, with ``add_wifi`` and ``add_lorawan``."""

    def __init__(self, folder: Path, listener: str = "") -> None:
        self.folder = folder
        self.files = make_site(folder / "tls", "cab-1", ["localhost"])
        self.text = (
            f'site = "cab-1"\ndata_dir = "data"\n[udp]\nlisten = "127.0.0.1:0"\n'
            f'[mqtt_listener]\nlisten = "127.0.0.1:0"\ncert = "{self.files.cert}"\nkey = "{self.files.key}"\n{listener}'
        )
        (folder / "brim.toml").write_text(self.text)
        self.config = parse(self.text, folder / "brim.toml")
        self.log = folder / "daemon.log"
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[str] | None = None

    def add_wifi(self, count: int) -> list[WifiLogin]:
        """New Wi-Fi bins; their passwords are checked as slowly as anybody's."""
        logins = [WifiLogin(f"0200000000{i:06x}", secrets.token_urlsafe(16)) for i in range(count)]
        rows = [
            [f"W-{i}", {"bin": f"W-{i}", "link": "wifi", "dev": one.dev, "mqtt_password": one.password}]
            for i, one in enumerate(logins)
        ]
        self.ask("bins.add", rows=rows)
        return logins

    def add_lorawan(self, count: int) -> list[dict[str, str]]:
        """New LoRaWAN bins: their entries of the keys file."""
        keys: list[dict[str, str]] = self.ask("bins.add", rows=[[f"L-{i}", {"bin": f"L-{i}"}] for i in range(count)])[
            "keys"
        ]
        return keys

    def ask(self, verb: str, **args: Any) -> Any:
        return perform(self.config, verb, args)

    def __enter__(self) -> Daemon:
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "brim_gateway.cli", "run", "--config", str(self.folder / "brim.toml")],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=ENVIRONMENT,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("ready "), line + self.log.read_text()
        for word in line.split()[1:]:
            name, _, where = word.partition("=")
            self.ports[name] = int(where.rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.terminate()
        try:
            code = self._process.wait(20)
        finally:
            self._process.kill()
            self._process.stdout.close()
        assert code == 0, self.log.read_text()[-2_000:]

    def resident_bytes(self) -> int:
        """The process's memory."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def uids(self) -> list[str]:
        """What the journal holds, in order."""
        connection = sqlite3.connect(f"file:{self.config.database}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "SELECT json_extract(reading, '$.dev') || ':' || json_extract(reading, '$.epoch') || ':' ||"
                " json_extract(reading, '$.seq') FROM journal ORDER BY id"
            )
            return [row[0] for row in rows]
        finally:
            connection.close()
