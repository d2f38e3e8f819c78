"""The battery behind a switched divider on an ADC."""

from brim.core.faults import SensorFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Adc(Protocol):
        def read_uv(self) -> int: ...


LEAST_MV = 500  # less is a divider without a battery
MOST_MV = 6000


def battery_mv(adc_uv: int, ratio_permille: int) -> int:
    """Battery millivolts from the divided microvolts; SensorFault outside 0.5 .. 6 V."""
    millivolts = adc_uv * ratio_permille // 1000000
    if not LEAST_MV <= millivolts <= MOST_MV:
        raise SensorFault("battery")
    return millivolts


class Battery:
    """`enable(on)` connects the divider, which would drain the battery in sleep."""

    def __init__(self, adc: "Adc", enable: "Callable[[bool], None]", ratio_permille: int) -> None:
        self._adc = adc
        self._enable = enable
        self._ratio_permille = ratio_permille

    def millivolts(self) -> int:
        self._enable(True)
        try:
            adc_uv = self._adc.read_uv()
        finally:
            self._enable(False)
        return battery_mv(adc_uv, self._ratio_permille)
