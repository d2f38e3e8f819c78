"""The bins of a benchmark: one process, many MQTT 3.1.1 connections, every reading kept until its PUBACK.

What a connection lost unacknowledged is published again on the next one, oldest first, as a bin's outbox does.
Commands: ``{"to": N}`` (closed loop: every bin goes on to reading N as fast as its window allows), ``{"rate": R}``
(all bins together make R readings a second, whatever becomes of them), ``{}``. Each is answered with what stands.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import deque
from typing import Any, cast

from brim_tools.bench.ledger import Ledger
from brim_tools.bench.mqtt_wire import (
    CONNACK,
    PUBACK,
    Splitter,
    body_at,
    connect_packet,
    publish_packet,
    text,
)
from brim_tools.bench.procs import obey

_READING = b'{"epoch":1,"seq":%d,"status":"ok","distance_mm":%d,"spread_mm":4,"echoes":12,"battery_mv":3600}'
RETRY_S = 0.05
CONNECT_WITHIN_S = 5.0
TICK_S = 0.002
BACKLOG_MOST = 4_000
"""Readings a bin makes ahead of its acknowledgements in ``rate``: then it measures no more until some have left."""


def distance_of(seq: int) -> int:
    """What the bins measure: the north checks it against the sequence number."""
    return 200 + seq % 700


class _Bin(asyncio.Protocol):
    def __init__(self, number: int, login: list[str], topic: str, window: int, ledger: Ledger) -> None:
        self._base = number * ledger.each
        self._ledger = ledger
        self._hello = connect_packet(login[0], login[0], login[1])
        self._topic = text(topic.replace("{dev}", login[0]))
        self._window = window
        self.made = 0  # the last reading that may be published
        self.acknowledged = 0
        self._taken = 0  # the last reading that was ever published
        self._again: deque[int] = deque()
        self._out: dict[int, int] = {}
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter()
        self.welcome = False
        self.fault = ""
        self.gone = asyncio.Event()

    @property
    def unacknowledged(self) -> int:
        return self.made - self.acknowledged

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._splitter = Splitter()
        self._transport.write(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self.welcome = None, False
        self._again.extendleft(reversed(self._out.values()))
        self._out.clear()
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        acked, at, now = self._ledger.acked, self._base, time.perf_counter()
        for first, buffer, start, end in self._splitter.feed(data):
            if first == PUBACK:
                seq = self._out.pop(buffer[end - 2] << 8 | buffer[end - 1], 0)
                if seq:
                    acked[at + seq] = now
                    self.acknowledged += 1
            elif first == CONNACK:
                code = buffer[body_at(buffer, start) + 1]
                self.fault = f"CONNACK {code}" if code else ""
                self.welcome = not code
        self.send()

    def send(self) -> None:
        """Publish until the window is full or nothing is left."""
        if not self.welcome or self._transport is None:
            return
        out, waiting, sent = bytearray(), self._out, self._ledger.sent
        now = time.perf_counter()
        while len(waiting) < self._window:
            if self._again:
                seq = self._again.popleft()
            elif self._taken < self.made:
                self._taken += 1
                seq = self._taken
                if not sent[self._base + seq]:
                    sent[self._base + seq] = now
            else:
                break
            self._next_id = self._next_id % 0xFFFF + 1
            waiting[self._next_id] = seq
            out += publish_packet(self._topic, self._next_id, _READING % (seq, distance_of(seq)))
        if out:
            self._transport.write(bytes(out))

    def make(self, now: float) -> None:
        """One more reading, made now: its time counts from here, not from when the window lets it go."""
        if self.made - self.acknowledged < BACKLOG_MOST and self.made + 1 < self._ledger.each:
            self.made += 1
            self._ledger.sent[self._base + self.made] = now
            self.send()


class _Load:
    def __init__(self, job: dict[str, Any]) -> None:
        ledger = Ledger.of(job["ledger"])
        self._port = int(job["port"])
        self._tls: ssl.SSLContext | None = None
        if job.get("ca"):
            self._tls = ssl.create_default_context(cafile=job["ca"])
        self._bins = [_Bin(i, login, job["topic"], job["window"], ledger) for i, login in enumerate(job["logins"])]
        self._tasks = [asyncio.ensure_future(self._connect(one)) for one in self._bins]
        self._rate, self._since, self._made, self._turn = 0.0, 0.0, 0, 0
        self._tasks.append(asyncio.ensure_future(self._tick()))

    async def _connect(self, one: _Bin) -> None:
        loop = asyncio.get_running_loop()
        name = "localhost" if self._tls else None
        while True:
            one.gone.clear()
            try:
                async with asyncio.timeout(CONNECT_WITHIN_S):
                    await loop.create_connection(
                        lambda: one, "127.0.0.1", self._port, ssl=self._tls, server_hostname=name
                    )
            except (OSError, TimeoutError):
                await asyncio.sleep(RETRY_S)
                continue
            await one.gone.wait()
            await asyncio.sleep(RETRY_S)

    async def _tick(self) -> None:
        """Make what is due; a late tick makes up for what it missed."""
        while True:
            await asyncio.sleep(TICK_S)
            if not self._rate:
                continue
            now = time.perf_counter()
            due = int((now - self._since) * self._rate) - self._made
            for _ in range(due):
                self._bins[self._turn].make(now)
                self._turn = (self._turn + 1) % len(self._bins)
            self._made += due

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if "to" in command:
            for one in self._bins:
                one.made = max(one.made, command["to"])
                one.send()
        if "rate" in command:
            self._rate, self._since, self._made = command["rate"], time.perf_counter(), 0
        return {
            "made": [one.made for one in self._bins],
            "acknowledged": sum(one.acknowledged for one in self._bins),
            "unacknowledged": sum(one.unacknowledged for one in self._bins),
            "connected": sum(one.welcome for one in self._bins),
            "fault": next((one.fault for one in self._bins if one.fault), ""),
        }


async def _main(job: dict[str, Any]) -> None:
    load = _Load(job)
    await obey({"ready": True}, load.answer)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
