"""What a bin promises while its program is killed, its supply is cut and its parts fail: a short, seeded share of it.

The unchanged firmware on the real MicroPython, in virtual time.
"""

from __future__ import annotations

import random
import ssl
from pathlib import Path

import pytest
from brim.core.record import RECORD_BYTES
from brim.core.rtc_state import load
from brim.lorawan.eu868 import SUB_BANDS, sub_band
from brim_tools.virtual.chips import Litter
from brim_tools.virtual.ether import Transmission
from brim_tools.virtual.interpreter import Zygote
from brim_tools.virtual.provision import wifi_identity
from brim_tools.virtual.street import Street

WIFI_HEAP_BYTES = 90_000
HOUR_US = 3_600_000_000
BRISK = {"sense_s": 300, "heartbeat_s": 300}


class AirtimeObserver:
    """Beside the street with a stopwatch: the airtime of each bin in each sub-band."""

    def __init__(self, street: Street) -> None:
        self.sent: dict[tuple[str, int], list[tuple[int, int]]] = {}
        street.ether.on_transmission.append(self._on_transmission)

    def _on_transmission(self, frame: Transmission) -> None:
        if not frame.iq_inverted:
            key = (frame.sender, sub_band(frame.freq_hz))
            self.sent.setdefault(key, []).append((frame.start_us, frame.end_us - frame.start_us))

    def worst_share_of_the_limit(self) -> float:
        """Over all sliding hours; 1.0 is the legal duty cycle."""
        worst = 0.0
        for (_, band), frames in self.sent.items():
            limit_us = SUB_BANDS[band][3] * HOUR_US // 10_000
            for end_us, _ in frames:
                hour_us = sum(air_us for at_us, air_us in frames if end_us - HOUR_US < at_us <= end_us)
                worst = max(worst, hour_us / limit_us)
        return worst


def uids_are_used_once(street: Street) -> bool:
    named = [tuple(line.split()[0:3:2]) for line in street.lines if " reading " in line]
    return len(named) == len(set(named))


def faults(street: Street) -> set[str]:
    return {line.split(" ", 1)[1] for line in street.lines if " fault " in line}


@pytest.mark.parametrize(("seed", "sf", "loss_rate"), [(1, 7, 0.0), (2, 9, 0.4), (3, 12, 0.3)])
def test_a_killed_program_loses_no_reading_and_reuses_nothing(
    zygote: Zygote, image: Path, seed: int, sf: int, loss_rate: float
) -> None:
    rng = random.Random(seed)
    settings = {"sf": sf, "sense_s": 300, "heartbeat_s": 900}
    with Street(zygote, image, seed=seed, loss_rate=loss_rate, settings=settings) as street:
        air, bin_ = AirtimeObserver(street), street.bins[0]
        for _ in range(45):
            bin_.kill_at_call = bin_.counters.calls + rng.randrange(1, 600)
            street.run(rng.uniform(0.003, 0.015))
        bin_.kill_at_call = None
        named = set(street.measured)
        street.ether.loss_rate = 0.0
        street.run(0.3)
        assert len(named) > 25 and named & street.missing == set()
        assert uids_are_used_once(street) and street.watch.reused == 0
        assert len({epoch for _, epoch, _ in named}) == 1, "RTC memory survives a kill"
        assert air.worst_share_of_the_limit() <= 1.0
        assert not any("Memory" in fault for fault in faults(street))


def test_kills_do_not_silence_a_bin_for_hours(zygote: Zygote, image: Path) -> None:
    with Street(zygote, image, settings={"sf": 7, **BRISK}) as street:
        for _ in range(30):
            street.run(0.004)
            street.bins[0].kill()
        street.run(0.02)
        assert "fault mac duty" not in faults(street)


