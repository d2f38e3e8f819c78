"""The sensors of a bin on an ESP32: pins, buses and rails for the drivers. Let go before the radio is loaded."""

import machine

from brim.boards import heltec_v3 as board
from brim.drivers.accelerometer import Accelerometer
from brim.drivers.battery import Battery
from brim.drivers.ranger_uart import READ_TIMEOUT_MS, RangerUart
from brim.drivers.thermometer import Thermometer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from brim.core.hal import Clock


def ranger() -> RangerUart:
    def open_uart() -> "Any":
        return machine.UART(
            board.RANGER_UART,
            baudrate=9600,
            tx=board.RANGER_TX,
            rx=board.RANGER_RX,
            timeout=READ_TIMEOUT_MS,
        )

    return RangerUart(_switch(board.RANGER_POWER, board.RANGER_POWER_ON), open_uart)


def _bus() -> "Any":
    pin = machine.Pin
    return machine.I2C(board.I2C_ID, scl=pin(board.I2C_SCL), sda=pin(board.I2C_SDA), freq=400000)


def thermometer() -> Thermometer:
    return Thermometer(_bus())


def accelerometer(clock: "Clock") -> Accelerometer:
    return Accelerometer(_bus(), clock)


def battery_mv() -> int:
    # 11 dB: the divided voltage of a fresh cell is within 150..2450 mV.
    adc = machine.ADC(machine.Pin(board.BATTERY_ADC), atten=machine.ADC.ATTN_11DB)
    enable = _switch(board.BATTERY_ENABLE, board.BATTERY_ENABLE_ON)
    return Battery(adc, enable, board.BATTERY_RATIO_PERMILLE).millivolts()


def _switch(number: int, on_level: int) -> "Any":
    """A function(on) for an output that begins switched off."""
    pin = machine.Pin(number, machine.Pin.OUT, value=1 - on_level)

    def switch(on: bool) -> None:
        pin.value(on_level if on else 1 - on_level)

    return switch
