"""`brim gateway …` for the operator: outputs, commands, certificates, unknown devices, backup and restore."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import ssl
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from brim_gateway.cli import app
from brim_gateway.config import load
from brim_gateway.config_words import markdown
from brim_gateway.store.backup import F_CNT_DOWN_RAISE
from typer.testing import CliRunner, Result

from tests.gateway.support import City, RunningGateway, free_port, mosquitto, wait_until

Brim = Callable[..., Result]
KEY = "2b7e151628aed2a6abf7158809cf4f3d"


class Site:
    """A gateway's folder, and its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "brim.toml"
        assert self("init", "--site", "cab-1").exit_code == 0
        self.file.write_text(self.file.read_text().replace(":1700", ":0").replace(":8080", ":0"))

    def __call__(self, *args: str) -> Result:
        return CliRunner().invoke(app, [*args, "--config", str(self.file)])

    def objects(self, *args: str) -> Any:
        done = self(*args, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def refused(self, *args: str) -> str:
        """Exit code 2 and one line."""
        done = self(*args)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
        return done.stderr

    def add_output(self, port: int, name: str = "city") -> None:
        with self.file.open("a") as file:
            file.write(f'[[output]]\nname = "{name}"\nurl = "mqtt://127.0.0.1:{port}"\n')

    def running(self) -> RunningGateway:
        return RunningGateway(load(self.file))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(params=["with a daemon", "without"])
def either_way(request: pytest.FixtureRequest, site: Site) -> Iterator[Site]:
    if request.param == "without":
        yield site
    else:
        with site.running():
            yield site


# Commands to bins.


def test_a_command_is_kept_listed_and_taken_back(either_way: Site) -> None:
    assert either_way("bins", "add", "L-1").exit_code == 0
    kept = either_way.objects("command", "send", "L-1", "0a01", "--port", "2", "--expires-h", "1")
    assert (kept["bin"], kept["port"], kept["payload"]) == ("L-1", 2, "0a01")
    (listed,) = either_way.objects("command", "list")
    assert listed == kept
    assert either_way("command", "drop", str(kept["id"])).exit_code == 0
    assert either_way.objects("command", "list") == []
    assert "no such command" in either_way.refused("command", "drop", str(kept["id"]))


def test_commands_of_a_bin_that_is_removed_go_with_it(either_way: Site) -> None:
    assert either_way("bins", "add", "B-9", "--dev", "0011223344556677").exit_code == 0
    assert either_way("command", "send", "B-9", "0a01").exit_code == 0
    assert either_way("bins", "remove", "B-9").exit_code == 0
    assert either_way("bins", "add", "B-10", "--dev", "0011223344556677").exit_code == 0
    assert either_way.objects("command", "list") == []


def test_a_command_that_could_never_be_sent_is_refused_with_every_reason(either_way: Site) -> None:
    assert either_way("bins", "add", "L-1").exit_code == 0
    assert either_way("bins", "add", "W-1", "--link", "wifi").exit_code == 0
    done = either_way("command", "send", "L-1", "xyz", "--port", "224", "--expires-h", "0")
    assert done.exit_code == 2
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == [" port", " payload", " expires"]
    assert "port 2" in either_way.refused("command", "send", "W-1", "00", "--port", "5")
    assert "1 to 51 bytes" in either_way.refused("command", "send", "L-1", "00" * 52)
    assert "no such bin" in either_way.refused("command", "send", "nobody", "00")
    for _ in range(8):
        assert either_way("command", "send", "L-1", "00").exit_code == 0
    assert "8 commands wait" in either_way.refused("command", "send", "L-1", "00")


def test_the_daemon_knows_the_commands_that_were_kept_while_it_was_away(site: Site) -> None:
    assert site("bins", "add", "L-1").exit_code == 0
    kept = site.objects("command", "send", "L-1", "0a01")
    with site.running() as gateway:
        due = gateway.gateway.desk.due(kept["dev"])
        assert due is not None and due.payload == b"\x0a\x01"
        second = site.objects("command", "send", "L-1", "0b")
        asyncio.run_coroutine_threadsafe(gateway.gateway.desk.sent(due), gateway.loop).result(10)
        assert site.objects("command", "list") == [second]
        after = gateway.gateway.desk.due(kept["dev"])
        assert after is not None and after.payload == b"\x0b"
    assert site.objects("command", "list") == [second]


# Outputs.


def test_outputs_are_listed_and_one_that_is_gone_can_be_forgotten(site: Site) -> None:
    assert site.objects("outputs", "list") == []
    text = site.file.read_text()
    site.add_output(free_port())
    with site.running():
        (listed,) = site.objects("outputs", "list")
        assert (listed["name"], listed["connected"], listed["waiting"]) == ("city", False, 0)
        assert "still names it" in site.refused("outputs", "forget", "city")
        assert site.objects("outputs", "letters", "city") == []
        assert "known: city" in site.refused("outputs", "letters", "village")
        done = site("outputs", "retry", "city")
        assert done.exit_code == 1 and "not connected" in done.stdout
    done = site("outputs", "retry", "city")
    assert done.exit_code == 1 and "only a running gateway can send" in done.stderr
    site.file.write_text(text)
    with site.running():
        (listed,) = site.objects("outputs", "list")
        assert listed["held_until"] is not None and "held until" in site("outputs", "list").stdout
        assert site.objects("outputs", "forget", "city") == {"output": "city", "released": 0}
        assert site.objects("outputs", "list") == []


def test_outputs_test_says_each_step_in_a_line_and_by_its_exit_code_whether_it_is_well(
    site: Site, tmp_path: Path
) -> None:
    with mosquitto(tmp_path) as broker, City(broker.port) as city:
        site.add_output(broker.port)
        done = site("outputs", "test", "city")
        assert done.exit_code == 0, done.output
        assert [line.split(":")[0].split(None, 1)[1] for line in done.stdout.splitlines()] == [
            "DNS", "TCP", "TLS", "CONNACK", "SUBACK", "PUBACK", "PUBACK", "read back",
        ]  # fmt: skip
        wait_until(lambda: len(city.messages) == 2, "both test messages at the city")
        topics = {message.topic for message in city.messages}
        assert topics == {"brim/v1/cab-1/gateway/test", "brim/v1/cab-1/_test/reading"}
        body = json.loads(city.messages[0].payload)
        assert (body["v"], body["test"]) == (1, True) and body["nonce"]
    done = site("outputs", "test", "city", "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["steps"][-1]["what"] == "TCP"
    assert "names city" in site.refused("outputs", "test", "village")


# Keys and certificates.


def test_a_client_certificate_is_made_for_a_wifi_bin_and_for_no_other(site: Site, tmp_path: Path) -> None:
    assert site("bins", "add", "W-1", "--link", "wifi").exit_code == 0
    assert site("bins", "add", "L-1").exit_code == 0
    cert, key = tmp_path / "w1.pem", tmp_path / "w1.key"
    files = ("--cert-file", str(cert), "--key-file", str(key))
    made = site.objects("keys", "certificate", "W-1", *files)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and not made["taken"]
    context = ssl.create_default_context(cafile=str(site.folder / "data/tls/site-ca.pem"))
    context.load_cert_chain(cert, key)
    again = site("keys", "certificate", "W-1", *files)
    assert again.exit_code == 1 and "nothing was changed" in again.stderr
    assert "Wi-Fi bin" in site.refused("keys", "certificate", "L-1", *files)


# Unknown devices.


def test_a_device_that_was_heard_is_adopted_with_the_keys_it_has(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = [
        {"dev": "70b3d57ed0051f2a", "link": "lorawan", "first": "t", "last": "t", "count": 3, "via": "g", "why": "w"},
        {"dev_addr": "01020304", "link": "lorawan", "first": "t", "last": "t", "count": 1, "via": "g", "why": "w"},
    ]
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"bin": "x", "join_eui": "70b3d57ed0000001", "app_key": KEY}]))
    with site.running() as gateway:
        monkeypatch.setattr(gateway.gateway, "strangers", lambda: heard)
        shown = site("bins", "unknown").stdout
        assert "brim gateway bins adopt 70b3d57ed0051f2a BIN" in shown and "address 01020304" in shown
        assert "bins import" in site.refused("bins", "adopt", "01020304", "B-1")
        assert "not heard" in site.refused("bins", "adopt", "70b3d57ed0051f2b", "B-1")
        added = site.objects("bins", "adopt", "70B3D57ED0051F2A", "B-1", "--keys-from", str(keys))
        assert added["bins"] == [{"bin": "B-1", "dev": "70b3d57ed0051f2a", "link": "lorawan"}]
        assert KEY not in json.dumps(added)
        assert [one.get("dev") for one in site.objects("bins", "unknown")] == [None]
    with closing(sqlite3.connect(load(site.file).database)) as connection:
        (row,) = connection.execute("SELECT row FROM devices").fetchone()
    assert json.loads(row)["app_key"] == KEY and json.loads(row)["join_eui"] == "70b3d57ed0000001"