@pytest.mark.parametrize(("cut", "loss_rate"), [("nothing", 0.5), ("supply", 0.4), ("memory", 0.3)])
def test_a_long_outage_spills_to_flash_and_drains(zygote: Zygote, image: Path, cut: str, loss_rate: float) -> None:
    """What had moved to flash survives the supply and an RTC memory full of garbage, under its old epoch."""
    with Street(zygote, image, seed=3, settings={"sf": 7, **BRISK}) as street:
        bin_ = street.bins[0]
        street.run(0.02)
        street.ether.loss_rate = 1.0
        street.run(0.3)
        state = load(bin_.chips.rtc_memory)
        waiting = set(street.missing)
        assert len(waiting) > 60 and state.flash_count >= 32
        if cut == "supply":
            bin_.cut_power()
            bin_.power_on(1_000_000)
        if cut == "memory":
            bin_.chips.rtc_memory = random.Random(1).randbytes(1300)
        if cut != "nothing":
            waiting = {uid for uid in waiting if uid[2] <= state.flash_count}
        street.ether.loss_rate = loss_rate
        street.run(0.45)
        state = load(bin_.chips.rtc_memory)
        assert waiting & street.missing == set()
        assert state.flash_count == state.flash_skip, "nothing stays in flash for ever"
        assert street.watch.reused == 0 and uids_are_used_once(street)
        assert not any("Memory" in fault for fault in faults(street))


WRITER = """
from brim.boards.files import FlashFile, read_text, write_text
from brim.core.outbox import Outbox
from brim.core.record import key_of, pack_record
from brim.core.rtc_state import RtcState
from brim.wire.reading import Reading

outbox = Outbox(RtcState(), FlashFile("/outbox.bin"))
found = [key_of(record)[1] for record in outbox.oldest(1000)]
print("found", outbox.fault, read_text("/settings.json", 99).replace(" ", ""), *found)
seq = found[-1] if found else 0
for _ in range(90):
    seq += 1
    outbox.push(pack_record(Reading(1, seq, "no_echo"), seq))
    if seq % 16 == 0:
        print("safe", seq - len(outbox.state.ring) // 18)
        print("held", seq - 100)
        outbox.acknowledge(lambda epoch, its: its <= seq - 100)
    if seq % 20 == 0:
        print("asked", seq)
        write_text("/settings.json", str(seq))
        print("set", seq)
"""


def test_a_supply_cut_at_any_flash_operation_leaves_readings_and_settings_whole(
    zygote: Zygote, image: Path, tmp_path: Path
) -> None:
    """What was in the file stays there, and settings are the old ones or the new ones."""
    for name in ("chip", "brim"):
        (tmp_path / name).symlink_to(image / name)
    (tmp_path / "boot.py").write_text("")
    (tmp_path / "main.py").write_text(WRITER)
    rng = random.Random(11)
    safe = held = 0
    settings = {'{"sf":7}'}
    with Street(zygote, tmp_path, heap_bytes=400_000) as street:
        bin_ = street.bins[0]
        for cut_after in [*range(24), *(rng.randrange(24, 60) for _ in range(16))]:
            street.lines.clear()
            bin_.chips.flash.cut_after = None
            bin_.power_on()
            bin_.on_booted = lambda after=cut_after: setattr(bin_.chips.flash, "cut_after", after)  # type: ignore[misc]
            street.run(0.0001)
            bin_.cut_power()
            for line in street.lines:
                word, *rest = line.split()[1:]
                if word == "found":
                    assert rest[0] == "None", line
                    assert rest[1] in settings, (line, settings)
                    assert set(range(max(1, held + 1), safe + 1)) <= {int(seq) for seq in rest[2:]}, (held, safe, line)
                elif word == "safe":
                    safe = int(rest[0])
                elif word == "held":
                    held = int(rest[0])
                elif word == "asked":
                    settings.add(rest[0])
                elif word == "set":
                    settings = {rest[0]}
                else:
                    assert word == "virtual:", street.lines
    assert safe > 300 and len(settings) <= 2


