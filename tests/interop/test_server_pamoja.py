"""A stranger's end device (pamoja-gateway, in Rust) against our server; liblora reads every frame of both as well."""

from __future__ import annotations

import base64
import importlib
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from brim.lorawan import frames, mac_commands
from brim_gateway.network.device import DeviceRow, Session
from brim_gateway.network.reception import Downlink, Reception, UplinkResult
from brim_gateway.network.server import NetworkServer
from msgspec.structs import replace

pamoja: Any = importlib.import_module("pamoja._native")
with warnings.catch_warnings():
    # Its docstrings have stray backslashes.
    warnings.simplefilter("ignore")
    loramsg: Any = importlib.import_module("loramsg")

GATEWAY = "00000000000000aa"
OTHER = "00000000000000bb"
START_US = 1_790_000_000_000_000
DAY_US = 86_400_000_000
FULL_DBM = 16
DEV_EUI, JOIN_EUI = "70b3d57ed0000001", "70b3d57ed0000000"
APP_KEY = bytes.fromhex("6f1e2d3c4b5a69788796a5b4c3d2e1f0")


@dataclass
class Stranger:
    """pamoja's device and our server on one air. What goes up and down is kept, and read by liblora on the way.

    `snr_db` is what the best concentrator measures at full power, each further one 1 dB less.
    """

    server: NetworkServer
    device: Any
    now_us: int = START_US
    snr_db: float = 2.0
    gateways: tuple[str, ...] = (GATEWAY,)
    lose_up: Callable[[], bool] = lambda: False
    lose_down: Callable[[], bool] = lambda: False
    refuse: Callable[[Downlink], bool] = lambda downlink: False
    nonce: int = 0
    results: list[UplinkResult] = field(default_factory=list)
    ups: list[frames.Data] = field(default_factory=list)
    downs: list[tuple[frames.Data, bytes]] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)
    heard: Any = None

    @property
    def us(self) -> int:
        return self.now_us - START_US

    @property
    def session(self) -> Session:
        row = self.server.device(DEV_EUI)
        assert row is not None and row.session is not None
        return row.session

    def exchange(self, sent: Any) -> bool:
        """One transmission. True if the device took an answer in one of its windows."""
        self.now_us += sent.airtime_us
        end_us = self.now_us
        if self.lose_up():
            self.now_us += 10_000_000
            return False
        for number, gateway in enumerate(self.gateways):
            self.server.on_pull(gateway, self.now_us)
            reception = Reception(
                bytes(sent.frame),
                sent.frequency_hz,
                12 - sent.data_rate,
                125_000,
                -100.0,
                self.snr_db - number - FULL_DBM + sent.output_dbm,
                end_us + number & 0xFFFFFFFF,
                gateway,
            )
            self.results.append(self.server.on_uplink(reception, end_us + 10_000))
        self._read_up(bytes(sent.frame))
        result = self.results[-len(self.gateways)]
        downlink = self.server.answer(result.dev, end_us + 200_000) if result.answer_due and result.dev else None
        while downlink is not None and self.refuse(downlink):
            downlink = self.server.on_tx_ack(downlink, "COLLISION_PACKET", end_us + 210_000)
        self.now_us = end_us + 10_000_000
        if downlink is None:
            return False
        self.windows.append(downlink.window)
        phy = base64.b64decode(downlink.txpk["data"])
        window = sent.rx1 if downlink.window == 1 else sent.rx2
        # Where our server sends is where their device listens.
        ticks = end_us + self.gateways.index(downlink.gateway) + window.delay_us
        assert downlink.txpk["tmst"] == ticks & 0xFFFFFFFF
        assert round(downlink.txpk["freq"] * 1e6) == window.frequency_hz
        assert downlink.txpk["datr"] == f"SF{12 - window.data_rate}BW125"
        if phy[0] >> 5 != frames.JOIN_ACCEPT:
            self._read_down(phy)
        if self.lose_down():
            return False
        self.heard = self.device.heard(phy, 7, f"rx{downlink.window}")
        return True

    def _read_up(self, phy: bytes) -> None:
        if phy[0] >> 5 == frames.JOIN_REQUEST:
            loramsg.verify_jreq(APP_KEY, phy)
            return
        self.ups.append(frames.parse_data(phy))
        result = self.results[-len(self.gateways)]
        session = self.session
        if result.f_cnt is not None:
            theirs = loramsg.unpack_dataframe(phy, result.f_cnt, session.nwk_s_key, session.app_s_key)
            assert (theirs["FCnt"], theirs["FOpts"]) == (result.f_cnt, self.ups[-1].f_opts)
            if result.kind == "data" and result.f_port:
                assert theirs["FRMPayload"] == result.payload

    def _read_down(self, phy: bytes) -> None:
        session = self.session
        theirs = loramsg.unpack_dataframe(phy, session.f_cnt_down - 1, session.nwk_s_key, session.app_s_key)
        frame = frames.parse_data(phy)
        assert theirs["FOpts"] == frame.f_opts
        self.downs.append((frame, theirs["FRMPayload"]))

    def join(self) -> bool:
        self.nonce += 1
        accepted = self.exchange(self.device.join(self.nonce, self.us))
        if not accepted:
            self.now_us = START_US + (self.device.nothing_heard(self.us).not_before_us or self.us)
        return accepted

    def uplink(self, payload: bytes, confirmed: bool = False) -> bool:
        answered = self.exchange(self.device.send(1, payload, self.us, confirmed))
        while not answered and self.device.nothing_heard(self.us).kind == "repeat":
            answered = self.exchange(self.device.repeat(self.us))
        return answered

    def asked(self) -> list[int]:
        """Identifiers of the MAC commands in the last downlink."""
        frame, payload = self.downs[-1]
        return [cid for cid, _ in mac_commands.parse(payload if frame.f_port == 0 else frame.f_opts, 1)]


