"""The city's side of a benchmark: a subscriber of its own process that notes every reading in the ledger.

A persistent session with QoS 1: it comes back after a break and misses nothing. Any command is answered with counts.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any, cast

from brim_tools.bench.ledger import MOST, Ledger, bin_of
from brim_tools.bench.load import distance_of
from brim_tools.bench.mqtt_wire import CONNACK, SUBACK, Splitter, body_at, connect_packet, subscribe_packet
from brim_tools.bench.procs import obey

_UID = re.compile(rb'"uid":"([0-9a-f]{16}):(\d+):(\d+)"')
_SEQ = re.compile(rb'"seq":(\d+)')
_DISTANCE = re.compile(rb'"distance_mm":(\d+)')
RETRY_S = 0.02


class Counter(asyncio.Protocol):
    """Counts under ``topic``. A payload without a uid is a peer's: then the topic's end names the device."""

    def __init__(self, ledger: Ledger, topic: str) -> None:
        self._ledger = ledger
        self._topic = topic
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self.messages = self.distinct = self.altered = self.unknown = 0
        self.subscribed = asyncio.Event()
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._splitter = Splitter()
        self._transport.write(connect_packet("bench-north", clean=False))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.subscribed.clear()
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        out = bytearray()
        now = time.perf_counter()
        for first, buffer, start, end in self._splitter.feed(data):
            if first & 0xF0 == 0x30:
                at = body_at(buffer, start)
                topic_end = at + 2 + (buffer[at] << 8 | buffer[at + 1])
                if first & 6:
                    out += b"\x40\x02" + buffer[topic_end : topic_end + 2]
                self._note(buffer[topic_end - 16 : topic_end], buffer[topic_end:end], now)
            elif first == CONNACK:
                self._transport.write(subscribe_packet(self._topic))
            elif first == SUBACK:
                self.subscribed.set()
        if out:
            self._transport.write(bytes(out))

    def _note(self, topic_end: bytes, body: bytes, now: float) -> None:
        ledger = self._ledger
        if uid := _UID.search(body):
            number, seq = bin_of(uid[1]), int(uid[3])
        elif found := _SEQ.search(body):
            number, seq = bin_of(topic_end), int(found[1])
        else:
            self.unknown += 1
            return
        if number >= ledger.bins or not 0 < seq < ledger.each:
            self.unknown += 1
            return
        at = number * ledger.each + seq
        arrivals = ledger.arrivals[at]
        if not arrivals:
            ledger.came[at] = now
            self.distinct += 1
        ledger.arrivals[at] = min(arrivals + 1, MOST)
        self.messages += 1
        distance = _DISTANCE.search(body)
        if distance is None or int(distance[1]) != distance_of(seq):
            self.altered += 1

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        return {
            "distinct": self.distinct,
            "repeats": self.messages - self.distinct,
            "altered": self.altered,
            "unknown": self.unknown,
            "subscribed": self.subscribed.is_set(),
        }


async def _stay(counter: Counter, port: int) -> None:
    loop = asyncio.get_running_loop()
    while True:
        counter.gone.clear()
        try:
            await loop.create_connection(lambda: counter, "127.0.0.1", port)
        except OSError:
            await asyncio.sleep(RETRY_S)
            continue
        await counter.gone.wait()


async def _main(job: dict[str, Any]) -> None:
    counter = Counter(Ledger.of(job["ledger"]), job["topic"])
    staying = asyncio.ensure_future(_stay(counter, job["port"]))
    await counter.subscribed.wait()
    await obey({"ready": True}, counter.answer)
    staying.cancel()


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
