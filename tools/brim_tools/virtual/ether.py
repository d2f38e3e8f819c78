"""The air between bins and concentrators: who hears what, decided by model timestamps alone.

Modelled, not measured: a fixed path loss per link with log-normal fading, thermal noise, the demodulation floor of
each spreading factor, capture at 6 dB, half-duplex concentrators, an optional random loss.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from brim_tools.virtual.world import World

# Semtech SX1276 datasheet, table 13: the weakest signal-to-noise ratio that still demodulates.
DEMODULATION_FLOOR_DB = {5: -2.5, 6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}
NOISE_FIGURE_DB = 6.0
CAPTURE_DB = 6.0
PUBLIC_SYNC_WORD = 0x3444
PREAMBLE_SYMBOLS_TO_LOCK = 4
_KEEP_US = 10_000_000


@dataclass(frozen=True)
class Transmission:
    """One LoRa frame on the air, in ether time."""

    sender: str
    start_us: int
    end_us: int
    freq_hz: int
    sf: int
    bw_hz: int
    power_dbm: float
    iq_inverted: bool
    crc: bool
    sync_word: int
    payload: bytes = field(repr=False)

    @property
    def symbol_us(self) -> float:
        return (1 << self.sf) * 1e6 / self.bw_hz

    def on_same_channel(self, other: Transmission) -> bool:
        return abs(self.freq_hz - other.freq_hz) < 100_000 and self.sf == other.sf


class Receiver(Protocol):
    """A concentrator: hears every uplink on its channels, but not while it sends."""

    name: str

    def hears(self, transmission: Transmission) -> bool: ...

    def received(self, transmission: Transmission, rssi_dbm: float, snr_db: float) -> None: ...


@dataclass
class Listener:
    """A bin's radio with an open receive window, in ether time; `lock_by_us`: a preamble found later is too late."""

    name: str
    freq_hz: int
    sf: int
    bw_hz: int
    iq_inverted: bool
    sync_word: int
    open_us: int
    lock_by_us: int
    received: Callable[[Transmission, float, float], None]
    locked: bool = False


class Ether:
    """Carries frames. `loss_db` gives the path loss of a link; `loss_rate` drops frames at random besides."""

    def __init__(
        self,
        world: World,
        *,
        rng: random.Random,
        loss_db: Callable[[str, str], float],
        loss_rate: float = 0.0,
        fading_db: float = 2.0,
    ) -> None:
        self._world = world
        self._rng = rng
        self._loss_db = loss_db
        self.loss_rate = loss_rate
        self._fading_db = fading_db
        self._recent: list[Transmission] = []
        self._concentrators: list[Receiver] = []
        self._listeners: list[Listener] = []
        self.on_transmission: list[Callable[[Transmission], None]] = []
        self.sent = self.heard = self.collided = self.too_weak = self.dropped = 0

    def add_concentrator(self, concentrator: Receiver) -> None:
        self._concentrators.append(concentrator)

    def transmit(self, transmission: Transmission) -> None:
        """A frame begins; what becomes of it is decided at its end."""
        self.sent += 1
        for observer in self.on_transmission:
            observer(transmission)
        horizon_us = transmission.start_us - _KEEP_US
        self._recent = [t for t in self._recent if t.end_us > horizon_us]
        self._recent.append(transmission)
        for listener in self._listeners:
            self._try_lock(listener, transmission)
        if not transmission.iq_inverted:
            self._world.at(transmission.end_us, lambda: self._uplink_ended(transmission))

    def listen(self, listener: Listener) -> None:
        """Open a receive window; a frame whose preamble is still running may be caught."""
        self._listeners.append(listener)
        for transmission in self._recent:
            if transmission.end_us > listener.open_us:
                self._try_lock(listener, transmission)

    def stop_listening(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _uplink_ended(self, transmission: Transmission) -> None:
        for concentrator in self._concentrators:
            if not concentrator.hears(transmission) or transmission.sync_word != PUBLIC_SYNC_WORD:
                continue
            rssi_dbm = self._power_at(transmission, concentrator.name)
            snr_db = self._snr(transmission, rssi_dbm)
            if not self._survives(transmission, concentrator.name, rssi_dbm, snr_db):
                continue
            self.heard += 1
            concentrator.received(transmission, round(rssi_dbm), round(min(snr_db, 13.0) * 4) / 4)

    def _try_lock(self, listener: Listener, transmission: Transmission) -> None:
        if listener.locked or transmission.sender == listener.name:
            return
        wanted = (listener.freq_hz, listener.sf, listener.bw_hz, listener.iq_inverted, listener.sync_word)
        offered = (
            transmission.freq_hz,
            transmission.sf,
            transmission.bw_hz,
            transmission.iq_inverted,
            transmission.sync_word,
        )
        if wanted != offered:
            return
        last_chance_us = transmission.start_us + (8 - PREAMBLE_SYMBOLS_TO_LOCK) * transmission.symbol_us
        if listener.open_us > last_chance_us or transmission.start_us > listener.lock_by_us:
            return
        listener.locked = True
        self._world.at(transmission.end_us, lambda: self._downlink_ended(listener, transmission))

    def _downlink_ended(self, listener: Listener, transmission: Transmission) -> None:
        if listener not in self._listeners:
            return
        rssi_dbm = self._power_at(transmission, listener.name)
        snr_db = self._snr(transmission, rssi_dbm)
        listener.locked = False
        if self._survives(transmission, listener.name, rssi_dbm, snr_db):
            self.heard += 1
            listener.received(transmission, rssi_dbm, snr_db)

    def _survives(self, transmission: Transmission, receiver: str, rssi_dbm: float, snr_db: float) -> bool:
        if snr_db < DEMODULATION_FLOOR_DB[transmission.sf]:
            self.too_weak += 1
            return False
        for other in self._recent:
            if other is transmission or not other.on_same_channel(transmission):
                continue
            if other.iq_inverted != transmission.iq_inverted:
                continue
            overlap = other.start_us < transmission.end_us and transmission.start_us < other.end_us
            if overlap and rssi_dbm - self._power_at(other, receiver) < CAPTURE_DB:
                self.collided += 1
                return False
        if self._rng.random() < self.loss_rate:
            self.dropped += 1
            return False
        return True

    def _power_at(self, transmission: Transmission, receiver: str) -> float:
        fading_db = self._rng.gauss(0.0, self._fading_db) if self._fading_db else 0.0
        return transmission.power_dbm - self._loss_db(transmission.sender, receiver) + fading_db

    @staticmethod
    def _snr(transmission: Transmission, rssi_dbm: float) -> float:
        noise_dbm = -174.0 + 10.0 * math.log10(transmission.bw_hz) + NOISE_FIGURE_DB
        return rssi_dbm - noise_dbm


def time_on_air_us(length: int, sf: int, bw_hz: int, *, crc: bool, ldro: bool, preamble: int = 8) -> int:
    """Explicit header, coding rate 4/5 (Semtech AN1200.13). The chip and the concentrator use it, not the firmware."""
    symbol_us = (1 << sf) * 1_000_000 / bw_hz
    bits = 8 * length - 4 * sf + 28 + (16 if crc else 0)
    symbols = 8 + max(math.ceil(bits / (4 * (sf - (2 if ldro else 0)))) * 5, 0)
    return round((preamble + 4.25 + symbols) * symbol_us)
