"""The format of a report, and its encoder: what a bin needs of it. See report.py."""

from brim.wire.errors import WireError
from brim.wire.reading import NUMBER_STATUSES, STATUSES, Reading

VERSION = 0
MAX_EARLIER = 3
NEWEST_BYTES = 12
AGE_BYTES = 3
EARLIER_BYTES = 4
MAX_REPORT_BYTES = NEWEST_BYTES + AGE_BYTES + MAX_EARLIER * EARLIER_BYTES

FIELDS = (
    ("version", 2),
    ("n_earlier", 2),
    ("aged", 1),
    ("status", 4),
    ("echoes", 4),
    ("epoch", 11),
    ("seq", 16),
    ("distance", 13),
    ("spread", 7),
    ("has_temp", 1),
    ("temp", 7),
    ("has_battery", 1),
    ("battery", 7),
    ("events", 9),
    ("backlog", 6),
    ("config", 5),
)
EARLIER = (("status", 4), ("distance", 13), ("gap", 15))

MAX_EPOCH = 0x7FF
MAX_SEQ = 0xFFFF
MAX_DISTANCE_MM = 0x1FFF
MAX_BACKLOG = 63  # means "63 or more"
BACKLOG_ANSWERED = 8  # from here on the gateway answers with what it holds
MAX_AGE_S = 0xFFFFFF
GAP_STEP_S = 4
MAX_GAP_S = 0x7FFF * GAP_STEP_S
SPREAD_STEP_MM = 2
MAX_SPREAD = 0x7F
TEMP_OFFSET_C = 40
BATTERY_OFFSET_MV = 2000
BATTERY_STEP_MV = 20


def _pack(table: "tuple[tuple[str, int], ...]", values: "dict[str, int]") -> int:
    bits = 0
    for name, width in table:
        value = values[name]
        if not 0 <= value < 1 << width:
            raise WireError(f"{name} out of range")
        bits = bits << width | value
    return bits


def _status_code(status: str) -> int:
    if status not in STATUSES:
        raise WireError("unknown status")
    return STATUSES.index(status)


def _distance(reading: Reading) -> int:
    """The distance field: 0 for a status without a number."""
    if reading.status in NUMBER_STATUSES:
        if reading.distance_mm is None:
            raise WireError("status needs a distance")
        return reading.distance_mm
    if reading.distance_mm is not None or reading.spread_mm is not None:
        raise WireError("status carries no distance")
    return 0


def _scaled(value: "int | None", offset: int, step: int) -> "tuple[int, int]":
    """(present, 7-bit field), rounded and saturating at both ends."""
    if value is None:
        return 0, 0
    return 1, min(127, max(0, (value - offset + step // 2) // step))


def encode_report(readings_newest_first: "list[Reading]", backlog: int) -> bytes:
    """Encode 1..4 readings with consecutive seq of one epoch, newest first.

    Spread, temperature, battery, backlog, age and gap saturate; everything else out of range raises WireError.
    """
    newest = readings_newest_first[0] if readings_newest_first else None
    n_earlier = len(readings_newest_first) - 1
    if newest is None or n_earlier > MAX_EARLIER:
        raise WireError("1 to 4 readings")
    if not 1 <= newest.seq <= MAX_SEQ or newest.seq <= n_earlier or newest.age_s < 0:
        raise WireError("seq or age out of range")
    has_temp, temp = _scaled(newest.temperature_c, -TEMP_OFFSET_C, 1)
    has_battery, battery = _scaled(newest.battery_mv, BATTERY_OFFSET_MV, BATTERY_STEP_MV)
    aged = 1 if newest.age_s else 0
    values = {
        "version": VERSION,
        "n_earlier": n_earlier,
        "aged": aged,
        "status": _status_code(newest.status),
        "echoes": newest.echoes or 0,
        "epoch": newest.epoch,
        "seq": newest.seq,
        "distance": _distance(newest),
        "spread": min(MAX_SPREAD, ((newest.spread_mm or 0) + SPREAD_STEP_MM - 1) // SPREAD_STEP_MM),
        "has_temp": has_temp,
        "temp": temp,
        "has_battery": has_battery,
        "battery": battery,
        "events": newest.events or 0,
        "backlog": min(MAX_BACKLOG, backlog),
        "config": newest.config_version or 0,
    }
    data = _pack(FIELDS, values).to_bytes(NEWEST_BYTES, "big")
    age_s = min(newest.age_s, MAX_AGE_S)
    if aged:
        data += age_s.to_bytes(AGE_BYTES, "big")
    for i in range(1, n_earlier + 1):
        reading = readings_newest_first[i]
        if reading.epoch != newest.epoch or reading.seq != newest.seq - i:
            raise WireError("earlier readings must precede directly")
        # Against the age that the decoder will have, so that rounding does not add up.
        gap = max(0, min(MAX_GAP_S, reading.age_s - age_s)) // GAP_STEP_S
        age_s += gap * GAP_STEP_S
        short = {"status": _status_code(reading.status), "distance": _distance(reading), "gap": gap}
        data += _pack(EARLIER, short).to_bytes(EARLIER_BYTES, "big")
    return data
