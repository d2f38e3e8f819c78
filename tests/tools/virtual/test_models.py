"""Chip models: flash, NVS, ranger."""

import random

import pytest
from brim_tools.virtual.models.flash import BLOCK_BYTES, NorFlash, Nvs, PowerCut
from brim_tools.virtual.models.sensors import I2cBus, UartRanger


def test_a_flash_write_only_clears_bits_until_the_block_is_erased() -> None:
    flash = NorFlash(2)
    flash.write(10, b"\xf0")
    flash.write(10, b"\x0f")
    assert flash.read(10, 1) == b"\x00"
    flash.erase(0)
    assert flash.read(10, 1) == b"\xff"


def test_a_power_cut_tears_the_operation_it_meets() -> None:
    flash = NorFlash(2)
    flash.cut_after = 1
    flash.write(0, b"whole")
    with pytest.raises(PowerCut):
        flash.write(BLOCK_BYTES, b"torn")
    assert flash.read(0, 5) == b"whole" and flash.read(BLOCK_BYTES, 4) == b"to\xff\xff"


def test_nvs_forgets_what_was_not_committed() -> None:
    nvs = Nvs()
    nvs.put("brim", 0, "epoch", b"\x01")
    nvs.commit("brim")
    nvs.put("brim", 0, "epoch", b"\x02")
    assert nvs.get("brim", 0, "epoch") == b"\x02"
    nvs.lose_power()
    assert nvs.get("brim", 0, "epoch") == b"\x01"


def test_the_ranger_speaks_its_frame_every_tenth_of_a_second_once_it_is_warm() -> None:
    ranger = UartRanger(lambda now_us: 1953, random.Random(1), noise_mm=0.0)
    ranger.power(True, 0)
    frame, at_us = ranger.read(0, 4, 1_000_000)
    assert frame == bytes.fromhex("ff07a1a7")  # the maker's own example
    assert 200_000 < at_us < 210_000
    frame, at_us = ranger.read(at_us, 4, 1_000_000)
    assert frame == bytes.fromhex("ff07a1a7") and 300_000 < at_us < 310_000


def test_a_ranger_without_power_or_unplugged_is_silent_and_without_an_echo_says_zero() -> None:
    ranger = UartRanger(lambda now_us: None, random.Random(1))
    assert ranger.read(0, 4, 400_000) == (b"", 400_000)
    ranger.power(True, 0)
    assert ranger.read(0, 4, 400_000)[0] == bytes.fromhex("ff0000ff")
    ranger.silent = True
    ranger.read(400_000, 200, 20_000)  # what was on its way
    assert ranger.read(500_000, 4, 400_000) == (b"", 900_000)


def test_nobody_acknowledges_an_absent_i2c_address() -> None:
    bus = I2cBus()
    assert bus.read(0x18, 0x0F, 1, 0) == b"\x33"
    bus.absent.add(0x18)
    assert bus.read(0x18, 0x0F, 1, 0) is None and not bus.write(0x18, 0x20, b"\x57")
