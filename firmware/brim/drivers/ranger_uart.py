"""A02YYUW / DYP-A02 ultrasonic ranger on a UART: 9600 baud, a frame `FF H L SUM` each 100 ms, distance in mm.

SUM is the low byte of the sum of the three bytes before it (DFRobot SEN0313). It is powered for a measurement only.
It compensates temperature itself.
"""

from brim.core.faults import SensorFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Uart(Protocol):
        def read(self, nbytes: int) -> "bytes | None": ...
        def deinit(self) -> None: ...


FRAME_BYTES = 4
# The first frame comes 200 ms after power, then one each 100 ms: a silence of this long is no pause.
READ_TIMEOUT_MS = 400
MAX_READS = 18
MAX_SILENT = 2
MAX_ECHOES = 15
AGREEING = 5
AGREE_MM = 10


def parse(buffer: bytes) -> "tuple[list[int], bytes]":
    """(distances in mm, what may be the beginning of a frame) of any bytes.

    FF may occur inside a frame, so a sum that fits is not enough where more follows: that must begin with FF too.
    """
    echoes = []
    at = 0
    while len(buffer) - at >= FRAME_BYTES:
        high, low, check = buffer[at + 1], buffer[at + 2], buffer[at + 3]
        end = at + FRAME_BYTES
        if buffer[at] == 0xFF and (0xFF + high + low) & 0xFF == check and (end == len(buffer) or buffer[end] == 0xFF):
            echoes.append(high << 8 | low)
            at = end
        else:
            at += 1
    return echoes, buffer[at:]


def settled(echoes: "list[int]") -> bool:
    """Whether the last five echoes agree, so that more would tell nothing new."""
    last = echoes[-AGREEING:]
    return len(last) == AGREEING and max(last) - min(last) <= AGREE_MM


class RangerUart:
    """`power(on)` switches the rail; `open_uart()` gives a UART with a read timeout of READ_TIMEOUT_MS."""

    BLIND_MM = 30
    MAX_MM = 4500

    def __init__(self, power: "Callable[[bool], None]", open_uart: "Callable[[], Uart]") -> None:
        self._power = power
        self._open_uart = open_uart

    def echoes(self) -> "list[int]":
        """Up to 15 distances in mm as the sensor sends them, fewer once five agree; [] if it is silent, as it is
        without a target. SensorFault if what it says is no distance at all."""
        echoes: "list[int]" = []
        rest = b""
        silent = spoken = 0
        self._power(True)
        try:
            uart = self._open_uart()
            try:
                for _ in range(MAX_READS):
                    data = uart.read(FRAME_BYTES)
                    if data:
                        spoken += len(data)
                        found, rest = parse(rest + data)
                        echoes += found
                    else:
                        silent += 1
                    if silent >= MAX_SILENT or settled(echoes) or len(echoes) >= MAX_ECHOES:
                        break
            finally:
                # The pins go low before the rail does: a driven pin would feed the sensor.
                uart.deinit()
        finally:
            self._power(False)
        if spoken and not echoes:
            raise SensorFault("ranger")
        return echoes[:MAX_ECHOES]
