"""TMP102 thermometer on I2C (TI SBOS397): register 0 holds 12 bits, 0.0625 C a step."""

from brim.core.faults import SensorFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class I2c(Protocol):
        def readfrom_mem(self, addr: int, memaddr: int, nbytes: int) -> bytes: ...


ADDRESS = 0x48
REG_TEMPERATURE = 0x00
LEAST_C = -40
MOST_C = 125


def celsius(register: bytes) -> int:
    """Whole degrees (rounded) of the two bytes of register 0; SensorFault outside the chip's range."""
    steps = register[0] << 4 | register[1] >> 4
    if steps & 0x800:
        steps -= 0x1000
    degrees = (steps + 8) >> 4
    if not LEAST_C <= degrees <= MOST_C:
        raise SensorFault("thermometer")
    return degrees


class Thermometer:
    def __init__(self, i2c: "I2c") -> None:
        self._i2c = i2c

    def celsius(self) -> int:
        """Whole degrees; OSError if the chip does not answer, SensorFault if it answers nonsense."""
        return celsius(self._i2c.readfrom_mem(ADDRESS, REG_TEMPERATURE, 2))
