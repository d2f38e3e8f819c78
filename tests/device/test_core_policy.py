"""A bin speaks when there is something to say, and never sleeps too long or too short."""

from brim.core.events import FULL
from brim.core.fill import Measurement
from brim.core.policy import decide
from brim.core.rtc_state import Last
from brim.core.settings import defaults
from brim.core.ticks import sleep_s

SETTINGS = defaults()


def at(distance_mm):
    return Measurement("ok", 5, distance_mm, 0)


def why(measured, last=None, events=0, now_s=1000):
    return decide(last or Last("ok", 800, 0, 900), measured, events, now_s, SETTINGS)


def test_the_first_measurement_of_a_boot_is_a_reading():
    assert why(at(800), Last()) == "boot"


def test_a_change_is_a_reading_from_delta_on():
    assert why(at(751)) is None
    assert why(at(750)) == "change"
    assert why(at(850)) == "change"


def test_a_new_status_is_a_reading():
    assert why(Measurement("no_echo")) == "status"
    assert why(Measurement("no_echo"), Last("no_echo", None, 0, 900)) is None


def test_silence_ends_with_the_heartbeat():
    assert why(at(800), now_s=900 + 3600 - 451) is None
    assert why(at(800), now_s=900 + 3600 - 450) == "heartbeat"
    assert why(at(800), now_s=899) == "heartbeat"


def test_what_is_about_to_be_looked_at_again_is_no_news_yet_but_never_ends_the_heartbeat():
    jumped = Measurement("jumped", 5, 300, 2)
    assert decide(Last("ok", 800, 0, 900), jumped, 0, 1000, SETTINGS, True) is None
    assert decide(Last("ok", 800, 0, 900), jumped, 0, 1000, SETTINGS) == "status"
    assert decide(Last("ok", 800, 0, 900), jumped, 0, 900 + 3600, SETTINGS, True) == "heartbeat"
    assert decide(Last("ok", 800, 0, 900), jumped, FULL, 1000, SETTINGS, True) == "event"


def test_an_event_is_a_reading_however_small_the_change():
    assert why(at(200), Last("ok", 201, 0, 900), FULL) == "event"
    assert why(at(230), Last("ok", 200, FULL, 900), 0) == "event"


def test_sleep_is_clamped_whatever_comes():
    assert sleep_s(900, 3) == 897
    assert sleep_s(900, -5000) == 900
    assert sleep_s(900, 5000) == 60
    assert sleep_s(999999, 0) == 43200
    assert sleep_s(-1, 0) == 60
