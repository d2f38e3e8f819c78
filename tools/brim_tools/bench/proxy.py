"""An MQTT-aware line in front of the north, in a process of its own: it counts what passes and can be a bad broker.

Commands: ``{"mode": M}`` with M one of ``pass``; ``stopped`` (connections cut, new ones refused); ``never_acks``
(everything is handed on, no PUBACK comes back); ``loses_acks`` (after a while acknowledgements vanish, then the
connection is cut, again and again). ``{}`` asks for the connections since the last answer.
A repeat is a reading that this line has handed on before: what a broker would have received twice.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from typing import Any, cast

from brim_tools.bench.ledger import MOST, Ledger, bin_of
from brim_tools.bench.mqtt_wire import PUBACK, Splitter
from brim_tools.bench.procs import obey

_UID = re.compile(rb'"uid":"([0-9a-f]{16}):(\d+):(\d+)"')
_READING_TOPIC = b"/reading"
LOSES_AFTER_S, CUTS_AFTER_S = (0.05, 0.4), (0.05, 0.3)
UNSENT_MOST_BYTES = 64 * 1024


class _End(asyncio.Protocol):
    """One of the two ends; ``other`` is the one that its bytes go to."""

    def __init__(self, line: _Line) -> None:
        self.line = line
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(UNSENT_MOST_BYTES)
        self.line.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.line.cut()

    def data_received(self, data: bytes) -> None:
        self.line.pass_on(self, data)

    def pause_writing(self) -> None:
        self.line.hold(self, True)

    def resume_writing(self) -> None:
        self.line.hold(self, False)


class _Line:
    """One connection of the gateway and the one to the broker that stands for it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.near, self.far = _End(self), _End(self)
        self._up, self._down = Splitter(), Splitter()
        self._early = bytearray()
        self.handed = self.repeats = self.in_flight = self.most_in_flight = 0
        self._losing = False
        self._gone = False

    def made(self, end: _End) -> None:
        if end is self.near:
            self._proxy.lines.append(self)
            self._proxy.keep(self._reach())
        elif self._gone:
            self.cut()
        else:
            assert end.transport is not None
            end.transport.write(bytes(self._early))
            self._early.clear()

    async def _reach(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.far, "127.0.0.1", self._proxy.target)
        except OSError:
            self.cut()

    def loses(self) -> None:
        """From a moment of chance on no acknowledgement comes through; then the connection breaks."""
        loop, chance = asyncio.get_running_loop(), self._proxy.chance
        after_s = chance.uniform(*LOSES_AFTER_S)
        loop.call_later(after_s, self._lose)
        loop.call_later(after_s + chance.uniform(*CUTS_AFTER_S), self._cut_if_losing)

    def _lose(self) -> None:
        self._losing = self._proxy.mode == "loses_acks"

    def _cut_if_losing(self) -> None:
        if self._losing:
            self.cut()

    def pass_on(self, end: _End, data: bytes) -> None:
        if end is self.near:
            for first, buffer, start, stop in self._up.feed(data):
                if first & 0xF0 == 0x30 and first & 6:
                    self._note(buffer[start:stop])
            if self.far.transport is None:
                self._early += data
            else:
                self.far.transport.write(data)
            return
        silent = self._losing or self._proxy.mode == "never_acks"
        out = bytearray()
        for first, buffer, start, stop in self._down.feed(data):
            if first == PUBACK:
                if silent:
                    continue
                self.in_flight -= 1
            out += buffer[start:stop]
        if out and self.near.transport is not None:
            self.near.transport.write(bytes(out))

    def _note(self, publish: bytes) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        found = _UID.search(publish)
        if found is None or _READING_TOPIC not in publish[: found.start()]:
            return
        ledger, number, seq = self._proxy.ledger, bin_of(found[1]), int(found[3])
        if number >= ledger.bins or seq >= ledger.each:
            return
        at = number * ledger.each + seq
        self.handed += 1
        self.repeats += ledger.handed[at] > 0
        ledger.handed[at] = min(ledger.handed[at] + 1, MOST)

    def hold(self, end: _End, full: bool) -> None:
        source = (self.far if end is self.near else self.near).transport
        if source is not None and not source.is_closing():
            if full:
                source.pause_reading()
            else:
                source.resume_reading()

    def cut(self) -> None:
        self._gone = True
        for end in (self.near, self.far):
            if end.transport is not None and not end.transport.is_closing():
                end.transport.close()
        if self in self._proxy.lines:
            self._proxy.lines.remove(self)
            self._proxy.ended.append(self)


class Proxy:
    """Listens on ``port``; ``target`` is the broker's."""

    def __init__(self, port: int, target: int, ledger: Ledger, seed: int) -> None:
        self.port, self.target, self.ledger = port, target, ledger
        self.chance = random.Random(seed)
        self.mode = "pass"
        self.lines: list[_Line] = []
        self.ended: list[_Line] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accepted(self) -> _End:
        line = _Line(self)
        if self.mode == "loses_acks":
            line.loses()
        return line.near

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accepted, "127.0.0.1", self.port)

    def turn(self, mode: str) -> None:
        """A broker that was bad and gets well has been started again: its old connections are gone."""
        before, self.mode = self.mode, mode
        if mode == "stopped" and self._server is not None:
            self._server.close()
            self._server = None
        elif mode != "stopped" and self._server is None:
            self.keep(self.listen())
        if mode == "stopped" or (mode == "pass" and before != "pass"):
            for line in list(self.lines):
                line.cut()
        elif mode == "loses_acks":
            for line in self.lines:
                line.loses()

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if "mode" in command:
            self.turn(command["mode"])
        ended, self.ended = self.ended, []
        return {
            "connections": [[line.handed, line.repeats, line.most_in_flight] for line in (*ended, *self.lines)],
            "ended": len(ended),
            "open": len(self.lines),
        }


async def _main(job: dict[str, Any]) -> None:
    proxy = Proxy(job["port"], job["target"], Ledger.of(job["ledger"]), job["seed"])
    await proxy.listen()
    await obey({"ready": True}, proxy.answer)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
