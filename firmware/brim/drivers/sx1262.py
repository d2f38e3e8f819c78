"""Semtech SX1262, LoRa at 125 kHz only. Sections and tables are those of the data sheet DS.SX1261-2.W.APP, rev. 2.1.

One command is one SPI transaction, and every wait has an end.
"""

from brim.core.faults import RadioFault
from brim.lorawan.airtime import airtime_us, needs_ldro, symbol_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from brim.core.hal import Clock


# Interrupts, table 13-29.
TX_DONE = 0x001
RX_DONE = 0x002
HEADER_ERROR = 0x020
CRC_ERROR = 0x040
TIMEOUT = 0x200
INTERRUPTS = TX_DONE | RX_DONE | HEADER_ERROR | CRC_ERROR | TIMEOUT

# DIO3 voltage codes, table 13-35.
_TCXO_MV = (1600, 1700, 1800, 2200, 2400, 2700, 3000, 3300)
# Until the oscillator is steady; the chip waits this long itself, in steps of 15.625 us (section 13.3.6).
TCXO_START_MS = 5
# GetDeviceErrors, table 13-85; all but the oscillator start at power-on, which table 13-85 expects with a TCXO.
_ERRORS = ("rc64k", "rc13m", "pll calibration", "adc", "image", "oscillator", "pll lock", "", "pa")

BUSY_TRIES = 20
MAX_TX_POWER = 22
MAX_SYMBOLS = 248


