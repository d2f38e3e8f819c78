"""Millisecond ticks that wrap at 2^30, as on the ESP32. Differences are right within +-2^29 ms (6 days)."""

PERIOD = 1 << 30


def ticks_add(ticks: int, delta_ms: int) -> int:
    return (ticks + delta_ms) & (PERIOD - 1)


def ticks_left(deadline: int, now: int) -> int:
    """Milliseconds from now to the deadline; negative when it has passed."""
    return ((deadline - now + (PERIOD >> 1)) & (PERIOD - 1)) - (PERIOD >> 1)
