"""Both radio drivers at the register models of their chips: the same exchange, whichever chip a board has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from brim.core.faults import RadioFault
from brim.drivers.sx1262 import SX1262
from brim.drivers.sx1276 import SX1276
from brim_tools.virtual.ether import PUBLIC_SYNC_WORD, Listener, Transmission, time_on_air_us
from brim_tools.virtual.models.sx1262 import Sx1262
from brim_tools.virtual.models.sx1276 import Sx1276

CHIPS = ["SX1262", "SX1276"]


@dataclass
class Bench:
    """A clock that stands still but in waits, and an air with nothing but what the test puts there."""

    now: int = 1_000_000
    sent: list[Transmission] = field(default_factory=list)
    downlinks: list[Transmission] = field(default_factory=list)
    alarms: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    heard_by: Listener | None = None

    # The antenna.
    def now_us(self) -> int:
        self.now += 1
        return self.now

    def transmit(self, transmission: Transmission) -> None:
        self.sent.append(transmission)

    def alarm(self, at_us: int, callback: Callable[[], None]) -> None:
        self.alarms.append((at_us, callback))

    def stop_listening(self, listener: Listener) -> None:
        self.heard_by = None

    def listen(self, listener: Listener) -> None:
        self.heard_by = listener
        for one in self.downlinks:
            fits = (one.freq_hz, one.sf, one.iq_inverted, one.sync_word) == (
                listener.freq_hz, listener.sf, listener.iq_inverted, listener.sync_word,
            )  # fmt: skip
            lock_us = one.start_us + int(4 * one.symbol_us)
            if fits and listener.open_us <= one.start_us and lock_us <= listener.lock_by_us:
                self.alarm(lock_us, lambda: setattr(listener, "locked", True))
                self.alarm(one.end_us, lambda one=one: listener.received(one, -91.0, -7.5))  # type: ignore[misc]

    # The driver's clock.
    def sleep_ms(self, ms: int) -> None:
        self.now += ms * 1000

    def ticks_us(self) -> int:
        return self.now

    def ticks_ms(self) -> int:
        return self.now // 1000

    def time_s(self) -> int:
        return self.now // 1_000_000

    def waiter(self, level: Callable[[], int], rises_at: Callable[[], int | None]) -> Callable[[int], bool]:
        def wait(timeout_ms: int) -> bool:
            limit = self.now + timeout_ms * 1000
            while not level():
                self.alarms.sort(key=lambda entry: entry[0])
                rises = rises_at()
                next_us = min([self.alarms[0][0]] if self.alarms else [limit], default=limit)
                next_us = min(next_us, limit if rises is None else rises)
                self.now = max(self.now, min(next_us, limit))
                while self.alarms and self.alarms[0][0] <= self.now:
                    self.alarms.pop(0)[1]()
                if self.now >= limit:
                    return bool(level())
            return True

        return wait


class Pin:
    """``value()`` as of machine.Pin."""

    def __init__(self, read: Callable[[], int] = lambda: 0, write: Callable[[int], Any] = lambda level: None) -> None:
        self._read, self._write = read, write

    def value(self, level: int | None = None) -> int:
        if level is None:
            return self._read()
        self._write(level)
        return level


class Bus:
    """``write_readinto`` as of machine.SPI."""

    def __init__(self, chip: Sx1262 | Sx1276) -> None:
        self._chip = chip

    def write_readinto(self, out: bytes, into: bytearray) -> None:
        into[:] = self._chip.transfer(bytes(out))


def radio(kind: str, bench: Bench) -> tuple[Any, Any]:
    """(driver, chip)."""
    if kind == "SX1276":
        chip = Sx1276("bin", bench)
        reset = Pin(write=lambda level: None if level else chip.reset())
        cs = Pin(write=lambda level: chip.select(not level))
        return SX1276(Bus(chip), cs, reset, bench.waiter(chip.dio0, chip.dio0_rises_at), bench), chip
    other = Sx1262("bin", bench)
    reset = Pin(write=lambda level: None if level else other.reset())
    cs = Pin(write=lambda level: other.select(not level))
    wait = bench.waiter(other.dio1, other.dio1_rises_at)

    def busy() -> int:
        return other.busy()

    return SX1262(Bus(other), cs, reset, Pin(busy), Pin(other.dio1), wait, bench, 1800, True), other


def downlink(bench: Bench, after_us: int, sf: int, payload: bytes, **changes: Any) -> None:
    start_us = bench.now + after_us
    end_us = start_us + time_on_air_us(len(payload), sf, 125_000, crc=False, ldro=sf >= 11)
    values: dict[str, Any] = {
        "sender": "gateway", "start_us": start_us, "end_us": end_us,
        "freq_hz": 868_300_000, "sf": sf, "bw_hz": 125_000, "power_dbm": 14.0, "iq_inverted": True, "crc": False,
        "sync_word": PUBLIC_SYNC_WORD, "payload": payload,
    }  # fmt: skip
    bench.downlinks.append(Transmission(**values | changes))


@pytest.mark.parametrize("kind", CHIPS)
@pytest.mark.parametrize("sf", [7, 9, 12])
def test_an_uplink_a_downlink_and_an_uplink_after_it(kind: str, sf: int) -> None:
    bench = Bench()
    driver, _ = radio(kind, bench)
    driver.start()
    driver.transmit(868_300_000, sf, 14, b"up 1")
    downlink(bench, 20_000, sf, b"down")
    driver.prepare(868_300_000, sf, 60)
    assert driver.receive()[0] == b"down"
    end_us = driver.transmit(868_300_000, sf, 14, b"up 2")
    assert [(one.payload, one.freq_hz, one.sf, one.iq_inverted, one.crc, one.sync_word) for one in bench.sent] == [
        (payload, 868_300_000, sf, False, True, PUBLIC_SYNC_WORD) for payload in (b"up 1", b"up 2")
    ]
    assert 0 <= end_us - bench.sent[-1].end_us < 1_000


def test_levels_of_a_frame_below_the_noise() -> None:
    bench = Bench()
    driver, _ = radio("SX1276", bench)
    driver.start()
    downlink(bench, 20_000, 9, b"faint")
    driver.prepare(868_300_000, 9, 60)
    payload, snr_db, rssi_dbm = driver.receive()
    assert payload == b"faint" and abs(snr_db + 7.5) < 1 and abs(rssi_dbm + 91) <= 1


@pytest.mark.parametrize("kind", CHIPS)
@pytest.mark.parametrize(
    "changes", [{"iq_inverted": False}, {"sync_word": 0x1424}, {"freq_hz": 868_500_000}, {"sf": 8}]
)
def test_what_is_not_meant_for_a_bin_is_not_heard_and_the_window_ends(kind: str, changes: dict[str, Any]) -> None:
    bench = Bench()
    driver, _ = radio(kind, bench)
    driver.start()
    changes = dict(changes)
    downlink(bench, 20_000, changes.pop("sf", 9), b"other", **changes)
    driver.prepare(868_300_000, 9, 40)
    began = bench.now
    assert driver.receive() is None
    assert 40 * 4_096 <= bench.now - began < 60 * 4_096


@pytest.mark.parametrize("kind", CHIPS)
def test_a_chip_that_is_not_there_is_a_fault(kind: str) -> None:
    bench = Bench()
    driver, chip = radio(kind, bench)
    chip.absent = True
    with pytest.raises(RadioFault):
        driver.start()


def test_the_page_of_an_sx1276_changes_in_sleep_only() -> None:
    chip = Sx1276("bin", Bench())
    chip.select(True)
    chip.transfer(bytes((0x81, 0x81)))
    assert chip.transfer(b"\x01\x00")[1] == 0x01
    for mode in (0x00, 0x80, 0x81):
        chip.transfer(bytes((0x81, mode)))
    assert chip.transfer(b"\x01\x00")[1] == 0x81