class SX1262:
    """The chip behind an SPI bus; pins as of `machine.Pin`.

    `wait_dio1(timeout_ms)` waits in one call until DIO1 is high and tells if it is.

    Raises RadioFault when the chip does not answer, reports errors or does not finish.
    """

    # From the call to `receive` until the chip listens.
    START_MS = TCXO_START_MS

    def __init__(
        self,
        spi: "Any",
        cs: "Any",
        reset: "Any",
        busy: "Any",
        dio1: "Any",
        wait_dio1: "Callable[[int], bool]",
        clock: "Clock",
        tcxo_mv: int,
        dio2_rf_switch: bool,
    ) -> None:
        self._spi = spi
        self._cs = cs
        self._reset = reset
        self._busy = busy
        self._wait = wait_dio1
        self._clock = clock
        self._tcxo_mv = tcxo_mv
        self._dio2 = dio2_rf_switch
        self._forget()

    def _forget(self) -> None:
        self._freq_hz = self._sf = self._power_dbm = self._seen = 0
        self._inverted = False

    def _ready(self) -> None:
        # BUSY is high while a command is worked on (section 8.3.1).
        for _ in range(BUSY_TRIES):
            if not self._busy.value():
                return
            self._clock.sleep_ms(1)
        raise RadioFault("radio busy")

    def _command(self, *parts: int) -> bytearray:
        return self._transfer(bytearray(parts))

    def _transfer(self, buffer: bytearray) -> bytearray:
        self._ready()
        self._cs.value(0)
        self._spi.write_readinto(buffer, buffer)
        self._cs.value(1)
        return buffer

    def start(self) -> None:
        """From any state to standby, configured for LoRaWAN in 863 to 870 MHz. Takes about 15 ms."""
        self._forget()
        # At least 100 us low (section 8.1); then the chip starts with its defaults, on its RC oscillator.
        self._reset.value(0)
        self._clock.sleep_ms(1)
        self._reset.value(1)
        self._clock.sleep_ms(5)
        if self._tcxo_mv:
            ticks = TCXO_START_MS * 64
            self._command(0x97, _TCXO_MV.index(self._tcxo_mv), 0, ticks >> 8, ticks & 0xFF)  # SetDIO3AsTCXOCtrl, 13.3.6
            self._command(0x07, 0, 0)  # ClearDeviceErrors, 13.6.2: there was no TCXO at power-on
            self._command(0x89, 0x7F)  # Calibrate everything, 13.1.12, now that the clock is right
            self._clock.sleep_ms(TCXO_START_MS + 4)
        if self._dio2:
            self._command(0x9D, 1)  # SetDIO2AsRfSwitchCtrl, 13.3.5
        self._command(0x96, 1)  # SetRegulatorMode: DC-DC, 13.1.11
        self._command(0x8A, 1)  # SetPacketType: LoRa, 13.4.2
        self._command(0x98, 0xD7, 0xDB)  # CalibrateImage for 863 to 870 MHz, table 9-2
        self._command(0x95, 0x02, 0x02, 0x00, 0x01)  # SetPaConfig: SX1262 at its best for +14 dBm, table 13-21
        self._command(0x0D, 0x08, 0xD8, 0xDE)  # TxClampConfig, bits 4 to 1, section 15.2: against antenna mismatch
        self._command(0x0D, 0x08, 0x89, 0x05)  # TxModulation, bit 2, section 15.1: not 500 kHz
        self._command(0x0D, 0x07, 0x40, 0x34, 0x44)  # LoRa sync word of a public network, table 12-1
        mask = (INTERRUPTS >> 8, INTERRUPTS & 0xFF)
        self._command(0x08, *mask, *mask, 0, 0, 0, 0)  # SetDioIrqParams: all on DIO1, 13.3.1
        self._check_errors()

    def _check_errors(self) -> None:
        answer = self._command(0x17, 0, 0, 0)  # GetDeviceErrors, 13.6.1
        # The chip mode in the status byte (table 13-76): no chip gives zeros or ones.
        if answer[1] >> 4 & 7 in (0, 7):
            raise RadioFault("radio absent")
        errors = (answer[2] << 8 | answer[3]) & 0x17F
        for bit, name in enumerate(_ERRORS):
            if errors >> bit & 1:
                raise RadioFault("radio " + name)

    def _tune(self, freq_hz: int, sf: int) -> None:
        if freq_hz != self._freq_hz:
            # Steps of 32 MHz / 2^25 (section 13.4.1).
            steps = (freq_hz << 25) // 32000000
            self._command(0x86, steps >> 24, steps >> 16 & 0xFF, steps >> 8 & 0xFF, steps & 0xFF)
            self._freq_hz = freq_hz
        if sf != self._sf:
            # SetModulationParams: SF, 125 kHz, 4/5, low data rate optimisation (section 13.4.5.2).
            self._command(0x8B, sf, 0x04, 0x01, 1 if needs_ldro(sf) else 0, 0, 0, 0, 0)
            self._sf = sf

    def _packet(self, length: int, crc: int, inverted: bool) -> None:
        # SetPacketParams: 8 symbols of preamble, explicit header, length, CRC, IQ (section 13.4.6.2).
        self._command(0x8C, 0, 8, 0, length, crc, 1 if inverted else 0, 0, 0, 0)
        if inverted != self._inverted:
            # IQ polarity, 0x0736, section 15.4: bit 2 clear for inverted, set for normal IQ. 0x0D after reset.
            self._command(0x0D, 0x07, 0x36, 0x09 if inverted else 0x0D)
            self._inverted = inverted

    def _irq(self) -> int:
        answer = self._command(0x12, 0, 0, 0)  # GetIrqStatus, 13.3.3
        self._seen = answer[2] << 8 | answer[3]
        return self._seen

    def _run(self, opcode: int, timeout_ms: int) -> None:
        if self._seen:
            self._command(0x02, 0x03, 0xFF)  # ClearIrqStatus, 13.3.4: DIO1 falls
            self._seen = 0
        ticks = min(timeout_ms * 64, 0xFFFFFE)
        self._command(opcode, ticks >> 16, ticks >> 8 & 0xFF, ticks & 0xFF)

    def transmit(self, freq_hz: int, sf: int, power_dbm: int, phy: bytes) -> int:
        """Send a LoRaWAN uplink; returns `clock.ticks_us()` at its end."""
        self._tune(freq_hz, sf)
        self._packet(len(phy), 1, False)
        if power_dbm != self._power_dbm:
            # With these PA settings 22 stands for +14 dBm (table 13-21); 0x04: ramp of 200 us (table 13-41).
            self._command(0x8E, (MAX_TX_POWER - 14 + power_dbm) & 0xFF, 0x04)
            self._power_dbm = power_dbm
        self._transfer(bytearray(b"\x0e\x00") + phy)  # WriteBuffer, 13.2.3
        airtime_ms = airtime_us(len(phy), sf) // 1000 + 1
        self._run(0x83, airtime_ms + 100)  # SetTx, 13.1.4
        done = self._wait(airtime_ms + 200)
        end_us = self._clock.ticks_us()
        status = self._irq()
        if not done or not status & TX_DONE:
            self._check_errors()
            raise RadioFault("radio transmit")
        return end_us

    def prepare(self, freq_hz: int, sf: int, symbols: int) -> None:
        """Make ready for a downlink, so that `receive` starts at once: inverted IQ, no CRC, `symbols` to search."""
        self._tune(freq_hz, sf)
        self._packet(255, 0, True)
        # SetLoRaSymbNumTimeout, 13.4.9. Above 63 the value is rounded up to mantissa times 2^(2 exponent + 1).
        symbols = min(symbols, MAX_SYMBOLS)
        mantissa, exponent = (symbols + 1) >> 1, 0
        while mantissa > 31:
            mantissa = (mantissa + 3) >> 2
            exponent += 1
        self._command(0xA0, mantissa << (2 * exponent + 1))
        if exponent:
            # Register 0x0706 holds the same in mantissa and exponent (Semtech sx126x_driver).
            self._command(0x0D, 0x07, 0x06, exponent + (mantissa << 3))
        self._window_ms = (symbols + 30) * symbol_us(sf) // 1000 + TCXO_START_MS + 5

    def receive(self) -> "tuple[bytes, int, int] | None":
        """Listen as prepared, now: (frame, SNR in dB, RSSI in dBm), or None if nothing sound came."""
        # The chip's own timer stops when a header comes (section 13.1.5); ours covers the longest frame as well.
        self._run(0x82, self._window_ms)  # SetRx
        done = self._wait(self._window_ms + airtime_us(255, self._sf, crc=False) // 1000)
        status = self._irq()
        if not done or not status & RX_DONE or status & (CRC_ERROR | HEADER_ERROR):
            if not done:
                self._command(0x80, 0)  # SetStandby, 13.1.2: it would listen on
            return None
        answer = self._command(0x13, 0, 0, 0)  # GetRxBufferStatus, 13.5.2
        length, start = answer[2], answer[3]
        levels = self._command(0x14, 0, 0, 0, 0)  # GetPacketStatus, 13.5.3: -RSSI * 2, SNR * 4 signed
        snr = levels[3] - 256 if levels[3] > 127 else levels[3]
        frame = self._transfer(bytearray((0x1E, start, 0)) + bytearray(length))  # ReadBuffer, 13.2.4
        return bytes(frame[3:]), snr // 4, -(levels[2] // 2)

    def sleep(self) -> None:
        """Lowest current; `start` wakes the chip by its reset."""
        self._command(0x84, 0x00)  # SetSleep: cold start, 13.1.1
        self._forget()
