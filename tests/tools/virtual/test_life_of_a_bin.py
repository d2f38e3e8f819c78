"""The unchanged firmware on the real MicroPython, days in virtual time, against the gateway's own network server."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from brim_tools.virtual.bin import VirtualBin
from brim_tools.virtual.chips import Litter
from brim_tools.virtual.interpreter import STAND_IN_HEAP_BYTES, Zygote
from brim_tools.virtual.street import Street

LORAWAN_HEAP_BYTES = 110_000


def test_a_day_without_faults(zygote: Zygote, image: Path) -> None:
    with Street(zygote, image) as street:
        street.run(1)
        counters = street.bins[0].counters
        assert 90 <= counters.wakes <= 110 and counters.crashes == counters.watchdog_resets == 0
        assert len(street.measured) >= 24  # a heartbeat an hour at least
        assert street.missing == set() and street.gateway.joins == 1 and street.watch.reused == 0
        assert not any("fault" in line for line in street.lines), street.lines


def test_what_the_city_gets_is_what_was_there(zygote: Zygote, image: Path) -> None:
    with Street(zygote, image, litter=lambda rng: Litter(lambda now_us: 640, lambda now_us: -7.0)) as street:
        street.run(0.2)
        for reading in street.gateway.readings.values():
            assert reading.status == "ok" and abs((reading.distance_mm or 0) - 640) <= 5
            if reading.battery_mv is not None:  # a repeat in delta form carries the distance only
                assert (reading.temperature_c, abs(reading.battery_mv - 3600) <= 20) == (-7, True)


@pytest.mark.parametrize(("silent", "status"), [(False, "no_echo"), (True, "sensor_fault")])
def test_no_echo_and_no_sensor_are_statuses_and_never_a_number(
    zygote: Zygote, image: Path, silent: bool, status: str
) -> None:
    with Street(zygote, image, litter=lambda rng: Litter(lambda now_us: None)) as street:
        street.bins[0].chips.ranger.silent = silent
        street.run(0.2)
        statuses = {(r.status, r.distance_mm) for r in street.gateway.readings.values()}
        assert statuses == {(status, None)}


@pytest.mark.parametrize("loss_rate", [0.1, 0.3])
def test_single_losses_cost_no_reading(zygote: Zygote, image: Path, loss_rate: float) -> None:
    """What is missing at the end was measured in the last hours: it is still in the bin's outbox."""
    with Street(zygote, image, loss_rate=loss_rate, seed=3) as street:
        street.run(3)
        bin_ = street.bins[0]
        last = max(seq for _, _, seq in street.measured)
        assert all(seq > last - 12 for _, _, seq in street.missing), sorted(street.missing)
        street.ether.loss_rate = 0.0
        street.run(0.5)
        assert {m for m in street.missing if m[2] <= last} == set()
        assert street.watch.reused == 0 and bin_.counters.crashes == 0


def test_twelve_bins_share_the_air(zygote: Zygote, image: Path) -> None:
    with Street(zygote, image, bins=12, seed=5) as street:
        street.run(0.75)
        newest = {dev: max(s for d, _, s in street.measured if d == dev) for dev, _, _ in street.measured}
        assert len(newest) == 12 and street.gateway.joins == 12
        assert {m for m in street.missing if m[2] <= newest[m[0]] - 4} == set()
        assert street.watch.reused == 0


def test_readings_wait_through_a_day_without_a_gateway(zygote: Zygote, image: Path) -> None:
    with Street(zygote, image) as street:
        street.run(0.25)
        street.ether.loss_rate = 1.0
        street.run(1)
        silent = set(street.missing)
        assert len(silent) >= 24
        street.ether.loss_rate = 0.0
        street.run(0.5)
        assert silent & street.missing == set()


def test_the_supply_is_cut_again_and_again(zygote: Zygote, image: Path) -> None:
    """Whatever instant a cut meets: no DevNonce and no frame counter twice, readings never under an old name."""
    rng = random.Random(7)
    with Street(zygote, image, seed=7) as street:
        bin_ = street.bins[0]
        for _ in range(12):
            street.run(rng.uniform(0.01, 0.08))
            _cut_during_a_wake(street, bin_, rng)
            bin_.power_on(round(rng.uniform(1, 600) * 1e6))
        street.run(0.3)
        assert street.watch.reused == 0
        assert len({epoch for _, epoch, _ in street.measured}) >= 12
        newest = max((e, s) for _, e, s in street.measured)
        # Lost is at most what RTC memory held at a cut, which this firmware keeps there on purpose.
        assert {m for m in street.missing if m[1] == newest[0] and m[2] < newest[1] - 3} == set()


def _cut_during_a_wake(street: Street, bin_: VirtualBin, rng: random.Random) -> None:
    """Let some of the next wake's hardware calls happen, then take the power away."""
    bin_.cut_at_call = bin_.counters.calls + rng.randrange(1, 400)
    street.run(0.05)
    bin_.cut_at_call = None
    bin_.cut_power()


def test_a_program_that_hangs_is_reset_by_the_watchdog(zygote: Zygote, image: Path, tmp_path: Path) -> None:
    hung = tmp_path / "hung"
    hung.mkdir()
    for name in ("chip", "brim"):
        (hung / name).symlink_to(image / name)
    (hung / "boot.py").write_text("")
    (hung / "main.py").write_text(
        "import machine, time\n"
        "w = machine.WDT(timeout=8000)\n"
        "print('cause', machine.reset_cause())\n"
        "while True:\n    time.sleep_ms(50)\n"
    )
    with Street(zygote, hung) as street:
        street.run(0.001)
        assert [line.split()[-1] for line in street.lines if "cause" in line][:3] == ["1", "3", "3"]


def test_the_heap_of_a_wake_on_the_lorawan_way(zygote: Zygote, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Street(zygote, image, loss_rate=0.3, watch_heap=True, heap_bytes=LORAWAN_HEAP_BYTES) as street:
        street.run(1)
        counters = street.bins[0].counters
        with capsys.disabled():
            print(f"\nheap peak of a wake with join, uplinks and resends: {counters.heap_peak_bytes} bytes")
        assert counters.heap_peak_bytes <= LORAWAN_HEAP_BYTES
        assert not any("MemoryError" in line for line in street.lines)
        # A bin is given no more heap for the stand-ins than they really take.
        assert counters.stand_in_heap_bytes >= STAND_IN_HEAP_BYTES
