"""How a lost backend is asked again: often at first, and not by its own good manners at the door for ever."""

from __future__ import annotations

from brim_gateway.outputs.pace import REFUSED_RETRY_S, RETRY_MOST_S, RETRY_OFTEN_FOR_S, RETRY_S, STEADY_S, Pace


def lost(pace: Pace, now: float, *, busy: bool = False, refused: bool = False) -> float:
    return pace.lost(now, busy=busy, refused=refused)


def test_a_lost_backend_is_asked_often_for_five_minutes_and_then_less_and_less() -> None:
    pace = Pace()
    assert {lost(pace, now) for now in range(int(RETRY_OFTEN_FOR_S))} == {RETRY_S}
    later = [lost(pace, 301.0 + i) for i in range(20)]
    assert all(RETRY_MOST_S / 2 <= each <= RETRY_MOST_S * 1.5 for each in later[10:])
    pace.taken()
    assert lost(pace, 1_000) == RETRY_S


def test_a_quota_that_stays_full_is_asked_less_and_less_though_the_greeting_is_taken() -> None:
    pace, pauses = Pace(), []
    for now in range(20):
        pace.connected(now)
        pauses.append(lost(pace, now + 0.1, busy=True))
    assert min(pauses[8:]) >= RETRY_MOST_S / 2


def test_a_backend_that_lets_us_in_and_hangs_up_is_held_off_like_a_dead_one() -> None:
    pace = Pace()
    for now in range(int(RETRY_OFTEN_FOR_S) + 20):
        pace.connected(now)
        last = lost(pace, now + 0.1)
    assert last >= RETRY_MOST_S / 2


def test_a_connection_that_lasted_was_good_even_with_nothing_to_hand_over() -> None:
    pace = Pace()
    lost(pace, 0)
    pace.connected(1)
    assert lost(pace, 1 + max(STEADY_S, RETRY_OFTEN_FOR_S) + 1) == RETRY_S


def test_a_refusal_is_not_asked_again_at_once() -> None:
    assert lost(Pace(), 0, refused=True) == REFUSED_RETRY_S
