"""Rangers that speak on a UART of 9600 baud by themselves: the A02YYUW and its kin, the JSN-SR04T in mode 2, and with
another `parse` the MaxBotix. Powered for a measurement only.

Theirs is a frame `FF H L SUM` each 100 ms, distance in mm; SUM is the low byte of the sum of the three bytes before it
(DFRobot SEN0313).
"""

from brim.drivers.rangers import MAX_ECHOES, settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Uart(Protocol):
        def read(self, nbytes: int) -> "bytes | None": ...
        def deinit(self) -> None: ...


FRAME_BYTES = 4
# The first frame comes 200 ms after power, then one each 100 or 148 ms: a silence of this long is no pause.
READ_TIMEOUT_MS = 400
MAX_READS = 20
MAX_SILENT = 2


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


class RangerUart:
    """`power(on)` switches the rail; `open_uart()` gives a UART with a read timeout of READ_TIMEOUT_MS; `line_high()`
    is the level of the line that the sensor drives, asked only after silence: a sensor with power holds it high."""

    def __init__(
        self,
        power: "Callable[[bool], None]",
        open_uart: "Callable[[], Uart]",
        line_high: "Callable[[], bool]",
        parse: "Callable[[bytes], tuple[list[int], bytes]]" = parse,
        frame_bytes: int = FRAME_BYTES,
    ) -> None:
        self.rail_ok = True
        self._power = power
        self._open_uart = open_uart
        self._line_high = line_high
        self._parse = parse
        self._frame_bytes = frame_bytes

    def echoes(self) -> "list[int]":
        """See rangers.Ranger; [] also for a sensor that says nothing that is a distance."""
        echoes: "list[int]" = []
        rest = b""
        silent = heard = 0
        self._power(True)
        try:
            uart = self._open_uart()
            try:
                for _ in range(MAX_READS):
                    data = uart.read(self._frame_bytes)
                    if data:
                        heard += len(data)
                        found, rest = self._parse(rest + data)
                        echoes += found
                    else:
                        silent += 1
                    if silent >= MAX_SILENT or settled(echoes) or len(echoes) >= MAX_ECHOES:
                        break
            finally:
                # The pins go low before the rail does: a driven pin would feed the sensor.
                uart.deinit()
            if not heard:
                self.rail_ok = self._line_high()
        finally:
            self._power(False)
        return echoes[:MAX_ECHOES]
