"""The speed of sound, in integers: an ESP32's floats have 24 bits, and a bin needs no more than these."""

ZERO_C = 27315  # 0 C in hundredths of a kelvin
SPEED_AT_ZERO_MM_S = 331300
# What rangers that do not measure the temperature assume.
ASSUMED_C = 20


def isqrt(number: int) -> int:
    """The integer part of the square root of a number that is not negative (Newton)."""
    if number < 2:
        return number
    root = number
    better = (root + 1) // 2
    while better < root:
        root = better
        better = (root + number // root) // 2
    return root


def speed_mm_s(celsius: int) -> int:
    """331.3 m/s * sqrt(1 + T / 273.15), in mm/s."""
    # The square root of the ratio in steps of 2^-15.
    return SPEED_AT_ZERO_MM_S * isqrt((ZERO_C + 100 * celsius << 30) // ZERO_C) >> 15


def corrected_mm(distance_mm: int, celsius: int) -> int:
    """The distance meant by a ranger that assumes ASSUMED_C, in air of `celsius`."""
    assumed = speed_mm_s(ASSUMED_C)
    return (distance_mm * speed_mm_s(celsius) + assumed // 2) // assumed


def pulse_mm(pulse_us: int) -> int:
    """Half the way that sound goes in `pulse_us` at ASSUMED_C: what a ranger with an echo pulse has measured."""
    return pulse_us * speed_mm_s(ASSUMED_C) // 2000000
