"""A street in virtual time: bins on real MicroPython, one concentrator, the gateway's network server in-process."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from pathlib import Path

from brim_gateway.network.device import DeviceRow

from brim_tools.demo.account import CounterWatch
from brim_tools.virtual.bin import Firmware, VirtualBin
from brim_tools.virtual.chips import Litter
from brim_tools.virtual.concentrator import Concentrator
from brim_tools.virtual.ether import Ether
from brim_tools.virtual.inprocess import InProcessGateway
from brim_tools.virtual.interpreter import Zygote
from brim_tools.virtual.provision import flash_with, lorawan_identity
from brim_tools.virtual.world import World

DAY_US = 86_400_000_000


class Street:
    """`run(days)`, then compare `measured` (from the bins' own lines) with `gateway.readings`."""

    def __init__(
        self,
        zygote: Zygote,
        image: Path,
        bins: int = 1,
        *,
        seed: int = 1,
        loss_rate: float = 0.0,
        settings: dict[str, int] | None = None,
        litter: Callable[[random.Random], Litter] | None = None,
        heap_bytes: int = 110_000,
        watch_heap: bool = False,
    ) -> None:
        rng = random.Random(seed)
        self.world = World(paced=False)
        self.ether = Ether(self.world, rng=rng, loss_db=lambda a, b: 122.0, loss_rate=loss_rate)
        self.watch = CounterWatch()
        self.ether.on_transmission.append(self.watch.on_transmission)
        self.concentrator = Concentrator(self.world, self.ether, "aa555a0000000101", tmst_start=rng.getrandbits(32))
        self.measured: set[tuple[str, int, int]] = set()
        self.lines: list[str] = []
        self.bins: list[VirtualBin] = []
        rows = []
        for i in range(bins):
            dev = f"70b3d57ed005{i:04x}"
            app_key = secrets.token_bytes(16)
            rows.append(DeviceRow(dev, app_key=app_key))
            bin_ = VirtualBin(
                f"bin-{i}",
                dev,
                self.world,
                zygote,
                Firmware(image, heap_bytes, watch_heap),
                litter(rng) if litter else Litter(_slowly_filling(rng)),
                rng=random.Random(rng.random()),
                ether=self.ether,
                on_line=self._on_line,
            )
            bin_.chips.flash = flash_with({"sf": 7} | (settings or {}))
            keys = {"bin": bin_.name, "dev": dev, "join_eui": "0" * 16, "app_key": app_key.hex()}
            lorawan_identity(bin_.chips.nvs, keys)
            bin_.power_on(round(rng.uniform(0, 60) * 1e6))
            self.bins.append(bin_)
        self.gateway = InProcessGateway(self.world, rows, [self.concentrator])

    def _on_line(self, bin_: VirtualBin, line: str) -> None:
        self.lines.append(f"{bin_.name} {line}")
        words = line.split()
        if words[:1] == ["reading"]:
            epoch, seq = words[1].split(":")
            self.measured.add((bin_.dev, int(epoch), int(seq)))

    def run(self, days: float) -> None:
        self.world.run(self.world.now_us + round(days * DAY_US))

    @property
    def missing(self) -> set[tuple[str, int, int]]:
        return self.measured - self.gateway.readings.keys()

    def close(self) -> None:
        for bin_ in self.bins:
            bin_.cut_power()
        self.world.close()

    def __enter__(self) -> Street:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _slowly_filling(rng: random.Random) -> Callable[[int], int | None]:
    """From 950 to 150 mm in half a day, then emptied, again and again."""
    offset_us = rng.randrange(DAY_US)
    return lambda now_us: 950 - (now_us + offset_us) % (DAY_US // 2) * 800 // (DAY_US // 2)