def stranger(seed: int = 1, row: DeviceRow | None = None, **options: Any) -> Stranger:
    plan = pamoja.ChannelPlan.for_region("EU868")
    device = pamoja.LorawanEndDevice.over_the_air(
        plan,
        pamoja.LorawanDevice(bytes.fromhex(DEV_EUI), bytes.fromhex(JOIN_EUI), APP_KEY),
        pamoja.LorawanDeviceSettings(-9, FULL_DBM, seed=seed, regional_duty_cycle=False),
    )
    row = row or DeviceRow(DEV_EUI, join_eui=JOIN_EUI, app_key=APP_KEY)
    return Stranger(NetworkServer([row], random_bytes=random.Random(seed).randbytes), device, **options)


def test_a_join_gives_the_stranger_our_channels_our_second_window_and_our_keys() -> None:
    air = stranger()
    assert air.join()
    assert air.device.is_joined
    assert sorted(channel.uplink_hz for channel in air.device.channels()) == sorted(
        [868_100_000, 868_300_000, 868_500_000, 867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000]
    )
    assert air.device.rx2 == (869_525_000, 3)
    assert air.device.receive_delay_us == 1_000_000
    for number in range(20):
        air.uplink(b"reading %d" % number)
        assert (air.results[-1].kind, air.results[-1].payload) == ("data", b"reading %d" % number)
    assert {result.kind for result in air.results} == {"join", "data"}


