"""The Semtech UDP packet-forwarder protocol: datagrams to values and back. Pure.

Source: Lora-net/packet_forwarder, PROTOCOL.TXT, header versions 1 and 2.
"""

from __future__ import annotations

import binascii
import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from brim_gateway.network.reception import Reception

PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)

# A forwarder packs at most 8 receptions of some 600 bytes of JSON; a datagram cannot be larger than 64 KiB anyway.
MAX_DATAGRAM = 65_535
MAX_RXPK = 64
MAX_PHY = 255
TX_ERRORS = frozenset(
    ("NONE", "TOO_LATE", "TOO_EARLY", "COLLISION_PACKET", "COLLISION_BEACON", "TX_FREQ", "TX_POWER", "GPS_UNLOCKED")
)
_DATA_RATES = {f"SF{sf}BW{bw}": (sf, bw * 1000) for sf in range(5, 13) for bw in (125, 250, 500)}
_URL_SAFE = str.maketrans("-_", "+/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# The end of the year 9999, beyond which Python has no date.
_LATEST_US = 253_402_300_800 * 1_000_000
_decode_json = msgspec.json.Decoder().decode


class DatagramError(ValueError):
    """No datagram that a gateway gets; the text is fit for a log line."""


class PushData(NamedTuple):
    """Receptions and a status from a concentrator. `refused`: one reason for each part that was left out."""

    token: bytes
    version: int
    gateway: str
    receptions: tuple[Reception, ...] = ()
    stat: dict[str, Any] | None = None
    refused: tuple[str, ...] = ()


class PullData(NamedTuple):
    """A concentrator asks for downlinks; the answer's address is where they go."""

    token: bytes
    version: int
    gateway: str


class TxAck(NamedTuple):
    """What became of the downlink with this token. `error` None: it was taken."""

    token: bytes
    version: int
    gateway: str
    error: str | None


def ack(datagram: PushData | PullData) -> bytes:
    """The PUSH_ACK or PULL_ACK that is due."""
    kind = PUSH_ACK if isinstance(datagram, PushData) else PULL_ACK
    return bytes((datagram.version,)) + datagram.token + bytes((kind,))


def pull_resp(token: bytes, txpk: dict[str, Any], version: int = 2) -> bytes:
    """A downlink for the forwarder."""
    body = json.dumps({"txpk": txpk}, separators=(",", ":")).encode("ascii")
    return bytes((version,)) + token + bytes((PULL_RESP,)) + body


def parse(datagram: bytes) -> PushData | PullData | TxAck:
    """Any bytes; raises DatagramError where nothing is to be answered.

    A PUSH_DATA whose JSON is bad still counts as one, without receptions, so that the forwarder gets its answer.
    """
    if len(datagram) < 12 or len(datagram) > MAX_DATAGRAM:
        raise DatagramError("length")
    version, token, kind = datagram[0], datagram[1:3], datagram[3]
    if version not in (1, 2):
        raise DatagramError("version")
    gateway = datagram[4:12].hex()
    if kind == PUSH_DATA:
        return _parse_push(token, version, gateway, datagram[12:])
    if kind == PULL_DATA:
        return PullData(token, version, gateway)
    if kind == TX_ACK:
        return TxAck(token, version, gateway, _tx_error(datagram[12:]))
    raise DatagramError("kind")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        # RecursionError: a thousand brackets in a datagram; ValueError: keys that are not UTF-8.
        root = _decode_json(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise DatagramError("json") from None
    if not isinstance(root, dict):
        raise DatagramError("json is no object")
    return root


def _tx_error(body: bytes) -> str | None:
    body = body.strip(b" \r\n\t\0")
    if not body:
        return None
    verdict = _json_object(body).get("txpk_ack")
    error = verdict.get("error", "NONE") if isinstance(verdict, dict) else None
    if error not in TX_ERRORS:
        raise DatagramError("txpk_ack")
    return None if error == "NONE" else str(error)


def _parse_push(token: bytes, version: int, gateway: str, body: bytes) -> PushData:
    if not body:
        return PushData(token, version, gateway)
    try:
        root = _json_object(body)
    except DatagramError as error:
        return PushData(token, version, gateway, refused=(str(error),))
    receptions: list[Reception] = []
    refused: list[str] = []
    packets, stat = root.get("rxpk"), root.get("stat")
    if packets is not None and not isinstance(packets, list):
        refused.append("rxpk is no list")
        packets = None
    for packet in (packets or ())[:MAX_RXPK]:
        try:
            receptions.append(_reception(packet, gateway))
        except DatagramError as error:
            refused.append(str(error))
    if packets is not None and len(packets) > MAX_RXPK:
        refused.append("too many rxpk")
    if stat is not None and not isinstance(stat, dict):
        refused.append("stat is no object")
        stat = None
    return PushData(token, version, gateway, tuple(receptions), stat, tuple(refused))


def _number(value: Any, name: str, low: float, high: float) -> float:
    # type() and not isinstance: a boolean is no number.
    if type(value) not in (float, int) or not low <= value <= high:
        raise DatagramError(name)
    return float(value)


def _reception(packet: Any, gateway: str) -> Reception:
    if not isinstance(packet, dict):
        raise DatagramError("rxpk entry is no object")
    get = packet.get
    if get("modu") != "LORA":
        raise DatagramError("modulation")
    if get("stat", 1) != 1:
        raise DatagramError("crc")
    rate = _DATA_RATES.get(datr) if isinstance(datr := get("datr"), str) else None
    if rate is None:
        raise DatagramError("datr")
    tmst_us = get("tmst")
    if type(tmst_us) is not int or not 0 <= tmst_us <= 0xFFFFFFFF:
        raise DatagramError("tmst")
    phy = decode_base64(get("data"))
    if not 0 < len(phy) <= MAX_PHY or get("size", len(phy)) != len(phy):
        raise DatagramError("size")
    return Reception(
        phy,
        round(_number(get("freq"), "freq", 100.0, 1000.0) * 1_000_000),
        *rate,
        _number(get("rssi", -200.0), "rssi", -200.0, 50.0),
        _number(get("lsnr", -50.0), "lsnr", -50.0, 50.0),
        tmst_us,
        gateway,
        _time_us(get("time")),
    )


def decode_base64(text: Any) -> bytes:
    """Both alphabets, padded or not, as PROTOCOL.TXT's own examples mix them; raises DatagramError."""
    if not isinstance(text, str) or len(text) > 2 * MAX_PHY:
        raise DatagramError("data")
    try:
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            text = text.rstrip("=").translate(_URL_SAFE)
            return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        raise DatagramError("data") from None


def _time_us(text: Any) -> int | None:
    """UTC microseconds; None where the concentrator gives no time or one that cannot be read."""
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since_us = (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None
    return since_us if 0 <= since_us < _LATEST_US else None
