"""The settings of a bin: one table, from which defaults, bounds, packing and documentation come."""

import json
import struct

from brim.core.faults import SettingInvalid

# name, default, least, most, unit, what it is
SETTINGS = (
    ("sense_s", 900, 60, 43200, "s", "time from one measurement to the next"),
    ("heartbeat_s", 3600, 60, 86400, "s", "a reading at least this often"),
    ("delta_mm", 50, 5, 2000, "mm", "a change worth a reading"),
    ("full_mm", 200, 0, 8000, "mm", "distance at which the bin is full"),
    ("empty_mm", 1000, 50, 8191, "mm", "distance to the bottom of the empty bin"),
    ("battery_low_mv", 3100, 2000, 4500, "mV", "under it the battery is low"),
    ("sf", 9, 7, 12, "", "LoRa spreading factor until the network says otherwise"),
    ("config", 0, 0, 31, "", "version of these settings, counted by every change"),
)
PACKED_BYTES = 4 * len(SETTINGS)
MAX_FILE_BYTES = 1024


def defaults() -> "dict[str, int]":
    return {row[0]: row[1] for row in SETTINGS}


def checked(name: str, value: object) -> int:
    """The value as an int; SettingInvalid, naming the bounds, if there is no such setting or it is out of range."""
    for row in SETTINGS:
        if row[0] == name:
            try:
                number = int(value)  # type: ignore[call-overload]
            except (TypeError, ValueError):
                raise SettingInvalid(f"{name} is a whole number") from None
            if not row[2] <= number <= row[3]:
                raise SettingInvalid(f"{name} is {row[2]}..{row[3]} {row[4]}")
            return int(number)
    raise SettingInvalid("no such setting")


def changed(settings: "dict[str, int]", name: str, value: object) -> "dict[str, int]":
    """A copy with one setting changed and the version counted up (modulo 32); SettingInvalid as `checked`."""
    if name == "config":
        raise SettingInvalid("config is counted by the bin")
    new = dict(settings)
    new[name] = checked(name, value)
    if new["full_mm"] >= new["empty_mm"]:
        raise SettingInvalid("full_mm must be less than empty_mm")
    new["config"] = (settings["config"] + 1) & 31
    return new


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


def from_json(text: str) -> "tuple[dict[str, int], bool]":
    """(settings, all good). What is missing is default; what is unknown or out of range is left out and not good."""
    settings = defaults()
    try:
        found = json.loads(text[:MAX_FILE_BYTES])
    except (ValueError, RuntimeError):
        return settings, False
    if not isinstance(found, dict):
        return settings, False
    good = True
    for name in found:
        try:
            settings[name] = checked(name, found[name])
        except SettingInvalid:
            good = False
    if settings["full_mm"] >= settings["empty_mm"]:
        return defaults(), False
    return settings, good


def to_json(settings: "dict[str, int]") -> str:
    return json.dumps(settings)
