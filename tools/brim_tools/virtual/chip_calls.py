"""The operations of the wire between interpreter and chip models, for both ends (see firmware_image)."""

from __future__ import annotations

from enum import IntEnum, auto


class Op(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count

    BOOT = auto()
    PIN_GET = auto()
    PIN_SET = auto()
    SPI = auto()
    UART_OPEN = auto()
    UART_READ = auto()
    UART_WRITE = auto()
    UART_ANY = auto()
    I2C_READ = auto()
    I2C_WRITE = auto()
    ADC_UV = auto()
    RTC_MEMORY = auto()
    NVS_GET = auto()
    NVS_SET = auto()
    NVS_ERASE = auto()
    NVS_COMMIT = auto()
    TICKS_US = auto()
    TIME_S = auto()
    SLEEP_US = auto()
    LIGHT_SLEEP = auto()
    DEEP_SLEEP = auto()
    RESET = auto()
    WATCHDOG = auto()
    WAKE_ON = auto()
    FLASH_READ = auto()
    FLASH_WRITE = auto()
    FLASH_ERASE = auto()
    WLAN = auto()
    HEAP_BASE = auto()
