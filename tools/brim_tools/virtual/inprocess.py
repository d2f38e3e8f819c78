"""The gateway's own network server inside the simulation, on the virtual clock: for bin-years in minutes.

The same decoding, acknowledgement and downlink decisions as in the daemon; only the journal is a list, because a
simulated clock has nothing to say about disks.
"""

from __future__ import annotations

import base64
import secrets
from typing import Any

from brim.wire.command import encode_commands
from brim.wire.ports import PORT_COMMAND, PORT_REPORT
from brim.wire.report import Reading, Report, decode_report
from brim_gateway.fleet.acks import acknowledgement, oldest_wanted
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.reception import Downlink, Reception
from brim_gateway.network.server import NetworkServer

from brim_tools.virtual.concentrator import Concentrator
from brim_tools.virtual.world import World

COPY_WINDOW_US = 200_000
COMMAND_LIVES_US = 6 * 3_600_000_000


class InProcessGateway:
    """Hears `concentrators`, keeps readings by (dev, epoch, seq), answers in the receive windows."""

    def __init__(self, world: World, devices: list[DeviceRow], concentrators: list[Concentrator]) -> None:
        self.server = NetworkServer(devices, random_bytes=secrets.token_bytes)
        self.readings: dict[tuple[str, int, int], Reading] = {}
        self.repeats = 0
        self.refused: dict[str, int] = {}
        self.joins = 0
        self.downlinks = 0
        self._world = world
        self._concentrators = {c.name: c for c in concentrators}
        self._oldest: dict[tuple[str, int], int] = {}
        self._fresh: set[str] = set()
        for concentrator in concentrators:
            self._attach(concentrator)

    def _attach(self, concentrator: Concentrator) -> None:
        concentrator.on_rxpk = lambda rxpk: self._on_rxpk(concentrator.name, rxpk)

    def _on_rxpk(self, gateway: str, rxpk: dict[str, Any]) -> None:
        now_us = self._world.now_us
        self.server.on_pull(gateway, now_us)
        sf, bw = rxpk["datr"][2:].split("BW")
        reception = Reception(
            phy=base64.b64decode(rxpk["data"]),
            freq_hz=round(rxpk["freq"] * 1e6),
            sf=int(sf),
            bw_hz=int(bw) * 1000,
            rssi_dbm=rxpk["rssi"],
            snr_db=rxpk["lsnr"],
            tmst_us=rxpk["tmst"],
            gateway=gateway,
        )
        result = self.server.on_uplink(reception, now_us)
        if result.kind == "refused":
            self.refused[result.reason or "?"] = self.refused.get(result.reason or "?", 0) + 1
            return
        dev = result.dev or ""
        if result.kind == "join":
            self.joins += 1
            self._fresh.add(dev)
        report = None
        if result.kind == "data" and result.f_port == PORT_REPORT:
            report = decode_report(result.payload)
            self._keep(dev, report)
        if result.answer_due:
            self._world.after(COPY_WINDOW_US, lambda: self._answer(dev, report))

    def _keep(self, dev: str, report: Report) -> None:
        for reading in report.readings:
            key = (dev, reading.epoch, reading.seq)
            if key in self.readings:
                self.repeats += 1
            self.readings.setdefault(key, reading)

    def _answer(self, dev: str, report: Report | None) -> None:
        now_us = self._world.now_us
        if report is not None:
            newest = report.readings[0]
            key = (dev, newest.epoch)
            oldest = self._oldest[key] = oldest_wanted(newest.seq, report.backlog, self._oldest.get(key, 1))
            held = [seq for d, e, seq in self.readings if (d, e) == key and seq >= oldest]
            command = acknowledgement(newest.epoch, newest.seq, report.backlog, oldest, held, dev in self._fresh)
            if command is not None:
                self._fresh.discard(dev)
                self.server.queue(dev, PORT_COMMAND, encode_commands([command]), now_us, now_us + COMMAND_LIVES_US)
        self._send(self.server.answer(dev, now_us))

    def _send(self, downlink: Downlink | None) -> None:
        while downlink is not None:
            self.downlinks += 1
            error = self._concentrators[downlink.gateway].enqueue(downlink.txpk)
            downlink = self.server.on_tx_ack(downlink, error, self._world.now_us)
