"""SIGKILL at any instant: nothing acknowledged is lost, nothing is in the journal twice, and the city gets it all."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from brim_gateway.offline import perform

from tests.gateway.support import (
    PLAIN_LISTENER,
    City,
    RunningGateway,
    WifiBin,
    make_config,
    mosquitto,
    output,
    reading,
    wait_until,
)

ROUNDS = 4


def start(config: Path) -> tuple[subprocess.Popen[str], int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "brim_gateway.cli", "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    assert line.startswith("ready "), line
    return process, int(line.split("mqtt=127.0.0.1:")[1].split()[0])


def publish_until_killed(process: subprocess.Popen[str], bin_: WifiBin, numbers: range, after: int) -> set[int]:
    """Publish ``numbers``; SIGKILL after so many acknowledgements. The numbers acknowledged, late ones too."""
    by_mid = {bin_.publish(reading(number)): number for number in numbers}
    wait_until(lambda: len(bin_.acknowledged) >= after, "some acknowledged")
    process.send_signal(signal.SIGKILL)
    process.wait(5)
    bin_.gone.wait(5)
    return {by_mid[mid] for mid in list(bin_.acknowledged)}


def seqs(city: City) -> set[int]:
    return {int(uid.rpartition(":")[2]) for uid in city.uids()}


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    cut = random.Random(7)
    acknowledged: set[int] = set()
    with mosquitto(tmp_path) as broker, City(broker.port) as city:
        more = PLAIN_LISTENER + output(broker.port)
        (tmp_path / "brim.toml").write_text(f'site = "cab-1"\ndata_dir = "data"\n{more}')
        config = make_config(tmp_path, more)
        keys = perform(config, "bins.add", {"rows": [["B-1", {"bin": "B-1", "link": "wifi"}]]})["keys"][0]
        for start_at in range(1, ROUNDS * 1_000, 1_000):
            process, port = start(tmp_path / "brim.toml")
            try:
                with WifiBin(port, keys["dev"], keys["mqtt_password"]) as bin_:
                    # What the bin still holds from before the crash, and more: repeats are part of the promise.
                    numbers = range(max(1, start_at - 300), start_at + 1_000)
                    acknowledged |= publish_until_killed(process, bin_, numbers, cut.randrange(50, 1_000))
            finally:
                process.kill()
                process.wait(5)
        with RunningGateway(config) as gateway:
            gateway.wait_drained()
            kept = [row["seq"] for row in gateway.rows()]
        # The broker has everything; the subscriber reads on for a moment.
        wait_until(lambda: seqs(city) >= set(kept), "everything kept is at the city")
        arrived = seqs(city)
        repeats = len(city.uids()) - len(arrived)
    assert len(acknowledged) > 200
    assert acknowledged - set(kept) == set(), "acknowledged and lost in the journal"
    assert len(kept) == len(set(kept)), "twice in the journal"
    assert arrived == set(kept), "at the city and not in the journal"
    print(f"{len(acknowledged)} acknowledged, {repeats} repeats at the city")
    connection = sqlite3.connect(config.database)
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()


def test_sigterm_ends_cleanly_with_everything_taken_on_disk(tmp_path: Path) -> None:
    (tmp_path / "brim.toml").write_text(f'site = "cab-1"\ndata_dir = "data"\n{PLAIN_LISTENER}')
    process, _ = start(tmp_path / "brim.toml")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not (tmp_path / "data" / "control.sock").exists()
    assert not (tmp_path / "data" / "brim.db-wal").exists(), "checkpointed at the close"
