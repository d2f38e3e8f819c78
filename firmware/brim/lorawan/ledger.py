"""How much airtime each sub-band has seen in the last hour (ETSI EN 300 220-2: the duty cycle counts over one hour)."""

import struct

from brim.lorawan.eu868 import SUB_BANDS

SLOT_MS = 720000
# Five whole slots and the running one always cover an hour.
SLOTS = 6
_LAYOUT = "<I36H"
SIZE = 76
HOUR_MS = 3600000


class Ledger:
    """Airtime in ms, rounded up, per sub-band in slots of 12 minutes. Time comes only from `advance`."""

    def __init__(self) -> None:
        self._into_ms = 0
        self._slots = [[0] * SLOTS for _ in SUB_BANDS]

    def advance(self, ms: int) -> int:
        """Let `ms` pass; after a sleep give only what has certainly passed. How many slots have ended."""
        ms += self._into_ms
        self._into_ms = ms % SLOT_MS
        ended = ms // SLOT_MS
        for _ in range(min(ended, SLOTS)):
            for slots in self._slots:
                slots.pop()
                slots.insert(0, 0)
        return ended

    def used_ms(self, band: int) -> int:
        """Airtime that still counts."""
        return sum(self._slots[band])

    def fits(self, band: int, ms: int, shift: int = 0) -> bool:
        """May `ms` be sent? `shift` halves the total over all bands that many times (DutyCycleReq, section 5.3)."""
        if shift and sum([sum(slots) for slots in self._slots]) + ms > HOUR_MS >> shift:
            return False
        return self.used_ms(band) + ms <= SUB_BANDS[band][3] * (HOUR_MS // 10000)

    def spend(self, band: int, ms: int) -> None:
        """Count `ms` as sent now."""
        self._slots[band][0] = min(self._slots[band][0] + ms, 65535)

    def wait_ms(self) -> int:
        """After this much time something may be free that is not free now."""
        return SLOT_MS - self._into_ms

    def pack(self) -> bytes:
        """SIZE bytes."""
        numbers = [self._into_ms]
        for slots in self._slots:
            numbers.extend(slots)
        return struct.pack(_LAYOUT, *numbers)

    def unpack(self, blob: bytes) -> None:
        """The inverse of `pack`."""
        numbers = struct.unpack(_LAYOUT, blob)
        self._into_ms = min(numbers[0], SLOT_MS - 1)
        for band in range(len(SUB_BANDS)):
            self._slots[band] = list(numbers[1 + band * SLOTS : 1 + (band + 1) * SLOTS])
