"""`brim gateway doctor` on really broken installations: it names what is wrong, what to do, and touches nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from brim_gateway.cli import app
from brim_gateway.config import Config, load
from brim_gateway.doctor import examine, place, surroundings
from brim_gateway.doctor.finding import Finding
from brim_gateway.offline import perform
from brim_gateway.pki import make_site
from typer.testing import CliRunner

from tests.gateway.support import Broker, RunningGateway, free_port

BASE = 'site = "cab-1"\nclock = "trusted"\nkeep_max_mb = 1\n'


def tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file with its mode, time and content: what must be the same afterwards."""
    return {
        str(path): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


class Installation:
    """A folder with a configuration, and what the doctor says of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "brim.toml"
        self.write("")

    def write(self, more: str) -> None:
        self.file.write_text(BASE + more)

    @property
    def config(self) -> Config:
        return load(self.file, need_credentials=False)

    def fill(self) -> None:
        """A database of many pages."""
        rows = [[f"line {n}", {"bin": f"B-{n}"}] for n in range(300)]
        perform(self.config, "bins.add", {"rows": rows})

    def findings(self) -> list[Finding]:
        before = tree(self.folder)
        found = list(examine(self.file))
        assert tree(self.folder) == before, "the doctor has changed something"
        return found

    def to_mend(self) -> list[Finding]:
        found = self.findings()
        sick = [one for one in found if one.verdict == "mend"]
        done = CliRunner().invoke(app, ["doctor", "--config", str(self.file)])
        assert done.exit_code == (1 if sick else 0), done.output
        assert all(one.do and "\n" not in one.line() for one in sick)
        return sick


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def the_one(found: list[Finding]) -> Finding:
    assert len(found) == 1, [one.line() for one in found]
    return found[0]


def test_a_sound_installation_has_nothing_to_mend_before_and_after_its_first_start(here: Installation) -> None:
    assert here.to_mend() == []
    here.fill()
    assert here.to_mend() == []
    assert any(one.verdict == "ok" and "sound" in one.text for one in here.findings())


# Broken installation 1: a configuration that nobody can start, and a folder that is looked at all the same.


def test_an_invalid_configuration_is_named_line_by_line_and_the_database_is_looked_at_all_the_same(
    here: Installation,
) -> None:
    here.fill()
    database = here.config.database
    here.write("linger = 3\nkeep_days = -1\n")
    with database.open("r+b") as file:
        file.write(b"not a database, whatever it was")
    config_1, config_2, broken = here.to_mend()
    assert ":4: linger: unknown; did you mean linger_ms?" in config_1.text
    assert ":5: keep_days: must be a whole number" in config_2.text
    assert broken.what == "database" and "damaged" in broken.text and "restore" in broken.do


def test_a_configuration_that_is_missing_is_one_line(tmp_path: Path) -> None:
    found = [one for one in examine(tmp_path / "nowhere.toml") if one.verdict == "mend"]
    assert the_one(found).what == "config" and "no such file; `brim gateway init` writes one" in found[0].text
    assert "mend" not in found[0].do and "--config" in found[0].do
    assert list(tmp_path.iterdir()) == []


# Broken installation 2: a damaged database.


def test_pages_overwritten_in_the_middle_are_damage(here: Installation) -> None:
    here.fill()
    database = here.config.database
    assert database.stat().st_size > 20 * 4_096
    with database.open("r+b") as file:
        file.seek(4 * 4_096)
        file.write(os.urandom(12 * 4_096))
    sick = the_one(here.to_mend())
    assert sick.what == "database" and "damaged" in sick.text and "restore" in sick.do


def test_a_torn_file_is_damage(here: Installation) -> None:
    here.fill()
    os.truncate(here.config.database, here.config.database.stat().st_size // 2 - 100)
    assert "damaged" in the_one(here.to_mend()).text


@pytest.mark.parametrize("loss", ["gone", "emptied"])
def test_a_database_that_was_lost_is_told_from_a_first_start(here: Installation, loss: str) -> None:
    here.fill()
    database = here.config.database
    database.unlink() if loss == "gone" else database.write_bytes(b"")
    lost = the_one(here.to_mend())
    assert "was here and is gone or empty" in lost.text and "restore" in lost.do


def test_a_database_of_a_newer_version_is_no_damage_but_a_downgrade(here: Installation) -> None:
    here.fill()
    with sqlite3.connect(here.config.database) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    for left_over in here.config.data_dir.glob("brim.db-*"):
        left_over.unlink()
    sick = the_one(here.to_mend())
    assert "newer than this program's" in sick.text and "install the newer version" in sick.do


def test_a_reading_from_the_future_says_that_the_clock_was_wrong(here: Installation) -> None:
    here.fill()
    with sqlite3.connect(here.config.database) as connection:
        connection.execute("INSERT INTO journal (id, received_us, reading) VALUES (1, 4102444800000000, x'7b7d')")
    connection.close()
    assert "in the future" in the_one(here.to_mend()).text


# Broken installation 3: processes that are and are not there.


def test_beside_a_running_daemon_everything_is_well(here: Installation) -> None:
    with RunningGateway(here.config):
        found = list(examine(here.file))
    assert [one.line() for one in found if one.verdict == "mend"] == []
    assert any(one.what == "daemon" and "healthy" in one.text for one in found)


def test_a_socket_that_is_missing_while_a_daemon_runs_is_named_with_its_process(here: Installation) -> None:
    with RunningGateway(here.config):
        here.config.control_socket.unlink()
        sick = the_one([one for one in examine(here.file) if one.verdict == "mend"])
    assert sick.what == "control socket" and f"process {os.getpid()}" in sick.text


def test_what_a_killed_daemon_leaves_is_sound_and_stays_as_it_is(here: Installation, tmp_path: Path) -> None:
    """Its log beside the database, its socket file, its lock file that nobody holds."""
    (tmp_path / "killed").mkdir()
    killed = Installation(tmp_path / "killed")
    with RunningGateway(here.config) as gateway:
        gateway.ask("bins.add", rows=[["", {"bin": "B-1"}]])
        shutil.copytree(here.config.data_dir, killed.config.data_dir, ignore=shutil.ignore_patterns("*.sock", "*-shm"))
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(killed.config.control_socket))
    assert (killed.config.data_dir / "brim.db-wal").stat().st_size
    assert killed.to_mend() == []
    assert any("its socket is left behind" in one.text for one in killed.findings())


# Single faults.


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_that_cannot_be_written_is_named_with_its_owner(mode: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="brim-doctor-test-"))
    folder.chmod(0o755)
    here = Installation(folder)
    (folder / "data").mkdir()
    (folder / "data").chmod(mode)
    try:
        if os.geteuid() == 0:  # root may write anywhere: be nobody for a moment
            os.setresuid(65_534, 65_534, 0)
        try:
            sick = [one for one in examine(here.file) if one.verdict == "mend"]
        finally:
            if os.getresuid()[2] == 0:
                os.setresuid(0, 0, 0)
    finally:
        shutil.rmtree(folder)
    assert sick[0].what == "data folder" and "cannot be written" in sick[0].text
    assert ("chown" if os.geteuid() == 0 else "chmod u+rwx") in sick[0].do
    assert not [one.line() for one in sick if "could not be looked at" in one.text]


def test_a_file_system_that_went_read_only_is_told_from_a_missing_right(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here.folder / "data").mkdir()
    real = os.statvfs

    def read_only(path: str) -> SimpleNamespace:
        found = real(path)
        values = {name: getattr(found, name) for name in dir(found) if name.startswith("f_")}
        return SimpleNamespace(**values | {"f_flag": os.ST_RDONLY})

    monkeypatch.setattr(os, "statvfs", read_only)
    sick = the_one(here.to_mend())
    assert "mounted read-only" in sick.text and "dmesg" in sick.do


def test_a_disk_that_is_nearly_full(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "FREE_LEAST_MB", 10**12)
    assert "nearly full" in the_one(here.to_mend()).text


def test_a_database_that_others_may_read_where_they_can_reach_it(here: Installation) -> None:
    here.fill()
    here.config.data_dir.chmod(0o755)
    here.config.database.chmod(0o644)
    assert "chmod 600" in the_one(here.to_mend()).do
    here.config.data_dir.chmod(0o700)
    assert here.to_mend() == []


def test_a_port_that_another_program_has(here: Installation) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        here.write(f'[udp]\nlisten = "127.0.0.1:{other.getsockname()[1]}"\n')
        sick = the_one(here.to_mend())
    assert sick.what == "port" and "taken by another program" in sick.text and "ss -lunp" in sick.do
    assert here.to_mend() == []


def test_a_receive_buffer_that_would_drop_a_burst(
    here: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write('[udp]\nlisten = "127.0.0.1:0"\n')
    most = tmp_path / "rmem_max"
    monkeypatch.setattr(surroundings, "RMEM_MAX", most)
    for value, verdict in ((65_536, "mend"), (212_992, "note"), (4_194_304, "ok")):
        most.write_text(f"{value}\n")
        (one,) = [found for found in here.findings() if found.what == "receive buffer"]
        assert one.verdict == verdict


def test_a_clock_that_nobody_sets(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    here.file.write_text('site = "s"\nkeep_max_mb = 1\n')
    monkeypatch.setattr(surroundings, "kernel_synchronised", lambda: False)
    assert "not synchronised" in the_one(here.to_mend()).text
    monkeypatch.setattr(surroundings, "kernel_synchronised", lambda: True)
    assert here.to_mend() == []


@pytest.mark.parametrize(("years_ago", "words"), [(6, "ended"), (4.95, "ends in"), (0, None)])
def test_a_certificate_that_has_ended_or_soon_will(here: Installation, years_ago: float, words: str | None) -> None:
    made = datetime.now(UTC) - timedelta(days=365 * years_ago)
    files = make_site(here.folder / "data" / "tls", "s", ["localhost"], made)
    here.write(f'[mqtt_listener]\nlisten = "127.0.0.1:0"\ncert = "{files.cert}"\nkey = "{files.key}"\n')
    if words is None:
        assert here.to_mend() == []
    else:
        assert words in the_one(here.to_mend()).text
    other = make_site(here.folder / "other", "s", ["localhost"])
    here.write(f'[mqtt_listener]\nlisten = "127.0.0.1:0"\ncert = "{other.cert}"\nkey = "{files.key}"\n')
    assert any("do not go together" in one.text for one in here.to_mend())


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Callable[[str], Broker]]:
    started: list[Broker] = []

    def start(text: str) -> Broker:
        one = Broker(tmp_path)
        one._config.write_text(f"listener {one.port} 127.0.0.1\nuser root\n{text}")
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()


def test_an_output_that_is_refused_unverified_or_not_there(here: Installation, broker: Callable[[str], Broker]) -> None:
    here.write(f'[[output]]\nname = "city"\nurl = "mqtt://127.0.0.1:{free_port()}"\n')
    assert "city: TCP" in the_one(here.to_mend()).text
    strict = broker("allow_anonymous false")
    here.write(f'[[output]]\nname = "city"\nurl = "mqtt://127.0.0.1:{strict.port}"\nuser = "nobody"\n')
    sick = the_one(here.to_mend())
    assert "city: CONNACK" in sick.text and sick.do == "brim gateway outputs test city"
    strict.stop()
    tls = make_site(here.folder / "tls", "s", ["localhost"])
    secure = broker(f"allow_anonymous true\ncafile {tls.ca}\ncertfile {tls.cert}\nkeyfile {tls.key}\n")
    here.write(f'[[output]]\nname = "city"\nurl = "mqtts://localhost:{secure.port}"\n')
    assert "city: TLS: not verified" in the_one(here.to_mend()).text
    here.write(f'[[output]]\nname = "city"\nurl = "mqtts://localhost:{secure.port}"\nca = "{tls.ca}"\n')
    assert here.to_mend() == []
