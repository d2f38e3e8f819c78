"""Settings are always whole: in range, or the default."""

from brim.core.settings import SETTINGS, defaults, pack, unpack
from brim.core.settings_file import SettingInvalid, changed, from_json, to_json


def refused(name, value):
    try:
        changed(defaults(), name, value)
    except SettingInvalid:
        return True
    return False


def test_defaults_are_in_range():
    for name, default, least, most in SETTINGS:
        assert least <= default <= most, name


def test_a_change_counts_the_version():
    settings = changed(defaults(), "sense_s", "300")
    assert settings["sense_s"] == 300 and settings["config"] == 1
    settings["config"] = 31
    assert changed(settings, "sense_s", 301)["config"] == 0


def test_nonsense_is_refused():
    assert refused("sense_s", "59")
    assert refused("sense_s", "soon")
    assert refused("sense_s", None)
    assert refused("colour", 1)
    assert refused("config", 1)
    assert refused("full_mm", 1000)


def test_settings_survive_packing_and_the_file():
    settings = changed(defaults(), "empty_mm", 1500)
    assert unpack(pack(settings)) == settings
    assert from_json(to_json(settings)) == (settings, True)
    assert from_json("{}") == (defaults(), True)


def test_a_damaged_file_costs_no_more_than_what_is_damaged():
    assert from_json("") == (defaults(), False)
    assert from_json("[1]") == (defaults(), False)
    settings, good = from_json('{"sense_s": 300, "delta_mm": -1, "colour": "red"}')
    assert settings["sense_s"] == 300 and settings["delta_mm"] == 50 and not good
    assert from_json('{"full_mm": 900, "empty_mm": 800}') == (defaults(), False)


def test_settings_of_another_firmware_are_not_taken():
    assert unpack(pack(defaults())[:-4]) is None
    assert unpack(bytes(4 * len(SETTINGS))) is None
