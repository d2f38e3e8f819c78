"""What systemd is told, and the unit it is given."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from brim_gateway import systemd
from brim_gateway.config import Config, OutputConfig
from brim_gateway.errors import ConfigInvalid
from brim_gateway.systemd import STATE_FOLDER, Notifier, unit_text

ANALYZE = shutil.which("systemd-analyze")
CONFIG = Config(site="cab-1", data_dir=STATE_FOLDER, control_socket=STATE_FOLDER / "control.sock")
MOST_EXPOSURE_TENTHS = 20


@pytest.mark.parametrize("kind", ["a path", "an abstract name"])
def test_systemd_hears_what_the_daemon_says(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "a path" else f"@brim-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        systemd.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": address})
        for say, heard in (
            (notifier.ready, "READY=1"),
            (notifier.watchdog, "WATCHDOG=1"),
            (notifier.stopping, "STOPPING=1"),
            (lambda: notifier.status("3 bins\nREADY=1"), "STATUS=3 bins READY=1"),
        ):
            say()
            assert systemd.recv(1_024).decode() == heard
        notifier.reloading()
        lines = systemd.recv(1_024).decode().split("\n")
        assert lines[0] == "RELOADING=1" and lines[1].removeprefix("MONOTONIC_USEC=").isdigit()


def test_without_systemd_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        notifier = Notifier(environment)
        notifier.ready()
        notifier.watchdog()
        assert notifier.watchdog_interval_s is None


def test_a_systemd_that_does_not_read_never_blocks_the_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2_000):
            notifier.watchdog()


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_where_it_is_meant_for_us(environment: dict[str, str], interval_s: float | None) -> None:
    assert Notifier(environment).watchdog_interval_s == interval_s


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    assert ANALYZE, "systemd-analyze is missing: apt-get install systemd"
    path = tmp_path / "brim-gateway.service"
    path.write_text(unit_text(Path("/etc/brim/brim.toml"), CONFIG, Path("/bin/true")))
    return path


def test_the_units_exposure_is_two_or_less(unit: Path) -> None:
    command = [str(ANALYZE), "security", "--offline=true", f"--threshold={MOST_EXPOSURE_TENTHS}", "--no-pager"]
    done = subprocess.run([*command, str(unit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    worse = unit.with_name("worse.service")
    worse.write_text(unit.read_text().replace("NoNewPrivileges=yes", "").replace("CapabilityBoundingSet=", ""))
    assert subprocess.run([*command, str(worse)], capture_output=True).returncode != 0, "the test sees nothing"


def test_systemd_finds_nothing_to_complain_of_in_the_unit(unit: Path) -> None:
    done = subprocess.run([str(ANALYZE), "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_notifies_is_watched_reloads_and_may_ask_for_the_clock(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    for line in (
        "Type=notify",
        "Restart=always",
        "WatchdogSec=60",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "ExecStart=/bin/true gateway run --config /etc/brim/brim.toml",
        "SystemCallFilter=adjtimex clock_adjtime",
    ):
        assert line in lines
    assert not any("{" in line for line in lines) and "ProtectClock=yes" not in lines


def test_a_place_that_the_units_user_could_not_write_is_refused_in_one_line() -> None:
    for config, path in (
        (replace(CONFIG, data_dir=Path("/srv/brim")), Path("/etc/brim/brim.toml")),
        (CONFIG, Path("/etc/my brim/brim.toml")),
        (CONFIG, Path("/etc/brim/%h.toml")),
    ):
        with pytest.raises(ConfigInvalid) as caught:
            unit_text(path, config, Path("/bin/true"))
        assert len(caught.value.problems) == 1


def test_after_the_first_start_the_unit_can_be_printed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved, link = tmp_path / "private" / "brim", tmp_path / "brim"
    (moved / "cab").mkdir(parents=True)
    link.symlink_to(moved)
    monkeypatch.setattr(systemd, "STATE_FOLDER", link)
    text = unit_text(Path("/etc/brim/brim.toml"), replace(CONFIG, data_dir=link / "cab"), Path("/bin/true"))
    assert f"ReadWritePaths={link}/cab" in text.splitlines()


@pytest.mark.parametrize("program", ["/home/anna/brim/.venv/bin/brim", "/root/.local/bin/brim"])
def test_a_program_in_a_home_folder_is_refused_because_the_unit_cannot_see_it(program: str) -> None:
    with pytest.raises(ConfigInvalid, match="install the program below /opt"):
        unit_text(Path("/etc/brim/brim.toml"), CONFIG, Path(program))


def test_each_credential_of_the_configuration_is_loaded_from_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    secret = Path("/run/credentials/brim-gateway.service/city-password")
    city = OutputConfig("city", "h", 8883, True, user="u", password_file=secret)
    text = unit_text(Path("/etc/brim/brim.toml"), replace(CONFIG, outputs=(city,)), Path("/bin/true"))
    assert "LoadCredential=city-password:/etc/brim/city-password" in text.splitlines()
    plain = replace(city, password_file=Path("/etc/brim/city.password"))
    with pytest.raises(ConfigInvalid, match=r'say "credential:city\.password" instead'):
        unit_text(Path("/etc/brim/brim.toml"), replace(CONFIG, outputs=(plain,)), Path("/bin/true"))
