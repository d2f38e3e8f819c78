"""MaxBotix HRXL-MaxSonar-WR on a UART (ranger_uart.RangerUart): 9600 baud, `Rdddd` and a carriage return each 148 ms.

The digits are mm; 300 stands for 300 mm and less, 5000 for no target (data sheet PD11500). The greeting at power-up is
skipped like any other bytes. Most models speak inverted RS232: wire a TTL one, or invert the pin.
"""

FRAME_BYTES = 6
NO_TARGET_MM = 5000


def parse(buffer: bytes) -> "tuple[list[int], bytes]":
    """(distances in mm, what may be the beginning of a frame) of any bytes."""
    echoes = []
    at = 0
    while len(buffer) - at >= FRAME_BYTES:
        digits = buffer[at + 1 : at + 5]
        if buffer[at] == 0x52 and buffer[at + 5] == 13 and digits.isdigit():
            distance_mm = int(digits)
            echoes.append(0 if distance_mm >= NO_TARGET_MM else distance_mm)
            at += FRAME_BYTES
        else:
            at += 1
    return echoes, buffer[at:]
