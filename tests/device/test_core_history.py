"""A reading is judged by those before it: nothing becomes full or emptied by a single sight of it."""

from brim.core.fill import Measurement
from brim.core.history import SAME_MOST, SEEN, consider
from brim.core.rtc_state import Memory


class Bin:
    def __init__(self, *distances_mm):
        self.memory = Memory()
        for distance_mm in distances_mm[:1] * SEEN + distances_mm[1:]:
            self.sees(distance_mm)

    def sees(self, distance_mm, spread_mm=2):
        return self.told(Measurement("ok", 5, distance_mm, spread_mm))

    def told(self, measured):
        self.memory.unpack(self.memory.pack())  # a deep sleep
        said = consider(measured, self.memory, 1000, 200)
        return said.status, said.distance_mm

    def too_close(self):
        return self.told(Measurement("too_close", 0))


def test_the_first_distance_of_a_bins_life_is_told_at_once_and_believed_when_it_stays():
    bin_ = Bin()
    assert [bin_.sees(850) for _ in range(3)] == [("ok", 850)] * 3
    assert bin_.memory.level_mm == 850
    spike = Bin()
    assert [spike.sees(mm)[0] for mm in (100, 850, 851, 852)] == ["ok"] * 4
    assert spike.memory.level_mm == 852


def test_filling_is_believed_step_by_step():
    bin_ = Bin(950)
    for distance_mm in (900, 815, 750, 665):
        assert bin_.sees(distance_mm) == ("ok", distance_mm)
        assert not bin_.memory.unsure


def test_a_jump_is_told_as_a_jump_until_it_is_seen_for_the_third_time():
    bin_ = Bin(950)
    assert bin_.sees(400) == ("jumped", 400) and bin_.memory.unsure
    assert bin_.sees(410) == ("jumped", 410) and bin_.memory.unsure
    assert bin_.sees(405) == ("ok", 405) and not bin_.memory.unsure


def test_what_is_not_steady_is_believed_only_when_it_has_been_there_for_long():
    bin_ = Bin(950)
    assert [bin_.sees(400, 25)[0] for _ in range(9)] == ["jumped"] * 7 + ["ok"] * 2
    swinging = Bin(950)
    for _ in range(20):
        assert swinging.sees(400, 25)[0] == "jumped"
        swinging.told(Measurement("obstructed"))
    assert Bin().sees(400, 25) == ("ok", 400)


def test_looking_again_soon_has_an_end():
    bin_ = Bin(950)
    looks = []
    for at in range(20):
        bin_.sees(400 + 200 * (at % 2), 25)
        looks.append(bin_.memory.unsure)
    assert looks == [True] * 6 + [False] * 14
    assert bin_.sees(945) == ("ok", 945) and bin_.memory.looks == 0


def test_a_gap_between_the_sights_of_a_jump_begins_anew():
    bin_ = Bin(950)
    bin_.sees(400)
    bin_.sees(400)
    bin_.told(Measurement("no_echo"))
    assert bin_.sees(400) == ("jumped", 400)


def test_a_spike_that_goes_away_leaves_the_level_where_it_was():
    bin_ = Bin(950)
    bin_.sees(400)
    assert bin_.sees(948) == ("ok", 948)
    assert bin_.sees(400) == ("jumped", 400)


def test_two_different_spikes_do_not_confirm_each_other():
    bin_ = Bin(950)
    assert [bin_.sees(mm)[0] for mm in (400, 700, 300)] == ["jumped"] * 3


def test_too_close_over_a_bin_that_was_nearly_full_stays_too_close():
    bin_ = Bin(450, 400)
    assert [bin_.too_close() for _ in range(4)] == [("too_close", None)] * 4
    assert not bin_.memory.unsure


def test_too_close_over_a_bin_that_was_empty_is_something_on_the_sensor():
    bin_ = Bin(950)
    assert [bin_.too_close()[0] for _ in range(4)] == ["too_close", "too_close", "obstructed", "obstructed"]
    assert bin_.sees(945) == ("ok", 945)
    assert bin_.too_close() == ("too_close", None), "a new occasion"


def test_the_same_number_without_any_spread_for_a_day_is_a_stuck_sensor():
    bin_ = Bin()
    said = [bin_.sees(812, 0)[0] for _ in range(SAME_MOST + 2)]
    assert said == ["ok"] * SAME_MOST + ["stuck"] * 2
    assert bin_.sees(811, 0) == ("ok", 811), "it lives"


def test_a_quiet_bin_with_the_smallest_spread_is_not_stuck():
    bin_ = Bin()
    assert {bin_.sees(812, at % 7 == 0)[0] for at in range(3 * SAME_MOST)} == {"ok"}


def test_what_gives_no_number_passes_as_it_is():
    bin_ = Bin(950)
    for status in ("no_echo", "unstable", "obstructed", "sensor_fault", "rail_fault"):
        assert bin_.told(Measurement(status)) == (status, None)
    assert bin_.sees(940) == ("ok", 940)