def test_a_bin_without_a_radio_says_so_and_keeps_its_readings(zygote: Zygote, image: Path) -> None:
    with Street(zygote, image, settings={"sf": 7, **BRISK}) as street:
        bin_ = street.bins[0]
        bin_.chips.radio.absent = True
        street.run(0.1)
        kept = set(street.missing)
        assert len(kept) > 20 and faults(street) & {"fault radio busy", "fault radio absent"}
        bin_.chips.radio.absent = False
        street.run(0.3)
        assert kept & street.missing == set() and bin_.counters.watchdog_resets == 0


def test_a_radio_that_never_raises_its_interrupt_ends_no_wake(
    zygote: Zygote, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Street(zygote, image, settings={"sf": 12, **BRISK}) as street:
        bin_ = street.bins[0]
        monkeypatch.setattr(bin_.chips.radio, "dio1", lambda: 0)
        monkeypatch.setattr(bin_.chips.radio, "dio1_rises_at", lambda: None)
        street.run(0.1)
        assert bin_.counters.watchdog_resets == bin_.counters.crashes == 0
        assert any(fault.startswith("fault radio") for fault in faults(street)), faults(street)


@pytest.mark.parametrize("ranger", ["silent", "babbling"])
def test_sensors_that_fail_are_absences_and_the_wake_ends(
    zygote: Zygote, image: Path, ranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    with Street(zygote, image, litter=lambda rng: Litter(lambda now_us: 700), settings=BRISK) as street:
        bin_ = street.bins[0]
        bin_.chips.i2c.absent = {0x18, 0x48}
        if ranger == "silent":
            bin_.chips.ranger.silent = True
        else:
            babble = lambda now_us, count, timeout_us: (rng.randbytes(count), now_us + count * 1042)  # noqa: E731
            monkeypatch.setattr(bin_.chips.ranger, "read", babble)
        street.run(0.1)
        assert bin_.counters.watchdog_resets == bin_.counters.crashes == 0
        assert {"fault ranger", "fault thermometer", "fault accelerometer"} <= faults(street)
        for reading in street.gateway.readings.values():
            assert (reading.distance_mm, reading.temperature_c) == (None, None)
            assert reading.status in ("sensor_fault", "no_echo")


def test_garbage_in_rtc_memory_begins_a_new_epoch_and_nothing_else(zygote: Zygote, image: Path) -> None:
    rng = random.Random(9)
    with Street(zygote, image, settings={"sf": 7, **BRISK}) as street:
        bin_ = street.bins[0]
        for garbage in (b"", b"\x00" * 2048, b"\xff" * 2048, rng.randbytes(700)):
            street.run(0.02)
            bin_.chips.rtc_memory = garbage
        street.run(0.02)
        whole = bytearray(bin_.chips.rtc_memory)
        whole[rng.randrange(len(whole))] ^= 4
        bin_.chips.rtc_memory = bytes(whole)
        street.run(0.05)
        assert {epoch for _, epoch, _ in street.measured} == {1, 2, 3, 4, 5, 6}
        assert uids_are_used_once(street) and street.watch.reused == 0 and street.gateway.joins == 1
        assert bin_.counters.crashes == 0 and not faults(street)


def test_a_wifi_bin_whose_gateway_is_away_keeps_everything(zygote: Zygote, image: Path) -> None:
    """Nobody listens at the address; the certificate is never reached. The heap holds, spilled readings included."""
    brisk = {"sense_s": 60, "heartbeat_s": 60}
    with Street(zygote, image, settings=brisk, heap_bytes=WIFI_HEAP_BYTES) as street:
        bin_ = street.bins[0]
        keys = {"bin": "away", "dev": bin_.dev, "mqtt_password": "p"}
        wifi_identity(bin_.chips.nvs, keys, "127.0.0.1", 9, ssl.DER_cert_to_PEM_cert(b"never read"))
        street.run(0.1)
        state = load(bin_.chips.rtc_memory)
        kept = state.flash_count - state.flash_skip + len(state.ring) // RECORD_BYTES
        assert kept == len(street.measured) > 76 and state.dropped == 0 and state.retry
        assert faults(street) == {"fault tcp"} and bin_.counters.crashes == 0
