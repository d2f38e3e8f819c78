"""SX1276 at its registers (data sheet DS_SX1276-7-8-9_W_APP, rev. 7): two pages, modes, FIFO, DIO0.

The chip is strict where the real one is: the page changes in sleep only, the FIFO is closed in sleep, a wrong sync word
or I/Q register hears nothing. Time comes from the bin, and the air from its antenna.
"""

from __future__ import annotations

from brim_tools.virtual.ether import Listener, Transmission, time_on_air_us
from brim_tools.virtual.models.sx1262 import Antenna, Heard

FIFO, OP_MODE, FRF, PA_CONFIG, FIFO_AT, TX_BASE, RX_BASE = 0x00, 0x01, 0x06, 0x09, 0x0D, 0x0E, 0x0F
RX_CURRENT, IRQ_FLAGS, RX_BYTES, SNR, RSSI = 0x10, 0x12, 0x13, 0x19, 0x1A
MODEM_1, MODEM_2, SYMBOLS, LENGTH, MODEM_3 = 0x1D, 0x1E, 0x1F, 0x22, 0x26
INVERT_IQ, SYNC_WORD, INVERT_IQ_2, DIO_MAPPING, VERSION = 0x33, 0x39, 0x3B, 0x40, 0x42
IMAGE_CAL = 0x3B
"""On the FSK page."""

IRQ_RX_TIMEOUT, IRQ_RX_DONE, IRQ_CRC_ERROR, IRQ_TX_DONE = 0x80, 0x40, 0x20, 0x08
SLEEP, STANDBY, TRANSMIT, RECEIVE_SINGLE = 0, 1, 3, 6
_LORA = 0x80
_BANDWIDTH_HZ = {7: 125_000, 8: 250_000, 9: 500_000}
_CALIBRATION_US = 8_000
_RESET = {0x06: 0x6C, 0x07: 0x80, 0x09: 0x4F, 0x31: 0xC3, INVERT_IQ: 0x27, SYNC_WORD: 0x12, VERSION: 0x12, 0x4D: 0x84}


