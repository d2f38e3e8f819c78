"""The Semtech UDP packet-forwarder protocol: a pure codec, and the endpoint on a socket.

Source: Lora-net/packet_forwarder, PROTOCOL.TXT, header versions 1 and 2. The protocol has no authentication: bind it to
a network that the concentrators have to themselves, and name their EUIs.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import json
import logging
import math
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from brim_gateway.network.reception import Reception

log = logging.getLogger(__name__)

PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)

# A forwarder packs at most 8 receptions of some 600 bytes of JSON; a datagram cannot be larger than 64 KiB anyway.
MAX_DATAGRAM = 65_535
MAX_RXPK = 64
MAX_PHY = 255
PATH_EXPIRES_S = 90.0
MAX_PATHS = 256
# Datagrams taken from the socket before the loop gets its turn again.
DRAIN = 64
RECEIVE_BUFFER = 4 << 20

TX_ERRORS = frozenset(
    ("NONE", "TOO_LATE", "TOO_EARLY", "COLLISION_PACKET", "COLLISION_BEACON", "TX_FREQ", "TX_POWER", "GPS_UNLOCKED")
)
_DATR = re.compile(r"SF([5-9]|1[0-2])BW(125|250|500)\Z")
_URL_SAFE = str.maketrans("-_", "+/")


class DatagramError(ValueError):
    """No datagram that a gateway gets; the text is fit for a log line."""


@dataclass(frozen=True, slots=True)
class PushData:
    """Receptions and a status from a concentrator. `refused`: one reason for each part that was left out."""

    token: bytes
    version: int
    gateway: str
    receptions: tuple[Reception, ...] = ()
    stat: dict[str, Any] | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PullData:
    """A concentrator asks for downlinks; the answer's address is where they go."""

    token: bytes
    version: int
    gateway: str


@dataclass(frozen=True, slots=True)
class TxAck:
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
        # RecursionError: a thousand brackets in a datagram; ValueError: also numbers of thousands of digits.
        root = json.loads(body)
    except (ValueError, RecursionError):
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


def _number(packet: dict[str, Any], name: str, low: float, high: float, default: float | None = None) -> float:
    value = packet.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DatagramError(name)
    return float(value)


def _reception(packet: Any, gateway: str) -> Reception:
    if not isinstance(packet, dict):
        raise DatagramError("rxpk entry is no object")
    if packet.get("modu") != "LORA":
        raise DatagramError("modulation")
    if packet.get("stat", 1) != 1:
        raise DatagramError("crc")
    datr = packet.get("datr")
    match = _DATR.match(datr) if isinstance(datr, str) else None
    if match is None:
        raise DatagramError("datr")
    tmst_us = packet.get("tmst")
    if isinstance(tmst_us, bool) or not isinstance(tmst_us, int) or not 0 <= tmst_us <= 0xFFFFFFFF:
        raise DatagramError("tmst")
    phy = decode_base64(packet.get("data"))
    size = packet.get("size", len(phy))
    if not 0 < len(phy) <= MAX_PHY or size != len(phy):
        raise DatagramError("size")
    return Reception(
        phy,
        round(_number(packet, "freq", 100.0, 1000.0) * 1_000_000),
        int(match[1]),
        int(match[2]) * 1000,
        _number(packet, "rssi", -200.0, 50.0, -200.0),
        _number(packet, "lsnr", -50.0, 50.0, -50.0),
        tmst_us,
        gateway,
        _time_us(packet.get("time")),
    )


def decode_base64(text: Any) -> bytes:
    """Both alphabets, padded or not, as PROTOCOL.TXT's own examples mix them; raises DatagramError."""
    if not isinstance(text, str) or len(text) > 2 * MAX_PHY:
        raise DatagramError("data")
    try:
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
        # OverflowError: the last hours of the year 9999, east or west of us.
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    whole_s = int(moment.replace(microsecond=0).timestamp())
    return whole_s * 1_000_000 + moment.microsecond if whole_s >= 0 else None


@dataclass(slots=True)
class _Path:
    address: tuple[Any, ...]
    version: int
    seen_s: float


@dataclass(slots=True)
class _Said:
    """A log line of one kind at most once a minute; what was left out is counted."""

    at_s: float = -math.inf
    left_out: int = 0


