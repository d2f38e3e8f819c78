"""The bin's own word: what is full, emptied, on fire. Each event is set and cleared with hysteresis, so that none
flaps; what could not be measured leaves its event as it was."""

from brim.core.geometry import fill_permille
from brim.core.history import SEEN, believed, nearly_full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.core.fill import Measurement
    from brim.core.rtc_state import Memory

# Bits in the order of wire.reading.EVENTS.
FULL = 1 << 0
OVERFULL = 1 << 1
EMPTIED = 1 << 2
FIRE = 1 << 3
TILTED = 1 << 4
MOVED = 1 << 5
LID_OPEN = 1 << 6
BATTERY_LOW = 1 << 7
TAMPER = 1 << 8
ALARMS = FIRE | TILTED | MOVED | TAMPER

FULL_HYSTERESIS_MM = 20
# Litter above the full level: the bin runs over.
OVERFULL_MM = 50
BATTERY_HYSTERESIS_MV = 100
# An emptying takes a third out, or leaves next to nothing.
EMPTIED_PERMILLE = 300
EMPTIED_LITTLE_PERMILLE = 120
EMPTY_PERMILLE = 100
# Litter again: the next emptying is another.
REFILLED_PERMILLE = 80
FIRE_C = 60
FIRE_OUT_C = 50
# No sun does this between two measurements that are so close together.
FIRE_WITHIN_S = 1200
FIRE_RISE_C = 12
FIRE_RISING_FROM_C = 35


class Senses:
    """What the other sensors said in this wake; None: nothing."""

    __slots__ = ("battery_mv", "celsius", "lid_open", "moved", "tilted")

    def __init__(
        self,
        celsius: "int | None" = None,
        tilted: "bool | None" = None,
        moved: "bool | None" = None,
        lid_open: "bool | None" = None,
        battery_mv: "int | None" = None,
    ) -> None:
        self.celsius = celsius
        self.tilted = tilted
        self.moved = moved
        self.lid_open = lid_open
        self.battery_mv = battery_mv


def _with(events: int, bit: int, on: "bool | None") -> int:
    if on is None:
        return events
    return events | bit if on else events & ~bit


def events_of(
    measured: "Measurement", before: int, memory: "Memory", senses: Senses, settings: "dict[str, int]"
) -> int:
    """The event bits now; `before`: those of the last measurement. `memory` has been told of `measured`."""
    events = _fill_events(measured, before, memory, settings)
    often = settings["sense_s"] <= FIRE_WITHIN_S
    events = _with(events, FIRE, _fire(senses.celsius, bool(before & FIRE), memory, often))
    events = _with(events, TILTED, senses.tilted)
    events = _with(events, MOVED, senses.moved)
    events = _with(events, LID_OPEN, senses.lid_open)
    if senses.battery_mv is not None:
        edge_mv = settings["battery_low_mv"] + (BATTERY_HYSTERESIS_MV if before & BATTERY_LOW else 0)
        events = _with(events, BATTERY_LOW, senses.battery_mv < edge_mv)
    return events


def _fill_events(measured: "Measurement", before: int, memory: "Memory", settings: "dict[str, int]") -> int:
    empty_mm, full_mm = settings["empty_mm"], settings["full_mm"]
    if measured.status == "too_close" and memory.near >= SEEN and nearly_full(memory, empty_mm, full_mm):
        return before & ~EMPTIED | FULL | OVERFULL
    distance_mm = measured.distance_mm
    if distance_mm is None or not believed(measured, memory):
        return before
    edge_mm = full_mm + (FULL_HYSTERESIS_MM if before & FULL else 0)
    over_mm = full_mm - OVERFULL_MM + (FULL_HYSTERESIS_MM if before & OVERFULL else 0)
    events = _with(before, FULL, distance_mm <= edge_mm)
    events = _with(events, OVERFULL, distance_mm <= over_mm)
    fill = fill_permille(distance_mm, empty_mm, full_mm)
    fell = fill_permille(memory.before_mm, empty_mm, full_mm) - fill if memory.before_mm else 0
    if fell >= EMPTIED_PERMILLE or (fell >= EMPTIED_LITTLE_PERMILLE and fill <= EMPTY_PERMILLE):
        memory.lowest = fill
        return events | EMPTIED
    memory.lowest = min(memory.lowest, fill)
    return _with(events, EMPTIED, bool(before & EMPTIED) and fill < memory.lowest + REFILLED_PERMILLE)


def _fire(celsius: "int | None", burning: bool, memory: "Memory", often: bool) -> "bool | None":
    if celsius is None:
        return None
    before_c, memory.celsius = memory.celsius, celsius
    if burning:
        return celsius >= FIRE_OUT_C
    rising = often and before_c is not None and celsius - before_c >= FIRE_RISE_C and celsius >= FIRE_RISING_FROM_C
    return celsius >= FIRE_C or rising
