"""Semtech SX1276/77/78/79, LoRa at 125 kHz in 863 to 870 MHz only. Sections and tables are those of the data sheet
DS_SX1276-7-8-9_W_APP, rev. 7; errata those of the SX1276/77/78 errata note, rev. 1. Every wait has an end.

The same interface as sx1262.SX1262. One interrupt pin is enough: DIO0, which tells of a finished transmission or a
received frame. That nothing came the chip tells on DIO1; here its flag is read when the window must be over.
"""

from brim.core.faults import RadioFault
from brim.lorawan.airtime import airtime_us, needs_ldro, symbol_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from brim.core.hal import Clock


# Registers of the LoRa page, table 41.
_FIFO = 0x00
_OP_MODE = 0x01
_FRF = 0x06
_PA_CONFIG = 0x09
_OCP = 0x0B
_LNA = 0x0C
_FIFO_AT = 0x0D
_IRQ_FLAGS = 0x12
_RX_BYTES = 0x13
_PACKET_SNR = 0x19
_MODEM_1 = 0x1D
_PREAMBLE = 0x20
_LENGTH = 0x22
_MODEM_3 = 0x26
_IF_FREQ = 0x2F
_DETECT = 0x31
_INVERT_IQ = 0x33
_SYNC_WORD = 0x39
_INVERT_IQ_2 = 0x3B
_DIO_MAPPING = 0x40
_VERSION = 0x42
_TCXO = 0x4B
_PA_DAC = 0x4D
# On the FSK page 0x3B is RegImageCal (table 41): bit 6 starts the calibration, bit 5 says that it runs.
_IMAGE_CAL = 0x3B

# RegOpMode: bit 7 LoRa; bit 3 (low frequency) stays clear.
_SLEEP, _STANDBY, _TRANSMIT, _RECEIVE_SINGLE = 0x80, 0x81, 0x83, 0x86

# RegIrqFlags, table 41.
RX_TIMEOUT = 0x80
RX_DONE = 0x40
CRC_ERROR = 0x20
TX_DONE = 0x08

CHIP_VERSION = 0x12
CALIBRATION_TRIES = 20
MIN_SYMBOLS = 4
MAX_SYMBOLS = 1023
MIN_BOOST_DBM = 2
MAX_BOOST_DBM = 17
MARGIN_MS = 5