@dataclass(slots=True)
class SemtechUdp:
    """One UDP socket for all packet forwarders of a site.

    `on_push(push, ack)` gets every PUSH_DATA with receptions; call `ack()` once they are on disk. `on_pull(gateway)`
    and `on_tx_ack(tx_ack)` follow the protocol. `allowed`: EUIs that may speak, all if None (an all-zero EUI only if
    named). `loop.time` is the clock. `counters` are for the metrics.
    """

    on_push: Callable[[PushData, Callable[[], None]], None]
    on_pull: Callable[[str], None]
    on_tx_ack: Callable[[TxAck], None]
    allowed: Collection[str] | None = None
    counters: dict[str, int] = field(default_factory=dict)
    receive_buffer: int = 0
    _socket: socket.socket | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _paths: dict[str, _Path] = field(default_factory=dict)
    _said: dict[str, _Said] = field(default_factory=dict)
    _next_token: int = 1

    def open(self, host: str, port: int) -> tuple[str, int]:
        """Bind within the running loop; the address bound to. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        opened = socket.socket(family, kind, proto)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            self.receive_buffer = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            opened.bind(address)
        except OSError:
            opened.close()
            raise
        if self.receive_buffer < RECEIVE_BUFFER:
            # The kernel doubles what it grants, so less than asked means that the limit is far below.
            log.warning("udp receive buffer is only %d bytes: raise net.core.rmem_max", self.receive_buffer)
        self._socket = opened
        self._loop.add_reader(opened, self._drain)
        bound = opened.getsockname()
        return bound[0], bound[1]

    def close(self) -> None:
        """Stop; what waits in the socket is left to the forwarders' next try."""
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def paths(self) -> dict[str, float]:
        """Concentrators that can be sent downlinks, with the age of their last PULL_DATA in seconds."""
        now_s = self._now_s()
        return {
            gateway: now_s - path.seen_s
            for gateway, path in self._paths.items()
            if now_s - path.seen_s < PATH_EXPIRES_S
        }

    def send(self, gateway: str, txpk: dict[str, Any]) -> bytes | None:
        """Send a downlink; the token that its TX_ACK will carry, or None where no path leads to this concentrator."""
        path = self._paths.get(gateway)
        if path is None or self._now_s() - path.seen_s >= PATH_EXPIRES_S:
            self._count("no_path")
            return None
        token = self._next_token.to_bytes(2, "big")
        self._next_token = self._next_token % 0xFFFF + 1
        if not self._send(pull_resp(token, txpk, path.version), path.address):
            return None
        self._count("pull_resp")
        return token

    def _now_s(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _drain(self) -> None:
        opened = self._socket
        for _ in range(DRAIN):
            if opened is None or opened is not self._socket:
                return
            try:
                datagram, address = opened.recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # An ICMP error of something that was sent earlier; the socket itself is sound.
                self._complain("socket", f"udp: {error.strerror}")
                return
            self._take(datagram, address)

    def _take(self, datagram: bytes, address: tuple[Any, ...]) -> None:
        self._count("datagrams")
        try:
            parsed = parse(datagram)
        except DatagramError as error:
            self._count("malformed")
            self._complain("malformed", f"udp: malformed datagram ({error}) from {address[0]}")
            return
        if parsed.gateway not in self.allowed if self.allowed is not None else parsed.gateway == "0" * 16:
            self._count("not_allowed")
            self._complain("not_allowed", f"udp: concentrator {parsed.gateway} at {address[0]} is not allowed")
            return
        if isinstance(parsed, PushData):
            self._take_push(parsed, address)
        elif isinstance(parsed, PullData):
            self._take_pull(parsed, address)
        else:
            self._count("tx_ack")
            self.on_tx_ack(parsed)

    def _take_push(self, push: PushData, address: tuple[Any, ...]) -> None:
        self._count("push_data")
        for reason in push.refused:
            self._count("rxpk_refused")
            self._complain("rxpk", f"udp: part of a datagram of {push.gateway} refused ({reason})")
        reply = ack(push)
        if push.receptions:
            self._count("receptions", len(push.receptions))
            self.on_push(push, lambda: self._acknowledge(reply, address))
        else:
            self._acknowledge(reply, address)

    def _acknowledge(self, reply: bytes, address: tuple[Any, ...]) -> None:
        if self._send(reply, address):
            self._count("push_ack")

    def _take_pull(self, pull: PullData, address: tuple[Any, ...]) -> None:
        self._count("pull_data")
        path = self._paths.get(pull.gateway)
        if path is None and len(self._paths) >= MAX_PATHS:
            oldest = min(self._paths, key=lambda gateway: self._paths[gateway].seen_s)
            if self._now_s() - self._paths[oldest].seen_s < PATH_EXPIRES_S:
                self._complain("paths", "udp: too many concentrators")
                return
            del self._paths[oldest]
        if path is not None and path.address != address:
            self._complain("moved", f"udp: concentrator {pull.gateway} moved to {address[0]}")
        self._paths[pull.gateway] = _Path(address, pull.version, self._now_s())
        self._send(ack(pull), address)
        self.on_pull(pull.gateway)

    def _send(self, datagram: bytes, address: tuple[Any, ...]) -> bool:
        if self._socket is None:
            return False
        with contextlib.suppress(OSError):
            self._socket.sendto(datagram, address)
            return True
        # A full buffer or a host that is gone: the forwarder asks again.
        self._count("send_failed")
        return False

    def _count(self, name: str, by: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + by

    def _complain(self, kind: str, text: str) -> None:
        said = self._said.setdefault(kind, _Said())
        now_s = self._now_s()
        if now_s - said.at_s < 60:
            said.left_out += 1
            return
        more = f" ({said.left_out} more like it)" if said.left_out else ""
        log.warning("%s%s", text, more)
        said.at_s, said.left_out = now_s, 0
