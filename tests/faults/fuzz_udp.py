"""What concentrators send: the codec, the endpoint on a real socket, and the network server behind it."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
import time
from typing import Any

from brim.lorawan import frames
from brim.wire.report import encode_report
from brim_gateway.ingest.semtech_codec import DatagramError, PullData, PushData, TxAck, parse
from brim_gateway.ingest.semtech_udp import SemtechUdp
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.device import Session as RadioSession
from brim_gateway.network.reception import Downlink
from brim_gateway.network.server import NetworkServer
from brim_gateway.network.session import EcbCipher
from brim_gateway.ratelog import RateLog

from tests.faults.fuzz_common import QUIET, SERVED_WITHIN_S
from tests.faults.fuzz_inputs import Mutator
from tests.faults.fuzz_texts import REPORT, decodes

_APP_KEY = bytes(range(16))
_ADDR = b"\x44\x33\x22\x01"
_EUI = bytes.fromhex("aa555a0000000101")


class Udp:
    """Datagrams: codec, the endpoint's bookkeeping, and the network server behind it. A downlink is tried for each."""

    name, live = "udp", False

    def __init__(self, source: random.Random) -> None:
        self._random = source
        cipher = EcbCipher(_APP_KEY)
        rows = [
            DeviceRow("70b3d57ed0000001", join_eui="70b3d57ed0000000", app_key=_APP_KEY),
            DeviceRow("70b3d57ed0000002", session=RadioSession(1, _ADDR[::-1].hex(), _APP_KEY, _APP_KEY)),
        ]
        self._server = NetworkServer(rows, random_bytes=source.randbytes)
        self._now_us = 1_790_000_000_000_000
        self._sent: Downlink | None = None
        join = frames.build_join_request(cipher, bytes(8), bytes.fromhex("70b3d57ed0000001"), 1)
        data = [
            frames.build_data(kind, cipher, cipher, _ADDR, 0, count, b"\x02\x0d", 1, encode_report([REPORT], 0))
            for kind, count in ((frames.DATA_UP, 1), (frames.CONFIRMED_UP, 2), (frames.DATA_UP, 0xFFFF))
        ]
        self._phys = Mutator(source, [join, *data], most=300)
        self._datagrams = Mutator(
            source,
            [self._push(phy) for phy in (join, *data)]
            + [b"\x02ab\x02" + _EUI, b'\x02ab\x05{"txpk_ack":{"error":"TOO_LATE"}}', b"\x01ab\x00" + _EUI],
            (b'"rxpk":[', b'"tmst":', b'"freq":868.1', b'"datr":"SF7BW125"', b'"time":"9999-12-31T23:59:59-14:00"'),
        )

    def _push(self, phy: bytes) -> bytes:
        rxpk = {
            "tmst": int(self._random.random() * 2**32), "freq": 868.1, "stat": 1, "modu": "LORA", "datr": "SF7BW125",
            "rssi": -80, "lsnr": 7.5, "size": len(phy), "data": base64.b64encode(phy).decode(),
            "time": "2026-11-23T10:00:00Z",
        }  # fmt: skip
        return b"\x02ab\x00" + _EUI + json.dumps({"rxpk": [rxpk], "stat": {"time": "x"}}).encode()

    def make(self) -> bytes:
        return self._datagrams.one() if self._random.random() < 0.5 else self._push(self._phys.one())

    def feed(self, data: bytes) -> bool:
        self._now_us += 50_000
        try:
            parsed = parse(data)
        except DatagramError:
            return False
        if isinstance(parsed, PullData):
            self._server.on_pull(parsed.gateway, self._now_us)
        elif isinstance(parsed, TxAck):
            if self._sent is not None:
                self._server.on_tx_ack(self._sent, parsed.error, self._now_us)
        else:
            for reception in parsed.receptions:
                result = self._server.on_uplink(reception, self._now_us)
                if result.answer_due and result.dev:
                    self._sent = self._server.answer(result.dev, self._now_us + 200_000) or self._sent
                if result.kind == "data" and result.f_port:
                    decodes("brim", result.payload)
        return True

    def close(self) -> None:
        assert self._server.device("70b3d57ed0000002") is not None


class UdpLive:
    """The endpoint on a real socket; a good concentrator is answered meanwhile."""

    name, live = "udp, live", True

    def __init__(self, source: random.Random) -> None:
        self._inner = Udp(source)
        self._loop = asyncio.new_event_loop()
        self._fault: dict[str, Any] | None = None
        self._loop.set_exception_handler(lambda _, fault: setattr(self, "_fault", fault))
        self._taken = 0
        self._fed = 0
        # All come from one source here, more in a second than one may send.
        self._endpoint = SemtechUdp(self._on_push, lambda _: None, lambda _: None, rate_limit=0)
        self._endpoint._rate_log = RateLog(QUIET)
        address = self._loop.run_until_complete(self._open())
        self._client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._client.connect(address)
        self._client.settimeout(SERVED_WITHIN_S)

    async def _open(self) -> tuple[str, int]:
        return self._endpoint.open("127.0.0.1", 0)

    def _on_push(self, push: PushData, ack: Any) -> None:
        self._taken += 1
        ack()

    def make(self) -> bytes:
        return self._inner.make()

    def feed(self, data: bytes) -> bool:
        before = self._taken
        seen = self._endpoint.counters.get("datagrams", 0)
        self._fed += 1
        self._client.send(data)
        if self._fed % 10 == 0:
            self._client.send(b"\x02zz\x02" + _EUI)
        began = time.monotonic()
        while self._endpoint.counters.get("datagrams", 0) < seen + 1 + (self._fed % 10 == 0):
            assert time.monotonic() < began + SERVED_WITHIN_S
            self._loop.run_until_complete(asyncio.sleep(0))
        if self._fed % 10 == 0:
            while self._client.recv(4096) != b"\x02zz\x04":
                pass
        assert self._fault is None, self._fault
        return self._taken > before

    def close(self) -> None:
        self._endpoint.close()
        self._client.close()
        self._loop.close()
