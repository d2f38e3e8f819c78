"""The Semtech UDP endpoint: one socket for all packet forwarders of a site.

The protocol has no authentication: bind it to a network that the concentrators have to themselves, and name their EUIs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from brim_gateway.ingest.semtech_codec import (
    DatagramError,
    PullData,
    PushData,
    TxAck,
    ack,
    parse,
    pull_resp,
)
from brim_gateway.ingest.semtech_limits import RateLimit
from brim_gateway.ingest.semtech_socket import Address, BatchReader
from brim_gateway.ratelog import RateLog

log = logging.getLogger("brim.udp")

PATH_EXPIRES_S = 90.0
MAX_PATHS = 256
MAX_PATHS_OF_HOST = 128
RECEIVE_BUFFER = 4 << 20
RATE_LIMIT = 1_000
"""Datagrams a second of one concentrator: one with 16 demodulators hears 260 frames a second at most, on SF7."""


@dataclass(slots=True)
class _Path:
    address: Address
    version: int
    seen_s: float


@dataclass(slots=True)
class SemtechUdp:
    """One UDP socket for all packet forwarders of a site.

    `on_push(push, ack)` gets every PUSH_DATA with receptions; call `ack()` once they are on disk. `on_pull(gateway)`
    and `on_tx_ack(tx_ack)` follow the protocol; `on_path_lost(gateway)`: it can be sent nothing until it asks again.
    `allowed`: EUIs that may speak, all if None (an all-zero EUI only if named). `rate_limit`: datagrams a second of one
    source, 0 for no limit. `loop.time` is the clock. `counters` are for the metrics.
    """

    on_push: Callable[[PushData, Callable[[], None]], None]
    on_pull: Callable[[str], None]
    on_tx_ack: Callable[[TxAck], None]
    allowed: Collection[str] | None = None
    counters: dict[str, int] = field(default_factory=dict)
    rate_limit: int = RATE_LIMIT
    on_path_lost: Callable[[str], None] = lambda _: None
    receive_buffer: int = 0
    _socket: socket.socket | None = None
    _reader: BatchReader | None = None
    _limit: RateLimit = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = None
    _paths: dict[str, _Path] = field(default_factory=dict)
    _rate_log: RateLog = field(default_factory=lambda: RateLog(log))
    # Nobody who does not hear our downlinks knows which token comes next.
    _next_token: int = field(default_factory=lambda: secrets.randbelow(0xFFFF) + 1)

    def __post_init__(self) -> None:
        self._limit = RateLimit(self.rate_limit)

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
        self._socket, self._reader = opened, BatchReader(opened)
        self._loop.add_reader(opened, self._drain)
        bound = opened.getsockname()
        return bound[0], bound[1]

    def stop_reading(self) -> None:
        """Take nothing more; what waits in the socket is left to the forwarders' next try."""
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)

    def close(self) -> None:
        """Stop; nothing can be acknowledged any more."""
        if self._socket is not None:
            self.stop_reading()
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
        """A few datagrams, then the loop gets its turn again."""
        assert self._reader is not None
        try:
            found = self._reader.receive()
        except OSError as error:
            # An ICMP error of something that was sent earlier; the socket itself is sound.
            self._rate_log.note("udp socket", str(error.strerror))
            return
        self._count("datagrams", len(found))
        now_s = self._now_s()
        for datagram, address in found:
            if self._socket is None:
                return
            try:
                self._take(datagram, address, now_s)
            except Exception:
                # A fault of ours: the datagrams that were read with this one are not to be lost for it.
                self._count("faults")
                log.exception("fault while taking a datagram")

    def _take(self, datagram: bytes, address: Address, now_s: float) -> None:
        gateway = datagram[4:12].hex() if len(datagram) >= 12 else ""
        if gateway and not self._is_allowed(gateway):
            self._count("not_allowed")
            self._rate_log.note("concentrator not allowed", f"{gateway} at {address[0]}")
            return
        if not self._limit.allows(address[0], gateway, now_s):
            self._count("rate_limited")
            if self._limit.first_refusal(address[0], gateway):
                self._rate_log.note("concentrator sends too much", f"{gateway} at {address[0]}; the rest is dropped")
            return
        try:
            parsed = parse(datagram)
        except DatagramError as error:
            self._count("malformed")
            self._rate_log.note("malformed datagram", f"{error}, from {address[0]}")
            return
        if isinstance(parsed, PushData):
            self._take_push(parsed, address)
        elif isinstance(parsed, PullData):
            self._take_pull(parsed, address)
        else:
            path = self._paths.get(parsed.gateway)
            if path is None or path.address[0] != address[0]:
                self._count("not_from_its_path")
                self._rate_log.note("TX_ACK from elsewhere", f"{parsed.gateway} at {address[0]}")
                return
            self._count("tx_ack")
            self.on_tx_ack(parsed)

    def _is_allowed(self, gateway: str) -> bool:
        return gateway in self.allowed if self.allowed is not None else gateway != "0" * 16

    def _take_push(self, push: PushData, address: Address) -> None:
        self._count("push_data")
        for reason in push.refused:
            self._count("rxpk_refused")
            self._rate_log.note("part of a datagram refused", f"{reason}, from {push.gateway}")
        reply = ack(push)
        if push.receptions:
            self._count("receptions", len(push.receptions))
            self.on_push(push, lambda: self._acknowledge(reply, address))
        else:
            self._acknowledge(reply, address)

    def _acknowledge(self, reply: bytes, address: Address) -> None:
        if self._send(reply, address):
            self._count("push_ack")

    def _take_pull(self, pull: PullData, address: Address) -> None:
        self._count("pull_data")
        path = self._paths.get(pull.gateway)
        if path is None and not self._make_room(address[0]):
            self._rate_log.note("too many concentrators", f"{pull.gateway} at {address[0]}")
            return
        if path is not None and path.address != address:
            self._rate_log.note("concentrator moved", f"{pull.gateway} to {address[0]}")
        self._paths[pull.gateway] = _Path(address, pull.version, self._now_s())
        self._send(ack(pull), address)
        self.on_pull(pull.gateway)

    def _make_room(self, host: str) -> bool:
        """Room for one more path to ``host``. A host that has more than its part loses its oldest: PULL_DATA can be
        invented, and must not shut the door to other hosts."""
        oldest_first = sorted(self._paths, key=lambda gateway: self._paths[gateway].seen_s)
        same = [gateway for gateway in oldest_first if self._paths[gateway].address[0] == host]
        if len(same) >= MAX_PATHS_OF_HOST:
            self._lose(same[0])
        elif len(oldest_first) >= MAX_PATHS:
            if self._now_s() - self._paths[oldest_first[0]].seen_s < PATH_EXPIRES_S:
                return False
            self._lose(oldest_first[0])
        return True

    def _lose(self, gateway: str) -> None:
        del self._paths[gateway]
        self.on_path_lost(gateway)

    def _send(self, datagram: bytes, address: Address) -> bool:
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
