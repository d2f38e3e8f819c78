"""What a journal row keeps of a bin's state gives the whole state back, whatever readings led to it."""

from __future__ import annotations

from brim_gateway.insight.state import ANNOUNCED, advance
from brim_gateway.model import BinState, Reading
from brim_gateway.store.carried import pack, unpack
from hypothesis import given
from hypothesis import strategies as st

READINGS = st.lists(
    st.builds(
        Reading,
        dev=st.just("02000000000000a1"),
        bin=st.just("SE-1"),
        epoch=st.just(1),
        seq=st.integers(1, 30),
        status=st.sampled_from(["ok", "no_echo"]),
        time_us=st.integers(1, 9),
        received_us=st.integers(1, 9),
        fill_pct=st.none() | st.integers(0, 120),
        battery_mv=st.none() | st.integers(3_000, 3_600),
        events=st.none() | st.lists(st.sampled_from(ANNOUNCED), max_size=2, unique=True).map(tuple),
    ),
    max_size=12,
)


@given(READINGS)
def test_a_row_gives_the_state_back(readings: list[Reading]) -> None:
    state: BinState | None = None
    for reading in readings:
        newer, _ = advance(state, reading)
        if newer is not None:
            assert unpack(reading, pack(reading, newer)) == newer
            state = newer


def test_a_reading_that_says_all_of_it_keeps_nothing_beside_it() -> None:
    reading = Reading(dev="d", bin="b", epoch=1, seq=1, status="ok", time_us=5, received_us=6, fill_pct=40)
    state, _ = advance(None, reading)
    assert state is not None
    assert pack(reading, state) == b"{}"
