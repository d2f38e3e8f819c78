"""When a LoRaWAN bin is told what we hold, and that it may drop exactly that."""

from __future__ import annotations

from brim.wire.command import ACK, acknowledges, decode_commands, encode_commands
from brim_gateway.fleet.acks import acknowledgement, oldest_wanted
from hypothesis import given
from hypothesis import strategies as st


def test_nothing_is_said_while_all_is_held_and_little_waits() -> None:
    assert acknowledgement(1, 10, 3, 7, [7, 8, 9, 10], False) is None


def test_a_gap_a_long_backlog_and_a_join_each_bring_an_acknowledgement() -> None:
    assert acknowledgement(1, 10, 3, 7, [7, 9, 10], False) == (ACK, 1, 7, 0b11)
    assert acknowledgement(1, 10, 8, 2, range(2, 11), False) == (ACK, 1, 10, 0)
    assert acknowledgement(1, 10, 0, 10, [10], True) == (ACK, 1, 10, 0)


def test_what_the_bin_has_dropped_is_not_waited_for() -> None:
    assert acknowledgement(2, 100, 9, 91, range(91, 101), False) == (ACK, 2, 100, 0)


def test_a_saturated_backlog_teaches_nothing_about_the_oldest() -> None:
    assert oldest_wanted(200, 63, 1) == 1
    assert oldest_wanted(103, 3, 1) == 100
    assert oldest_wanted(110, 62, 100) == 100


@given(
    st.integers(1, 65_535),
    st.integers(0, 63),
    st.integers(1, 65_535),
    st.sets(st.integers(1, 300)).map(sorted),
    st.booleans(),
)
def test_a_bin_never_drops_what_it_holds_and_we_do_not(
    seq: int, backlog: int, known: int, offsets: list[int], first: bool
) -> None:
    oldest = oldest_wanted(seq, backlog, min(known, seq))
    held = {seq - offset + 1 for offset in offsets if seq - offset + 1 >= 1}
    command = acknowledgement(1, seq, backlog, oldest, held, first)
    if command is None:
        return
    assert decode_commands(encode_commands([command])) == [command]
    for number in range(oldest, min(65_535, seq + 20) + 1):
        if acknowledges(command, 1, number):
            assert number in held
