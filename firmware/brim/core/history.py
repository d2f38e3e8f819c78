"""What a measurement means after those before it: a jump is believed when it is seen again, and too close is full only
where the bin was getting full."""

from brim.core.fill import Measurement
from brim.core.geometry import fill_permille

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.core.rtc_state import Memory

# Litter comes in handfuls. More than this between two measurements is a bag, an emptying or an error: look again soon,
# and believe what has been seen so often in a row.
JUMP_MM = 90
SEEN = 3
# A bag that swings is never so steady. What is not steady is believed too, but only when it has been there for long:
# uneven litter may never be, and a full bin must not stay a jump for ever. A steady sight counts three.
STEADY_MM = 10
STEADY_COUNTS = 3
BELIEVED = 8
# Looking again soon costs energy: not more often than this in a row.
LOOKS_MOST = 6
# Fuller than this, a bin may well be too close the next time.
NEARLY_FULL_PERMILLE = 600
# A ranger that gives the very same mm, without any spread, this often in a row is not measuring. A day at 15 minutes:
# a quiet bin may do so for a night.
SAME_MOST = 96


def consider(measured: Measurement, memory: "Memory", empty_mm: int, full_mm: int) -> Measurement:
    """`measured` as it is to be reported. `memory` takes it in."""
    memory.unsure = False
    if measured.status == "too_close":
        return _too_close(measured, memory, empty_mm, full_mm)
    distance_mm = measured.distance_mm
    if distance_mm is None:
        memory.jumps = 0
        return measured
    memory.near = 0
    if measured.spread_mm == 0 and distance_mm == memory.same_mm:
        memory.same = min(memory.same + 1, 255)
    else:
        memory.same, memory.same_mm = 0, distance_mm
    if memory.same >= SAME_MOST:
        return Measurement("stuck", measured.echoes)
    if not memory.level_mm or abs(distance_mm - memory.level_mm) > JUMP_MM:
        again = memory.jumps and abs(distance_mm - memory.jump_mm) <= JUMP_MM
        counts = STEADY_COUNTS if (measured.spread_mm or 0) <= STEADY_MM else 1
        memory.jumps = min(memory.jumps + counts, 255) if again else counts
        memory.jump_mm = distance_mm
        if memory.jumps < BELIEVED:
            _look_again(memory)
            # Of a boot without memory the first distance is news, though nothing follows from it yet.
            status = "jumped" if memory.level_mm else "ok"
            return Measurement(status, measured.echoes, distance_mm, measured.spread_mm)
    memory.jumps = memory.looks = 0
    memory.before_mm, memory.level_mm = memory.level_mm, distance_mm
    return measured


def _look_again(memory: "Memory") -> None:
    memory.looks = min(memory.looks + 1, 255)
    memory.unsure = memory.looks <= LOOKS_MOST


def _too_close(measured: Measurement, memory: "Memory", empty_mm: int, full_mm: int) -> Measurement:
    memory.near, memory.jumps = min(memory.near + 1, 255), 0
    if memory.near < SEEN:
        _look_again(memory)
    elif not nearly_full(memory, empty_mm, full_mm):
        # Drops on the sensor, or something in front of it.
        return Measurement("obstructed", measured.echoes)
    return measured


def nearly_full(memory: "Memory", empty_mm: int, full_mm: int) -> bool:
    """Whether the last distance that was believed says so."""
    return memory.level_mm > 0 and fill_permille(memory.level_mm, empty_mm, full_mm) >= NEARLY_FULL_PERMILLE


def believed(measured: Measurement, memory: "Memory") -> bool:
    """Whether events may follow from the distance."""
    return measured.status == "ok" and memory.level_mm > 0
