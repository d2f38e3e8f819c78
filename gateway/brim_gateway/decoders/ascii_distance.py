"""`{37}`: a distance in whole centimetres between braces, ASCII.

The payload of the bin sensors of the Technical University of Denmark (2016, AndreCL/Smart-trash), and of many
a workshop's first device. The device gives no sequence number; 0 means that no echo came back.
"""

from __future__ import annotations

import re

from brim_gateway.decoders.brim import Decoded
from brim_gateway.errors import DecodeError
from brim_gateway.model import Measured

_SHAPE = re.compile(rb"\{(\d{1,4})\}\Z")
MAX_DISTANCE_CM = 800
"""Beyond the range of any ultrasonic sensor that fits a bin: a fault, not a distance."""


def decode(payload: bytes) -> Decoded:
    """One reading without epoch and seq. Raises DecodeError for anything but `{0}` to `{9999}`."""
    match = _SHAPE.match(payload)
    if match is None:
        raise DecodeError("not a number of centimetres between braces")
    distance_cm = int(match[1])
    if distance_cm == 0:
        return Decoded((Measured("no_echo"),))
    if distance_cm > MAX_DISTANCE_CM:
        return Decoded((Measured("sensor_fault"),))
    return Decoded((Measured("ok", distance_mm=distance_cm * 10),))
