"""`time` as an ESP32 has it: the epoch is 2000, `time()` gives whole seconds, ticks wrap at 2**30.

Every figure comes from the host's virtual clock, and a sleep is one blocking call.
"""

import struct

import _host

_TICKS = 1 << 30


def ticks_us():
    return _us() & (_TICKS - 1)


def ticks_ms():
    return (_us() // 1000) & (_TICKS - 1)


def _us():
    return struct.unpack("<Q", _host.call(_host.TICKS_US))[0]


def ticks_add(ticks, delta):
    return (ticks + delta) & (_TICKS - 1)


def ticks_diff(end, start):
    return ((end - start + _TICKS // 2) & (_TICKS - 1)) - _TICKS // 2


def sleep_us(us):
    if us > 0:
        _host.call(_host.SLEEP_US, struct.pack("<Q", us))


def sleep_ms(ms):
    sleep_us(ms * 1000)


def time():
    return _host.call_u32(_host.TIME_S)
