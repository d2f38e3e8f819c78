"""The sensors of a bin on an ESP32: pins, buses and rails for the drivers. Let go before the radio is loaded."""

import machine

from brim.boards import heltec_v3 as board
from brim.drivers.accelerometer import Accelerometer
from brim.drivers.battery import Battery
from brim.drivers.rangers import KIND, MAXBOTIX, MODELS, PULSE, WARM_UP_MS
from brim.drivers.thermometer import Thermometer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from brim.core.hal import Clock, Ranger


def ranger(model: int, clock: "Clock") -> "Ranger":
    """The ranger of drivers.rangers.MODELS that is wired to RANGER_TX (or its trigger) and RANGER_RX (or its echo)."""
    row = MODELS[model]
    power = _switch(board.RANGER_POWER, board.RANGER_POWER_ON)
    if row[KIND] == PULSE:
        return _pulse_ranger(power, row[WARM_UP_MS], clock)
    from brim.drivers.ranger_uart import READ_TIMEOUT_MS, RangerUart

    def open_uart() -> "Any":
        return machine.UART(
            board.RANGER_UART,
            baudrate=9600,
            tx=board.RANGER_TX,
            rx=board.RANGER_RX,
            timeout=READ_TIMEOUT_MS,
        )

    def line_high() -> bool:
        pin = machine.Pin
        return bool(pin(board.RANGER_RX, pin.IN, pin.PULL_DOWN).value())

    if row[KIND] == MAXBOTIX:
        from brim.drivers.ranger_maxbotix import FRAME_BYTES, parse

        return RangerUart(power, open_uart, line_high, parse, FRAME_BYTES)
    return RangerUart(power, open_uart, line_high)


def _pulse_ranger(power: "Callable[[bool], None]", warm_up_ms: int, clock: "Clock") -> "Ranger":
    from time import sleep_us

    from brim.drivers.ranger_pulse import RangerPulse

    pin = machine.Pin
    trigger = pin(board.RANGER_TX, pin.OUT, value=0)
    echo = pin(board.RANGER_RX, pin.IN)

    def ping(trigger_us: int, timeout_us: int) -> int:
        trigger.value(1)
        sleep_us(trigger_us)
        trigger.value(0)
        return machine.time_pulse_us(echo, 1, timeout_us)

    return RangerPulse(power, ping, clock.sleep_ms, warm_up_ms)


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
