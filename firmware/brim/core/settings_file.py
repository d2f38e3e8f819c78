"""Settings as a person or a file gives them. A wake from deep sleep does without."""

import json

from brim.core.faults import Fault
from brim.core.settings import SETTINGS, defaults

MAX_FILE_BYTES = 1024


class SettingInvalid(Fault):
    """A setting that is unknown, no number, or out of its range."""


def checked(name: str, value: object) -> int:
    """The value as an int; SettingInvalid, naming the bounds, if there is no such setting or it is out of range."""
    for row in SETTINGS:
        if row[0] == name:
            try:
                number = int(value)  # type: ignore[call-overload]
            except (TypeError, ValueError):
                raise SettingInvalid(f"{name} is a whole number") from None
            if not row[2] <= number <= row[3]:
                raise SettingInvalid(f"{name} is {row[2]}..{row[3]}")
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
