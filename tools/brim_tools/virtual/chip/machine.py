"""`machine` of an ESP32 as far as Brim's firmware uses it: a thin client of the host's chip models."""

import struct

import _host

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
PIN_WAKE = 2  # ESP_SLEEP_WAKEUP_EXT0
TIMER_WAKE = 4

_RTC_BYTES = 2048
_boot = _host.call(_host.BOOT)[:8]  # reset cause, wake reason, chip id (6); RTC memory follows them


def reset_cause():
    return _boot[0]


def wake_reason():
    return _boot[1]


def unique_id():
    return bytes(_boot[2:8])


class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2
    IRQ_RISING = 1
    IRQ_FALLING = 2

    def __init__(self, id, mode=-1, pull=-1, value=None, hold=None):
        self.id = id
        if value is not None:
            self.value(value)

    def init(self, mode=-1, pull=-1, value=None, hold=None):
        if value is not None:
            self.value(value)

    def value(self, x=None):
        if x is None:
            return _host.call(_host.PIN_GET, bytes([self.id]))[0]
        _host.call(_host.PIN_SET, bytes([self.id, 1 if x else 0]))

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)


class SPI:
    MSB = 0

    def __init__(self, id, baudrate=1000000, polarity=0, phase=0, bits=8, firstbit=0, sck=None, mosi=None, miso=None):
        pass

    def write(self, buf):
        _host.call(_host.SPI, bytes(buf))

    def write_readinto(self, write_buf, read_buf):
        read_buf[:] = _host.call(_host.SPI, bytes(write_buf))

    def readinto(self, buf, write=0):
        buf[:] = _host.call(_host.SPI, bytes([write]) * len(buf))

    def deinit(self):
        pass


class UART:
    def __init__(self, id, baudrate=9600, tx=None, rx=None, timeout=0, timeout_char=0, rxbuf=256, **_):
        self._id = id
        self._timeout = timeout
        self.init(baudrate, timeout=timeout)

    def init(self, baudrate=9600, timeout=None, **_):
        if timeout is not None:
            self._timeout = timeout
        _host.call(_host.UART_OPEN, struct.pack("<BI", self._id, baudrate))

    def read(self, nbytes=255):
        data = _host.call(_host.UART_READ, struct.pack("<BII", self._id, nbytes, self._timeout))
        return bytes(data) if data else None

    def readinto(self, buf, nbytes=None):
        data = self.read(len(buf) if nbytes is None else nbytes)
        if data is None:
            return None
        buf[: len(data)] = data
        return len(data)

    def any(self):
        return _host.call_u32(_host.UART_ANY, bytes([self._id]))

    def write(self, buf):
        _host.call(_host.UART_WRITE, bytes([self._id]) + bytes(buf))
        return len(buf)

    def deinit(self):
        pass


class I2C:
    def __init__(self, id, scl=None, sda=None, freq=400000, timeout=50000):
        pass

    def readfrom_mem(self, addr, memaddr, nbytes, addrsize=8):
        return bytes(_acked(_host.call(_host.I2C_READ, bytes([addr, memaddr, nbytes]))))

    def readfrom_mem_into(self, addr, memaddr, buf, addrsize=8):
        buf[:] = self.readfrom_mem(addr, memaddr, len(buf))

    def writeto_mem(self, addr, memaddr, buf, addrsize=8):
        _acked(_host.call(_host.I2C_WRITE, bytes([addr, memaddr]) + bytes(buf)))


def _acked(answer):
    if answer[0]:
        raise OSError(19)  # ENODEV, as the ESP32 raises when nobody acknowledges the address
    return answer[1:]


class ADC:
    ATTN_0DB = 0
    ATTN_2_5DB = 1
    ATTN_6DB = 2
    ATTN_11DB = 3

    def __init__(self, pin, atten=0):
        self._pin = pin.id if isinstance(pin, Pin) else pin
        self._atten = atten

    def read_uv(self):
        return _host.call_u32(_host.ADC_UV, bytes([self._pin, self._atten]))


class RTC:
    def memory(self, data=None):
        # The chip keeps it outside of the heap, and so does this.
        if data is None:
            return bytes(_host.call(_host.BOOT)[8:])
        if len(data) > _RTC_BYTES:
            raise ValueError("buffer too long")
        _host.call(_host.RTC_MEMORY, data)


class WDT:
    def __init__(self, id=0, timeout=5000):
        _host.call(_host.WATCHDOG, struct.pack("<I", timeout))

    def feed(self):
        _host.call(_host.WATCHDOG, struct.pack("<I", 0))


def lightsleep(time_ms=None):
    _host.call(_host.LIGHT_SLEEP, struct.pack("<I", 0xFFFFFFFF if time_ms is None else time_ms))


def deepsleep(time_ms=None):
    """The host kills this process before it answers: nothing after this call may run."""
    forever = 0xFFFFFFFFFFFFFFFF  # no argument, or a negative one: the chip casts it
    _host.call(_host.DEEP_SLEEP, struct.pack("<Q", forever if time_ms is None else time_ms & forever))
    raise SystemExit


def reset():
    _host.call(_host.RESET)
    raise SystemExit


def disable_irq():
    return 0


def enable_irq(state):
    pass


def freq(hz=None):
    return 240000000
