"""What is said about a distance is what the echoes bear."""

from brim.core.fill import fill_permille, judge


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
    assert told([0] * 15) == ("no_echo", None, None, 0)
    assert told([5000] * 15) == ("no_echo", None, None, 0)


def test_silence_is_no_echo_and_not_an_empty_bin():
    assert told([]) == ("no_echo", None, None, 0)
    assert told([812, 812, 812, 812]) == ("no_echo", None, None, 4)


def test_under_the_blind_zone_is_too_close_and_not_zero():
    assert told([30] * 15) == ("too_close", None, None, 0)
    assert told([30] * 9 + [812] * 6) == ("too_close", None, None, 6)


def test_echoes_that_disagree_are_unstable():
    assert told([300, 500, 700, 900, 1100, 1300, 1500]) == ("unstable", None, None, 7)


def test_only_fifteen_echoes_count():
    assert told([812] * 15 + [100] * 40) == ("ok", 812, 0, 15)


def test_fill_is_linear_and_stays_within_its_ends():
    assert fill_permille(1000, 1000, 200) == 0
    assert fill_permille(200, 1000, 200) == 1000
    assert fill_permille(600, 1000, 200) == 500
    assert fill_permille(8191, 1000, 200) == 0
    assert fill_permille(0, 1000, 200) == 1000


def test_a_bin_without_depth_has_no_fill():
    for empty_mm, full_mm in ((200, 200), (100, 200), (100, -1)):
        try:
            fill_permille(150, empty_mm, full_mm)
        except ValueError:
            continue
        raise AssertionError("no error")
