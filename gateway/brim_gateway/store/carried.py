"""A bin's state as a journal row keeps it: what the reading beside it does not say itself.

Most readings say all of it, and a row is a third shorter for that. Schema 2 kept the whole state in each row; such rows
are read as they are.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from brim_gateway.insight.state import level
from brim_gateway.model import BinState, Reading

WHOLE = b'{"bin":'
"""How a row of schema 2 begins."""


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """Where the state differs from its reading. ``filled_us``: when the fill that stands was measured."""

    state: str | UnsetType = UNSET
    fill_pct: int | UnsetType | None = UNSET
    filled_us: int | UnsetType | None = UNSET
    battery_mv: int | UnsetType | None = UNSET
    events: tuple[str, ...] | UnsetType = UNSET
    last_emptied_us: int | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_carried = msgspec.json.Decoder(Carried).decode
read_reading = msgspec.json.Decoder(Reading).decode
_whole = msgspec.json.Decoder(BinState).decode


def pack(reading: Reading, state: BinState) -> bytes:
    """``state``, that ``reading`` led to, without what ``reading`` says."""
    carried = Carried(
        state=UNSET if state.state == level(reading) else state.state,
        fill_pct=UNSET if state.fill_pct == reading.fill_pct else state.fill_pct,
        filled_us=UNSET if state.time_us == reading.time_us else state.time_us,
        battery_mv=UNSET if state.battery_mv == reading.battery_mv else state.battery_mv,
        events=UNSET if state.events == (reading.events or ()) else state.events,
        last_emptied_us=UNSET if state.last_emptied_us is None else state.last_emptied_us,
    )
    return _encode(carried)


def unpack(reading: Reading, kept: bytes) -> BinState:
    """The state again. ``reading`` has its number."""
    if kept.startswith(WHOLE):
        return _whole(kept)
    if reading.seq is None:
        raise ValueError("a reading in the journal has a number")
    carried = _carried(kept)
    return BinState(
        bin=reading.bin,
        dev=reading.dev,
        epoch=reading.epoch,
        seq=reading.seq,
        status=reading.status,
        contact_us=reading.time_us,
        received_us=reading.received_us,
        state=level(reading) if carried.state is UNSET else carried.state,
        fill_pct=reading.fill_pct if carried.fill_pct is UNSET else carried.fill_pct,
        time_us=reading.time_us if carried.filled_us is UNSET else carried.filled_us,
        battery_mv=reading.battery_mv if carried.battery_mv is UNSET else carried.battery_mv,
        events=(reading.events or ()) if carried.events is UNSET else carried.events,
        last_emptied_us=None if carried.last_emptied_us is UNSET else carried.last_emptied_us,
    )
