"""The concentrators of `bench uplinks`: one process, real UDP sockets, every uplink signed before the clock starts.

Commands, each answered when it is done: ``{"closed": N, "window": W}`` (N uplinks as fast as they are acknowledged,
W of them unacknowledged at most), ``{"rate": R, "seconds": S, "confirmed": E}`` (R uplinks a second whatever becomes
of them, each E-th confirmed, which asks for a downlink). Nothing is ever sent twice: what is not acknowledged within
QUIET_S counts as dropped.
"""

from __future__ import annotations

import base64
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

from brim.lorawan.frames import CONFIRMED_UP, DATA_UP
from brim.wire.ports import PORT_REPORT
from brim.wire.report import Reading, encode_report
from brim_gateway.network.device import Session
from brim_gateway.network.session import UP, SessionCrypto

CONCENTRATORS = 64
FREQUENCIES = (868.1, 868.3, 868.5, 867.1, 867.3, 867.5, 867.7, 867.9)
QUIET_S = 5.0
"""No answer for so long: what is missing was dropped."""
WINDOW_S = 0.2
"""The gateway waits so long for copies before it decides on an answer."""


def eui_of(number: int) -> bytes:
    """A concentrator's name."""
    return bytes.fromhex("b827eb") + number.to_bytes(5, "big")


def bins_of(count: int, seed: int) -> list[Session]:
    """The sessions of the bins; the bin of number n has the EUI ``dev_of(n)`` of bench.ledger."""
    source = random.Random(seed)
    return [
        Session(0, (0x26000000 + number).to_bytes(4, "big").hex(), source.randbytes(16), source.randbytes(16))
        for number in range(count)
    ]


class Signer:
    """Uplinks of all bins in turn, each a report of one reading, with rising counters."""

    def __init__(self, sessions: list[Session]) -> None:
        self._bins = [(SessionCrypto(one), bytes.fromhex(one.dev_addr)[::-1]) for one in sessions]
        self._turn = 0

    def frame(self, confirmed: bool = False) -> bytes:
        """The next uplink."""
        round_, number = divmod(self._turn, len(self._bins))
        self._turn += 1
        crypto, addr = self._bins[number]
        reading = Reading(1, round_ + 1, "ok", 300 + (number + round_) % 600, 2, 9, battery_mv=3_600, events=0)
        head = struct.pack("<B4sBHB", (CONFIRMED_UP if confirmed else DATA_UP) << 5, addr, 0, round_, PORT_REPORT)
        phy = head + crypto.crypt(UP, round_, PORT_REPORT, encode_report([reading], 0))
        return phy + crypto.mic(UP, round_, phy)


