"""systemd: what the daemon tells it (sd_notify), and the unit that it runs the daemon by.

The protocol is a datagram of ``KEY=value`` lines to $NOTIFY_SOCKET (sd_notify(3)); no library is needed.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from brim_gateway.config import Config
from brim_gateway.credentials import UNIT, is_given_by_systemd
from brim_gateway.errors import ConfigInvalid

STATE_FOLDER = Path("/var/lib/brim")
"""What StateDirectory= makes: the one place that a user made at start can keep something in. From the first start on it
is a link to where systemd keeps it (DynamicUser=)."""
HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"))
"""What ProtectHome= takes out of the unit's sight."""


class Notifier:
    """Tells systemd; every method does nothing where nobody listens, and never raises."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        known = os.environ if environment is None else environment
        self._address = known.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self.watchdog_interval_s = _watchdog_s(known)

    def ready(self) -> None:
        """The start, or a reload, is over."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split())[:500])

    def watchdog(self) -> None:
        """Alive. Call it at half of ``watchdog_interval_s``."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                # A systemd that does not read must not stop the gateway: rather a late answer than a blocked loop.
                out.setblocking(False)
                out.sendto(text.encode(), self._address)
        except OSError:
            pass


def _watchdog_s(known: Mapping[str, str]) -> float | None:
    """$WATCHDOG_USEC in seconds, where it is meant for this process (sd_watchdog_enabled(3))."""
    text, pid = known.get("WATCHDOG_USEC", ""), known.get("WATCHDOG_PID", "")
    if not text.isascii() or not text.isdigit() or int(text) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(text) / 1e6


def unit_text(config_path: Path, config: Config, program: Path | None = None) -> str:
    """The unit with its paths. Raises ConfigInvalid where a user made at start could not reach them."""
    found = program or _program()
    data_dir = config.data_dir.resolve()
    secrets = _secrets(config)
    problems = [
        f"{path}: a path in a unit may hold no space, quote, % or backslash; move it"
        for path in (config_path, data_dir, found)
        if any(character in str(path) for character in " %\n\"'\\")
    ]
    problems += [
        f"{path}: the unit does not see home folders; install the program below /opt, the configuration below /etc"
        for path in (config_path, found)
        if any(hidden in path.parents for hidden in HIDDEN)
    ]
    state_folder = STATE_FOLDER.resolve()
    if state_folder != data_dir and state_folder not in data_dir.parents:
        problems.append(
            f"{config_path}: data_dir: {data_dir}: the unit may write only below {STATE_FOLDER};"
            f' say data_dir = "{STATE_FOLDER}"'
        )
    problems += [
        f'{config_path}: {path}: the unit\'s user cannot read it; say "credential:{path.name}" instead'
        for path in secrets
        if not is_given_by_systemd(path) and data_dir not in path.resolve().parents
    ]
    if problems:
        raise ConfigInvalid(problems)
    names = sorted({path.name for path in secrets if is_given_by_systemd(path)})
    template = (resources.files("brim_gateway.service") / UNIT).read_text(encoding="utf-8")
    for name, value in (
        ("site", config.site),
        ("program", str(found)),
        ("config", str(config_path)),
        ("data_dir", str(STATE_FOLDER / data_dir.relative_to(state_folder))),
        ("credentials", "".join(f"LoadCredential={name}:{config_path.parent / name}\n" for name in names)),
    ):
        template = template.replace("{" + name + "}", value)
    return template


def _secrets(config: Config) -> list[Path]:
    """Every file of the configuration that nobody else may read, and every credential."""
    listener = config.mqtt_listener
    private = [path for output in config.outputs for path in (output.password_file, output.key)]
    public = [path for output in config.outputs for path in (output.ca, output.cert)]
    if listener is not None:
        private.append(listener.key)
        public += [listener.cert, listener.client_ca]
    given = [path for path in public if path is not None and is_given_by_systemd(path)]
    return [path for path in private if path is not None] + given


def _program() -> Path:
    """The `brim` of this installation: beside its interpreter, or on PATH."""
    beside = Path(sys.executable).parent / "brim"
    found = beside if beside.is_file() else Path(shutil.which("brim") or "/usr/local/bin/brim")
    return found.absolute()
