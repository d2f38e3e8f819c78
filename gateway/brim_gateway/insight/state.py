"""What is believed of a bin now, from reading to reading. Pure; a late old reading changes nothing here."""

from __future__ import annotations

from brim_gateway.model import BinState, Event, Reading

ANNOUNCED = ("full", "overfull", "emptied", "fire", "tilted", "moved", "lid_open", "battery_low", "tamper")
"""The event bits that begin an event when they appear."""

AHEAD_US = 3_600_000_000
"""More than a bin's or a concentrator's clock differs from ours while both are right."""


def is_newer(state: BinState, reading: Reading) -> bool:
    """Whether ``reading`` is newer than what ``state`` rests on.

    The device's own order decides, because ages drift; across devices, and for a device whose numbers
    the journal made, the event time does. A state from the future was stamped by a clock that ran ahead: it must not
    stand until that future comes.
    """
    if reading.dev == state.dev and reading.epoch > 0 and state.epoch > 0 and reading.seq is not None:
        return (reading.epoch, reading.seq) > (state.epoch, state.seq)
    return reading.time_us > state.contact_us or state.contact_us > reading.received_us + AHEAD_US


def level(reading: Reading) -> str:
    """``normal``, ``full`` or ``overfull``: the bin's own word, otherwise its fill."""
    events = reading.events or ()
    if "overfull" in events:
        return "overfull"
    if "full" in events or (believed(reading) and (reading.fill_pct or 0) >= 100):
        return "full"
    return "normal"


def believed(reading: Reading) -> bool:
    """Whether its fill is one to go by: a jump that the bin has not seen again is none yet."""
    return reading.fill_pct is not None and reading.status != "jumped"


def advance(state: BinState | None, reading: Reading) -> tuple[BinState | None, list[Event]]:
    """The new state of the bin and the events that began, or (None, []) where ``reading`` is not newer.

    ``reading.seq`` must be given. A reading without a fill to go by keeps the fill believed before, with its time.
    """
    if state is not None and not is_newer(state, reading):
        return None, []
    seq = reading.seq
    if seq is None:
        raise ValueError("a reading is numbered before it advances a state")
    known = believed(reading)
    before = state.fill_pct if state else None
    earlier = state.events if state else ()
    events = earlier if reading.events is None else reading.events
    emptied = "emptied" in events and "emptied" not in earlier
    new = BinState(
        bin=reading.bin,
        dev=reading.dev,
        epoch=reading.epoch,
        seq=seq,
        status=reading.status,
        contact_us=reading.time_us,
        received_us=reading.received_us,
        state=level(reading) if known or reading.events or state is None else state.state,
        fill_pct=reading.fill_pct if known else before,
        time_us=reading.time_us if known else (state.time_us if state else None),
        battery_mv=reading.battery_mv if reading.battery_mv is not None else (state.battery_mv if state else None),
        events=events,
        last_emptied_us=reading.time_us if emptied else (state.last_emptied_us if state else None),
    )
    begun = [
        Event(
            type=kind,
            id=f"{reading.uid}:{kind}",
            time_us=reading.time_us,
            reading_uid=reading.uid,
            confidence="high" if known else "low",
            before_pct=before,
            after_pct=reading.fill_pct,
        )
        for kind in ANNOUNCED
        if kind in events and kind not in earlier
    ]
    return new, begun
