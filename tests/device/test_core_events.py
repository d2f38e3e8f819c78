"""A bin says itself that it is full, emptied or on fire, and no event flaps."""

from brim.core.events import (
    BATTERY_LOW,
    EMPTIED,
    FIRE,
    FULL,
    LID_OPEN,
    MOVED,
    OVERFULL,
    TILTED,
    Senses,
    events_of,
)
from brim.core.fill import Measurement
from brim.core.history import SEEN, consider
from brim.core.rtc_state import Memory
from brim.core.settings import defaults

SETTINGS = defaults()  # 1000 mm deep, full at 200 mm, battery low under 3100 mV
NO_ECHO = Measurement("no_echo")


class Bin:
    def __init__(self, *distances_mm):
        self.memory = Memory()
        self.events = 0
        for distance_mm in distances_mm[:1] * SEEN + distances_mm[1:]:
            self.sees(distance_mm)

    def sees(self, what, **senses):
        """The events after a distance or a measurement."""
        measured = what if isinstance(what, Measurement) else Measurement("ok", 5, what, 2)
        self.memory.unpack(self.memory.pack())  # a deep sleep
        measured = consider(measured, self.memory, SETTINGS["empty_mm"], SETTINGS["full_mm"])
        self.events = events_of(measured, self.events, self.memory, Senses(**senses), SETTINGS)
        return self.events


def test_full_comes_at_its_level_and_goes_with_hysteresis():
    bin_ = Bin(270, 250)
    assert [bin_.sees(mm) for mm in (201, 200, 220, 221, 205, 199)] == [0, FULL, FULL, 0, 0, FULL]


def test_overfull_is_well_above_full():
    bin_ = Bin(250, 200)
    assert [bin_.sees(mm) for mm in (160, 150, 165, 171)] == [FULL, FULL | OVERFULL, FULL | OVERFULL, FULL]


def test_a_single_sight_of_a_full_bin_is_not_believed():
    bin_ = Bin(900, 900)
    assert [bin_.sees(mm) for mm in (180, 890, 180, 185, 184)] == [0, 0, 0, 0, FULL]


def test_nothing_follows_from_the_first_sights_of_a_boot():
    bin_ = Bin()
    assert [bin_.sees(mm) for mm in (180, 182, 181)] == [0, 0, FULL]


def test_litter_up_to_the_sensor_is_overfull_where_the_bin_was_filling():
    bin_ = Bin(450, 400)
    close = Measurement("too_close", 0)
    assert [bin_.sees(close) for _ in range(3)] == [0, 0, FULL | OVERFULL]


def test_drops_on_the_sensor_of_an_empty_bin_are_never_full():
    bin_ = Bin(900)
    assert {bin_.sees(Measurement("too_close", 0)) for _ in range(20)} == {0}


def test_an_emptying_is_an_event_until_litter_comes_again():
    bin_ = Bin(400, 390)
    assert [bin_.sees(mm) for mm in (980, 985, 983, 975, 900)] == [0, 0, EMPTIED, EMPTIED, 0]


def test_a_full_bin_that_is_emptied_is_no_longer_full():
    bin_ = Bin(250, 190)
    assert bin_.events == FULL
    assert [bin_.sees(mm) for mm in (970, 972, 971)] == [FULL, FULL, EMPTIED]


def test_the_emptying_of_a_bin_with_little_in_it_is_seen_too():
    bin_ = Bin(880, 880)
    assert [bin_.sees(990) for _ in range(3)] == [0, 0, EMPTIED]


def test_litter_that_settles_is_no_emptying():
    bin_ = Bin(300)
    assert {bin_.sees(mm) for mm in range(300, 900, 60)} == {0}


def test_two_emptyings_with_litter_between_are_two_events():
    bin_ = Bin(400)
    seen = [bin_.sees(mm) for mm in (400, 990, 990, 990, 905, 820, 740, 990, 990, 990)]
    assert seen == [0, 0, 0, EMPTIED, 0, 0, 0, 0, 0, EMPTIED]


def test_fire_is_a_level_or_a_sudden_rise_and_goes_out_well_below():
    bin_ = Bin()
    assert [bin_.sees(NO_ECHO, celsius=c) for c in (20, 59, 60, 51, 50, 49)] == [0, FIRE, FIRE, FIRE, FIRE, 0]
    sun = Bin()
    assert {sun.sees(NO_ECHO, celsius=c) for c in (20, 30, 38, 45, 52, 55, 40, 30)} == {0}
    rising = Bin()
    assert [rising.sees(NO_ECHO, celsius=c) for c in (23, 36)] == [0, FIRE]
    seldom = dict(SETTINGS, sense_s=7200)
    memory = Memory()
    told = [events_of(NO_ECHO, 0, memory, Senses(celsius=c), seldom) for c in (10, 45, 60)]
    assert told == [0, 0, FIRE], "between two measurements hours apart the sun does more"


def test_what_was_not_measured_keeps_its_event():
    bin_ = Bin(250, 190)
    assert bin_.sees(NO_ECHO, tilted=True, moved=True, lid_open=True) == FULL | TILTED | MOVED | LID_OPEN
    assert bin_.sees(NO_ECHO) == FULL | TILTED | MOVED | LID_OPEN
    assert bin_.sees(NO_ECHO, tilted=False, moved=False, lid_open=False) == FULL


def test_a_low_battery_does_not_flap():
    bin_ = Bin()
    voltages = (3150, 3099, 3150, 3199, 3200, 3150)
    seen = [bin_.sees(NO_ECHO, battery_mv=mv) for mv in voltages]
    assert seen == [0, BATTERY_LOW, BATTERY_LOW, BATTERY_LOW, 0, 0]
