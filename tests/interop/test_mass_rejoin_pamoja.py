"""Power comes back to many strangers' devices at once (pamoja-gateway, in Rust): our server lets all of them in, one
concentrator answers, and the law is kept. Air and time are the model of `bench rejoin`."""

from __future__ import annotations

import base64
import heapq
import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from brim.lorawan.airtime import airtime_us
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.reception import Downlink, Reception
from brim_gateway.network.server import NetworkServer
from brim_tools.bench.rejoin_air import HOUR_US, Account, Air, Transmission

pamoja: Any = importlib.import_module("pamoja._native")

GATEWAY = "00000000000000aa"
START_US = 1_790_000_000_000_000
DEVICES = 600
POWER_ON_US = 60_000_000
WINDOWS_US = 8_000_000
GIVE_UP_US = 48 * HOUR_US
JOIN_EUI = bytes.fromhex("70b3d57ed0000000")


@dataclass
class Stranger:
    """One device; what it sent last says when and where it listens."""

    number: int
    eui: bytes
    app_key: bytes
    device: Any
    snr_db: float
    nonce: int = 0
    sent: Any = None
    answered: bool = False
    proved: bool = False


class Town:
    """One heap of events, no clock but its own."""

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)
        self.strangers = [self._stranger(number) for number in range(DEVICES)]
        self.by_dev = {each.eui.hex(): each for each in self.strangers}
        rows = [DeviceRow(each.eui.hex(), join_eui=JOIN_EUI.hex(), app_key=each.app_key) for each in self.strangers]
        self.server = NetworkServer(rows, random_bytes=self.source.randbytes)
        self.air, self.account = Air(), Account()
        self.now_us, self.requests, self._order = START_US, 0, 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    def _stranger(self, number: int) -> Stranger:
        eui, app_key = (0x70B3D57ED0000100 + number).to_bytes(8, "big"), self.source.randbytes(16)
        device = pamoja.LorawanEndDevice.over_the_air(
            pamoja.ChannelPlan.for_region("EU868"),
            pamoja.LorawanDevice(eui, JOIN_EUI, app_key),
            pamoja.LorawanDeviceSettings(-9, 16, seed=number + 1),
        )
        return Stranger(number, eui, app_key, device, self.source.uniform(-4.0, 8.0))

    def at(self, at_us: int, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (at_us, self._order, what))

    def run(self) -> None:
        for each in self.strangers:
            self.at(START_US + self.source.randrange(POWER_ON_US), partial(self.speak, each))
        while self._events and not all(each.proved for each in self.strangers):
            self.now_us, _, what = heapq.heappop(self._events)
            assert self.now_us < START_US + GIVE_UP_US, "not all joined"
            what()

    def speak(self, each: Stranger) -> None:
        """A join-request, or the first report of a session."""
        device, us = each.device, self.now_us - START_US
        try:
            if device.is_joined:
                each.sent = device.send(1, b"report", us)
            else:
                each.sent = device.join(each.nonce + 1, us)
                each.nonce += 1
                self.requests += 1
        except pamoja.LorawanDeviceError as error:
            # The device keeps its own duty cycle.
            assert "the air is not free" in str(error)
            self.at(self.now_us + 60_000_000, partial(self.speak, each))
            return
        phy, sf = bytes(each.sent.frame), 12 - each.sent.data_rate
        end_us = self.now_us + airtime_us(len(phy), sf)
        assert end_us - self.now_us == each.sent.airtime_us
        each.answered = False
        self.account.note(each.number, each.sent.frequency_hz, self.now_us, end_us)
        going = Transmission(each.number, each.sent.frequency_hz, sf, self.now_us, end_us, each.snr_db, phy)
        self.air.start(going)
        self.at(end_us, partial(self.heard, each, going))
        self.at(end_us + WINDOWS_US, partial(self.over, each))

    def heard(self, each: Stranger, going: Transmission) -> None:
        if not self.air.end(going):
            return
        self.server.on_pull(GATEWAY, self.now_us)
        ticks = self.now_us & 0xFFFFFFFF
        reception = Reception(going.phy, going.freq_hz, going.sf, 125_000, -100.0, going.snr_db, ticks, GATEWAY)
        result = self.server.on_uplink(reception, self.now_us)
        each.proved = each.proved or result.kind == "data"
        if result.answer_due:
            end_us = self.now_us
            self.at(self.now_us + 200_000, partial(self.answer, each, end_us))

    def answer(self, each: Stranger, end_us: int) -> None:
        downlink = self.server.answer(each.eui.hex(), self.now_us)
        while downlink is not None:
            start_us = end_us + ((downlink.txpk["tmst"] - end_us) & 0xFFFFFFFF)
            if self.air.send(start_us, start_us + downlink.airtime_us):
                self.server.on_tx_ack(downlink, None, self.now_us)
                self.at(start_us, partial(self.arrives, each, downlink))
                return
            downlink = self.server.on_tx_ack(downlink, "COLLISION_PACKET", self.now_us)

    def arrives(self, each: Stranger, downlink: Downlink) -> None:
        freq_hz = round(downlink.txpk["freq"] * 1e6)
        self.account.note(GATEWAY, freq_hz, self.now_us, self.now_us + downlink.airtime_us)
        window = each.sent.rx1 if downlink.window == 1 else each.sent.rx2
        assert (freq_hz, downlink.txpk["datr"]) == (window.frequency_hz, f"SF{12 - window.data_rate}BW125")
        each.device.heard(base64.b64decode(downlink.txpk["data"]), 7, f"rx{downlink.window}")
        each.answered = True

    def over(self, each: Stranger) -> None:
        """Both windows have passed: what the device does next is its own rule, spread by some seconds."""
        us = self.now_us - START_US
        earliest_us = us if each.answered else each.device.nothing_heard(us).not_before_us or us
        if not each.proved:
            later_us = self.source.randrange(1_000_000, 30_000_000)
            self.at(START_US + max(us, earliest_us) + later_us, partial(self.speak, each))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_town_of_strangers_rejoins_through_one_concentrator_within_the_law(seed: int) -> None:
    town = Town(seed)
    town.run()
    assert all(each.device.is_joined for each in town.strangers)
    fullest = town.account.most_percent([GATEWAY])
    hours = (town.now_us - START_US) / HOUR_US
    print(f"\n{DEVICES} strangers, {town.requests} join-requests, {hours:.1f} h, fullest hour {fullest} % of the law")
    assert town.requests > DEVICES
    # So many that the law is what they wait for.
    assert 80.0 < max(fullest.values()) <= 100.0
    addresses = [each.device.dev_addr for each in town.strangers]
    assert len(set(addresses)) == DEVICES
