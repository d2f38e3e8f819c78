"""Millisecond ticks that wrap at 2^30, as on the ESP32 (differences are right within +-2^29 ms), and the sleep."""

PERIOD = 1 << 30


def ticks_add(ticks: int, delta_ms: int) -> int:
    return (ticks + delta_ms) & (PERIOD - 1)


def ticks_left(deadline: int, now: int) -> int:
    """Milliseconds from now to the deadline; negative when it has passed."""
    return ((deadline - now + (PERIOD >> 1)) & (PERIOD - 1)) - (PERIOD >> 1)


def sleep_s(sense_s: int, awake_s: int) -> int:
    """Seconds until the next wake, so that measurements keep their step; 60 s .. 12 h whatever comes in."""
    return min(43200, max(60, sense_s - max(0, awake_s)))
