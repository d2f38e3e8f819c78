"""Two hundred Wi-Fi bins come together, as after a power cut; LoRaWAN bins beside them still get their answers in time.

Passwords are checked slowly on purpose, TLS costs what it costs, and all of it is one small box.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from brim.lorawan import frames
from brim.lorawan.crypto import session_keys
from brim.wire.ports import PORT_REPORT
from brim.wire.report import Reading, encode_report
from brim_gateway.network.session import EcbCipher

from tests.system.daemon import ENVIRONMENT, Daemon

BINS = 200
ALL_IN_WITHIN_S = 40.0
MARGIN_US = 30_000
"""A concentrator must have a frame so long before it leaves (libloragw's JIT queue)."""
EUI = bytes.fromhex("aa555a0000000101")
RX1_US, RX2_US, JOIN_RX1_US, JOIN_RX2_US = 1_000_000, 2_000_000, 5_000_000, 6_000_000
BETWEEN_UPLINKS_S = 6.0
APART_S = 0.15
"""Between two bins: a concentrator has one transmitter, and an answer takes it for a tenth of a second."""


class Bin:
    """The least of a LoRaWAN device: it joins, then sends confirmed reports, and waits out its windows."""

    def __init__(self, entry: dict[str, str]) -> None:
        self.dev = bytes.fromhex(entry["dev"])
        self._join_eui = bytes.fromhex(entry["join_eui"])
        self._app = EcbCipher(bytes.fromhex(entry["app_key"]))
        self._addr: bytes | None = None
        self._f_cnt = 0
        self.next_at_s = 0.0

    def uplink(self) -> tuple[bytes, tuple[int, int]]:
        """(frame, delays of its windows)."""
        if self._addr is None:
            return frames.build_join_request(self._app, self._join_eui, self.dev, 1), (JOIN_RX1_US, JOIN_RX2_US)
        payload = encode_report([Reading(1, self._f_cnt + 1, "ok", 400, 2, 9)], 0)
        phy = frames.build_data(
            frames.CONFIRMED_UP, self._network, self._data, self._addr, 0, self._f_cnt, b"", PORT_REPORT, payload
        )
        self._f_cnt += 1
        return phy, (RX1_US, RX2_US)

    def take(self, phy: bytes) -> None:
        """An answer, in one of its windows."""
        if self._addr is None:
            accept = frames.parse_join_accept(self._app, phy)
            nwk_s_key, app_s_key = session_keys(self._app, accept.join_nonce, accept.net_id, 1)
            self._network, self._data, self._addr = EcbCipher(nwk_s_key), EcbCipher(app_s_key), accept.dev_addr
        else:
            frame = frames.parse_data(phy)
            assert frame.dev_addr == self._addr and frame.f_ctrl & frames.ACK, "its own acknowledgement"


class Concentrator:
    """A packet forwarder on a real socket with a real microsecond counter. What comes too late is counted."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._bins: list[Bin] = []
        self._windows: dict[int, tuple[Bin, int]] = {}
        self.uplinks = 0
        self._pull_at_s = 0.0
        self.sent: dict[int, float] = {}
        self.push_ack_s: list[float] = []
        self.slack_us: list[int] = []
        self.answered = self.late = 0

    def speak(self, bins: list[Bin]) -> float:
        """These speak from now on, one after the other; until all have, in seconds."""
        now = time.monotonic()
        for number, one in enumerate(bins):
            one.next_at_s = now + APART_S * number
        self._bins = bins
        return APART_S * len(bins)

    @staticmethod
    def _tmst() -> int:
        return time.monotonic_ns() // 1_000 & 0xFFFFFFFF

    def _send(self, kind: int, token: int, body: bytes = b"") -> None:
        self._socket.send(b"\x02" + token.to_bytes(2, "big") + bytes((kind,)) + EUI + body)

    def _uplink(self, bin_: Bin) -> None:
        phy, delays = bin_.uplink()
        tmst = self._tmst()
        self.uplinks += 1
        for delay_us in delays:
            self._windows[(tmst + delay_us) & 0xFFFFFFFF] = (bin_, self.uplinks)
        rxpk = {
            "tmst": tmst, "freq": (868.1, 868.3, 868.5)[self.uplinks % 3], "chan": 0, "rfch": 0, "stat": 1,
            "modu": "LORA", "datr": "SF7BW125", "codr": "4/5", "rssi": -80, "lsnr": 7.5, "size": len(phy),
            "data": base64.b64encode(phy).decode(),
        }  # fmt: skip
        self.sent[self.uplinks] = time.monotonic()
        self._send(0, self.uplinks, json.dumps({"rxpk": [rxpk]}).encode())

    def run(self, seconds: float, *, sending: bool = True) -> None:
        """Speak for the bins: each sends when its windows are over."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            if now >= self._pull_at_s:
                self._send(2, 0)
                self._pull_at_s = now + 5
            due = next((one for one in self._bins if one.next_at_s <= now), None) if sending else None
            if due is not None:
                due.next_at_s = now + BETWEEN_UPLINKS_S
                self._uplink(due)
            if select.select([self._socket], [], [], 0 if due else 0.01)[0]:
                self._receive(self._socket.recv(65_536))

    def _receive(self, datagram: bytes) -> None:
        token, kind = datagram[1:3], datagram[3]
        if kind == 1:
            self.push_ack_s.append(time.monotonic() - self.sent[int.from_bytes(token, "big")])
        if kind != 3:
            return
        txpk: dict[str, Any] = json.loads(datagram[4:])["txpk"]
        slack_us = (txpk["tmst"] - self._tmst()) & 0xFFFFFFFF
        in_time = MARGIN_US <= slack_us < 1 << 31
        verdict = "NONE" if in_time else "TOO_LATE"
        self._send(5, int.from_bytes(token, "big"), json.dumps({"txpk_ack": {"error": verdict}}).encode())
        if not in_time:
            self.late += 1
            return
        bin_, uplink = self._windows.pop(txpk["tmst"])
        bin_.take(base64.b64decode(txpk["data"]))
        assert self.sent.pop(uplink, None) is not None, "answered twice"
        self.slack_us.append(slack_us)
        self.answered += 1

    def close(self) -> None:
        self._socket.close()


def test_two_hundred_bins_together_make_no_downlink_late(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    logins = daemon.add_wifi(BINS)
    keys = daemon.add_lorawan(40)
    with daemon:
        concentrator = Concentrator(daemon.ports["udp"])
        # Thirty have joined before; ten more join while the Wi-Fi bins come.
        bins = [Bin(entry) for entry in keys]
        concentrator.run(concentrator.speak(bins[:30]) + 1.0)
        assert concentrator.answered == 30
        concentrator.run(JOIN_RX2_US / 1e6, sending=False)
        concentrator.speak(bins)
        given = {
            "port": daemon.ports["mqtt"],
            "ca": str(daemon.files.ca),
            "logins": [[one.dev, one.password] for one in logins],
        }
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("many_clients.py")), json.dumps(given)],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as rush:
            while rush.poll() is None or concentrator.uplinks < 80:
                assert time.monotonic() - began < 2 * ALL_IN_WITHIN_S
                concentrator.run(0.2)
            assert rush.stdout is not None
            outcomes = json.loads(rush.stdout.read())
        concentrator.run(JOIN_RX2_US / 1e6 + 0.5, sending=False)
        concentrator.close()
        stored = daemon.uids()
    faults = [one["fault"] for one in outcomes if "fault" in one]
    assert faults == [], f"{len(faults)} of {BINS} did not get in"
    slowest_s = max(one["taken_s"] for one in outcomes)
    print(
        f"{BINS} bins in after {slowest_s:.1f} s; {concentrator.answered} downlinks, the closest"
        f" {min(concentrator.slack_us) // 1000} ms early; slowest PUSH_ACK {max(concentrator.push_ack_s) * 1e3:.0f} ms"
    )
    assert slowest_s < ALL_IN_WITHIN_S
    assert {f"{one.dev}:1:1" for one in logins} <= set(stored), "acknowledged and on disk"
    assert concentrator.late == 0, "came when its window was too near or over"
    assert concentrator.sent == {}, "uplinks that were never answered"
    assert concentrator.answered >= 60, "enough of them to mean something"