class Sx1276:
    """One chip. Pins: ``select``, ``dio0``; bus: ``transfer``; ``reset`` is the falling edge of NRESET."""

    def __init__(self, name: str, antenna: Antenna) -> None:
        self.name = name
        self._antenna = antenna
        self.absent = False
        self._generation = 0
        self._listener: Listener | None = None
        self.reset()

    def reset(self) -> None:
        self._stop()
        self._mode = 0x09
        self._registers = dict(_RESET) | {INVERT_IQ_2: 0x1D, IRQ_FLAGS: 0}
        self._fifo = bytearray(256)
        self._calibrated_at_us = 0
        self._done_at_us: int | None = None
        self._selected = False

    # --- pins ---------------------------------------------------------------------------------------------------
    def select(self, selected: bool) -> None:
        self._selected = selected

    def dio0(self) -> int:
        """Table 18: RxDone, or TxDone where RegDioMapping1 says so."""
        self._settle()
        wanted = (IRQ_RX_DONE, IRQ_TX_DONE, 0, 0)[self._registers.get(DIO_MAPPING, 0) >> 6]
        return int(bool(self._registers[IRQ_FLAGS] & wanted))

    def dio0_rises_at(self) -> int | None:
        """When DIO0 will rise if nothing else happens, where that is known already (the end of a transmission)."""
        return self._done_at_us if self._registers.get(DIO_MAPPING, 0) >> 6 == 1 else None

    def _settle(self) -> None:
        if self._done_at_us is not None and self._antenna.now_us() >= self._done_at_us:
            self._done_at_us = None
            self._finish(IRQ_TX_DONE)

    def _finish(self, flags: int) -> None:
        self._registers[IRQ_FLAGS] |= flags
        self._mode = self._mode & ~7 | STANDBY

    # --- SPI ----------------------------------------------------------------------------------------------------
    def transfer(self, data: bytes) -> bytes:
        """One transaction: address (bit 7: write), then values; the address counts on, but in the FIFO."""
        out = bytearray(len(data))
        if self.absent or not self._selected or not data:
            return bytes(out)
        self._settle()
        address, writes = data[0] & 0x7F, data[0] & 0x80
        for at in range(1, len(data)):
            if writes:
                self._write(address, data[at])
            else:
                out[at] = self._read(address)
            address += address != FIFO
        return bytes(out)

    def _read(self, address: int) -> int:
        if address == FIFO:
            return self._fifo_step()
        if address == OP_MODE:
            return self._mode
        if address == IMAGE_CAL and not self._mode & _LORA:
            return 0x20 if self._antenna.now_us() < self._calibrated_at_us else 0
        return self._registers.get(address, 0)

    def _fifo_step(self, value: int | None = None) -> int:
        at = self._registers.get(FIFO_AT, 0)
        if self._mode & 7 == SLEEP:
            return 0
        self._registers[FIFO_AT] = at + 1 & 0xFF
        if value is not None:
            self._fifo[at] = value
        return self._fifo[at]

    def _write(self, address: int, value: int) -> None:
        if address == FIFO:
            self._fifo_step(value)
        elif address == OP_MODE:
            self._change(value)
        elif address == IRQ_FLAGS:
            self._registers[IRQ_FLAGS] &= ~value
        elif address == IMAGE_CAL and not self._mode & _LORA:
            if value & 0x40:
                self._calibrated_at_us = self._antenna.now_us() + _CALIBRATION_US
        elif address != VERSION:
            self._registers[address] = value

    def _change(self, value: int) -> None:
        if (value ^ self._mode) & _LORA and self._mode & 7 != SLEEP:
            value = value & ~_LORA | self._mode & _LORA  # the page changes in sleep only
        self._stop()
        self._mode = value
        if value & _LORA and value & 7 == TRANSMIT:
            self._transmit()
        elif value & _LORA and value & 7 == RECEIVE_SINGLE:
            self._receive()

    def _stop(self) -> None:
        self._generation += 1
        self._done_at_us = None
        if self._listener is not None:
            self._antenna.stop_listening(self._listener)
            self._listener = None

    # --- the air ------------------------------------------------------------------------------------------------
    def _modulation(self) -> tuple[int, int, int, bool]:
        """(frequency to the nearest 100 Hz, SF, bandwidth, low data rate optimisation)."""
        steps = int.from_bytes(bytes(self._registers.get(FRF + at, 0) for at in range(3)), "big")
        freq_hz = round(steps * 32_000_000 / (1 << 19) / 100) * 100
        sf = self._registers.get(MODEM_2, 0x70) >> 4
        bw_hz = _BANDWIDTH_HZ.get(self._registers.get(MODEM_1, 0x72) >> 4, 125_000)
        return freq_hz, sf, bw_hz, bool(self._registers.get(MODEM_3, 0) & 8)

    def _sync_word(self, right_iq: bool) -> int:
        """As the SX1262 tells it to the air, 0x34 being 0x3444; 0 where a setting spoils the frame."""
        _, sf, bw_hz, ldro = self._modulation()
        word = self._registers[SYNC_WORD]
        right = right_iq and ldro == (sf >= 11 and bw_hz == 125_000)
        return (word & 0xF0 | 4) << 8 | (word & 0x0F) << 4 | 4 if right else 0

    def _transmit(self) -> None:
        freq_hz, sf, bw_hz, ldro = self._modulation()
        base, now_us = self._registers.get(TX_BASE, 0x80), self._antenna.now_us()
        payload = bytes(self._fifo[(base + at) & 0xFF] for at in range(self._registers.get(LENGTH, 1)))
        crc = bool(self._registers.get(MODEM_2, 0) & 4)
        pa = self._registers[PA_CONFIG]
        self._done_at_us = now_us + time_on_air_us(len(payload), sf, bw_hz, crc=crc, ldro=ldro)
        inverted = not self._registers[INVERT_IQ] & 1
        self._antenna.transmit(
            Transmission(
                sender=self.name,
                start_us=now_us,
                end_us=self._done_at_us,
                freq_hz=freq_hz,
                sf=sf,
                bw_hz=bw_hz,
                power_dbm=(pa & 15) + 2 if pa & 0x80 else pa & 15,
                iq_inverted=inverted,
                crc=crc,
                sync_word=self._sync_word((self._registers[INVERT_IQ_2] == 0x19) == inverted),
                payload=payload,
            )
        )

    def _receive(self) -> None:
        freq_hz, sf, bw_hz, _ = self._modulation()
        now_us = self._antenna.now_us()
        symbols = (self._registers.get(MODEM_2, 0) & 3) << 8 | self._registers.get(SYMBOLS, 0x64)
        ends_us = now_us + symbols * (1 << sf) * 1_000_000 // bw_hz
        inverted = bool(self._registers[INVERT_IQ] & 0x40)
        generation = self._generation

        def received(transmission: Transmission, rssi_dbm: float, snr_db: float) -> None:
            if generation == self._generation:
                self._stop()
                self._take(Heard(transmission.payload, rssi_dbm, snr_db))

        def timeout() -> None:
            if generation == self._generation and not (self._listener is not None and self._listener.locked):
                self._stop()
                self._finish(IRQ_RX_TIMEOUT)

        self._listener = Listener(
            name=self.name,
            freq_hz=freq_hz,
            sf=sf,
            bw_hz=bw_hz,
            iq_inverted=inverted,
            sync_word=self._sync_word((self._registers[INVERT_IQ_2] == 0x19) == inverted),
            open_us=now_us,
            lock_by_us=ends_us,
            received=received,
        )
        self._antenna.listen(self._listener)
        self._antenna.alarm(ends_us, timeout)

    def _take(self, heard: Heard) -> None:
        base = self._registers.get(RX_BASE, 0)
        for at, value in enumerate(heard.payload):
            self._fifo[(base + at) & 0xFF] = value
        snr_db = max(-32.0, min(31.0, heard.snr_db))
        self._registers[RX_CURRENT], self._registers[RX_BYTES] = base, len(heard.payload)
        self._registers[SNR] = round(snr_db * 4) & 0xFF
        # Section 5.5.5: below the noise the register leaves out what the SNR adds; above it a step is 16/15 dB.
        raw = heard.rssi_dbm + 157 - snr_db if snr_db < 0 else (heard.rssi_dbm + 157) * 15 / 16
        self._registers[RSSI] = max(0, min(255, round(raw)))
        self._finish(IRQ_RX_DONE)
