"""Receive windows in the concentrator's own time, and the packet forwarder's words for a transmission."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from brim.lorawan.airtime import airtime_us
from brim.lorawan.eu868 import (
    COMMON_CHANNELS_HZ,
    JOIN_CHANNELS_HZ,
    JOIN_DELAY_S,
    RX2_DR,
    RX2_HZ,
    SF,
    rx1_dr,
)

from brim_gateway.network.dedup import Slot
from brim_gateway.network.device import Session
from brim_gateway.network.reception import Reception

# A frame handed over later than this before its time is likely refused: the forwarder's queue wants 30 ms
# (packet_forwarder, jitqueue.c) and the way there takes some.
LEAD_US = 80_000

# ERP limits of ETSI EN 300 220-2: 500 mW from 869.4 to 869.65 MHz, 25 mW elsewhere.
POWER_DBM = 14
POWER_P_DBM = 27


@dataclass(frozen=True, slots=True)
class Window:
    """One receive window of a device as one concentrator must serve it."""

    number: int
    gateway: str
    tmst_us: int
    starts_us: int
    freq_hz: int
    dr: int

    def airtime_us(self, length: int) -> int:
        """Downlinks carry no CRC."""
        return airtime_us(length, SF[self.dr], crc=False)

    def txpk(self, phy: bytes) -> dict[str, Any]:
        """The `txpk` object of PULL_RESP (PROTOCOL.TXT, section 6)."""
        return {
            "imme": False,
            "tmst": self.tmst_us,
            "freq": self.freq_hz / 1_000_000,
            "rfch": 0,
            "powe": POWER_P_DBM if 869_400_000 <= self.freq_hz < 869_650_000 else POWER_DBM,
            "modu": "LORA",
            "datr": f"SF{SF[self.dr]}BW125",
            "codr": "4/5",
            "ipol": True,
            "ncrc": True,
            "size": len(phy),
            "data": base64.b64encode(phy).decode("ascii"),
        }


def channel_hz(freq_hz: int) -> int:
    """The channel meant by a measured frequency: concentrators report some 10 Hz off."""
    nearest = min(JOIN_CHANNELS_HZ + COMMON_CHANNELS_HZ, key=lambda channel: abs(channel - freq_hz))
    return nearest if abs(nearest - freq_hz) < 10_000 else (freq_hz + 50) // 100 * 100


def windows(slot: Slot, session: Session | None, reception: Reception) -> tuple[Window, Window]:
    """RX1 and RX2 after `reception`. `session` None: a join-request was heard."""
    if session is None:
        delay_s, offset, rx2_dr, rx2_hz = JOIN_DELAY_S, 0, RX2_DR, RX2_HZ
    else:
        delay_s, offset, rx2_dr, rx2_hz = (
            session.rx1_delay_s,
            session.rx1_dr_offset,
            session.rx2_dr,
            session.rx2_freq_hz,
        )
    first_hz = channel_hz(reception.freq_hz)

    def window(number: int, freq_hz: int, dr: int) -> Window:
        delay_us = (delay_s + number - 1) * 1_000_000
        tmst_us = (reception.tmst_us + delay_us) & 0xFFFFFFFF
        return Window(number, reception.gateway, tmst_us, slot.heard_us + delay_us, freq_hz, dr)

    return window(1, first_hz, rx1_dr(slot.dr, offset)), window(2, rx2_hz, rx2_dr)
