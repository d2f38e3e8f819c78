"""What is written down: requests on the control socket, the configuration, payloads of devices."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from brim.wire.report import EVENTS, NUMBER_STATUSES, Reading, encode_report
from brim_gateway.config import parse
from brim_gateway.control import ControlServer
from brim_gateway.decoders.table import DECODERS
from brim_gateway.errors import ConfigInvalid, DecodeError, RegistryError

from tests.faults.fuzz_common import GOOD, SERVED_WITHIN_S
from tests.faults.fuzz_inputs import Mutator


class Control:
    """Lines on the daemon's own socket."""

    name, live = "control", True

    def __init__(self, source: random.Random) -> None:
        lines = [
            b'{"verb":"status","args":{}}', b'{"verb":"bins.add","args":{"rows":[["a",{"bin":"B-1"}]]}}',
            b'{"verb":"bins.show","args":{"bin":"B-1"}}', b'{"verb":"bins.unknown"}', b'[1,2]', b'"x"', b'null',
        ]  # fmt: skip
        self._mutator = Mutator(source, lines, (b'"verb":', b'"args":', b"\\ud800", b"\r"), most=2_000)
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="brim-fuzz-")
        self._path = Path(self._folder.name) / "c"
        self._server = ControlServer(self._path, self._handle)
        self._loop.run_until_complete(self._server.start())
        self._streams = self._loop.run_until_complete(asyncio.open_unix_connection(str(self._path)))

    async def _handle(self, verb: str, args: dict[str, Any]) -> Any:
        if verb != "status":
            raise RegistryError([f"unknown verb {verb[:40]!r}"])
        return {}

    async def _hang_up(self) -> None:
        reader, writer = self._streams
        writer.write_eof()
        await asyncio.wait_for(reader.read(), SERVED_WITHIN_S)
        writer.close()
        await self._server.stop()

    def make(self) -> bytes:
        return self._mutator.one().replace(b"\n", b" ") + b"\n"

    def feed(self, data: bytes) -> bool:
        return self._loop.run_until_complete(self._feed(data))

    async def _feed(self, data: bytes) -> bool:
        reader, writer = self._streams
        writer.write(data)
        answer = json.loads(await asyncio.wait_for(reader.readline(), SERVED_WITHIN_S))
        assert ("ok" in answer) != ("problems" in answer)
        assert "fault of the gateway" not in str(answer)
        return "ok" in answer

    def close(self) -> None:
        self._loop.run_until_complete(self._hang_up())
        self._loop.close()
        self._folder.cleanup()


_CONFIG = """site = "cab-1"
data_dir = "data"
linger_ms = 20
log_format = "json"
[udp]
listen = "127.0.0.1:1700"
allow_gateways = ["aa555a0000000101"]
[mqtt_listener]
listen = "[::1]:8883"
plain = true
max_connections = 64
[http]
listen = "127.0.0.1:8080"
[[output]]
name = "city"
url = "mqtts://broker.example.org:8883"
user = "u"
window = 100
protocol = "auto"
from = "now"
[[output]]
name = "second"
url = "mqtt://127.0.0.1"
"""


class ConfigText:
    """The configuration file's text."""

    name, live = "config", False

    def __init__(self, source: random.Random) -> None:
        lines = _CONFIG.splitlines(keepends=True)
        seeds = [
            _CONFIG.encode(),
            "".join(lines[:6]).encode(),
            "".join(lines[13:]).encode(),
            "".join(lines[:2]).encode(),
        ]
        self._mutator = Mutator(
            source, seeds, [line.encode() for line in lines] + [b"= ", b'"""', b"[[", b"1979-05-27"]
        )
        self._path = Path("/nonexistent/brim.toml")

    def make(self) -> bytes:
        return self._mutator.one()

    def feed(self, data: bytes) -> bool:
        try:
            parse(data.decode("utf-8", "replace"), self._path)
        except ConfigInvalid as exc:
            assert exc.problems and all(isinstance(text, str) and text for text in exc.problems)
            return False
        return True

    def close(self) -> None:
        pass


REPORT = Reading(3, 7, "ok", 812, 4, 12, 0, 21, 3600, 1, 2)


def decodes(name: str, payload: bytes) -> bool:
    """Whether this decoder takes it; what it takes must be consistent."""
    try:
        decoded = DECODERS[name](payload)
    except DecodeError:
        return False
    for one in decoded.readings:
        assert (one.distance_mm is None) == (one.status not in NUMBER_STATUSES), one
    return True


class Decoder:
    """Payloads of devices, every decoder."""

    name, live = "decoder", False

    def __init__(self, source: random.Random) -> None:
        self._random = source
        reports = [
            encode_report([REPORT], 0),
            encode_report([REPORT, Reading(3, 6, "no_echo", age_s=900), Reading(3, 5, "ok", 700, age_s=1800)], 5),
        ]
        self._names = list(DECODERS)
        self._mutator = Mutator(
            source,
            [*reports, GOOD, b"[" + GOOD + b"," + GOOD + b"]", b"{37}"],
            [b'"seq":', b'"status":"no_echo"', b'"temperature_c":-3.5', b'"x":1,', *(name.encode() for name in EVENTS)],
        )

    def make(self) -> bytes:
        return self._mutator.one()

    def feed(self, data: bytes) -> bool:
        # Every one of them, not only the first that takes it.
        return max(decodes(name, data) for name in self._names)

    def close(self) -> None:
        pass
