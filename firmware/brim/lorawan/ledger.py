"""How much airtime each sub-band has seen in the last hour (ETSI EN 300 220-2: the duty cycle counts over one hour)."""

import struct

from brim.lorawan.eu868 import SUB_BANDS

SLOT_MS = 720000
# Five whole slots and the running one always cover an hour.
SLOTS = 6
_LAYOUT = "<I36H"
SIZE = 76
HOUR_MS = 3600000
# What 16 bits hold, with room for what is reserved ahead. Of the sub-band with 10 % a sixth is used at most.
MOST_MS = 64000


class Ledger:
    """Airtime in ms, rounded up, per sub-band in slots of 12 minutes. Time comes only from `advance`."""

    def __init__(self) -> None:
        self._into_ms = 0
        # SLOTS numbers for each sub-band, the running slot first.
        self._slots = [0] * (SLOTS * len(SUB_BANDS))

    def advance(self, ms: int) -> int:
        """Let `ms` pass; after a sleep give only what has certainly passed. How many slots have ended."""
        ms += self._into_ms
        self._into_ms = ms % SLOT_MS
        ended = ms // SLOT_MS
        slots = self._slots
        for _ in range(min(ended, SLOTS)):
            for at in range(len(slots) - 1, -1, -1):
                slots[at] = slots[at - 1] if at % SLOTS else 0
        return ended

    def used_ms(self, band: int) -> int:
        """Airtime that still counts."""
        return sum(self._slots[SLOTS * band : SLOTS * (band + 1)])

    def fits(self, band: int, ms: int, shift: int = 0) -> bool:
        """May `ms` be sent? `shift` halves the total over all bands that many times (DutyCycleReq, section 5.3)."""
        sent_ms = sum(self._slots)
        # One frame an hour goes even where the share is less than a frame: a network that silenced a device for ever
        # could never lift that again.
        if shift and sent_ms and sent_ms + ms > HOUR_MS >> shift:
            return False
        return self.used_ms(band) + ms <= min(SUB_BANDS[band][3] * (HOUR_MS // 10000), MOST_MS)

    def spend(self, band: int, ms: int) -> None:
        """Count `ms` as sent now."""
        self._slots[SLOTS * band] = min(self._slots[SLOTS * band] + ms, 65535)

    def wait_ms(self) -> int:
        """After this much time something may be free that is not free now."""
        return SLOT_MS - self._into_ms

    def pack(self) -> bytes:
        """SIZE bytes."""
        return struct.pack(_LAYOUT, self._into_ms, *self._slots)

    def unpack(self, blob: bytes) -> None:
        """The inverse of `pack`."""
        numbers = struct.unpack(_LAYOUT, blob)
        self._into_ms = min(numbers[0], SLOT_MS - 1)
        self._slots = list(numbers[1:])
