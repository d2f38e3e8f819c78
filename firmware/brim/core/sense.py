"""Asking the sensors, and what their answers mean together. Loaded for the measurement, let go before the radio."""

from brim.core.events import Senses, events_of
from brim.core.history import consider
from brim.core.measure import measure
from brim.core.policy import decide
from brim.core.record import pack_record
from brim.core.rtc_state import Last
from brim.wire.reading import Reading
from brim.wire.report_encoder import MAX_SEQ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from brim.core.cycle import Wake

    T = TypeVar("T")


def _ask(name: str, ask: "Callable[[], T]", log_fault: "Callable[[str], None]") -> "T | None":
    try:
        return ask()
    except Exception:
        log_fault(name)
        return None


def take_reading(wake: "Wake", always: bool = False) -> None:
    """Ask all sensors; one that fails is logged and leaves an absence. If the result is worth a reading (or `always`),
    number it and have it in RTC memory before anything else happens."""
    device, state, log_fault = wake.device, wake.state, wake.log_fault
    settings = state.settings
    senses = Senses(_ask("thermometer", lambda: device.thermometer().celsius(), log_fault))
    measured = measure(device, settings["ranger"], senses.celsius)
    if measured.status in ("sensor_fault", "rail_fault"):
        log_fault("ranger")
    device.feed()
    senses.tilted = _ask("accelerometer", lambda: device.accelerometer().tilted(), log_fault)
    wake.battery_mv = senses.battery_mv = _ask("battery", device.battery_mv, log_fault)
    at_s = wake.now_s()
    measured = consider(measured, state.memory, settings["empty_mm"], settings["full_mm"])
    events = events_of(measured, state.last.events, state.memory, senses, settings)
    if not (always or decide(state.last, measured, events, at_s, settings, state.memory.unsure)):
        return
    if state.seq >= MAX_SEQ:
        wake.raise_epoch()
    if not wake.epoch_ok:
        return
    state.seq += 1
    wake.reading = reading = Reading(
        state.epoch,
        state.seq,
        measured.status,
        distance_mm=measured.distance_mm,
        spread_mm=measured.spread_mm,
        echoes=measured.echoes,
        temperature_c=senses.celsius,
        battery_mv=senses.battery_mv,
        events=events,
        config_version=settings["config"],
    )
    state.last = Last(measured.status, measured.distance_mm, events, at_s)
    state.retry = True  # should this wake die before it has sent
    wake.outbox.push(pack_record(reading, at_s))
    wake.save()
    if wake.outbox.fault:
        log_fault(wake.outbox.fault)
    number = "-" if reading.distance_mm is None else str(reading.distance_mm)
    device.log(f"reading {state.epoch}:{state.seq} {reading.status} {number}")
