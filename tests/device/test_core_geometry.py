"""A distance is a fill of this bin, whatever its shape."""

from brim.core.geometry import fill_permille
from brim.core.sound import corrected_mm, pulse_mm, speed_mm_s


def refused(*args):
    try:
        fill_permille(*args)
    except ValueError:
        return True
    return False


def test_fill_is_linear_and_stays_within_its_ends():
    assert fill_permille(1000, 1000, 200) == 0
    assert fill_permille(200, 1000, 200) == 1000
    assert fill_permille(600, 1000, 200) == 500
    assert fill_permille(8191, 1000, 200) == 0
    assert fill_permille(0, 1000, 200) == 1000


def test_a_bin_that_is_narrow_at_the_bottom_holds_less_there():
    # A quarter of the height is 200 mm: it holds 150 of 1000, half of it 350, three quarters 620.
    for distance_mm, fill in (
        (1000, 0),
        (900, 75),
        (800, 150),
        (600, 350),
        (500, 485),
        (400, 620),
        (300, 810),
        (200, 1000),
    ):
        assert fill_permille(distance_mm, 1000, 200, 150350620) == fill


def test_fill_never_falls_while_litter_rises():
    for shape in (0, 250500750, 1, 999, 1001001, 400400400, 999999999):
        before = 0
        for distance_mm in range(1100, 100, -1):
            fill = fill_permille(distance_mm, 1000, 200, shape)
            assert fill >= before, (shape, distance_mm)
            before = fill
        assert before == 1000


def test_a_prism_of_quarters_is_a_prism():
    for distance_mm in range(100, 1101):
        assert fill_permille(distance_mm, 1000, 200, 250500750) == fill_permille(distance_mm, 1000, 200)


def test_a_bin_without_depth_or_with_a_shape_that_falls_has_no_fill():
    assert refused(150, 200, 200) and refused(150, 100, 200) and refused(150, 100, -1)
    assert refused(600, 1000, 200, 500400900) and refused(600, 1000, 200, 100900800) and refused(600, 1000, 200, -1)
    assert refused(600, 1000, 200, 1000000000 * 2)


def test_sound_is_slower_in_the_cold():
    # 331.3 m/s * sqrt(1 + T / 273.15), worked out beforehand.
    for celsius, mm_s in ((-30, 312576), (-20, 318938), (0, 331300), (20, 343216), (40, 354731), (60, 365886)):
        assert abs(speed_mm_s(celsius) - mm_s) * 1000 <= mm_s, celsius


def test_an_uncompensated_metre_is_corrected():
    assert corrected_mm(1000, 20) == 1000
    assert corrected_mm(1076, -20) == 1000
    assert corrected_mm(968, 40) == 1000


def test_a_pulse_of_5827_us_is_a_metre():
    assert pulse_mm(5827) == 999
    assert pulse_mm(5828) == 1000
