"""SX1262 at its opcodes (datasheet DS_SX1261-2 rev 2.1): registers, BUSY, DIO1, transmitter and receiver.

The chip is strict where the real one is: a command while BUSY is lost, an oscillator that nobody switched on does not
start, a wrong sync word or I/Q register hears nothing. Time comes from the bin, and the air from its antenna.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from brim_tools.virtual.ether import Listener, Transmission, time_on_air_us

IRQ_TX_DONE = 1 << 0
IRQ_RX_DONE = 1 << 1
IRQ_CRC_ERROR = 1 << 6
IRQ_TIMEOUT = 1 << 9
XOSC_START_ERROR = 1 << 5

REG_IQ_POLARITY = 0x0736
REG_SYNC_WORD = 0x0740

_BANDWIDTH_HZ = {4: 125_000, 5: 250_000, 6: 500_000}
_COMMAND_US = 20
_WAKE_US = 500
_RX_TIMEOUT_STEP_US = 15.625


@dataclass
class Heard:
    payload: bytes
    rssi_dbm: float
    snr_db: float


class Antenna(Protocol):
    """What the chip needs of the bin: its clock and its air (times in the bin's own microseconds)."""

    def now_us(self) -> int: ...
    def transmit(self, transmission: Transmission) -> None: ...
    def listen(self, listener: Listener) -> None: ...
    def stop_listening(self, listener: Listener) -> None: ...
    def alarm(self, at_us: int, callback: Callable[[], None]) -> None: ...


class Sx1262:
    def __init__(self, name: str, antenna: Antenna, *, tcxo: bool = True, dio2_switch: bool = True) -> None:
        self.name = name
        self._antenna = antenna
        self._tcxo = tcxo
        self._dio2_switch = dio2_switch
        self.absent = False
        self.reset()

    def reset(self) -> None:
        self._registers = {REG_IQ_POLARITY: 0x0D, REG_SYNC_WORD: 0x14, REG_SYNC_WORD + 1: 0x24}
        self._buffer = bytearray(256)
        self._tx_base = self._rx_base = 0
        self._freq_hz = 0
        self._sf, self._bw_hz, self._ldro = 7, 125_000, False
        self._packet_type = 0
        self._length, self._crc, self._iq_inverted = 0, True, False
        self._power_dbm = 0
        self._irq = self._irq_mask = self._dio1_mask = 0
        self._tcxo_on = self._rf_switch_on = False
        self._device_errors = XOSC_START_ERROR if self._tcxo else 0
        self._symbol_timeout = 0
        self._asleep = False
        self._mode = 2  # STDBY_RC
        self._busy_until_us = 0
        self._irq_at: tuple[int, int] | None = None
        self._listener: Listener | None = None
        self._heard: Heard | None = None
        self._rx_length = 0
        self._generation = 0
        self._selected = False

    # --- pins ---------------------------------------------------------------------------------------------------
    def select(self, selected: bool) -> None:
        """NSS: the falling edge wakes a sleeping chip (section 9.3)."""
        if selected and self._asleep:
            self._asleep = False
            self._mode = 2
            self._busy_until_us = self._antenna.now_us() + _WAKE_US
        self._selected = selected

    def busy(self) -> int:
        return int(self.absent or self._asleep or self._antenna.now_us() < self._busy_until_us)

    def dio1(self) -> int:
        self._settle()
        return int(bool(self._irq & self._dio1_mask))

    def dio1_rises_at(self) -> int | None:
        """When DIO1 will rise if nothing else happens, where that is known already (the end of a transmission)."""
        if self._irq_at is not None and self._irq_at[1] & self._irq_mask & self._dio1_mask:
            return self._irq_at[0]
        return None

    def _settle(self) -> None:
        if self._irq_at is not None and self._antenna.now_us() >= self._irq_at[0]:
            self._raise(self._irq_at[1])
            self._irq_at = None

    def _raise(self, flags: int) -> None:
        self._irq |= flags & self._irq_mask
        self._mode = 2

    # --- SPI ----------------------------------------------------------------------------------------------------
    def transfer(self, data: bytes) -> bytes:
        """One transaction: the opcode and its bytes in, the same number of bytes out."""
        out = bytearray(len(data))
        if self.absent or not self._selected or self._asleep or not data:
            return bytes(out)
        if self.busy():
            return bytes(out)  # lost, as on the chip
        self._settle()
        self._busy_until_us = self._antenna.now_us() + _COMMAND_US
        status = self._mode << 4 | 1 << 1
        for i in range(len(out)):
            out[i] = status
        handler = self._COMMANDS.get(data[0])
        if handler is not None:
            handler(self, data, out)
        return bytes(out)

    def _set_sleep(self, data: bytes, out: bytearray) -> None:
        self._stop()
        self._asleep = True
        if not data[1] & 4:  # cold start: the configuration is not retained
            keep = (self._antenna, self.name)
            asleep_errors = self._device_errors
            self.reset()
            self._antenna, self.name = keep
            self._device_errors = asleep_errors
            self._asleep = True

    def _set_standby(self, data: bytes, out: bytearray) -> None:
        self._stop()
        self._mode = 3 if data[1] else 2

    def _stop(self) -> None:
        self._generation += 1
        self._irq_at = None
        if self._listener is not None:
            self._antenna.stop_listening(self._listener)
            self._listener = None

    def _set_tx(self, data: bytes, out: bytearray) -> None:
        self._stop()
        if not self._oscillator_runs() or self._packet_type != 1:
            return
        now_us = self._antenna.now_us()
        payload = bytes(self._buffer[(self._tx_base + i) & 0xFF] for i in range(self._length))
        airtime_us = time_on_air_us(len(payload), self._sf, self._bw_hz, crc=self._crc, ldro=self._ldro)
        self._mode = 6
        self._irq_at = (now_us + airtime_us, IRQ_TX_DONE)
        self._antenna.transmit(
            Transmission(
                sender=self.name,
                start_us=now_us,
                end_us=now_us + airtime_us,
                freq_hz=self._freq_hz,
                sf=self._sf,
                bw_hz=self._bw_hz,
                power_dbm=self._power_dbm - (0 if self._rf_switch_on or not self._dio2_switch else 40),
                iq_inverted=self._iq_inverted,
                crc=self._crc,
                sync_word=self._air_sync_word(),
                payload=payload,
            )
        )

    def _oscillator_runs(self) -> bool:
        if self._tcxo and not self._tcxo_on:
            self._device_errors |= XOSC_START_ERROR
            return False
        return True

    def _air_sync_word(self) -> int:
        """The sync word as heard: 0 where a setting spoils the frame (LDRO or I/Q register not as the air expects)."""
        word = self._registers[REG_SYNC_WORD] << 8 | self._registers[REG_SYNC_WORD + 1]
        ldro_right = self._ldro == (self._sf >= 11 and self._bw_hz == 125_000)
        # Section 15.4: bit 2 is 0 for inverted I/Q and 1 for standard I/Q.
        iq_right = bool(self._registers[REG_IQ_POLARITY] & 4) != self._iq_inverted
        return word if ldro_right and iq_right else 0

    def _set_rx(self, data: bytes, out: bytearray) -> None:
        self._stop()
        if not self._oscillator_runs() or self._packet_type != 1:
            return
        steps = int.from_bytes(data[1:4], "big")
        now_us = self._antenna.now_us()
        symbol_us = (1 << self._sf) * 1e6 / self._bw_hz
        limits = []
        if 0 < steps < 0xFFFFFF:
            limits.append(now_us + steps * _RX_TIMEOUT_STEP_US - 12.25 * symbol_us)
        if self._symbol_timeout:
            limits.append(now_us + self._symbol_timeout * symbol_us)
        if self._rf_switch_on or not self._dio2_switch:
            self._open_window(int(min(limits)) if limits else 1 << 62)
        self._mode = 5
        ends_us = [now_us + steps * _RX_TIMEOUT_STEP_US] if 0 < steps < 0xFFFFFF else []
        ends_us += [now_us + self._symbol_timeout * symbol_us] if self._symbol_timeout else []
        if ends_us:
            self._schedule_timeout(int(min(ends_us)))

    def _open_window(self, lock_by_us: int) -> None:
        generation = self._generation

        def received(transmission: Transmission, rssi_dbm: float, snr_db: float) -> None:
            if generation != self._generation:
                return
            self._stop()
            self._rx_length = len(transmission.payload)
            for i, value in enumerate(transmission.payload):
                self._buffer[(self._rx_base + i) & 0xFF] = value
            self._heard = Heard(transmission.payload, rssi_dbm, snr_db)
            self._raise(IRQ_RX_DONE)

        self._listener = Listener(
            name=self.name,
            freq_hz=self._freq_hz,
            sf=self._sf,
            bw_hz=self._bw_hz,
            iq_inverted=self._iq_inverted,
            sync_word=self._air_sync_word(),
            open_us=self._antenna.now_us(),
            lock_by_us=lock_by_us,
            received=received,
        )
        self._antenna.listen(self._listener)

    def _schedule_timeout(self, at_us: int) -> None:
        generation = self._generation

        def timeout() -> None:
            if generation != self._generation or (self._listener is not None and self._listener.locked):
                return
            self._stop()
            self._raise(IRQ_TIMEOUT)

        self._antenna.alarm(at_us, timeout)

    def _write_register(self, data: bytes, out: bytearray) -> None:
        address = int.from_bytes(data[1:3], "big")
        for i, value in enumerate(data[3:]):
            self._registers[address + i] = value

    def _read_register(self, data: bytes, out: bytearray) -> None:
        address = int.from_bytes(data[1:3], "big")
        for i in range(4, len(out)):
            out[i] = self._registers.get(address + i - 4, 0)

    def _write_buffer(self, data: bytes, out: bytearray) -> None:
        for i, value in enumerate(data[2:]):
            self._buffer[(data[1] + i) & 0xFF] = value

    def _read_buffer(self, data: bytes, out: bytearray) -> None:
        for i in range(3, len(out)):
            out[i] = self._buffer[(data[1] + i - 3) & 0xFF]

    def _set_base(self, data: bytes, out: bytearray) -> None:
        self._tx_base, self._rx_base = data[1], data[2]

    def _set_packet_type(self, data: bytes, out: bytearray) -> None:
        self._packet_type = data[1]

    def _set_frequency(self, data: bytes, out: bytearray) -> None:
        # Section 13.4.1: freq = steps * 32 MHz / 2**25. To the nearest 100 Hz, a step is 0.95 Hz.
        exact_hz = int.from_bytes(data[1:5], "big") * 32_000_000 / (1 << 25)
        self._freq_hz = round(exact_hz / 100) * 100

    def _set_modulation(self, data: bytes, out: bytearray) -> None:
        self._sf, self._bw_hz = data[1], _BANDWIDTH_HZ.get(data[2], 125_000)
        self._ldro = bool(data[4])

    def _set_packet(self, data: bytes, out: bytearray) -> None:
        self._length, self._crc, self._iq_inverted = data[4], bool(data[5]), bool(data[6])

    def _set_tx_params(self, data: bytes, out: bytearray) -> None:
        self._power_dbm = data[1] - 256 if data[1] > 127 else data[1]

    def _set_irq(self, data: bytes, out: bytearray) -> None:
        self._irq_mask = int.from_bytes(data[1:3], "big")
        self._dio1_mask = int.from_bytes(data[3:5], "big")

    def _get_irq(self, data: bytes, out: bytearray) -> None:
        out[2:4] = self._irq.to_bytes(2, "big")

    def _clear_irq(self, data: bytes, out: bytearray) -> None:
        self._irq &= ~int.from_bytes(data[1:3], "big")

    def _set_dio2(self, data: bytes, out: bytearray) -> None:
        self._rf_switch_on = bool(data[1])

    def _set_tcxo(self, data: bytes, out: bytearray) -> None:
        self._tcxo_on = True

    def _set_symbol_timeout(self, data: bytes, out: bytearray) -> None:
        self._symbol_timeout = data[1]

    def _rx_buffer_status(self, data: bytes, out: bytearray) -> None:
        out[2:4] = bytes((self._rx_length, self._rx_base))

    def _packet_status(self, data: bytes, out: bytearray) -> None:
        if self._heard is not None:
            rssi = max(0, min(255, round(-self._heard.rssi_dbm * 2)))
            out[2:5] = bytes((rssi, round(max(-32.0, min(31.0, self._heard.snr_db)) * 4) & 0xFF, rssi))

    def _get_errors(self, data: bytes, out: bytearray) -> None:
        out[2:4] = self._device_errors.to_bytes(2, "big")

    def _clear_errors(self, data: bytes, out: bytearray) -> None:
        self._device_errors = 0

    def _calibrate(self, data: bytes, out: bytearray) -> None:
        self._busy_until_us = self._antenna.now_us() + 3_500

    _COMMANDS: dict[int, Callable[[Sx1262, bytes, bytearray], None]] = {
        0x02: _clear_irq,
        0x07: _clear_errors,
        0x08: _set_irq,
        0x0D: _write_register,
        0x0E: _write_buffer,
        0x12: _get_irq,
        0x13: _rx_buffer_status,
        0x14: _packet_status,
        0x17: _get_errors,
        0x1D: _read_register,
        0x1E: _read_buffer,
        0x80: _set_standby,
        0x82: _set_rx,
        0x83: _set_tx,
        0x84: _set_sleep,
        0x86: _set_frequency,
        0x89: _calibrate,
        0x8A: _set_packet_type,
        0x8B: _set_modulation,
        0x8C: _set_packet,
        0x8E: _set_tx_params,
        0x8F: _set_base,
        0x97: _set_tcxo,
        0x98: _calibrate,
        0x9D: _set_dio2,
        0xA0: _set_symbol_timeout,
    }
