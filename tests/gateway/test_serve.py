"""The daemon as a process: systemd hears from it, SIGHUP changes its outputs, a broken file changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from brim_gateway.config import Config
from brim_gateway.offline import perform
from brim_gateway.serve import feed_watchdog
from brim_gateway.store.store import Store
from brim_gateway.systemd import Notifier

from tests.gateway.support import DEADLINE_S, City, WifiBin, make_config, mosquitto, reading, wait_until

TOP = 'site = "cab-1"\ndata_dir = "data"\nclock = "trusted"\n[mqtt_listener]\nlisten = "127.0.0.1:0"\nplain = true\n'


def output(name: str, port: int) -> str:
    return f'[[output]]\nname = "{name}"\nurl = "mqtt://127.0.0.1:{port}"\n'


class Daemon:
    """`brim gateway run` on ``folder/brim.toml``."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.log = folder / "log"
        self.config: Config = make_config(folder)
        path = os.pathsep.join(part for part in sys.path if part)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "brim_gateway.cli", "run", "--config", str(folder / "brim.toml")],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"PYTHONPATH": path} | environment,
            )
        assert self.process.stdout is not None
        with self.process.stdout as out:
            self.ready = out.readline()
        assert self.ready.startswith("ready "), self.log.read_text()
        self.mqtt_port = int(self.ready.split("mqtt=127.0.0.1:")[1].split()[0])

    def ask(self, verb: str, **args: Any) -> Any:
        return perform(self.config, verb, args)

    def says(self, text: str) -> None:
        wait_until(lambda: text in self.log.read_text(), f"the log says {text!r}")

    def connected(self) -> dict[str, bool]:
        return {one["name"]: one["connected"] for one in self.ask("status")["outputs"]}


@contextmanager
def daemon(folder: Path, text: str, **environment: str) -> Iterator[Daemon]:
    (folder / "brim.toml").write_text(text)
    running = Daemon(folder, environment)
    try:
        yield running
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(DEADLINE_S) == 0, running.log.read_text()
    finally:
        running.process.kill()
        running.process.wait(5)


def test_sighup_changes_the_outputs_and_nobody_else_notices(tmp_path: Path) -> None:
    north = tmp_path / "north"
    north.mkdir()
    with mosquitto(north) as broker, daemon(tmp_path, TOP + output("one", broker.port)) as running:
        added = running.ask("bins.add", rows=[["B-1", {"bin": "B-1", "link": "wifi"}]])["keys"][0]
        wait_until(lambda: running.connected() == {"one": True}, "connected")
        with City(broker.port) as city, WifiBin(running.mqtt_port, added["dev"], added["mqtt_password"]) as bin_:
            bin_.publish_and_wait(reading(1))
            city.wait_uids(1)
            (tmp_path / "brim.toml").write_text(TOP + output("one", broker.port) + output("two", broker.port))
            running.process.send_signal(signal.SIGHUP)
            wait_until(lambda: running.connected() == {"one": True, "two": True}, "both")
            bin_.publish_and_wait(reading(2))
            wait_until(lambda: len(city.uids()) == 3, "the second reading by both")
            assert not bin_.gone.is_set(), "the bin has noticed nothing"
            assert {one["name"]: one["reconnects"] for one in running.ask("status")["outputs"]} == {"one": 0, "two": 0}

            (tmp_path / "brim.toml").write_text(TOP + output("two", broker.port))
            running.process.send_signal(signal.SIGHUP)
            wait_until(lambda: running.connected() == {"two": True}, "one is gone")
            bin_.publish_and_wait(reading(3))
            held = {one["name"]: (one["waiting"], one["held_until"]) for one in running.ask("outputs.list")}
            assert held["one"][0] == 1 and held["one"][1] is not None and held["two"][1] is None
        assert json.loads(json.dumps(running.ask("outputs.forget", output="one")))["released"] == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("site = [", "not TOML"),
        (TOP + '[[output]]\nname = "one"\nurl = "http://x"\nwidnow = 3\n', "did you mean window"),
        (TOP.replace("cab-1", "") + output("one", 1), "site"),
    ],
)
def test_a_file_with_a_mistake_is_refused_and_the_outputs_go_on(tmp_path: Path, text: str, line: str) -> None:
    with mosquitto(tmp_path) as broker, daemon(tmp_path, TOP + output("one", broker.port)) as running:
        wait_until(lambda: running.connected() == {"one": True}, "connected")
        (tmp_path / "brim.toml").write_text(text)
        running.process.send_signal(signal.SIGHUP)
        running.says("reload refused: the outputs go on as they were")
        running.says(line)
        assert running.connected() == {"one": True}


def test_systemd_is_told_of_start_life_reload_and_stop(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(DEADLINE_S)

        def hear(word: str) -> None:
            while word not in systemd.recv(1_000).decode():
                pass

        with daemon(tmp_path, TOP, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000") as running:
            hear("READY=1")
            for _ in range(3):
                hear("WATCHDOG=1")
            running.process.send_signal(signal.SIGHUP)
            hear("RELOADING=1")
            hear("READY=1")
            running.process.send_signal(signal.SIGTERM)
            hear("STOPPING=1")


def test_the_watchdog_is_fed_by_a_round_trip_through_the_writer_and_by_nothing_less(tmp_path: Path) -> None:
    fed: list[int] = []

    class Listening(Notifier):
        def watchdog(self) -> None:
            fed.append(len(fed))

    async def life() -> None:
        store = Store(tmp_path / "brim.db", 0.0)
        feeding = asyncio.get_running_loop().create_task(feed_watchdog(store, Listening({"WATCHDOG_USEC": "200000"})))
        try:
            await asyncio.to_thread(wait_until, lambda: len(fed) >= 3, "fed while idle")
            free = threading.Event()
            stuck = store.run(lambda _: free.wait(DEADLINE_S))
            await asyncio.sleep(0.05)
            before = len(fed)
            await asyncio.sleep(1.0)
            assert len(fed) <= before + 1, "a stuck writer is no life"
            free.set()
            await stuck
            await asyncio.to_thread(wait_until, lambda: len(fed) > before + 3, "fed again")

            def refuse(connection: sqlite3.Connection) -> None:
                connection.execute("PRAGMA query_only = ON")

            await store.run(refuse)
            before = len(fed)
            await asyncio.to_thread(wait_until, lambda: len(fed) > before + 3, "a disk that refuses is no death")
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await asyncio.to_thread(store.close)

    asyncio.run(life())
