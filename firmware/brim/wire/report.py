"""A report: the newest reading in full and up to three before it in short form.

Bit-packed, big-endian, most significant bit first. `FIELDS` and `EARLIER` are walked by the encoder and the decoder.
A decoded report encodes to the same bytes again: what has no meaning (the distance of a status without a number,
the value of an absent field) must be zero. The decoder is apart from the encoder because a bin has no room for it.
"""

from brim.wire.errors import WireError
from brim.wire.reading import EVENTS, NUMBER_STATUSES, STATUSES, Reading
from brim.wire.report_encoder import (
    AGE_BYTES,
    BATTERY_OFFSET_MV,
    BATTERY_STEP_MV,
    EARLIER,
    EARLIER_BYTES,
    FIELDS,
    GAP_STEP_S,
    MAX_AGE_S,
    MAX_BACKLOG,
    MAX_DISTANCE_MM,
    MAX_EARLIER,
    MAX_EPOCH,
    MAX_GAP_S,
    MAX_REPORT_BYTES,
    MAX_SEQ,
    NEWEST_BYTES,
    SPREAD_STEP_MM,
    TEMP_OFFSET_C,
    VERSION,
    encode_report,
)

__all__ = [
    "EARLIER",
    "EVENTS",
    "FIELDS",
    "MAX_AGE_S",
    "MAX_BACKLOG",
    "MAX_DISTANCE_MM",
    "MAX_EARLIER",
    "MAX_EPOCH",
    "MAX_GAP_S",
    "MAX_REPORT_BYTES",
    "MAX_SEQ",
    "NUMBER_STATUSES",
    "STATUSES",
    "Reading",
    "Report",
    "decode_report",
    "encode_report",
]


class Report:
    """`readings` newest first (1..4, consecutive seq of one epoch); `backlog` is seq minus the oldest seq of that
    epoch that the bin still holds unacknowledged, 63 = "63 or more"."""

    __slots__ = ("backlog", "readings")

    def __init__(self, readings: "list[Reading]", backlog: int) -> None:
        self.readings = readings
        self.backlog = backlog


def _places(table: "tuple[tuple[str, int], ...]") -> "list[tuple[str, int, int]]":
    """(field, its lowest bit, its mask)."""
    left = sum([width for _, width in table])
    places = []
    for name, width in table:
        left -= width
        places.append((name, left, (1 << width) - 1))
    return places


# A gateway decodes thousands a second: worked out once.
_NEWEST_PLACES = _places(FIELDS)
_EARLIER_PLACES = _places(EARLIER)


def _unpack(places: "list[tuple[str, int, int]]", bits: int) -> "dict[str, int]":
    return {name: bits >> shift & mask for name, shift, mask in places}


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
    values = _unpack(_NEWEST_PLACES, int.from_bytes(data[:NEWEST_BYTES], "big"))
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
        short = _unpack(_EARLIER_PLACES, int.from_bytes(data[at : at + EARLIER_BYTES], "big"))
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