def test_payloads_go_down_with_acknowledgement_link_check_and_time() -> None:
    air = stranger()
    air.join()
    air.uplink(b"first")
    air.device.request_link_check()
    air.device.request_device_time()
    air.server.queue(DEV_EUI, 2, b"\x01one", air.now_us, air.now_us + DAY_US)
    air.server.queue(DEV_EUI, 2, b"\x02two", air.now_us, air.now_us + DAY_US)
    assert air.uplink(b"asks", confirmed=True)
    got = air.heard.delivery
    assert (got.port, bytes(got.payload), got.acknowledged, got.more_pending) == (2, b"\x01one", True, True)
    # 2 dB at SF7 is 9.5 above its floor.
    assert got.link_check == (9, 1)
    # Their device answers with whole seconds of the GPS epoch: 1980, and 18 leap seconds.
    assert abs(got.device_time[0] - (air.now_us // 1_000_000 - 315_964_800 + 18)) <= 20
    assert air.uplink(b"then")
    assert (bytes(air.heard.delivery.payload), air.heard.delivery.more_pending) == (b"\x02two", False)


def test_a_near_stranger_is_told_a_faster_rate_and_less_power_and_agrees() -> None:
    air = stranger(snr_db=9.0)
    air.join()
    air.uplink(b"one")
    assert air.asked() == [mac_commands.LINK_ADR]
    air.uplink(b"two")
    assert mac_commands.parse(air.ups[-1].f_opts, 0)[0] == (mac_commands.LINK_ADR, b"\x07")
    # 9 dB at SF7 leaves 6.5 dB to spare: two steps of power.
    assert (air.session.agreed.power, air.session.agreed.mask) == (2, 0xFF)
    assert air.session.agreed.asked == b""
    downs = len(air.downs)
    air.uplink(b"three")
    assert len(air.downs) == downs, "a device that has what is wanted is left alone"
    assert air.server.link(DEV_EUI)["power"] == 2


def test_a_stranger_whose_power_ends_earlier_refuses_and_is_asked_three_times_at_most() -> None:
    air = stranger(snr_db=60.0)
    air.join()
    for number in range(40):
        air.uplink(b"%d" % number)
    answers = [body for frame in air.ups for cid, body in mac_commands.parse(frame.f_opts, 0) if cid == 3]
    asked = sum(3 in [cid for cid, _ in mac_commands.parse(frame.f_opts, 1)] for frame, _ in air.downs)
    assert len(answers) == asked <= 4
    assert air.session.agreed.asked == b""


def test_a_stranger_is_asked_for_its_battery_once_a_day() -> None:
    air = stranger()
    air.join()
    air.device.set_battery(200)
    for _ in range(4 * 24):
        air.uplink(b"x")
        air.now_us += 3_600_000_000
    asked = sum(mac_commands.DEV_STATUS in [cid for cid, _ in mac_commands.parse(f.f_opts, 1)] for f, _ in air.downs)
    assert asked == 3
    link = air.server.link(DEV_EUI)
    assert (link["battery"], link["battery_percent"], link["device_margin_db"]) == (200, 79, 7)
    assert air.now_us - link["status_at_us"] < 2 * DAY_US


def test_a_stranger_whose_frames_get_lost_is_told_to_repeat_and_each_repeat_is_one_reading_acknowledged_again() -> None:
    source = random.Random(5)
    air = stranger(lose_up=lambda: source.random() < 0.4)
    while not air.device.is_joined:
        air.join()
    while air.device.transmissions < 3:
        air.uplink(b"x")
        assert len(air.ups) < 100
    air.lose_up = lambda: False
    air.uplink(b"proof")
    assert air.session.agreed.nb_trans == 3
    seen = len(air.results)
    air.lose_down = lambda: True
    assert not air.exchange(air.device.send(1, b"alarm", air.us, True))
    assert air.device.nothing_heard(air.us).kind == "repeat"
    # A device at the end of its duty cycle may take minutes for that.
    air.now_us += 240_000_000
    assert not air.exchange(air.device.repeat(air.us))
    assert air.device.nothing_heard(air.us).kind == "repeat"
    air.now_us += 240_000_000
    air.lose_down = lambda: False
    assert air.exchange(air.device.repeat(air.us))
    assert air.heard.delivery.acknowledged
    assert [result.kind for result in air.results[seen:]] == ["data", "copy", "copy"]
    assert len({frame.f_cnt for frame in air.ups[-3:]}) == 1


def test_an_acknowledgement_that_the_forwarder_refuses_for_the_first_window_is_taken_in_the_second() -> None:
    air = stranger(refuse=lambda downlink: downlink.window == 1)
    assert air.join()
    assert air.uplink(b"alarm", confirmed=True)
    assert air.windows == [2, 2]
    assert air.heard.delivery.acknowledged


def test_another_concentrator_answers_where_the_best_one_refuses_twice() -> None:
    air = stranger(gateways=(GATEWAY, OTHER))
    air.join()
    air.uplink(b"first")
    air.refuse = lambda downlink: downlink.gateway == GATEWAY
    assert air.uplink(b"alarm", confirmed=True)
    assert air.heard.delivery.acknowledged
    assert [c["gateway"] for c in air.server.link(DEV_EUI)["concentrators"]] == [GATEWAY, OTHER]


def test_a_stranger_that_hears_nothing_backs_off_and_is_brought_back_with_all_its_channels() -> None:
    air = stranger(lose_down=lambda: False, snr_db=2.0)
    air.join()
    air.uplink(b"proof")
    air.lose_down = lambda: True
    for _ in range(64 + 32 * 9):
        air.uplink(b"x")
        air.now_us += 60_000_000
    # The 64th uplink after the last downlink asks.
    asking = [bool(frame.f_ctrl & frames.ADR_ACK_REQ) for frame in air.ups]
    assert asking.index(True) == 63
    slowest = 12 - min(result.reception.sf for result in air.results[-3:] if result.reception)
    assert slowest == 0
    air.lose_down = lambda: False
    before = len(air.downs)
    while len(air.downs) == before:
        # It asks for nothing any more; what it never answered is asked again every 16 uplinks.
        air.uplink(b"heard at last")
    assert air.asked() == [mac_commands.LINK_ADR]
    air.uplink(b"agreed")
    assert mac_commands.parse(air.ups[-1].f_opts, 0)[0] == (mac_commands.LINK_ADR, b"\x07")
    assert air.ups[-1].f_ctrl & frames.ADR_ACK_REQ == 0
    assert len(air.device.channels()) == 8
    assert air.device.data_rate > 0
    assert all(result.kind in ("join", "data") for result in air.results)


def test_windows_that_a_session_has_otherwise_are_brought_to_ours() -> None:
    air = stranger()
    air.join()
    air.uplink(b"proof")
    row = air.server.device(DEV_EUI)
    assert row is not None
    # As if an earlier release had joined it with other windows: the server believes so, and the device is told so.
    air.server.put_device(replace(row, session=replace(air.session, rx2_dr=0)))
    air.uplink(b"one")
    assert air.asked()[0] == mac_commands.RX_PARAM_SETUP
    air.uplink(b"two")
    assert mac_commands.parse(air.ups[-1].f_opts, 0)[0] == (mac_commands.RX_PARAM_SETUP, b"\x07")
    assert air.session.rx2_dr == 3


@pytest.mark.parametrize("seed", range(4))
def test_with_losses_both_ways_every_frame_is_understood_and_no_counter_is_used_twice(seed: int) -> None:
    source = random.Random(seed)
    air = stranger(seed, lose_down=lambda: source.random() < 0.3)
    while not air.device.is_joined:
        air.join()
    for number in range(120):
        air.snr_db = source.uniform(-9, 12)
        if source.random() < 0.2:
            air.server.queue(DEV_EUI, 2, source.randbytes(source.randrange(1, 51)), air.now_us, air.now_us + DAY_US)
        if source.random() < 0.1:
            air.device.request_link_check()
        air.uplink(b"%d" % number, confirmed=source.random() < 0.2)
        air.now_us += 600_000_000
    assert all(result.kind in ("join", "data", "copy") for result in air.results)
    assert sum(result.kind == "data" for result in air.results) == 120
    counters = [frame.f_cnt for frame, _ in air.downs]
    assert len(counters) == len(set(counters)) > 20
