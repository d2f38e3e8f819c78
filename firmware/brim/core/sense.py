"""Asking the sensors, and what their answers mean together. Loaded for the measurement, let go before the radio."""

from brim.core.fill import Measurement, judge
from brim.core.policy import decide, events_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from brim.core.hal import Device
    from brim.core.rtc_state import RtcState

    T = TypeVar("T")


class Sensed:
    """What was measured, None where a sensor did not answer, and the event bits that follow."""

    def __init__(
        self, measured: Measurement, temperature_c: "int | None", battery_mv: "int | None", events: int
    ) -> None:
        self.measured = measured
        self.temperature_c = temperature_c
        self.battery_mv = battery_mv
        self.events = events

    def worth(self, state: "RtcState", now_s: int) -> bool:
        """Whether this is to become a reading."""
        return decide(state.last, self.measured, self.events, now_s, state.settings) is not None


def _ask(name: str, ask: "Callable[[], T]", log_fault: "Callable[[str], None]") -> "T | None":
    try:
        return ask()
    except Exception:
        log_fault(name)
        return None


def sense(device: "Device", state: "RtcState", log_fault: "Callable[[str], None]") -> Sensed:
    """Ask all sensors. One that fails is logged and leaves an absence."""
    try:
        ranger = device.ranger()
        measured = judge(ranger.echoes(), ranger.BLIND_MM, ranger.MAX_MM)
    except Exception:
        measured = Measurement("sensor_fault")
    if measured.status == "sensor_fault":
        log_fault("ranger")
    device.feed()
    temperature_c = _ask("thermometer", lambda: device.thermometer().celsius(), log_fault)
    tilted = _ask("accelerometer", lambda: device.accelerometer().tilted(), log_fault)
    battery_mv = _ask("battery", device.battery_mv, log_fault)
    events = events_of(measured, tilted, battery_mv, state.last.events, state.settings)
    return Sensed(measured, temperature_c, battery_mv, events)
