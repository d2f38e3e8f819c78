"""MAC commands in words (LoRaWAN 1.0.4, chapters 5 and 14): bytes in, names and fields out. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brim.lorawan import mac_commands

Fields = dict[str, Any]

# MaxEIRP by its index (section 5.8).
_EIRP_DBM = (8, 10, 12, 13, 14, 16, 18, 20, 21, 24, 26, 27, 29, 30, 33, 36)


def _none(body: bytes) -> Fields:
    return {}


def _bits(*names: str) -> Callable[[bytes], Fields]:
    """A status byte: bit 0 is the first name."""
    return lambda body: {name: bool(body[0] >> bit & 1) for bit, name in enumerate(names)}


def _freq_hz(body: bytes) -> int:
    return int.from_bytes(body, "little") * 100


def _link_adr(body: bytes) -> Fields:
    return {
        "dr": body[0] >> 4,
        "tx_power": body[0] & 15,
        "ch_mask_int": body[1] | body[2] << 8,
        "ch_mask_cntl": body[3] >> 4 & 7,
        "nb_trans": body[3] & 15,
    }


def _rx_param_setup(body: bytes) -> Fields:
    return {"rx1_dr_offset": body[0] >> 4 & 7, "rx2_dr": body[0] & 15, "freq_hz": _freq_hz(body[1:])}


def _dev_status(body: bytes) -> Fields:
    """The margin is six bits, signed (section 5.5)."""
    margin = body[1] & 63
    return {"battery": body[0], "margin": margin - 64 if margin > 31 else margin}


def _new_channel(body: bytes) -> Fields:
    return {"ch_index": body[0], "freq_hz": _freq_hz(body[1:4]), "max_dr": body[4] >> 4, "min_dr": body[4] & 15}


def _tx_param_setup(body: bytes) -> Fields:
    index = body[0] & 15
    return {
        "max_eirp_index": index,
        "max_eirp_dbm": _EIRP_DBM[index],
        "up_dwell": bool(body[0] & 16),
        "down_dwell": bool(body[0] & 32),
    }


def _device_time(body: bytes) -> Fields:
    return {"gps_seconds": int.from_bytes(body[:4], "little"), "fraction_256": body[4]}


Row = tuple[str, Callable[[bytes], Fields]]

# cid: (of an uplink, of a downlink). Lengths stand in brim.lorawan.mac_commands.
# fmt: off
_COMMANDS: dict[int, tuple[Row, Row]] = {
    0x02: (("LinkCheckReq", _none), ("LinkCheckAns", lambda body: {"margin": body[0], "gw_cnt": body[1]})),
    0x03: (("LinkADRAns", _bits("ch_mask_ack", "dr_ack", "power_ack")), ("LinkADRReq", _link_adr)),
    0x04: (("DutyCycleAns", _none), ("DutyCycleReq", lambda body: {"max_dcycle": body[0] & 15})),
    0x05: (("RXParamSetupAns", _bits("channel_ack", "rx2_dr_ack", "rx1_dr_offset_ack")),
           ("RXParamSetupReq", _rx_param_setup)),
    0x06: (("DevStatusAns", _dev_status), ("DevStatusReq", _none)),
    0x07: (("NewChannelAns", _bits("freq_ok", "dr_ok")), ("NewChannelReq", _new_channel)),
    0x08: (("RXTimingSetupAns", _none), ("RXTimingSetupReq", lambda body: {"delay": body[0] & 15})),
    0x09: (("TXParamSetupAns", _none), ("TXParamSetupReq", _tx_param_setup)),
    0x0A: (("DlChannelAns", _bits("freq_ok", "up_freq_exists")),
           ("DlChannelReq", lambda body: {"ch_index": body[0], "freq_hz": _freq_hz(body[1:])})),
    0x0D: (("DeviceTimeReq", _none), ("DeviceTimeAns", _device_time)),
    0x10: (("PingSlotInfoReq", lambda body: {"periodicity": body[0] & 7}), ("PingSlotInfoAns", _none)),
    0x11: (("PingSlotChannelAns", _bits("freq_ok", "dr_ok")),
           ("PingSlotChannelReq", lambda body: {"freq_hz": _freq_hz(body[:3]), "dr": body[3] & 15})),
    0x12: (("BeaconTimingReq", _none),
           ("BeaconTimingAns", lambda body: {"delay": body[0] | body[1] << 8, "channel": body[2]})),
    0x13: (("BeaconFreqAns", _bits("freq_ok")), ("BeaconFreqReq", lambda body: {"freq_hz": _freq_hz(body[:3])})),
}
# fmt: on


def explain_commands(data: bytes, direction: int) -> list[Fields]:
    """[{"name", "hex", "fields"}] of FOpts or of a port 0 payload. What cannot be read on from some byte, because
    the command is not known or cut, comes last as "unknown" with the rest."""
    found: list[Fields] = []
    at = 0
    for cid, body in mac_commands.parse(data, direction):
        row = _COMMANDS.get(cid)
        if row is None:
            break
        name, fields = row[direction]
        end = at + 1 + len(body)
        found.append({"name": name, "hex": data[at:end].hex(), "fields": fields(body)})
        at = end
    if at < len(data):
        found.append({"name": "unknown", "hex": data[at:].hex(), "fields": {}})
    return found
