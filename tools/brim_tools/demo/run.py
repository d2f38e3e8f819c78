"""One run of the demo, from the first key to the account."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from brim_tools.demo.account import Account, CounterWatch
from brim_tools.demo.backend import Broker, City, Line
from brim_tools.demo.gateway_process import GatewayProcess
from brim_tools.demo.scenario import EMPTY_MM, FULL_MM, Timeline, rising_litter, timeline
from brim_tools.virtual.bin import Firmware, VirtualBin
from brim_tools.virtual.chips import Litter
from brim_tools.virtual.concentrator import Concentrator, PacketForwarder
from brim_tools.virtual.ether import Ether
from brim_tools.virtual.firmware_image import build_image
from brim_tools.virtual.interpreter import Zygote
from brim_tools.virtual.provision import flash_with, lorawan_identity, wifi_identity
from brim_tools.virtual.world import World

# Heap of the 64-bit build, code and data of one wake (the ESP32's own modules not counted).
LORAWAN_HEAP_BYTES = 110_000
WIFI_HEAP_BYTES = 90_000
SLEEP_SPEED = 300.0  # 15 minutes of sleep pass in 3 s; the radio's time stays real
# In the demo bins speak more than in the street: every step of 3 cm, from close by.
SETTINGS = {"sense_s": 900, "heartbeat_s": 1800, "delta_mm": 30, "sf": 7, "empty_mm": EMPTY_MM, "full_mm": FULL_MM}
SETTLE_US = 1_000_000  # after the last reading, so that a repeat still under way is counted too
CONCENTRATOR_EUI = "aa555a0000000101"


class Demo:
    """`say` prints a line for the watcher. `stop()` ends the run early: once with a drain, twice without."""

    def __init__(self, folder: Path, bins: int, seed: int, runtime: str, say: Callable[[str], None]) -> None:
        self._say = say
        self._rng = random.Random(seed)
        self._folder = folder
        self._runtime = runtime
        self._bin_count = bins
        self._started = time.monotonic()
        self._lock = threading.Lock()  # the city's client has a thread of its own
        self._draining = False
        self._stops = 0
        self._world = World(paced=True)
        self.account = Account()
        self.watch = CounterWatch()
        self.kills = 0
        self.outage_s = 0.0
        self.bins: list[VirtualBin] = []

    def _clock(self) -> str:
        return f"{time.monotonic() - self._started:5.1f} s"

    def tell(self, text: str) -> None:
        self._say(f"{self._clock()}  {text}")

    def stop(self) -> None:
        """Safe in a signal handler: the world ends between two events, never within one."""
        self._stops += 1
        self._world.stop()

    def run(self, run_s: float | None) -> dict[str, Any]:
        """Everything, in order; what was started is ended whatever happens. `run_s` None: until `stop()`."""
        world = self._world
        with ExitStack() as started:
            started.callback(world.close)
            broker = Broker(self._folder)
            started.callback(broker.close)
            city = City(broker.port, self._on_city)
            started.callback(city.close)
            line = Line(broker.port)
            started.callback(line.close)
            gateway = GatewayProcess(self._folder, line.port)
            started.callback(gateway.stop)
            keys = gateway.enrol(self._registry())
            gateway.start()
            self.tell(f"city backend: {broker.name}; gateway with its status page at {gateway.page}")
            zygote = started.enter_context(Zygote(self._runtime))
            ether = Ether(world, rng=self._rng, loss_db=self._path_loss)
            ether.on_transmission.append(self.watch.on_transmission)
            concentrator = Concentrator(world, ether, CONCENTRATOR_EUI, tmst_start=secrets.randbits(32))
            forwarder = PacketForwarder(world, concentrator, ("127.0.0.1", gateway.udp_port))
            started.callback(forwarder.close)
            started.callback(self._cut_power)
            self._make_bins(world, zygote, ether, gateway, keys)
            self.tell(f"{len(self.bins)} bins on {zygote.version}; a quarter of an hour of sleep passes in 3 s")
            faults = timeline(run_s if run_s is not None else 60.0)
            self._plan(world, faults, gateway, line)
            end_us = None if run_s is None else world.now_us + int(faults.end_s * 1e6)
            if not self._stops:
                world.run(end_us)
            if self._stops:
                self.tell("interrupted: draining, then the account; once more ends without a drain")
            self._drain(world, faults)
            return self._result(broker, zygote, ether)

    def _cut_power(self) -> None:
        for bin_ in self.bins:
            bin_.cut_power()

    def _registry(self) -> list[dict[str, str]]:
        rows = []
        for i in range(self._bin_count):
            rows.append(
                {
                    "bin": f"DEMO-{i + 1:03}",
                    "dev": f"70b3d57ed005{i + 1:04x}",
                    "link": "wifi" if i % 2 else "lorawan",
                    "empty_mm": str(EMPTY_MM),
                    "full_mm": str(FULL_MM),
                }
            )
        return rows

    def _path_loss(self, sender: str, receiver: str) -> float:
        """116 to 127 dB, the same both ways, fixed for each bin: some hundred metres between houses (modelled)."""
        return 116.0 + sum((sender + receiver).encode()) % 12

    def _make_bins(
        self, world: World, zygote: Zygote, ether: Ether, gateway: GatewayProcess, keys: list[dict[str, str]]
    ) -> None:
        image = build_image(compiled=zygote.runtime == "micropython")
        for entry in keys:
            wifi = entry["link"] == "wifi"
            bin_ = VirtualBin(
                entry["bin"],
                entry["dev"],
                world,
                zygote,
                Firmware(image, WIFI_HEAP_BYTES if wifi else LORAWAN_HEAP_BYTES, watch_heap=True),
                Litter(rising_litter(self._rng)),
                rng=random.Random(self._rng.random()),
                ether=ether,
                sleep_speed=SLEEP_SPEED,
                on_line=self._on_bin,
            )
            bin_.chips.flash = flash_with(SETTINGS)
            bin_.on_sleep = self._on_sleep
            if wifi:
                wifi_identity(bin_.chips.nvs, entry, "127.0.0.1", gateway.mqtt_port, gateway.site_ca_pem, "localhost")
            else:
                lorawan_identity(bin_.chips.nvs, entry)
            self.bins.append(bin_)
            bin_.power_on(int(self._rng.uniform(0.0, 2.0) * 1e6))

    def _plan(self, world: World, faults: Timeline, gateway: GatewayProcess, line: Line) -> None:
        def cut() -> None:
            self.tell(f"!! the city's backend is cut off for {faults.outage_s:.0f} s")
            line.cut()

        def restore() -> None:
            line.restore()
            self.outage_s += faults.outage_s
            self.tell("!! the city's backend is back")

        def kill() -> None:
            gateway.kill()
            self.kills += 1
            self.tell("!! the gateway is killed (SIGKILL) and starts again")
            gateway.start(wait=False)

        now_us = world.now_us
        world.at(now_us + int(faults.cut_s * 1e6), cut)
        world.at(now_us + int(faults.kill_s * 1e6), kill)
        world.at(now_us + int((faults.cut_s + faults.outage_s) * 1e6), restore)

    # --- what is seen -------------------------------------------------------------------------------------------
    def _on_bin(self, bin_: VirtualBin, line: str) -> None:
        with self._lock:
            uid = self.account.line(bin_.name, bin_.dev, line)
        if uid is not None:
            words = line.split()
            what = f"{words[3]} mm to the litter" if words[3] != "-" else f"no distance ({words[2]})"
            self.tell(f"{bin_.name} measures {what}, reading {words[1]}")
        elif line.startswith(("join ok", "fault", "virtual:")) or "Error" in line:
            self.tell(f"{bin_.name} {line}")

    def _on_city(self, topic: str, payload: dict[str, Any]) -> None:
        with self._lock:
            uid = self.account.message(topic, payload)
        if uid is not None:
            fill = f"{payload['fill_pct']} % full" if "fill_pct" in payload else payload.get("status", "")
            self.tell(f"    city: {payload['bin']} is {fill}, reading {uid.split(':', 1)[1]}")
        elif "/event/" in topic:
            self.tell(f"    city: {payload.get('subject')} EVENT {topic.rsplit('/', 1)[1]}")

    def _on_sleep(self, bin_: VirtualBin, sleep_s: int) -> bool:
        """While draining, a bin whose readings have all arrived is not woken again."""
        with self._lock:
            return not (self._draining and not self.account.missing(bin_.name))

    def _drain(self, world: World, faults: Timeline) -> None:
        self._draining = True
        self.tell("drain: bins sleep on once everything they measured has arrived")
        deadline = time.monotonic() + faults.drain_s
        while time.monotonic() < deadline and self._stops < 2:
            world.run(world.now_us + 200_000)
            with self._lock:
                done = all(b.parked for b in self.bins) and not self.account.missing()
            if done:
                world.run(world.now_us + SETTLE_US)
                return

    def _result(self, broker: Broker, zygote: Zygote, ether: Ether) -> dict[str, Any]:
        account = self.account
        with self._lock:
            links = {"lorawan": (self._bin_count + 1) // 2, "wifi": self._bin_count // 2}
            return {
                "runtime": zygote.version,
                "backend": broker.name,
                "bins": self._bin_count,
                "links": links,
                "readings_measured": len(account.measured),
                "readings_delivered": len(account.delivered.keys() & account.measured.keys()),
                "lost": len(account.missing()),
                "duplicated": account.duplicated,
                "altered": account.altered,
                "repeats": account.repeats,
                "joins": account.joins,
                "gateway_kills": self.kills,
                "backend_outage_s": self.outage_s,
                "counter_reuse": self.watch.reused,
                "wakes": sum(b.counters.wakes for b in self.bins),
                "crashes": sum(b.counters.crashes for b in self.bins),
                "uplinks_on_air": ether.sent,
                "heap_peak_bytes": max(b.counters.heap_peak_bytes for b in self.bins) or None,  # CPython has none
                "seconds": round(time.monotonic() - self._started, 1),
            }