class SX1276:
    """The chip behind an SPI bus; pins as of `machine.Pin`.

    `wait_dio0(timeout_ms)` waits in one call until DIO0 is high and tells if it is. `pa_boost`: the antenna hangs on
    PA_BOOST (most modules), not on RFO_HF. `tcxo`: an oscillator of its own feeds XTA.

    Raises RadioFault when the chip does not answer, does not calibrate or does not finish.
    """

    # From the call to `receive` until the chip listens.
    START_MS = 0

    def __init__(
        self,
        spi: "Any",
        cs: "Any",
        reset: "Any",
        wait_dio0: "Callable[[int], bool]",
        clock: "Clock",
        pa_boost: bool = True,
        tcxo: bool = False,
    ) -> None:
        self._spi = spi
        self._cs = cs
        self._reset = reset
        self._wait = wait_dio0
        self._clock = clock
        self._boost = pa_boost
        self._tcxo = tcxo
        self._forget()

    def _forget(self) -> None:
        self._freq_hz = self._sf = 0
        self._power_dbm = -1
        self._receiving = -1

    def _transfer(self, buffer: bytearray) -> bytearray:
        self._cs.value(0)
        self._spi.write_readinto(buffer, buffer)
        self._cs.value(1)
        return buffer

    def _write(self, register: int, *values: int) -> None:
        # Bit 7 of the address says that it is a write; the address counts on by itself, but in the FIFO (section 2.2).
        self._transfer(bytearray((register | 0x80,) + values))

    def _read(self, register: int, count: int = 1) -> bytearray:
        return self._transfer(bytearray(bytes((register,)) + bytes(count)))[1:]

    def start(self) -> None:
        """From any state to standby, configured for LoRaWAN in 863 to 870 MHz. Takes about 20 ms."""
        self._forget()
        # 100 us low, then 5 ms until the chip answers (section 7.2.2).
        self._reset.value(0)
        self._clock.sleep_ms(1)
        self._reset.value(1)
        self._clock.sleep_ms(6)
        if self._read(_VERSION)[0] != CHIP_VERSION:
            raise RadioFault("radio absent")
        if self._tcxo:
            # In sleep, and before anything is calibrated by that clock.
            self._write(_OP_MODE, _SLEEP & 0x7F)
            self._write(_TCXO, 0x19)  # TcxoInputOn, bit 4
            self._write(_OP_MODE, _STANDBY & 0x7F)
            self._clock.sleep_ms(1)
        self._calibrate()
        # The LoRa page can be chosen in sleep only (table 41, RegOpMode).
        self._write(_OP_MODE, _SLEEP & 0x7F)
        self._write(_OP_MODE, _SLEEP)
        self._write(_OP_MODE, _STANDBY)
        self._clock.sleep_ms(1)
        self._write(_OCP, 0x2B)  # 100 mA: enough for +17 dBm (section 5.4.4)
        self._write(_LNA, 0x23)  # highest gain, boosted on the high band (table 41)
        self._write(_PREAMBLE, 0, 8)
        self._write(_SYNC_WORD, 0x34)  # of a public network
        self._write(_PA_DAC, 0x84)  # no +20 dBm (section 5.4.3)
        # Errata 2.3, spurious reception: at 125 kHz bit 7 of 0x31 clear, 0x2F = 0x40, 0x30 = 0. The low bits of 0x31
        # stand for SF7 to SF12, as 0x0A in 0x37 does, which is so after reset.
        self._write(_DETECT, 0x43)
        self._write(_IF_FREQ, 0x40, 0x00)
        if self._read(_OP_MODE)[0] != _STANDBY:
            raise RadioFault("radio mode")

    def _calibrate(self) -> None:
        """Image and RSSI in the band that is used; after power-on it was done at 434 MHz (section 2.1.3.8)."""
        self._write(_OP_MODE, 0x01)  # standby on the FSK page
        self._write(_PA_CONFIG, 0x00)
        self._write(_FRF, 0xD9, 0x00, 0x00)  # 868 MHz
        self._write(_IMAGE_CAL, 0x42)
        for _ in range(CALIBRATION_TRIES):
            if not self._read(_IMAGE_CAL)[0] & 0x20:
                return
            self._clock.sleep_ms(1)
        raise RadioFault("radio image")

    def _tune(self, freq_hz: int, sf: int, symbols: int) -> None:
        """`symbols` 0: to transmit."""
        if freq_hz != self._freq_hz:
            # Steps of 32 MHz / 2^19 = 61 Hz, to the nearest (section 4.1.4).
            steps = ((freq_hz << 19) + 16000000) // 32000000
            self._write(_FRF, steps >> 16, steps >> 8 & 0xFF, steps & 0xFF)
            self._freq_hz = freq_hz
        # RegModemConfig1 and 2, RegSymbTimeout: 125 kHz, 4/5, explicit header; SF, CRC of a transmission, symbols.
        crc = 0 if symbols else 0x04
        self._write(_MODEM_1, 0x72, sf << 4 | crc | symbols >> 8, symbols & 0xFF)
        if sf != self._sf:
            # RegModemConfig3: low data rate optimisation (bit 3), automatic gain (bit 2).
            self._write(_MODEM_3, 0x0C if needs_ldro(sf) else 0x04)
            self._sf = sf
        receiving = 1 if symbols else 0
        if receiving != self._receiving:
            # A downlink comes with inverted IQ: bit 6 of 0x33 set, and 0x19 in 0x3B (0x27 and 0x1D as it is).
            self._write(_INVERT_IQ, 0x67 if receiving else 0x27)
            self._write(_INVERT_IQ_2, 0x19 if receiving else 0x1D)
            # DIO0: RxDone (0) or TxDone (1), table 18.
            self._write(_DIO_MAPPING, 0x00 if receiving else 0x40)
            self._receiving = receiving

    def _power(self, power_dbm: int) -> None:
        if power_dbm == self._power_dbm:
            return
        self._power_dbm = power_dbm
        # RegPaConfig, section 5.4.2. PA_BOOST gives 2 to 17 dBm; RFO with MaxPower 7 gives 0 to 14 dBm.
        if self._boost:
            self._write(_PA_CONFIG, 0x80 | min(max(power_dbm, MIN_BOOST_DBM), MAX_BOOST_DBM) - 2)
        else:
            self._write(_PA_CONFIG, 0x70 | min(max(power_dbm, 0), 14))

    def transmit(self, freq_hz: int, sf: int, power_dbm: int, phy: bytes) -> int:
        """Send a LoRaWAN uplink; returns `clock.ticks_us()` at its end."""
        self._write(_OP_MODE, _STANDBY)
        self._tune(freq_hz, sf, 0)
        self._power(power_dbm)
        self._write(_FIFO_AT, 0, 0)  # the pointer, and where a transmission begins
        self._write(_LENGTH, len(phy))
        self._transfer(bytearray((_FIFO | 0x80,)) + phy)
        self._write(_IRQ_FLAGS, 0xFF)
        self._write(_OP_MODE, _TRANSMIT)
        done = self._wait(airtime_us(len(phy), sf) // 1000 + 200)
        end_us = self._clock.ticks_us()
        flags = self._read(_IRQ_FLAGS)[0]
        self._write(_IRQ_FLAGS, 0xFF)
        if not done or not flags & TX_DONE:
            # What is still on the air must not go on.
            self._write(_OP_MODE, _STANDBY)
            raise RadioFault("radio transmit")
        return end_us

    def prepare(self, freq_hz: int, sf: int, symbols: int) -> None:
        """Make ready for a downlink, so that `receive` starts at once: inverted IQ, `symbols` to search (4 to 1023)."""
        self._write(_OP_MODE, _STANDBY)
        symbols = min(max(symbols, MIN_SYMBOLS), MAX_SYMBOLS)
        self._tune(freq_hz, sf, symbols)
        self._write(_FIFO_AT, 0, 0, 0)  # the pointer, and where transmissions and receptions begin
        self._write(_LENGTH, 255, 255)  # nothing is too long
        self._write(_IRQ_FLAGS, 0xFF)
        self._window_ms = symbols * symbol_us(sf) // 1000 + MARGIN_MS

    def receive(self) -> "tuple[bytes, int, int] | None":
        """Listen as prepared, now: (frame, SNR in dB, RSSI in dBm), or None if nothing sound came."""
        self._write(_OP_MODE, _RECEIVE_SINGLE)
        done = self._wait(self._window_ms)
        if not done and not self._read(_IRQ_FLAGS)[0] & RX_TIMEOUT:
            # A preamble was found in time: its frame may last.
            done = self._wait(airtime_us(255, self._sf, crc=False) // 1000)
        flags = self._read(_IRQ_FLAGS)[0]
        self._write(_IRQ_FLAGS, 0xFF)
        if not flags & RX_DONE or flags & CRC_ERROR:
            if not flags & RX_TIMEOUT:
                self._write(_OP_MODE, _STANDBY)  # it would listen on
            return None
        self._write(_FIFO_AT, self._read(0x10)[0])  # RegFifoRxCurrentAddr
        length = self._read(_RX_BYTES)[0]
        snr, rssi = self._read(_PACKET_SNR, 2)
        snr = (snr - 256 if snr > 127 else snr) // 4
        # Section 5.5.5, high band: below the noise the SNR counts as well, above it the register is too low.
        rssi_dbm = rssi - 157 + snr if snr < 0 else rssi * 16 // 15 - 157
        return bytes(self._read(_FIFO, length)), snr, rssi_dbm

    def sleep(self) -> None:
        """Lowest current; `start` wakes the chip."""
        self._write(_OP_MODE, _SLEEP)
        self._forget()
