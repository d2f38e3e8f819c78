"""A reading as the outbox keeps it: packed, of fixed size, with the time of its measurement."""

import struct

from brim.wire.reading import NUMBER_STATUSES, STATUSES, Reading
from brim.wire.report_encoder import BATTERY_OFFSET_MV, BATTERY_STEP_MV, MAX_AGE_S, MAX_DISTANCE_MM, MAX_GAP_S

# epoch seq at_s status echoes distance spread temperature battery events config
RECORD = ">HHIBBHBbBHB"
RECORD_BYTES = struct.calcsize(RECORD)
BATCH = 16
WINDOW = 32  # records of the file whose acknowledgement is remembered one by one
NO_TEMP = -128


def pack_record(reading: Reading, at_s: int) -> bytes:
    """One reading, measured at `at_s` of the bin's own time, as a record."""
    return struct.pack(
        RECORD,
        reading.epoch,
        reading.seq,
        at_s & 0xFFFFFFFF,
        STATUSES.index(reading.status),
        reading.echoes or 0,
        min(reading.distance_mm or 0, MAX_DISTANCE_MM),
        min(255, reading.spread_mm or 0),
        NO_TEMP if reading.temperature_c is None else max(-127, min(127, reading.temperature_c)),
        0
        if reading.battery_mv is None
        else max(1, min(255, (reading.battery_mv - BATTERY_OFFSET_MV) // BATTERY_STEP_MV + 1)),
        reading.events or 0,
        reading.config_version or 0,
    )


def key_of(record: bytes) -> "tuple[int, int]":
    """(epoch, seq) of a record."""
    return struct.unpack_from(">HH", record, 0)


def at_of(record: bytes) -> int:
    """The bin's own time of a record's measurement, in seconds."""
    return struct.unpack_from(">I", record, 4)[0]  # type: ignore[no-any-return]


def unpack_record(record: bytes, now_s: int) -> Reading:
    """The reading of a record with its age at `now_s`. Two seconds or less are none (three bytes saved)."""
    epoch, seq, at_s, status, echoes, distance, spread, temp, battery, events, config = struct.unpack(RECORD, record)
    age_s = min(MAX_AGE_S, max(0, now_s - at_s))
    number = STATUSES[status] in NUMBER_STATUSES
    return Reading(
        epoch,
        seq,
        STATUSES[status],
        distance_mm=distance if number else None,
        spread_mm=spread if number else None,
        echoes=echoes,
        age_s=age_s if age_s > 2 else 0,
        temperature_c=None if temp == NO_TEMP else temp,
        battery_mv=(battery - 1) * BATTERY_STEP_MV + BATTERY_OFFSET_MV if battery else None,
        events=events,
        config_version=config,
    )


def follows(older: bytes, newer: bytes) -> bool:
    """Whether `older` can ride in short form behind `newer`: the seq directly before it, in reach of the gap field."""
    epoch, seq = key_of(newer)
    return key_of(older) == (epoch, seq - 1) and 0 <= at_of(newer) - at_of(older) <= MAX_GAP_S
