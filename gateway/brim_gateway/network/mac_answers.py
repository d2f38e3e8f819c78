"""What the network answers to MAC commands of a device (LoRaWAN 1.0.4, chapter 5)."""

from __future__ import annotations

from collections.abc import Sequence

from brim.lorawan import mac_commands
from brim.lorawan.crypto import UP

from brim_gateway.network.adr import REQUIRED_SNR_DB
from brim_gateway.network.reception import Reception

# GPS time started 1980-01-06 and is 18 leap seconds ahead of UTC since 2017 (IERS Bulletin C).
_GPS_EPOCH_S = 315_964_800
_GPS_LEAP_S = 18


def questions(commands: bytes, clock_trusted: bool) -> bytes:
    """Identifiers of the commands in an uplink that can be answered, each once (LoRaWAN 1.0.4, sections 5.1 and 5.9).

    Where nobody here knows the time, DeviceTimeReq is not: no answer is better than a wrong one.
    """
    asked = dict.fromkeys(cid for cid, _ in mac_commands.parse(commands, UP))
    can = (mac_commands.LINK_CHECK, mac_commands.DEVICE_TIME) if clock_trusted else (mac_commands.LINK_CHECK,)
    return bytes(cid for cid in asked if cid in can)


def answers_to(asked: bytes, receptions: Sequence[Reception], heard_us: int) -> list[bytes]:
    """Answers to `questions` of an uplink that came at `heard_us` and was heard by these concentrators."""
    answers = []
    for cid in asked:
        if cid == mac_commands.LINK_CHECK:
            best = max(receptions, key=lambda reception: reception.snr_db)
            margin_db = int(best.snr_db - REQUIRED_SNR_DB[12 - best.sf])
            answers.append(bytes((cid, max(0, min(254, margin_db)), len(receptions))))
        else:
            gps_s, rest_us = divmod(heard_us, 1_000_000)
            gps_s = max(0, gps_s - _GPS_EPOCH_S + _GPS_LEAP_S)
            fraction = rest_us * 256 // 1_000_000
            answers.append(bytes((cid,)) + (gps_s & 0xFFFFFFFF).to_bytes(4, "little") + bytes((fraction,)))
    return answers
