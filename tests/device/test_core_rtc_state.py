"""RTC memory is believed only when it is whole."""

from brim.core.rtc_state import Last, RtcState, load
from brim.core.ticks import ticks_add, ticks_left


def known():
    state = RtcState()
    state.epoch, state.seq, state.base_s, state.link_at_s = 7, 65535, 123456, 654321
    state.last = Last("ok", 812, 257, 99)
    state.dropped, state.retry, state.wakes = 3, True, 100000
    state.flash_generation, state.flash_skip, state.flash_count, state.flash_held = 255, 600, 688, 0xFFFFFFFF
    state.settings["sense_s"] = 300
    state.link = b"mac"
    state.ring = bytes(range(36))
    return state


def test_what_was_saved_comes_back():
    state, back = known(), load(known().pack())
    assert not back.fresh
    for name in ("epoch", "seq", "base_s", "link_at_s", "dropped", "retry", "wakes", "settings", "link", "ring"):
        assert getattr(back, name) == getattr(state, name), name
    for name in ("flash_generation", "flash_skip", "flash_count", "flash_held"):
        assert getattr(back, name) == getattr(state, name), name
    assert (back.last.status, back.last.distance_mm, back.last.events, back.last.at_s) == ("ok", 812, 257, 99)


def test_no_last_reading_stays_none():
    state = known()
    state.last = Last()
    assert load(state.pack()).last.status is None


def test_memory_that_is_longer_than_the_state_is_fine():
    assert not load(bytes(known().pack()) + bytes(100)).fresh


def test_every_flipped_bit_is_noticed():
    data = bytes(known().pack())
    for at in range(len(data)):
        assert load(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]).fresh


def test_garbage_is_a_fresh_state():
    for data in (b"", b"\x00" * 2048, b"\xff" * 2048, known().pack()[:-1], bytes(5000)):
        assert load(data).fresh


def test_a_link_state_that_is_too_long_is_left_out():
    state = known()
    state.link = bytes(301)
    assert load(state.pack()).link == b""


def test_ticks_know_that_they_wrap():
    assert ticks_left(ticks_add((1 << 30) - 10, 100), 20) == 70
    assert ticks_left(5, 10) == -5
