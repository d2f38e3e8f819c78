"""One history of crashes on one database: the north fails, the disk fails, the gateway is killed or loses its power.

Bins publish throughout and repeat what was not acknowledged. Promised, and checked after every crash: what was
acknowledged is in the journal. At the end: it is in the north, nothing is in the journal twice, and no connection
handed on more readings a second time than the output's window.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brim_tools.bench.crash_plan import Crash, plan
from brim_tools.bench.daemon import TOPIC_IN, TOPIC_OUT, Gateway, Setup
from brim_tools.bench.disks import Disk, SlowSync
from brim_tools.bench.journal_audit import JournalAudit
from brim_tools.bench.ledger import Ledger
from brim_tools.bench.north import Mosquitto, north_settings
from brim_tools.bench.procs import Helper, say
from brim_tools.demo.backend import free_port

BINS = 8
WINDOW = 50
EACH = 600_000
DISK_MB = 8_192
PATIENCE_S = 60.0
"""At the end: so long without any progress is the end of it. An output may wait 30 s for one acknowledgement."""
_SLOW_START = (0.05, 1.2)
"""Seconds from exec to a crash that comes again at once: before it serves, and soon after."""


def measure(
    seed: int, crashes: int, protocol: str = "5", no_disk: str = "", *, lying_disk: bool = False
) -> dict[str, Any]:
    """Run the history. ``no_disk``: why there is no disk of our own; then power is not cut and no disk is full.
    ``lying_disk``: fsync does nothing, and the history must find losses."""
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name, contextlib.ExitStack() as stack:
        history = History(Path(name), stack, plan(seed, crashes), seed, protocol, no_disk, lying_disk)
        history.run()
        return history.report()


class History:
    """The processes of one history and what they counted."""

    def __init__(
        self,
        folder: Path,
        stack: contextlib.ExitStack,
        crashes: list[Crash],
        seed: int,
        protocol: str,
        no_disk: str,
        lying_disk: bool,
    ) -> None:
        self._crashes, self._seed, self._no_disk = crashes, seed, no_disk
        self._slow = SlowSync(folder, lying_disk)
        self._patience_s = 3.0 if lying_disk else PATIENCE_S
        for part in ("north", "relay"):
            (folder / part).mkdir()
        self._disk: Disk | None = None
        if not no_disk:
            self._disk = Disk(folder, DISK_MB)
            stack.callback(self._disk.close)
        ledger = self._ledger = Ledger(folder, BINS, EACH)
        north = self._north = stack.enter_context(Mosquitto(folder / "north", north_settings(folder / "north")))
        self._counter = stack.enter_context(Helper("counter", ledger=ledger.job(), port=north.port, topic=TOPIC_OUT))
        line = free_port()
        self._proxy = stack.enter_context(Helper("proxy", ledger=ledger.job(), port=line, target=north.port, seed=seed))
        data = self._disk.path / "data" if self._disk else None
        self._setup = Setup(bins=BINS, protocol=protocol)
        self._gateway = stack.enter_context(Gateway(folder / "relay", line, self._setup, data))
        self._audit = JournalAudit(self._gateway.database, ledger)
        self._load = stack.enter_context(
            Helper(
                "load", ledger=ledger.job(), port=self._gateway.port, logins=self._gateway.logins,
                topic=TOPIC_IN, window=WINDOW,
            )
        )  # fmt: skip
        self._lost: list[dict[str, Any]] = []
        self._kinds: dict[str, Counter[str]] = {}
        self._connections: list[list[int]] = []
        self._restarts_s: list[float] = []
        self._crashed = 0
        self._frozen = False
        self._open: list[list[int]] = []
        self._over: list[dict[str, int]] = []
        self._result: dict[str, Any] = {}
        self._began = time.monotonic()

    def run(self) -> None:
        self._launch(self._crashes[0])
        for crash, after in zip(self._crashes, [*self._crashes[1:], None], strict=True):
            self._one(crash, after)
            if (crash.number + 1) % 10 == 0 or after is None:
                self._progress(crash)
        self._settle()

    def _launch(self, towards: Crash | None) -> None:
        """Start the daemon on the disk that the way to the next crash has."""
        slow = towards.sync_ms if towards and not self._slow.why_not else 0
        self._exec = self._gateway.launch(self._slow.env(slow))
        self._serving = False

    def _served(self) -> None:
        if not self._serving:
            self._restarts_s.append(self._gateway.ready() - self._exec)
            self._serving = True

    def _one(self, crash: Crash, after: Crash | None) -> None:
        """Towards the crash, the crash, the restart, the look into the journal."""
        disk = self._disk if crash.disk == "full" else None
        self._load.ask(rate=crash.rate)
        if crash.moment == "again":
            low, high = _SLOW_START
            _until(self._exec + low + (high - low) * crash.quiet_s / 1.5)
        else:
            self._served()
            time.sleep(crash.quiet_s)
            self._trouble(crash.north)
            if disk is not None:
                disk.fill()
            time.sleep(crash.fault_s)
        if crash.moment == "drain":
            self._trouble("up")
            if disk is not None:
                disk.free()
            time.sleep(crash.drain_s)
        how = self._crash(crash)
        if disk is not None:
            disk.free()
        if not crash.after_s:
            self._trouble("up")
        self._launch(after)
        if after is None or after.moment != "again":
            self._served()
            if crash.after_s:
                time.sleep(crash.after_s)
            self._look(crash)
        self._trouble("up")
        self._take(self._proxy.ask())
        self._note(crash, how)

    def _crash(self, crash: Crash) -> str:
        how = "power" if crash.how == "power" and self._disk is not None else "kill"
        if how == "power":
            assert self._disk is not None
            self._gateway.freeze()  # nothing it says after this instant is heard, so nothing may be promised by it
            self._disk.power_cut()
        self._gateway.kill()
        if how == "power":
            assert self._disk is not None
            self._disk.power_back()
        self._crashed += 1
        return how

    def _trouble(self, north: str) -> None:
        """Give the north its fault, or (``up``) take it away."""
        if self._frozen:
            self._north.thaw()
            self._frozen = False
        if north == "silent":
            self._north.freeze()
            self._frozen = True
        else:
            answer = self._proxy.ask(mode="pass" if north == "up" else north)
            self._take(answer)

    def _take(self, answer: dict[str, Any]) -> None:
        """Connections that have ended are told once; those that are open come again with the next answer."""
        for handed, repeats, _ in answer["connections"][: answer["ended"]]:
            if repeats > self._setup.window:
                self._over.append({"by_crash": self._crashed, "handed": handed, "repeats": repeats})
                say(f"crashes: {repeats} repeats on a connection that had ended by crash {self._crashed}")
        self._connections += answer["connections"][: answer["ended"]]
        self._open = answer["connections"][answer["ended"] :]

    def _look(self, crash: Crash) -> None:
        missing = self._audit.missing()
        if missing:
            self._lost.append({"crash": crash.number, "readings": len(missing), "first": missing[0]})
            say(f"crashes: LOST {len(missing)} at crash {crash.number} ({crash})")

    def _note(self, crash: Crash, how: str) -> None:
        full = crash.disk == "full" and self._disk is not None
        slow = crash.sync_ms and not self._slow.why_not
        for kind in (
            f"north {crash.north}", how, f"moment {crash.moment}", f"{crash.rate}/s",
            "disk full" if full else f"fsync +{crash.sync_ms} ms" if slow else "disk plain",
        ):  # fmt: skip
            self._kinds.setdefault(kind, Counter())["crashes"] += 1

    def _progress(self, crash: Crash) -> None:
        state, north = self._load.ask(), self._counter.ask()
        say(
            f"crashes: {crash.number + 1} of {len(self._crashes)} in {time.monotonic() - self._began:.0f} s,"
            f" {state['acknowledged']} acknowledged, {north['distinct']} in the north,"
            f" {north['repeats']} repeats, {len(self._lost)} crashes that lost"
        )

    def _settle(self) -> None:
        """No more load; everything leaves the bins, and the journal for the north. Then look at all of it."""
        self._load.ask(rate=0)
        unsettled = ""
        if not self._comes_to(lambda: self._load.ask()["unacknowledged"], 0):
            unsettled = "the bins' outboxes do not empty"
        acked = self._load.ask()["acknowledged"]
        if not self._comes_to(lambda: max(0, acked - self._counter.ask()["distinct"]), 0):
            unsettled = "the north does not get everything"
        self._gateway.stop()
        self._take(self._proxy.ask())
        made = self._load.ask()["made"]
        ledger = self._ledger
        acked_at = [i for i in ledger.indices(1, made) if ledger.acked[i]]
        with sqlite3.connect(self._gateway.database) as connection:
            integrity = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
        connection.close()
        self._audit.from_the_start()
        handed = self._connections + self._open
        counts = self._counter.ask()
        window = self._setup.window
        self._result = {
            "acknowledged": len(acked_at),
            "lost_in_journal": sum(1 for i in acked_at if not ledger.kept[i]),
            "lost_in_north": sum(1 for i in acked_at if not ledger.arrivals[i]),
            "doubled_in_journal": sum(1 for i in ledger.indices(1, made) if ledger.kept[i] > 1),
            "altered": counts["altered"] + counts["unknown"],
            "repeats_in_north": counts["repeats"],
            "connections": len(handed),
            "most_repeats_of_a_connection": max(one[1] for one in handed),
            "most_in_flight": max(one[2] for one in handed),
            "window": window,
            "connections_over_window": sum(1 for one in handed if one[1] > window),
            "integrity": integrity,
            "unsettled": unsettled,
        }

    def _comes_to(self, value: Callable[[], int], wanted: int) -> bool:
        """Whether ``value`` gets there; given up when it has not moved for a while."""
        last, moved = value(), time.monotonic()
        while last != wanted:
            time.sleep(0.05)
            now = value()
            if now != last:
                last, moved = now, time.monotonic()
            elif time.monotonic() - moved > self._patience_s:
                return False
        return True

    def report(self) -> dict[str, Any]:
        restarts = sorted(self._restarts_s)
        result = self._result
        return {
            "seed": self._seed,
            "crashes": self._crashed,
            "seconds": round(time.monotonic() - self._began),
            "protocol": self._setup.protocol,
            **result,
            "lost_at": self._lost,
            "over_window": self._over,
            "kinds": {kind: counts["crashes"] for kind, counts in sorted(self._kinds.items())},
            "restart_to_ready_s": {
                "median": round(restarts[len(restarts) // 2], 2),
                "most": round(restarts[-1], 2),
            },
            "not_run": [
                *([f"{what} not run: {self._no_disk}" for what in ("power cut", "disk full")] if self._no_disk else []),
                *([f"slow disk not run: {self._slow.why_not}"] if self._slow.why_not else []),
            ],
            "held": not (
                result["lost_in_journal"] or result["lost_in_north"] or result["doubled_in_journal"]
                or result["altered"] or result["connections_over_window"] or result["unsettled"]
                or self._lost or result["integrity"] != "ok"
            ),
        }  # fmt: skip


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))
