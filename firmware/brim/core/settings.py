"""The settings of a bin: one table, from which defaults, bounds, packing and documentation come."""

import struct

# name, default, least, most; what it is and its unit stand beside it: text would cost every wake a kilobyte of heap
SETTINGS = (
    ("sense_s", 900, 60, 43200),  # time from one measurement to the next, s
    ("heartbeat_s", 3600, 60, 86400),  # a reading at least this often, s
    ("delta_mm", 50, 5, 2000),  # a change worth a reading, mm
    ("full_mm", 200, 0, 8000),  # distance at which the bin is full, mm
    ("empty_mm", 1000, 50, 8191),  # distance to the bottom of the empty bin, mm
    ("battery_low_mv", 3100, 2000, 4500),  # under it the battery is low, mV
    ("ranger", 0, 0, 4),  # which ranger: its row in drivers.rangers.MODELS
    ("sf", 9, 7, 12),  # LoRa spreading factor until the network says otherwise
    ("config", 0, 0, 31),  # version of these settings, counted by every change
)
PACKED_BYTES = 4 * len(SETTINGS)


def defaults() -> "dict[str, int]":
    return {row[0]: row[1] for row in SETTINGS}


def pack(settings: "dict[str, int]") -> bytes:
    return b"".join([struct.pack(">I", settings[row[0]]) for row in SETTINGS])


def unpack(data: bytes) -> "dict[str, int] | None":
    """The settings of `pack`, None if one is out of range (another firmware's table)."""
    if len(data) != PACKED_BYTES:
        return None
    settings = {}
    for i in range(len(SETTINGS)):
        name = SETTINGS[i][0]
        value = struct.unpack_from(">I", data, 4 * i)[0]
        if not SETTINGS[i][2] <= value <= SETTINGS[i][3]:
            return None
        settings[name] = value
    return settings
