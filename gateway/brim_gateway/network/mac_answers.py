"""What the network answers to MAC commands of a device (LoRaWAN 1.0.4, chapter 5)."""

from __future__ import annotations

from brim.lorawan import mac_commands
from brim.lorawan.crypto import UP

from brim_gateway.network.reception import Reception

# GPS time started 1980-01-06 and is 18 leap seconds ahead of UTC since 2017 (IERS Bulletin C).
_GPS_EPOCH_S = 315_964_800
_GPS_LEAP_S = 18


def answers_to(commands: bytes, reception: Reception, heard_us: int | None) -> bytes:
    """Answers to what a device may ask: LinkCheckReq and DeviceTimeReq (LoRaWAN 1.0.4, sections 5.1 and 5.9).

    ``heard_us`` None: nobody here knows the time, and no answer is better than a wrong one.
    """
    answers = b""
    for cid, _ in mac_commands.parse(commands, UP):
        if cid == mac_commands.LINK_CHECK:
            # SNR above the demodulation floor, -20 dB at SF12 and 2.5 dB more for each faster rate.
            floor_db = -20 + 2.5 * (12 - reception.sf)
            answers += bytes((cid, max(0, min(254, int(reception.snr_db - floor_db))), 1))
        elif cid == mac_commands.DEVICE_TIME and heard_us is not None:
            gps_s, rest_us = divmod(heard_us, 1_000_000)
            gps_s = max(0, gps_s - _GPS_EPOCH_S + _GPS_LEAP_S)
            answers += bytes((cid,)) + (gps_s & 0xFFFFFFFF).to_bytes(4, "little") + bytes((rest_us * 256 // 1_000_000,))
    return answers[:15] if len(answers) <= 15 else b""
