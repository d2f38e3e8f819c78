"""What is said about a distance is what the echoes bear."""

from brim.core.fill import judge


def told(echoes):
    measured = judge(echoes, 30, 4500)
    return measured.status, measured.distance_mm, measured.spread_mm, measured.echoes


def test_steady_echoes_give_their_median_and_spread():
    assert told([810, 812, 812, 815, 811]) == ("ok", 812, 1, 5)


def test_a_third_of_spikes_and_gaps_does_not_move_it():
    echoes = [812] * 10 + [4000, 95, 0, 0, 300]
    assert told(echoes) == ("ok", 812, 0, 13)


def test_too_few_echoes_are_no_distance():
    assert told([0] * 11 + [812] * 4) == ("no_echo", None, None, 4)
    assert told([812, 812, 812, 812]) == ("no_echo", None, None, 4)
    assert told([0] * 15) == ("no_echo", None, None, 0)
    assert told([5000] * 15) == ("no_echo", None, None, 0)


def test_a_silent_sensor_is_a_fault_and_not_an_empty_bin():
    assert told([]) == ("sensor_fault", None, None, 0)


def test_under_the_blind_zone_is_too_close_and_not_zero():
    assert told([30] * 15) == ("too_close", None, None, 0)
    assert told([30] * 9 + [812] * 6) == ("too_close", None, None, 6)


def test_echoes_that_disagree_are_unstable():
    assert told([800, 890, 980, 1070, 1160, 1250, 1340]) == ("unstable", None, None, 7)


def test_only_fifteen_echoes_count():
    assert told([812] * 15 + [100] * 40) == ("ok", 812, 0, 15)


def test_a_bag_that_hangs_in_the_beam_is_an_obstruction_and_no_fill():
    assert told([250, 255, 260, 248, 900, 902, 899, 905]) == ("obstructed", None, None, 8)
    assert told([250, 255, 900, 902, 899, 905, 900, 903])[0] == "ok"


def test_just_above_the_blind_zone_is_as_good_as_in_it():
    assert told([60] * 5)[0] == "too_close"
    assert told([61] * 5) == ("ok", 61, 0, 5)


def test_a_sensor_without_power_is_told_from_one_that_is_silent():
    assert judge([], 30, 4500, False).status == "rail_fault"