def test_without_a_daemon_nobody_is_heard(site: Site) -> None:
    assert site.objects("bins", "unknown") == []
    assert "not heard" in site.refused("bins", "adopt", "70b3d57ed0051f2b", "B-1")


@pytest.mark.parametrize("text", ["", "[]", "[1]", '{"app_key": 3}', '{"colour": "red"}'])
def test_a_keys_file_that_is_none_is_refused_without_a_word_of_it(site: Site, tmp_path: Path, text: str) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(text)
    assert str(keys) in site.refused("bins", "adopt", "70b3d57ed0051f2b", "B-1", "--keys-from", str(keys))


# Backup and restore.


def test_a_backup_is_made_beside_the_daemon_and_put_back_without_it(site: Site, tmp_path: Path) -> None:
    session = {"dev_addr": "02014100", "nwk_s_key": KEY, "app_s_key": KEY.replace("2b", "3c")}
    file = tmp_path / "bins.csv"
    file.write_text(f"bin,{','.join(session)}\nB-1,{','.join(session.values())}\n")
    copy = tmp_path / "copy.db"
    with site.running():
        assert site("bins", "import", str(file)).exit_code == 0
        made = site.objects("backup", str(copy))
        assert made["bins"] == 1 and stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert "name a new file" in site("backup", str(copy)).stderr
        assert site("bins", "remove", "B-1").exit_code == 0
        refused = site("restore", str(copy))
        assert refused.exit_code == 1 and "in use by another gateway" in refused.stderr
    put_back = site.objects("restore", str(copy))
    assert put_back["bins"] == 1 and Path(put_back["kept"]).is_file()
    assert [one["bin"] for one in site.objects("bins", "list")] == ["B-1"]
    with closing(sqlite3.connect(load(site.file).database)) as connection:
        (row,) = connection.execute("SELECT row FROM devices").fetchone()
    assert json.loads(row)["session"]["f_cnt_down"] >= F_CNT_DOWN_RAISE


