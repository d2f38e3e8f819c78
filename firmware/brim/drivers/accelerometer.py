"""LIS3DH accelerometer on I2C (ST DocID17530): does the bin stand upright?"""

from brim.core.faults import SensorFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from brim.core.hal import Clock

    class I2c(Protocol):
        def readfrom_mem(self, addr: int, memaddr: int, nbytes: int) -> bytes: ...
        def writeto_mem(self, addr: int, memaddr: int, buf: bytes) -> None: ...


ADDRESS = 0x18
WHO_AM_I = 0x0F
WHO_IS_IT = 0x33
CTRL_REG1 = 0x20
RUN_100_HZ = b"\x57"  # 8.8: 100 Hz, normal mode, X Y Z
POWER_DOWN = b"\x00"
OUT_X_L = 0x28 | 0x80  # 6.1.1: the top bit makes the address count up
FIRST_SAMPLE_MS = 20  # two periods
ONE_G = 16384  # +-2 g over 16 bits, left-justified


def _signed(low: int, high: int) -> int:
    value = high << 8 | low
    return value - 0x10000 if value & 0x8000 else value


def tilted(out: bytes) -> bool:
    """Whether the vertical is more than 45 degrees off the chip's Z axis, of the six bytes OUT_X_L..OUT_Z_H.

    SensorFault if gravity is not there (under half a g, over two).
    """
    x, y, z = _signed(out[0], out[1]), _signed(out[2], out[3]), _signed(out[4], out[5])
    total = x * x + y * y + z * z
    if not (ONE_G * ONE_G >> 2) <= total <= (ONE_G * ONE_G << 2):
        raise SensorFault("accelerometer")
    return 2 * z * z < total


class Accelerometer:
    def __init__(self, i2c: "I2c", clock: "Clock") -> None:
        self._i2c = i2c
        self._clock = clock

    def tilted(self) -> bool:
        """One sample; the chip sleeps before and after. OSError or SensorFault if it cannot tell."""
        if self._i2c.readfrom_mem(ADDRESS, WHO_AM_I, 1)[0] != WHO_IS_IT:
            raise SensorFault("accelerometer")
        self._i2c.writeto_mem(ADDRESS, CTRL_REG1, RUN_100_HZ)
        self._clock.sleep_ms(FIRST_SAMPLE_MS)
        out = self._i2c.readfrom_mem(ADDRESS, OUT_X_L, 6)
        self._i2c.writeto_mem(ADDRESS, CTRL_REG1, POWER_DOWN)
        return tilted(out)
