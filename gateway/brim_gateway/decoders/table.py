"""Decoder by the name that the registry holds."""

from __future__ import annotations

from collections.abc import Callable

from brim_gateway.decoders import ascii_distance, brim
from brim_gateway.decoders.brim import Decoded

DECODERS: dict[str, Callable[[bytes], Decoded]] = {
    "brim": brim.decode,
    "ascii-distance-cm": ascii_distance.decode,
}
