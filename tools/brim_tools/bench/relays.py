"""Every relay that is measured, behind one shape: where readings go in, where they come out, which processes do it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from brim_tools.bench.daemon import TOPIC_IN, TOPIC_OUT, Gateway, Setup
from brim_tools.bench.ledger import dev_of
from brim_tools.bench.north import Mosquitto
from brim_tools.bench.procs import PYTHON, end, start


def _cannot() -> None:
    raise RuntimeError("this relay cannot be killed")


@dataclass(frozen=True)
class Relay:
    """A running relay. ``pids``: every process that it consists of, a broker that it needs included.

    ``crash``: SIGKILL to all of it; ``again``: start it as it was started before.
    """

    port: int
    topic_in: str
    topic_out: str
    logins: list[list[str]]
    pids: list[int] = field(default_factory=list)
    crash: Callable[[], object] = _cannot
    again: Callable[[], object] = _cannot


Opened = Callable[[Path, int], AbstractContextManager[Relay]]


@dataclass(frozen=True)
class Candidate:
    """One row: ``open`` starts it in a folder of its own in front of the north's port, ``None`` where it cannot be."""

    name: str
    open: Opened | None
    bins: int = 8
    share: float = 1.0
    note: str = ""


def brim(setup: Setup) -> Opened:
    """Our gateway."""

    @contextmanager
    def opened(folder: Path, north_port: int) -> Iterator[Relay]:
        with Gateway(folder, north_port, setup) as gateway:
            gateway.start()
            pids = [gateway.pid]
            yield Relay(
                gateway.port, TOPIC_IN, TOPIC_OUT, gateway.logins, pids, crash=gateway.kill, again=gateway.start
            )
            gateway.stop()

    return opened


def strangers(bins: int) -> list[list[str]]:
    return [[dev_of(i), ""] for i in range(bins)]


@contextmanager
def nothing(folder: Path, north_port: int) -> Iterator[Relay]:
    """No relay: the bins speak to the north. What the benchmark itself can do here."""
    yield Relay(north_port, "out/{dev}", "out/#", strangers(8))


@contextmanager
def with_a_broker(
    folder: Path, launch: Callable[[int], subprocess.Popen[str]], until_ready: Callable[[subprocess.Popen[str]], None]
) -> Iterator[Relay]:
    """A relay that is a client on both sides: a mosquitto for the bins, and the process that ``launch`` starts."""
    running: list[subprocess.Popen[str]] = []

    def again() -> None:
        running.append(launch(south.port))
        until_ready(running[-1])

    def crash() -> None:
        running[-1].kill()
        south.kill()
        gone(running.pop())

    def gone(process: subprocess.Popen[str]) -> None:
        end(process)
        if process.stdout is not None:
            process.stdout.close()

    def both_again() -> None:
        south.start()
        again()

    with Mosquitto(folder, "max_queued_messages 0\n") as south:
        try:
            again()
            pids = [south.pid, running[-1].pid]
            yield Relay(south.port, "in/{dev}", "out/#", strangers(8), pids, crash=crash, again=both_again)
        finally:
            for process in running:
                gone(process)


def bare(folder: Path, north_port: int) -> AbstractContextManager[Relay]:
    """A broker for the bins, and thirty lines of paho between the two."""

    def launch(south_port: int) -> subprocess.Popen[str]:
        command = [*PYTHON, "brim_tools.bench.bare_relay", str(south_port), str(north_port)]
        return start(command, stdout=subprocess.PIPE, text=True)

    def until_ready(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the bare relay did not start")

    return with_a_broker(folder, launch, until_ready)


def bridge(settings: str) -> Opened:
    """mosquitto as a bridge: one process takes, keeps and hands on."""

    @contextmanager
    def opened(folder: Path, north_port: int) -> Iterator[Relay]:
        text = (
            f"persistence true\npersistence_location {folder}/\n{settings}"
            f"connection north\naddress 127.0.0.1:{north_port}\ntopic # out 1 in/ out/\n"
            "cleansession false\nrestart_timeout 1\nnotifications false\n"
        )
        with Mosquitto(folder, text) as mosquitto:
            pids = [mosquitto.pid]
            yield Relay(
                mosquitto.port, "in/{dev}", "out/#", strangers(8), pids, crash=mosquitto.kill, again=mosquitto.start
            )

    return opened


BRIM = (
    Candidate("brim, MQTT 3.1.1", brim(Setup(protocol="3.1.1"))),
    Candidate("brim, MQTT 5", brim(Setup(protocol="5"))),
    Candidate("brim, MQTT 3.1.1, 64 bins", brim(Setup(protocol="3.1.1", bins=64)), bins=64),
    Candidate("brim, MQTT 5, 64 bins", brim(Setup(protocol="5", bins=64)), bins=64),
)
BARE = Candidate("bare paho relay", bare, note="keeps nothing")
BRIDGE = Candidate("mosquitto bridge, Debian's defaults", bridge(""), note="keeps 1,000 messages, saves each 30 min")
DURABLE = Candidate(
    "mosquitto bridge, saves each change",
    bridge("max_queued_messages 0\nautosave_on_changes true\nautosave_interval 1\n"),
    share=0.2,
    note="the most durable setting of 2.0; still PUBACK before the save",
)
NO_RELAY = Candidate("no relay", nothing, note="ceiling of this benchmark")
