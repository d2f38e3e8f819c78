"""A report: the newest reading in full and up to three before it in short form.

Bit-packed, big-endian, most significant bit first. `FIELDS` and `EARLIER` are walked by the encoder and the decoder.
A decoded report encodes to the same bytes again: what has no meaning (the distance of a status without a number,
the value of an absent field) must be zero.
"""

from brim.wire.errors import WireError

VERSION = 0
MAX_EARLIER = 3
NEWEST_BYTES = 12
AGE_BYTES = 3
EARLIER_BYTES = 4
MAX_REPORT_BYTES = NEWEST_BYTES + AGE_BYTES + MAX_EARLIER * EARLIER_BYTES

STATUSES = (
    "ok",
    "no_echo",
    "too_close",
    "unstable",
    "stuck",
    "obstructed",
    "jumped",
    "sensor_fault",
    "rail_fault",
)
# The statuses whose distance is a number. Every other status is an absence and carries none.
NUMBER_STATUSES = ("ok", "jumped")

# Bit i of `events`.
EVENTS = ("full", "overfull", "emptied", "fire", "tilted", "moved", "lid_open", "battery_low", "tamper")

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
MAX_AGE_S = 0xFFFFFF
GAP_STEP_S = 4
MAX_GAP_S = 0x7FFF * GAP_STEP_S
SPREAD_STEP_MM = 2
MAX_SPREAD = 0x7F
TEMP_OFFSET_C = 40
BATTERY_OFFSET_MV = 2000
BATTERY_STEP_MV = 20


class Reading:
    """One reading; None means that it was not measured or not sent.

    `age_s` is the time from the measurement to the transmission by the bin's own clock, which drifts.
    `distance_mm` and `spread_mm` are numbers only where the status is in NUMBER_STATUSES. `events` is a bitmap
    (EVENTS). An earlier reading of a report comes without echoes, spread, temperature, battery, events and config.
    """

    __slots__ = (
        "age_s",
        "battery_mv",
        "config_version",
        "distance_mm",
        "echoes",
        "epoch",
        "events",
        "seq",
        "spread_mm",
        "status",
        "temperature_c",
    )

    def __init__(
        self,
        epoch: int,
        seq: int,
        status: str,
        distance_mm: "int | None" = None,
        spread_mm: "int | None" = None,
        echoes: "int | None" = None,
        age_s: int = 0,
        temperature_c: "int | None" = None,
        battery_mv: "int | None" = None,
        events: "int | None" = None,
        config_version: "int | None" = None,
    ) -> None:
        self.epoch = epoch
        self.seq = seq
        self.status = status
        self.distance_mm = distance_mm
        self.spread_mm = spread_mm
        self.echoes = echoes
        self.age_s = age_s
        self.temperature_c = temperature_c
        self.battery_mv = battery_mv
        self.events = events
        self.config_version = config_version

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reading):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.epoch, self.seq))

    def __repr__(self) -> str:
        return "Reading({})".format(", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__))


class Report:
    """`readings` newest first (1..4, consecutive seq of one epoch); `backlog` is seq minus the oldest seq of that
    epoch that the bin still holds unacknowledged, 63 = "63 or more"."""

    __slots__ = ("backlog", "readings")

    def __init__(self, readings: "list[Reading]", backlog: int) -> None:
        self.readings = readings
        self.backlog = backlog


def _pack(table: "tuple[tuple[str, int], ...]", values: "dict[str, int]") -> int:
    bits = 0
    for name, width in table:
        value = values[name]
        if not 0 <= value < 1 << width:
            raise WireError(f"{name} out of range")
        bits = bits << width | value
    return bits


def _unpack(table: "tuple[tuple[str, int], ...]", bits: int) -> "dict[str, int]":
    values = {}
    for i in range(len(table) - 1, -1, -1):
        name, width = table[i]
        values[name] = bits & ((1 << width) - 1)
        bits >>= width
    return values


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


def _status(code: int, distance: int, spread: int) -> str:
    if code >= len(STATUSES):
        raise WireError("unknown status")
    status = STATUSES[code]
    if status not in NUMBER_STATUSES and (distance or spread):
        raise WireError("status carries no distance")
    return status


def decode_report(data: bytes) -> Report:
    """Decode a report; WireError on any other bytes (length, version, status, a value where none may be)."""
    if len(data) < NEWEST_BYTES:
        raise WireError("report too short")
    values = _unpack(FIELDS, int.from_bytes(data[:NEWEST_BYTES], "big"))
    if values["version"] != VERSION:
        raise WireError("unknown report version")
    n_earlier, aged = values["n_earlier"], values["aged"]
    if len(data) != NEWEST_BYTES + aged * AGE_BYTES + n_earlier * EARLIER_BYTES:
        raise WireError("report length")
    epoch, seq = values["epoch"], values["seq"]
    if seq <= n_earlier:
        raise WireError("seq out of range")
    if (values["temp"] and not values["has_temp"]) or (values["battery"] and not values["has_battery"]):
        raise WireError("value of an absent field")
    at = NEWEST_BYTES
    age_s = 0
    if aged:
        age_s = int.from_bytes(data[at : at + AGE_BYTES], "big")
        at += AGE_BYTES
        if not age_s:
            raise WireError("age of zero")
    status = _status(values["status"], values["distance"], values["spread"])
    number = status in NUMBER_STATUSES
    readings = [
        Reading(
            epoch,
            seq,
            status,
            distance_mm=values["distance"] if number else None,
            spread_mm=values["spread"] * SPREAD_STEP_MM if number else None,
            echoes=values["echoes"],
            age_s=age_s,
            temperature_c=values["temp"] - TEMP_OFFSET_C if values["has_temp"] else None,
            battery_mv=values["battery"] * BATTERY_STEP_MV + BATTERY_OFFSET_MV if values["has_battery"] else None,
            events=values["events"],
            config_version=values["config"],
        )
    ]
    for i in range(1, n_earlier + 1):
        short = _unpack(EARLIER, int.from_bytes(data[at : at + EARLIER_BYTES], "big"))
        at += EARLIER_BYTES
        status = _status(short["status"], short["distance"], 0)
        age_s += short["gap"] * GAP_STEP_S
        readings.append(
            Reading(
                epoch,
                seq - i,
                status,
                distance_mm=short["distance"] if status in NUMBER_STATUSES else None,
                age_s=age_s,
            )
        )
    return Report(readings, values["backlog"])
