"""`brim gateway …`, through a running daemon and without one."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from brim_gateway.cli import app
from brim_gateway.config import load
from typer.testing import CliRunner, Result

from tests.gateway.support import RunningGateway

Brim = Callable[..., Result]


@pytest.fixture
def brim(tmp_path: Path) -> Brim:
    config = tmp_path / "brim.toml"

    def call(*args: str) -> Result:
        return CliRunner().invoke(app, [*args, "--config", str(config)])

    done = call("init", "--site", "cab-1")
    assert done.exit_code == 0, done.output
    config.write_text(config.read_text().replace(":1700", ":0").replace(":8080", ":0"))
    return call


@pytest.fixture(params=["with a daemon", "without"])
def either_way(request: pytest.FixtureRequest, tmp_path: Path, brim: Brim) -> Iterator[Brim]:
    if request.param == "without":
        yield brim
    else:
        with RunningGateway(load(tmp_path / "brim.toml")):
            yield brim


def objects(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_bins_life_in_the_registry(either_way: Brim, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    done = either_way(
        "bins", "add", "B-1", "--link", "wifi", "--keys-file", str(keys_file), "--lat", "59.3", "--lon", "18"
    )
    assert done.exit_code == 0, done.output
    (entry,) = json.loads(keys_file.read_text())
    assert stat.S_IMODE(keys_file.stat().st_mode) == 0o600
    assert set(entry) == {"bin", "dev", "link", "mqtt_password"} and entry["mqtt_password"] not in done.output
    (listed,) = objects(either_way("bins", "list", "--json"))
    assert (listed["bin"], listed["dev"], listed["lat"]) == ("B-1", entry["dev"], 59.3)
    shown = objects(either_way("bins", "show", "B-1", "--json"))
    assert shown["keys"]["mqtt_password"] is True and entry["mqtt_password"] not in json.dumps(shown)
    assert "scrypt" not in json.dumps(shown)
    new_keys = tmp_path / "new.json"
    assert either_way("keys", "replace", "B-1", "--keys-file", str(new_keys)).exit_code == 0
    assert json.loads(new_keys.read_text())[0]["mqtt_password"] != entry["mqtt_password"]
    assert objects(either_way("bins", "remove", "B-1", "--json"))["bin"] == "B-1"
    assert objects(either_way("bins", "list", "--json")) == []


def test_otaa_keys_are_made_and_go_only_into_the_file(either_way: Brim, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    added = objects(either_way("bins", "add", "L-1", "--keys-file", str(keys_file), "--json"))
    (entry,) = json.loads(keys_file.read_text())
    assert set(entry) == {"bin", "dev", "link", "join_eui", "app_key"} and len(entry["app_key"]) == 32
    assert "keys" not in added and added["bins"][0]["dev"] == entry["dev"]
    shown = objects(either_way("keys", "show", "L-1", "--json"))
    assert shown["keys"] == {"mqtt_password": False, "app_key": True, "session": False}


BAD_CSV = """\
bin,dev,link,empty_mm,counter,app_key
B-1,70b3d57ed0051f2a,lorawan,1000,strict,00112233445566778899aabbccddeef0
B 2,nonsense,carrier-pigeon,-5,strict,
B-3,70b3d57ed0051f2a,lorawan,100,sometimes,tooshort
B-1,70b3d57ed0051f2c,wifi,1000,volatile,
"""


def test_an_import_is_all_or_nothing_and_names_every_error_with_its_line(either_way: Brim, tmp_path: Path) -> None:
    file = tmp_path / "bins.csv"
    file.write_text(BAD_CSV)
    keys_file = tmp_path / "keys.json"
    done = either_way("bins", "import", str(file), "--keys-file", str(keys_file))
    assert done.exit_code == 2 and not keys_file.exists()
    lines = done.stderr.splitlines()
    for line, words in (
        (3, "bin:"),
        (3, "dev:"),
        (3, "link:"),
        (3, "empty_mm:"),
        (4, "counter:"),
        (4, "app_key:"),
        (5, "counter:"),
    ):
        assert any(f"line {line}: {words}" in text for text in lines), (line, words, lines)
    assert "tooshort" not in done.stderr
    assert objects(either_way("bins", "list", "--json")) == []
    file.write_text(BAD_CSV.splitlines()[0] + ",surprise\n")
    assert "line 1: unknown column 'surprise'" in either_way("bins", "import", str(file)).stderr


def test_the_two_unsafe_exceptions_are_taken_and_said(either_way: Brim, tmp_path: Path) -> None:
    key = "2B7E151628AED2A6ABF7158809CF4F3C"
    file = tmp_path / "bins.csv"
    file.write_text(
        "bin,dev,dev_addr,nwk_s_key,app_s_key,counter,allow_public_key,decoder\n"
        f"D-1,0000000002014100,02014100,{key},{key},volatile,true,ascii-distance-cm\n"
        f"D-2,0000000002014101,02014101,{key},{key},strict,false,ascii-distance-cm\n"
    )
    done = either_way("bins", "import", str(file), "--json")
    added = objects(done)
    assert [text.split(":")[0] for text in added["warnings"]] == ["D-1", "D-1", "D-2"]
    assert "counter = volatile" in done.stderr and "its frames are refused" in done.stderr
    assert key.lower() not in (done.stdout + done.stderr).lower()
    assert objects(either_way("bins", "show", "D-1", "--json"))["keys"]["session"] is True


def test_what_is_there_already_is_refused_whole(either_way: Brim, tmp_path: Path) -> None:
    assert either_way("bins", "add", "B-1", "--dev", "70b3d57ed0051f2a").exit_code == 0
    file = tmp_path / "bins.csv"
    file.write_text("bin,dev\nB-1,\nB-2,70b3d57ed0051f2a\nB-3,\n")
    done = either_way("bins", "import", str(file))
    assert done.exit_code == 2
    assert "B-1: is registered already" in done.stderr and "belongs to B-1" in done.stderr
    assert len(objects(either_way("bins", "list", "--json"))) == 1


def test_wrong_use_is_one_line_and_exit_code_2(either_way: Brim, tmp_path: Path) -> None:
    for args in (("bins", "show", "nobody"), ("bins", "remove", "nobody"), ("keys", "show", "nobody")):
        done = either_way(*args)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1 and "no such bin" in done.stderr
    existing = tmp_path / "keys.json"
    existing.write_text("precious")
    done = either_way("bins", "add", "B-1", "--keys-file", str(existing))
    assert done.exit_code == 1 and existing.read_text() == "precious"
    assert objects(either_way("bins", "list", "--json")) == []


def test_a_file_that_is_not_there_is_named_without_a_number(brim: Brim, tmp_path: Path) -> None:
    done = brim("bins", "import", str(tmp_path / "nowhere.csv"))
    assert (done.exit_code, done.stderr) == (1, f"error: {tmp_path}/nowhere.csv: No such file or directory\n")


def test_status_tells_whether_a_daemon_runs(brim: Brim, tmp_path: Path) -> None:
    done = brim("status", "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["running"] is False
    with RunningGateway(load(tmp_path / "brim.toml")):
        done = brim("status", "--json")
        assert done.exit_code == 0 and json.loads(done.stdout)["healthy"] is True
        second = brim("run")
        assert second.exit_code == 1 and "in use by another gateway process" in second.stderr


def test_check_says_valid_or_names_the_lines(brim: Brim, tmp_path: Path) -> None:
    assert brim("check").exit_code == 0
    (tmp_path / "brim.toml").write_text('site = ""\n[udp]\nlisten = 3\n')
    done = brim("check", "--json")
    assert done.exit_code == 2 and len(json.loads(done.stdout)["problems"]) == 2
    assert brim("run").exit_code == 2


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for command in group.registered_commands:
        yield (*words, command.name or command.callback.__name__)
    for inner in group.registered_groups:
        yield from commands(inner.typer_instance, (*words, inner.name))


@pytest.mark.parametrize("words", list(commands(app)), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0 and "Example: brim gateway" in done.stdout


def test_a_session_that_moves_here_brings_its_counters_along(either_way: Brim, tmp_path: Path) -> None:
    file = tmp_path / "bins.csv"
    head = "bin,dev,dev_addr,nwk_s_key,app_s_key,f_cnt_up,f_cnt_down,app_key\n"
    keys = f"{'2c' * 15}01,{'3d' * 15}02"
    file.write_text(f"{head}M-1,,02014102,{keys},70000,312,\n")
    assert either_way("bins", "import", str(file)).exit_code == 0
    copy = tmp_path / "copy.db"
    assert either_way("backup", str(copy)).exit_code == 0
    with closing(sqlite3.connect(copy)) as connection:
        (row,) = connection.execute("SELECT row FROM devices").fetchone()
    session = json.loads(row)["session"]
    assert (session["f_cnt_up"], session["f_cnt_down"]) == (70_000, 312)
    file.write_text(f"{head}M-2,,02014103,{keys},-1,4294967296,\nM-3,,,,,5,,{'4e' * 15}01\n")
    done = either_way("bins", "import", str(file))
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 3
    assert "line 2: f_cnt_up: whole number" in done.stderr and "line 3: f_cnt_up: only with dev_addr" in done.stderr


def test_a_bin_that_is_no_prism_says_its_volume(either_way: Brim, tmp_path: Path) -> None:
    assert either_way("bins", "add", "B-1", "--shape", "150350620").exit_code == 0
    assert objects(either_way("bins", "show", "B-1", "--json"))["shape"] == 150_350_620
    file = tmp_path / "bins.csv"
    file.write_text("bin,shape\nB-2,900100200\n")
    done = either_way("bins", "import", str(file))
    assert done.exit_code == 2 and "line 2: shape: what a quarter" in done.stderr