def test_what_is_no_backup_is_refused_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    assert site("bins", "add", "B-1").exit_code == 0
    wrong = tmp_path / "wrong.db"
    wrong.write_text("not a database")
    for path in (wrong, tmp_path / "nowhere.db"):
        done = site("restore", str(path))
        assert done.exit_code == 1 and len(done.stderr.splitlines()) == 1
    assert len(site.objects("bins", "list")) == 1


# Before the first start.


def test_schema_and_its_table_are_printed(site: Site) -> None:
    done = CliRunner().invoke(app, ["schema"])
    assert done.exit_code == 0 and set(tomllib.loads(site.file.read_text())) <= set(
        json.loads(done.stdout)["properties"]
    )
    assert CliRunner().invoke(app, ["schema", "--table"]).stdout == markdown()


def test_service_prints_a_unit_for_a_place_that_the_unit_can_write(site: Site) -> None:
    assert "/var/lib/brim" in site.refused("service", "--program", "/usr/bin/brim")
    site.file.write_text(site.file.read_text().replace('data_dir = "data"', 'data_dir = "/var/lib/brim"'))
    done = site("service", "--program", "/usr/bin/brim")
    assert done.exit_code == 0 and f"ExecStart=/usr/bin/brim gateway run --config {site.file}" in done.stdout


def test_init_asks_for_the_password_once_and_writes_it_to_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "brim.toml"
    args = ["init", "--output-url", "mqtts://h", "--output-user", "u", "--output-password-file", "city.password"]
    done = CliRunner().invoke(app, [*args, "--config", str(file)], input="hunter2\nhunter2\n")
    assert done.exit_code == 0 and "hunter2" not in done.output, done.output
    assert (tmp_path / "city.password").read_text() == "hunter2\n"
    assert CliRunner().invoke(app, ["check", "--config", str(file)]).exit_code == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--output-user", "u", "--output-password-file", "p"), "--output-url is missing"),
        (("--output-url", "mqtts://h", "--output-password-file", "p"), "output[0].password_file: needs a user"),
        (
            ("--output-url", "mqtts://h", "--output-user", "u", "--output-password-file", "credential:../p"),
            "output[0].password_file: credential:NAME: letters",
        ),
        (("--output-url", "http://h"), 'output[0].url: must be "mqtts://HOST'),
        (("--tls-name", "räka.example"), "ASCII only"),
    ],
)
def test_init_refuses_what_cannot_run_before_it_asks_for_a_password(
    tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    done = CliRunner().invoke(app, ["init", *args, "--config", str(tmp_path / "brim.toml")])
    assert done.exit_code == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.output
    assert "nothing was written" in done.stderr and "password at" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_has_not_begun_is_listed_as_such(site: Site) -> None:
    assert "kept here only" in site("outputs", "list").stdout
    site.add_output(free_port())
    done = site("outputs", "list")
    assert "city" in done.stdout and "next starts" in done.stdout and "kept here only" not in done.stdout


def test_what_root_does_without_a_daemon_the_daemon_can_open(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.chown", lambda path, uid, gid, **_: given.update({Path(path).name: (uid, gid)}))
    assert site("bins", "add", "B-1").exit_code == 0
    owner = (site.folder / "data").stat()
    assert given["brim.db"] == given["brim.db.lock"] == (owner.st_uid, owner.st_gid)


def test_no_command_imports_what_it_does_not_need() -> None:
    """The daemon's rooms cost a second on a small board; `--help` must not pay for them."""
    libraries = {"paho", "cryptography", "starlette", "uvicorn", "jinja2", "msgspec", "prometheus_client"}
    rooms = {"brim_gateway.app", "brim_gateway.config", "brim_gateway.store"}
    found = f"[m for m in sys.modules if m.split('.')[0] in {libraries} or m in {rooms}]"
    code = f"import sys, brim_gateway.cli; print({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
