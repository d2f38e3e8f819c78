"""LoRaWAN uplinks through a real UDP socket: datagram, MIC, decryption, report, commit, PUSH_ACK; and the downlinks.

The gateway is the daemon as an operator starts it. Bins are registered with sessions of their own (ABP), 5,000 of them,
so that nothing is warm that would be cold in a city.
"""

from __future__ import annotations

import json
import platform
import sqlite3
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from brim_tools.bench.forwarders import bins_of
from brim_tools.bench.ledger import dev_of
from brim_tools.bench.procs import PYTHON, Helper, cpu_s, end, memory_mb, say, start

OUTSTANDING = 2_000
"""Uplinks that the concentrators have sent and that are not acknowledged yet, in the closed loop."""
CONFIRMED_EACH = 100
PACED_RATE = 260
"""Uplinks a second at which the downlinks are timed: what a concentrator of 16 demodulators peaks at on SF7."""

_BRIM = [*PYTHON, "brim_tools", "gateway"]


class UdpGateway:
    """Configuration, bins and process in ``folder``."""

    def __init__(self, folder: Path, bins: int, seed: int, linger_ms: int) -> None:
        self.database = folder / "data" / "brim.db"
        self._folder, self._config, self._log = folder, folder / "brim.toml", folder / "gateway.log"
        self._config.write_text(
            f'site = "bench"\nlinger_ms = {linger_ms}\ncontrol_socket = {json.dumps(str(folder / "control.sock"))}\n'
            '[udp]\nlisten = "127.0.0.1:0"\n\n'
        )
        rows = [
            f"bench-{number},{dev_of(number)},lorawan,{one.dev_addr},{one.nwk_s_key.hex()},{one.app_s_key.hex()}"
            for number, one in enumerate(bins_of(bins, seed))
        ]
        table = folder / "bins.csv"
        table.write_text("\n".join(["bin,dev,link,dev_addr,nwk_s_key,app_s_key", *rows]) + "\n")
        self._run("bins", "import", str(table))
        table.unlink()

    def _run(self, *arguments: str) -> None:
        command = [*_BRIM, *arguments, "--config", str(self._config)]
        done = start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = done.communicate(timeout=300)
        if done.returncode:
            raise RuntimeError(f"brim gateway {' '.join(arguments[:2])} failed: {out.strip()[-500:]}")

    def __enter__(self) -> UdpGateway:
        with self._log.open("a") as log:
            self._process = start(
                [*_BRIM, "run", "--config", str(self._config)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        for line in self._process.stdout or ():
            if line.startswith("ready "):
                addresses = dict(part.split("=", 1) for part in line.split()[1:] if "=" in part)
                self.port = int(addresses["udp"].rpartition(":")[2])
                return self
        raise RuntimeError(f"the gateway did not start: {self._log.read_text()[-800:]}")

    def __exit__(self, *_: object) -> None:
        end(self._process)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid


def measure(uplinks: int, bins: int, per_datagram: int, seconds: float, seed: int, linger_ms: int) -> dict[str, Any]:
    """{"closed": …, "paced": …, "in_journal", "dropped"}; see ``lines``."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name, ExitStack() as stack:
        gateway = UdpGateway(Path(name), bins, seed, linger_ms)
        with gateway:
            helper = stack.enter_context(
                Helper("forwarders", port=gateway.port, bins=bins, seed=seed, per_datagram=per_datagram)
            )
            say(f"uplinks: {bins} bins registered")
            # Every bin once, outside of the clock: what is loaded at the first frame is loaded then.
            first = helper.ask(closed=bins, window=OUTSTANDING)
            before_s, began = cpu_s([gateway.pid]), time.perf_counter()
            closed = helper.ask(closed=uplinks, window=OUTSTANDING)
            closed["cpu_us_per_uplink"] = round((cpu_s([gateway.pid]) - before_s) / uplinks * 1e6, 1)
            say(f"uplinks: closed loop {closed['per_second']}/s, with the signing {time.perf_counter() - began:.0f} s")
            paced = helper.ask(rate=PACED_RATE, seconds=seconds, confirmed=CONFIRMED_EACH)
            peak = memory_mb([gateway.pid], peak=True)
        sent = first["uplinks"] + closed["uplinks"] + paced["uplinks"]
        acknowledged = first["acknowledged"] + closed["acknowledged"] + paced["acknowledged"]
        # Closed by now: what the file holds is what was committed.
        with closing(sqlite3.connect(gateway.database)) as connection:
            (held,) = connection.execute("SELECT count(*) FROM journal").fetchone()
    return {
        "date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "bins": bins,
        "per_datagram": per_datagram, "outstanding": OUTSTANDING, "linger_ms": linger_ms, "seed": seed,
        "closed": closed, "paced": paced, "peak_rss_mb": round(peak, 1), "sent": sent, "acknowledged": acknowledged,
        "in_journal": held, "dropped": sent - min(acknowledged, held),
    }  # fmt: skip


def lines(result: dict[str, Any]) -> list[str]:
    """As a person reads it."""
    closed, paced = result["closed"], result["paced"]
    return [
        f"{result['date']}, Python {result['python']}; {result['bins']} bins, {result['per_datagram']} uplinks a"
        f" datagram, linger_ms = {result['linger_ms']}, seed {result['seed']}",
        f"closed loop, {result['outstanding']} outstanding: {closed['uplinks']} uplinks, {closed['per_second']}/s,"
        f" {closed['cpu_us_per_uplink']} us CPU each (all threads), PUSH_ACK p50 {closed['ack_ms']['p50']} ms,"
        f" p99 {closed['ack_ms']['p99']} ms",
        f"paced, {paced['per_second']}/s: PUSH_ACK p99 {paced['ack_ms'].get('p99')} ms; {paced['answered']} of"
        f" {paced['asked']} confirmed uplinks answered, PULL_RESP after the copy window p50"
        f" {paced['answer_ms'].get('p50')} ms, p99 {paced['answer_ms'].get('p99')} ms",
        f"sent {result['sent']}, acknowledged {result['acknowledged']}, in the journal {result['in_journal']},"
        f" dropped {result['dropped']}; peak {result['peak_rss_mb']} MB",
    ]
