"""SIGKILL at any instant: nothing acknowledged is lost, nothing is in the journal twice."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from brim_gateway.store.database import Database

from tests.gateway.support import PLAIN_LISTENER, WifiBin, make_config, reading, wait_until

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


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    text = f'site = "cab-1"\ndata_dir = "data"\n{PLAIN_LISTENER}'
    (tmp_path / "brim.toml").write_text(text)
    config = make_config(tmp_path, PLAIN_LISTENER)
    from brim_gateway.offline import perform

    keys = perform(config, "bins.add", {"rows": [["B-1", {"bin": "B-1", "link": "wifi"}]]})["keys"][0]
    cut = random.Random(7)
    acknowledged: set[int] = set()
    seq = 0
    for _ in range(ROUNDS):
        process, port = start(tmp_path / "brim.toml")
        try:
            with WifiBin(port, keys["dev"], keys["mqtt_password"]) as bin_:
                by_mid: dict[int, int] = {}
                # What the bin still holds from before the crash, and more: repeats are part of the promise.
                for number in range(max(1, seq - 300), seq + 2_000):
                    by_mid[bin_.publish(reading(max(1, number)))] = max(1, number)
                seq += 2_000
                target = cut.randrange(50, 1_500)
                wait_until(lambda b=bin_, n=target: len(b.acknowledged) >= n, "some acknowledged")  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                process.wait(5)
                bin_.gone.wait(5)
                acknowledged |= {by_mid[mid] for mid in list(bin_.acknowledged)}
        finally:
            process.kill()
            process.wait(5)
    database = Database(config.database)
    rows = database.connection.execute("SELECT epoch, seq, reading FROM journal").fetchall()
    database.close()
    kept = [row[1] for row in rows]
    assert len(acknowledged) > 200
    assert acknowledged - set(kept) == set(), "acknowledged and lost"
    assert len(kept) == len(set(kept)), "twice in the journal"
    assert all(json.loads(body)["seq"] == number for _, number, body in rows)
    assert sqlite3.connect(config.database).execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_sigterm_ends_cleanly_with_everything_taken_on_disk(tmp_path: Path) -> None:
    (tmp_path / "brim.toml").write_text(f'site = "cab-1"\ndata_dir = "data"\n{PLAIN_LISTENER}')
    process, _ = start(tmp_path / "brim.toml")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not (tmp_path / "data" / "control.sock").exists()
    assert not (tmp_path / "data" / "brim.db-wal").exists(), "checkpointed at the close"
