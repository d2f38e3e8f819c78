"""What `brim bin virtual` does: one bin on the bench, behind a serial line, until it is interrupted."""

from __future__ import annotations

import json
import random
import signal
from dataclasses import dataclass
from pathlib import Path

from brim_tools.virtual.bin import VirtualBin
from brim_tools.virtual.chips import Litter
from brim_tools.virtual.concentrator import Concentrator, PacketForwarder
from brim_tools.virtual.ether import Ether
from brim_tools.virtual.firmware_image import build_image
from brim_tools.virtual.interpreter import Zygote
from brim_tools.virtual.provision import lorawan_identity, wifi_identity
from brim_tools.virtual.serial_bin import SerialBin
from brim_tools.virtual.world import World

UNPROVISIONED_DEV = "02b41d0000000001"  # locally administered; a board shows its own MAC address here
PATH_LOSS_DB = 120.0


class WrongUse(ValueError):
    """The options do not fit together; the text says what to do."""


@dataclass(frozen=True)
class Bench:
    """What the command line gave. `keys`: the gateway's keys file; without it the bin is unprovisioned."""

    port_file: Path
    tcp_port: int | None = None
    distance_mm: int = 800
    keys: Path | None = None
    bin_name: str | None = None
    gateway: tuple[str, int] | None = None
    mqtt: tuple[str, int] | None = None
    ca: Path | None = None
    sleep_speed: float = 1.0


def read_keys(path: Path, bin_name: str | None) -> dict[str, str]:
    """The entry of one bin in a keys file that `brim gateway bins add|import` wrote; WrongUse where there is none."""
    try:
        entries = json.loads(path.read_text())
        found = [e for e in entries if bin_name in (None, e["bin"])]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WrongUse(f"{path}: not a keys file of `brim gateway bins`: {type(error).__name__}") from None
    if not found:
        raise WrongUse(f"{path}: no bin {bin_name!r} in it")
    return {str(k): str(v) for k, v in found[0].items()}


def run(bench: Bench) -> None:
    """Serve until SIGINT or SIGTERM; the port file holds one address a line, the pty first."""
    keys = read_keys(bench.keys, bench.bin_name) if bench.keys is not None else None
    if keys is not None and keys["link"] == "wifi" and (bench.mqtt is None or bench.ca is None):
        raise WrongUse("a Wi-Fi bin needs --mqtt HOST:PORT and --ca FILE (the gateway's site-ca.pem)")
    world = World(paced=True)
    ether = Ether(world, rng=random.Random(), loss_db=lambda a, b: PATH_LOSS_DB)
    forwarder = None
    if bench.gateway is not None:
        forwarder = PacketForwarder(world, Concentrator(world, ether, "aa555a00000001ff"), bench.gateway)
    with Zygote() as zygote:
        serial = SerialBin(
            world,
            zygote,
            build_image(),
            Litter(lambda now_us: bench.distance_mm),
            keys["dev"] if keys else UNPROVISIONED_DEV,
            ether=ether,
            sleep_speed=bench.sleep_speed,
            tcp_port=bench.tcp_port,
            configure=lambda bin_: _provision(bin_, bench, keys),
        )
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: world.stop())
            _write_whole(bench.port_file, "\n".join(serial.urls) + "\n")
            world.run()
        finally:
            serial.close()
            if forwarder is not None:
                forwarder.close()
            world.close()
            bench.port_file.unlink(missing_ok=True)


def _provision(bin_: VirtualBin, bench: Bench, keys: dict[str, str] | None) -> None:
    if keys is None:
        return
    if keys["link"] == "wifi" and bench.mqtt is not None and bench.ca is not None:
        wifi_identity(bin_.chips.nvs, keys, *bench.mqtt, bench.ca.read_text())
    else:
        lorawan_identity(bin_.chips.nvs, keys)


def _write_whole(path: Path, text: str) -> None:
    """A reader sees the whole file or none."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.replace(path)
