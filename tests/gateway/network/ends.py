"""Both ends for tests: the device's MAC carried out on an air of our own, and receptions for the server."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from brim.lorawan.mac import Mac
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.reception import Downlink, Reception, UplinkResult
from brim_gateway.network.server import NetworkServer
from brim_gateway.network.session import EcbCipher

GATEWAY = "00000000000000aa"
START_US = 1_790_000_000_000_000
APP_KEY = bytes.fromhex("6f1e2d3c4b5a69788796a5b4c3d2e1f0")
DEV = "70b3d57ed0000001"


def row(dev: str = DEV, app_key: bytes | None = APP_KEY) -> DeviceRow:
    return DeviceRow(dev, join_eui="70b3d57ed0000000", app_key=app_key)


def heard(phy: bytes, tmst_us: int = 0, gateway: str = GATEWAY, snr_db: float = 5.0, **changes: Any) -> Reception:
    values: dict[str, Any] = {"freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "rssi_dbm": -80.0} | changes
    return Reception(phy, snr_db=snr_db, tmst_us=tmst_us, gateway=gateway, **values)


class PowerCut(Exception):
    """The supply of the bin is gone."""


@dataclass
class Bin:
    """A device: flash that keeps, memory that sleeps, and a power supply that can fail at the n-th action."""

    dev: str = DEV
    app_key: bytes = APP_KEY
    seed: int = 1
    spread: bool = False
    flash: bytes | None = None
    kept: bytes | None = None
    cut_at: int | None = None
    actions: int = 0
    sent: list[bytes] = field(default_factory=list)
    mac: Mac = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.boot()

    def boot(self) -> None:
        kept, self.kept = self.kept, None
        self.mac = Mac(
            bytes.fromhex(self.dev),
            bytes.fromhex("70b3d57ed0000000"),
            self.app_key,
            EcbCipher,
            self._random.randbytes,
            lambda: self.flash,
            kept,
        )
        if not self.spread:
            self.mac.hurry()

    def sleep(self, seconds: int) -> None:
        self.kept = self.mac.state()
        self.boot()
        self.mac.advance(seconds * 900)

    def step(self) -> None:
        self.actions += 1
        if self.cut_at is not None and self.actions >= self.cut_at:
            self.cut_at = None
            raise PowerCut

    def carry_out(self, actions: list[Any]) -> tuple[Any, list[Any]]:
        """The transmission and the windows; the power may fail before and after each action."""
        transmission, windows = None, []
        for action in actions:
            self.step()
            if action[0] == "persist":
                self.flash = action[1]
            elif action[0] == "transmit":
                transmission = action
                self.sent.append(action[4])
            else:
                windows.append(action)
            self.step()
        return transmission, windows


@dataclass
class Air:
    """One bin, one server, and time: what is sent in a window at the right frequency and rate is heard."""

    server: NetworkServer
    bin: Bin
    now_us: int = START_US
    lose_up: Callable[[], bool] = lambda: False
    lose_down: Callable[[], bool] = lambda: False
    results: list[UplinkResult] = field(default_factory=list)
    downlinks: list[Downlink] = field(default_factory=list)
    rows: dict[str, DeviceRow] = field(default_factory=dict)

    def commit(self, rows: tuple[DeviceRow, ...]) -> None:
        self.rows.update({entry.dev: entry for entry in rows})

    def exchange(self, actions: list[Any], take: Callable[[bytes], list[Any] | None]) -> bool:
        """One transmission with its windows; True if the bin took an answer."""
        transmission, windows = self.bin.carry_out(actions)
        _, freq_hz, sf, _, phy = transmission
        self.now_us += 1_500_000
        end_us = self.now_us
        downlink = None
        if not self.lose_up():
            self.server.on_pull(GATEWAY, self.now_us)
            reception = heard(phy, end_us & 0xFFFFFFFF, freq_hz=freq_hz, sf=sf)
            result = self.server.on_uplink(reception, self.now_us)
            self.results.append(result)
            self.commit(result.updates)
            if result.answer_due and result.dev:
                downlink = self.server.answer(result.dev, self.now_us + 200_000)
        if downlink is not None:
            self.downlinks.append(downlink)
            self.commit(downlink.updates)
        self.now_us += 7_000_000
        self.bin.mac.advance(8_500)
        if downlink is None or self.lose_down():
            return False
        return self._deliver(downlink, windows, end_us, take)

    def _deliver(
        self, downlink: Downlink, windows: list[Any], end_us: int, take: Callable[[bytes], list[Any] | None]
    ) -> bool:
        txpk = downlink.txpk
        for _, delay_ms, freq_hz, sf in windows:
            meets = (end_us + delay_ms * 1000) & 0xFFFFFFFF == txpk["tmst"]
            if meets and round(txpk["freq"] * 1e6) == freq_hz and txpk["datr"] == f"SF{sf}BW125":
                more = take(base64.b64decode(txpk["data"]))
                assert more is not None, "a downlink in the right window that the device refuses"
                self.bin.carry_out(more)
                return True
        return False

    def join(self) -> bool:
        return self.exchange(self.bin.mac.join(), self.bin.mac.on_accept)

    def uplink(self, payload: bytes, confirmed: bool = False) -> bool:
        return self.exchange(self.bin.mac.send(1, payload, confirmed), lambda phy: self.bin.mac.on_frame(phy, 5))


def pair(*, seed: int = 1, **options: Any) -> Air:
    """A server that knows one bin, and the bin."""
    source = random.Random(seed)
    return Air(NetworkServer([row()], random_bytes=source.randbytes, **options), Bin(seed=seed))
