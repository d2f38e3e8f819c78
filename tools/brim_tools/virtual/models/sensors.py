"""The sensors of a bin: UART ranger, accelerometer, thermometer, battery."""

from __future__ import annotations

import random
from collections.abc import Callable

LIS3DH_ADDRESS = 0x18
TMP102_ADDRESS = 0x48


class UartRanger:
    """A02YYUW-type ranger: a frame `FF H L SUM` every 100 ms at 9600 baud, the first 200 ms after power-up.

    `echo_mm(time_us)` gives the true distance, or None where nothing comes back (then the frame says 0). `silent`: the
    sensor is dead and sends nothing at all; `unplugged`: and its line is not driven either.
    """

    PERIOD_US = 100_000
    WARM_UP_US = 200_000
    BYTE_US = 1_042

    def __init__(self, echo_mm: Callable[[int], int | None], rng: random.Random, *, noise_mm: float = 3.0) -> None:
        self._echo_mm = echo_mm
        self._rng = rng
        self._noise_mm = noise_mm
        self._powered_at_us: int | None = None
        self._next_us = 0
        self._stream: list[tuple[int, int]] = []
        self.on_time_us = 0
        self.silent = False
        self.unplugged = False

    @property
    def powered(self) -> bool:
        """Whether its rail is on and reaches it."""
        return self._powered_at_us is not None and not self.unplugged

    def power(self, on: bool, now_us: int) -> None:
        if on and self._powered_at_us is None:
            self._powered_at_us = now_us
            self._next_us = now_us + self.WARM_UP_US
            self._stream.clear()
        elif not on and self._powered_at_us is not None:
            self.on_time_us += now_us - self._powered_at_us
            self._powered_at_us = None
            self._stream.clear()

    def _produce(self, until_us: int) -> None:
        while self._powered_at_us is not None and self._next_us <= until_us:
            distance_mm = self._echo_mm(self._next_us)
            if not self.silent and not self.unplugged:
                noisy_mm = 0 if distance_mm is None else max(0, round(self._rng.gauss(distance_mm, self._noise_mm)))
                high, low = noisy_mm >> 8 & 0xFF, noisy_mm & 0xFF
                frame = (0xFF, high, low, (0xFF + high + low) & 0xFF)
                self._stream += [(self._next_us + (i + 1) * self.BYTE_US, b) for i, b in enumerate(frame)]
            self._next_us += self.PERIOD_US
        # A UART buffer that nobody reads overflows: the oldest 256 bytes are all there is.
        del self._stream[256:]

    def any(self, now_us: int) -> int:
        self._produce(now_us)
        return sum(1 for at_us, _ in self._stream if at_us <= now_us)

    def read(self, now_us: int, count: int, timeout_us: int) -> tuple[bytes, int]:
        """Bytes and the time at which the call returns: all `count` bytes are there, or the time is over."""
        deadline_us = now_us + timeout_us
        self._produce(deadline_us)
        taken = [(at_us, b) for at_us, b in self._stream if at_us <= deadline_us][:count]
        del self._stream[: len(taken)]
        done_us = max(now_us, taken[-1][0]) if len(taken) == count else deadline_us
        return bytes(b for _, b in taken), done_us


class I2cBus:
    """LIS3DH (WHO_AM_I 0x33, 1 g on the axis that hangs down) and TMP102 (12 bits of 0.0625 degrees)."""

    def __init__(self) -> None:
        self.temperature_c: Callable[[int], float] = lambda now_us: 12.0
        self.tilt_g: tuple[float, float, float] = (0.0, 0.0, 1.0)
        self.absent: set[int] = set()
        self._lis3dh = {0x0F: 0x33}

    def read(self, address: int, register: int, count: int, now_us: int) -> bytes | None:
        """The register bytes, or None where nobody acknowledges the address."""
        if address in self.absent:
            return None
        if address == TMP102_ADDRESS:
            raw = round(self.temperature_c(now_us) / 0.0625) & 0xFFF
            return (raw << 4).to_bytes(2, "big")[:count]
        if address == LIS3DH_ADDRESS:
            first = register & 0x7F
            axes = b"".join(int(g * 16384).to_bytes(3, "little", signed=True)[:2] for g in self.tilt_g)
            registers = dict(self._lis3dh) | {0x27: 0x0F} | {0x28 + i: b for i, b in enumerate(axes)}
            return bytes(registers.get(first + i, 0) for i in range(count))
        return None

    def write(self, address: int, register: int, data: bytes) -> bool:
        if address in self.absent or address not in (LIS3DH_ADDRESS, TMP102_ADDRESS):
            return False
        if address == LIS3DH_ADDRESS:
            for i, value in enumerate(data):
                self._lis3dh[(register & 0x7F) + i] = value
        return True
