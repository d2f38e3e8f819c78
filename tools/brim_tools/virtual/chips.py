"""Everything around the processor on a bin's board, wired to the pins of `board`: the calls that take no time."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from brim.boards import heltec_v3 as board

from brim_tools.virtual.chip_calls import Op
from brim_tools.virtual.models.flash import NorFlash, Nvs
from brim_tools.virtual.models.sensors import I2cBus, UartRanger
from brim_tools.virtual.models.sx1262 import Antenna, Sx1262

_RTC_BYTES = 2048
_RANGER_BAUD = 9600
_OK, _FAILED = b"\x00", b"\x01"


@dataclass
class Litter:
    """The true distance to the litter at a model time; None gives no echo."""

    distance_mm: Callable[[int], int | None]
    temperature_c: Callable[[int], float] = field(default=lambda now_us: 12.0)
    battery_mv: Callable[[int], int] = field(default=lambda now_us: 3600)


class Chips:
    """One board's chips. `answer` serves the calls that take no time of their own; the others are the bin's."""

    def __init__(self, name: str, litter: Litter, rng: random.Random, antenna: Antenna) -> None:
        self.nvs, self.flash, self.i2c = Nvs(), NorFlash(), I2cBus()
        self.i2c.temperature_c = litter.temperature_c
        self.ranger = UartRanger(litter.distance_mm, rng)
        self.radio = Sx1262(name, antenna)
        self.rtc_memory = b""
        self._battery_mv = litter.battery_mv
        self._uart_baud: dict[int, int] = {}

    def lose_power(self, now_us: int) -> None:
        """The supply is gone; flash and committed NVS stay. RTC memory is cleared when the supply comes back."""
        self.radio.reset()
        self.ranger.power(False, now_us)

    def answer(self, op: int, data: bytes, now_us: int) -> bytes | None:
        """The answer to a call at the bin's time `now_us`, or None where time must pass first."""
        handler = self._INSTANT.get(op)
        return None if handler is None else handler(self, data, now_us)

    def ranger_listens(self, uart: int) -> bool:
        """Whether reading this UART means the ranger: the right one, at its baud rate."""
        return uart == board.RANGER_UART and self._uart_baud.get(uart) == _RANGER_BAUD

    def _pin_get(self, data: bytes, now_us: int) -> bytes:
        if data[0] == board.RANGER_RX:
            # A UART line idles high where the sensor that drives it has power.
            return bytes((int(self.ranger.powered),))
        levels = {board.RADIO_BUSY: self.radio.busy, board.RADIO_DIO1: self.radio.dio1}
        return bytes((levels.get(data[0], lambda: 1)(),))

    def _pin_set(self, data: bytes, now_us: int) -> bytes:
        pin, level = data
        if pin == board.RADIO_CS:
            self.radio.select(not level)
        elif pin == board.RADIO_RESET and not level:
            self.radio.reset()
        elif pin == board.RANGER_POWER:
            self.ranger.power(level == board.RANGER_POWER_ON, now_us)
        return b""

    def _spi(self, data: bytes, now_us: int) -> bytes:
        return self.radio.transfer(data)

    def _uart_open(self, data: bytes, now_us: int) -> bytes:
        uart, baud = struct.unpack("<BI", data)
        self._uart_baud[uart] = baud
        return b""

    def _uart_write(self, data: bytes, now_us: int) -> bytes:
        return b""  # the ranger listens to nobody

    def _uart_any(self, data: bytes, now_us: int) -> bytes:
        return struct.pack("<I", self.ranger.any(now_us) if data[0] == board.RANGER_UART else 0)

    def _i2c_read(self, data: bytes, now_us: int) -> bytes:
        got = self.i2c.read(data[0], data[1], data[2], now_us)
        return _FAILED if got is None else _OK + got

    def _i2c_write(self, data: bytes, now_us: int) -> bytes:
        return _OK if self.i2c.write(data[0], data[1], data[2:]) else _FAILED

    def _adc(self, data: bytes, now_us: int) -> bytes:
        at_pin_uv = self._battery_mv(now_us) * 1_000_000 // board.BATTERY_RATIO_PERMILLE
        return struct.pack("<I", at_pin_uv if data[0] == board.BATTERY_ADC else 0)

    def _rtc_memory(self, data: bytes, now_us: int) -> bytes:
        self.rtc_memory = data[:_RTC_BYTES]
        return b""

    def _nvs_get(self, data: bytes, now_us: int) -> bytes:
        space, kind, key, _ = _nvs_name(data)
        value = self.nvs.get(space, kind, key)
        return _FAILED if value is None else _OK + value

    def _nvs_set(self, data: bytes, now_us: int) -> bytes:
        self.nvs.put(*_nvs_name(data))
        return b""

    def _nvs_erase(self, data: bytes, now_us: int) -> bytes:
        space, _, key, _ = _nvs_name(data)
        return _OK if self.nvs.erase(space, key) else _FAILED

    def _nvs_commit(self, data: bytes, now_us: int) -> bytes:
        self.nvs.commit(data.decode())
        return b""

    def _flash_read(self, data: bytes, now_us: int) -> bytes:
        at, count = struct.unpack("<II", data)
        return self.flash.read(at, count)

    def _flash_write(self, data: bytes, now_us: int) -> bytes:
        self.flash.write(int.from_bytes(data[:4], "little"), data[4:])
        return _OK

    def _flash_erase(self, data: bytes, now_us: int) -> bytes:
        self.flash.erase(int.from_bytes(data, "little"))
        return _OK

    _INSTANT: dict[int, Callable[[Chips, bytes, int], bytes]] = {
        Op.PIN_GET: _pin_get,
        Op.PIN_SET: _pin_set,
        Op.SPI: _spi,
        Op.UART_OPEN: _uart_open,
        Op.UART_WRITE: _uart_write,
        Op.UART_ANY: _uart_any,
        Op.I2C_READ: _i2c_read,
        Op.I2C_WRITE: _i2c_write,
        Op.ADC_UV: _adc,
        Op.RTC_MEMORY: _rtc_memory,
        Op.NVS_GET: _nvs_get,
        Op.NVS_SET: _nvs_set,
        Op.NVS_ERASE: _nvs_erase,
        Op.NVS_COMMIT: _nvs_commit,
        Op.FLASH_READ: _flash_read,
        Op.FLASH_WRITE: _flash_write,
        Op.FLASH_ERASE: _flash_erase,
    }


def _nvs_name(data: bytes) -> tuple[str, int, str, bytes]:
    """(namespace, kind, key, what follows) of an NVS request."""
    kind, n = data[0], data[1]
    m = data[2 + n]
    return data[2 : 2 + n].decode(), kind, data[3 + n : 3 + n + m].decode(), data[3 + n + m :]
