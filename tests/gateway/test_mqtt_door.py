"""Who may come in next: pure, so every order of events can be tried."""

from __future__ import annotations

from collections import Counter

import pytest
from brim_gateway.ingest.mqtt_door import UNPROVEN_MOST, WAITING_MOST, Door, Guest, source_of
from hypothesis import given, settings
from hypothesis import strategies as st


def admit(door: Door[Guest]) -> list[Guest]:
    """Everybody who may come in now."""
    admitted = []
    while (guest := door.next()) is not None:
        admitted.append(guest)
    return admitted


def arrive(door: Door[Guest], source: str, count: int = 1) -> list[Guest]:
    guests = [Guest(source) for _ in range(count)]
    for guest in guests:
        assert door.arrive(guest) is None
    return guests


def test_sources_take_turns() -> None:
    door: Door[Guest] = Door(64, 4)
    arrive(door, "flood", 10)
    arrive(door, "bin", 2)
    assert [guest.source for guest in admit(door)] == ["flood", "bin", "flood", "bin"]


def test_one_source_never_has_every_handshake_nor_every_place() -> None:
    door: Door[Guest] = Door(64, 8)
    arrive(door, "flood", 200)
    inside = admit(door)
    assert len(inside) == 6
    arrive(door, "bin", 1)
    assert [guest.source for guest in admit(door)] == ["bin"]
    for guest in inside:
        door.shaken(guest)
    while more := admit(door):
        inside += more
        for guest in more:
            door.shaken(guest)
    assert len(inside) == UNPROVEN_MOST, "handshakes done, nothing proven"


def test_all_bins_may_come_from_one_address_once_they_are_proven() -> None:
    door: Door[Guest] = Door(64, 8)
    arrive(door, "nat", 200)
    inside: list[Guest] = []
    while more := admit(door):
        inside += more
        for guest in more:
            door.shaken(guest)
            door.prove(guest)
    assert len(inside) == 64 and door.waiting == 136
    door.leave(inside[0])
    door.leave(inside[0])
    assert len(admit(door)) == 1


def test_where_too_many_wait_the_last_of_the_most_crowded_source_goes() -> None:
    door: Door[Guest] = Door(1, 1)
    flood = arrive(door, "flood", WAITING_MOST)
    bin_ = Guest("bin")
    assert door.arrive(bin_) is flood[-1]
    assert door.next() is flood[0]
    door.leave(flood[0])
    assert door.next() is bin_


@given(st.integers(1, 12), st.integers(1, 6), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=120))
@settings(max_examples=200, deadline=None)
def test_no_order_of_events_breaks_a_limit_or_leaves_room_unused(
    places: int, handshakes: int, events: list[tuple[int, int]]
) -> None:
    door: Door[Guest] = Door(places, handshakes)
    inside: list[Guest] = []
    arrived = 0
    for kind, number in events:
        if kind < 2:
            door.arrive(Guest("abc"[number % 3]))
            arrived += 1
        elif inside:
            guest = inside[number % len(inside)]
            if kind == 2:
                door.shaken(guest)
            elif kind == 3:
                door.prove(guest)
            else:
                door.leave(guest)
                inside.remove(guest)
                arrived -= 1
        inside += admit(door)
        assert len(inside) <= places and len(inside) + door.waiting == arrived
        shaking = Counter(guest.source for guest in inside if guest.shaking)
        unproven = Counter(guest.source for guest in inside if not guest.proven)
        assert shaking.total() <= handshakes
        assert all(count <= max(1, places - places // 4) for count in unproven.values())
        if not any(not guest.proven for guest in inside) and len(inside) < places:
            assert door.waiting == 0


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_limits_are_shared_by_what_one_host_can_make_up(address: str, source: str) -> None:
    assert source_of(address) == source