class Forwarders:
    """All concentrators."""

    def __init__(self, port: int, signer: Signer, per_datagram: int) -> None:
        self._signer, self._per = signer, per_datagram
        self._sockets = []
        for _ in range(CONCENTRATORS):
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            opened.connect(("127.0.0.1", port))
            opened.setblocking(False)
            self._sockets.append(opened)
        self._poll = select.poll()
        for one in self._sockets:
            self._poll.register(one, select.POLLIN)
        self._by_fd = {one.fileno(): at for at, one in enumerate(self._sockets)}
        self._token = 0
        # (concentrator, token) -> (uplinks, when sent)
        self._waiting: dict[tuple[int, bytes], tuple[int, float]] = {}
        self._acked = 0
        self._waits: list[float] = []
        # (concentrator, tmst of RX1) -> when the uplink that asks for it was sent
        self._asked: dict[tuple[int, int], float] = {}
        self._answers: list[float] = []

    def pull(self) -> None:
        """Open every downlink path, and wait for the answers."""
        for at, one in enumerate(self._sockets):
            one.send(b"\x02\x00\x00\x02" + eui_of(at))
        waiting = len(self._sockets)
        while waiting:
            found = self._poll.poll(1_000 * QUIET_S)
            if not found:
                raise RuntimeError("the gateway does not answer PULL_DATA")
            for fd, _ in found:
                waiting -= self._sockets[self._by_fd[fd]].recv(64)[3] == 4

    def datagrams(self, uplinks: int, confirmed_each: int = 0) -> Iterator[tuple[int, bytes, int, list[int]]]:
        """(concentrator, datagram, uplinks in it, the tmst of the confirmed ones), all signed now."""
        made = turn = 0
        while made < uplinks:
            count, asking = min(self._per, uplinks - made), []
            rxpk = []
            for _ in range(count):
                made += 1
                tmst = made * 100 & 0xFFFFFFFF
                confirmed = bool(confirmed_each) and made % confirmed_each == 0
                if confirmed:
                    asking.append(tmst)
                rxpk.append(self._rxpk(self._signer.frame(confirmed), tmst, made))
            turn = (turn + 1) % CONCENTRATORS
            self._token = (self._token + 1) & 0xFFFF
            head = b"\x02" + self._token.to_bytes(2, "big") + b"\x00" + eui_of(turn)
            yield turn, head + json.dumps({"rxpk": rxpk}, separators=(",", ":")).encode(), count, asking

    @staticmethod
    def _rxpk(phy: bytes, tmst: int, number: int) -> dict[str, Any]:
        """As Semtech's forwarder writes it."""
        return {
            "tmst": tmst, "time": "2026-11-24T10:00:00.000000Z", "chan": number % 8, "rfch": 0,
            "freq": FREQUENCIES[number % 8], "stat": 1, "modu": "LORA", "datr": "SF7BW125", "codr": "4/5",
            "lsnr": 7.5, "rssi": -80, "size": len(phy), "data": base64.b64encode(phy).decode(),
        }  # fmt: skip

    def _send(self, one: tuple[int, bytes, int, list[int]]) -> None:
        at, datagram, count, asking = one
        now = time.perf_counter()
        for tmst in asking:
            self._asked[at, tmst] = now
        self._waiting[at, datagram[1:3]] = count, now
        self._sockets[at].send(datagram)

    def _receive(self, timeout_ms: float) -> bool:
        found = self._poll.poll(timeout_ms)
        for fd, _ in found:
            at = self._by_fd[fd]
            try:
                while True:
                    self._took(at, self._sockets[at].recv(4_096))
            except BlockingIOError:
                continue
        return bool(found)

    def _took(self, at: int, datagram: bytes) -> None:
        now = time.perf_counter()
        if datagram[3] == 1:
            count, sent = self._waiting.pop((at, datagram[1:3]))
            self._acked += count
            self._waits.append(now - sent)
        elif datagram[3] == 3:
            tmst = json.loads(datagram[4:])["txpk"]["tmst"]
            # RX1 is a second after the uplink, RX2 two.
            for delay_us in (1_000_000, 2_000_000):
                sent_at = self._asked.pop((at, (tmst - delay_us) & 0xFFFFFFFF), None)
                if sent_at is not None:
                    self._answers.append(now - sent_at - WINDOW_S)
            self._sockets[at].send(b"\x02" + datagram[1:3] + b"\x05" + eui_of(at))

    def _settle(self) -> None:
        while self._waiting and self._receive(1_000 * QUIET_S):
            pass

    def closed(self, uplinks: int, window: int) -> dict[str, Any]:
        """As fast as they are acknowledged."""
        ready = list(self.datagrams(uplinks))
        self.pull()
        self._acked, self._waits, outstanding = 0, [], 0
        began = time.perf_counter()
        for one in ready:
            while self._acked + window < outstanding + one[2] and self._receive(1_000 * QUIET_S):
                pass
            outstanding += one[2]
            self._send(one)
            self._receive(0)
        self._settle()
        return self._result(uplinks, time.perf_counter() - began)

    def paced(self, rate: int, seconds: float, confirmed_each: int) -> dict[str, Any]:
        """At a steady rate, asking for downlinks now and then."""
        uplinks = int(rate * seconds)
        ready = list(self.datagrams(uplinks, confirmed_each))
        self.pull()
        self._acked, self._waits = 0, []
        began = time.perf_counter()
        for number, one in enumerate(ready):
            due = began + number * self._per / rate
            while (left := due - time.perf_counter()) > 0:
                self._receive(1_000 * left)
            self._send(one)
        self._settle()
        took = time.perf_counter() - began
        asked = len(self._asked) + len(self._answers)
        deadline = time.perf_counter() + 1.0
        while self._asked and (left := deadline - time.perf_counter()) > 0:
            self._receive(1_000 * left)
        return self._result(uplinks, took) | {
            "asked": asked,
            "answered": len(self._answers),
            "answer_ms": _percentiles(self._answers),
        }

    def _result(self, uplinks: int, took_s: float) -> dict[str, Any]:
        return {
            "uplinks": uplinks,
            "acknowledged": self._acked,
            "seconds": round(took_s, 3),
            "per_second": round(self._acked / took_s),
            "ack_ms": _percentiles(self._waits),
        }


def _percentiles(values_s: list[float]) -> dict[str, float]:
    if not values_s:
        return {}
    ordered = sorted(values_s)
    return {
        "p50": round(ordered[len(ordered) // 2] * 1e3, 1),
        "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e3, 1),
        "most": round(ordered[-1] * 1e3, 1),
    }


def _main(job: dict[str, Any]) -> None:
    forwarders = Forwarders(job["port"], Signer(bins_of(job["bins"], job["seed"])), job["per_datagram"])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "closed" in command:
            answer = forwarders.closed(command["closed"], command["window"])
        else:
            answer = forwarders.paced(command["rate"], command["seconds"], command["confirmed"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
