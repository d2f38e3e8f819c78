"""When a measurement becomes a reading."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.core.fill import Measurement
    from brim.core.rtc_state import Last

FULL, OVERFULL, EMPTIED, FIRE, TILTED, MOVED, LID_OPEN, BATTERY_LOW, TAMPER = [1 << bit for bit in range(9)]
# A level must be left by this much before its event is cleared, so that none flaps.
FULL_HYSTERESIS_MM = 20
BATTERY_HYSTERESIS_MV = 100


def events_of(
    measured: "Measurement",
    tilted: "bool | None",
    battery_mv: "int | None",
    before: int,
    settings: "dict[str, int]",
) -> int:
    """The event bits now. What could not be measured keeps its bit from `before`."""
    events = before & (FULL | TILTED | BATTERY_LOW)
    if measured.distance_mm is not None:
        edge_mm = settings["full_mm"] + (FULL_HYSTERESIS_MM if before & FULL else 0)
        events = events | FULL if measured.distance_mm <= edge_mm else events & ~FULL
    if tilted is not None:
        events = events | TILTED if tilted else events & ~TILTED
    if battery_mv is not None:
        edge_mv = settings["battery_low_mv"] + (BATTERY_HYSTERESIS_MV if before & BATTERY_LOW else 0)
        events = events | BATTERY_LOW if battery_mv < edge_mv else events & ~BATTERY_LOW
    return events


def decide(last: "Last", measured: "Measurement", events: int, now_s: int, settings: "dict[str, int]") -> "str | None":
    """Why this measurement is a reading: boot, event, status, change or heartbeat; None when it is not."""
    if last.status is None:
        return "boot"
    if events != last.events:
        return "event"
    if measured.status != last.status:
        return "status"
    if measured.distance_mm is not None and last.distance_mm is not None:
        change_mm = abs(measured.distance_mm - last.distance_mm)
        if change_mm >= settings["delta_mm"]:
            return "change"
    # Half a step early rather than half a step late; a clock that went back is no reason for silence.
    since_s = now_s - last.at_s
    if since_s < 0 or since_s + settings["sense_s"] // 2 >= settings["heartbeat_s"]:
        return "heartbeat"
    return None
