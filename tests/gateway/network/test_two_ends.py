"""The device's MAC and the network server together: loss, repeats, power cuts, and no number used twice."""

from __future__ import annotations

import base64
import random
from collections import Counter

import pytest
from brim.lorawan import frames
from brim.lorawan.airtime import airtime_us
from brim.lorawan.eu868 import SF, sub_band
from brim.lorawan.mac import MacError
from brim_gateway.network.server import NetworkServer

from tests.gateway.network.ends import DEV, START_US, Air, Bin, PowerCut, heard, pair, row


def test_a_join_then_uplinks_and_a_command_down() -> None:
    air = pair()
    assert air.join()
    assert not air.uplink(b"one")
    assert [result.kind for result in air.results] == ["join", "data"]
    assert (air.results[-1].payload, air.results[-1].f_port, air.results[-1].f_cnt) == (b"one", 1, 0)
    assert air.server.queue(DEV, 2, b"\x01held", air.now_us, air.now_us + 10**9)
    assert air.uplink(b"two")
    assert air.bin.mac.received == (2, b"\x01held")
    assert not air.uplink(b"three")
    assert air.uplink(b"four", confirmed=True)
    assert air.bin.mac.acknowledged
    assert [result.session for result in air.results] == [air.results[0].session] * 5


def test_an_accept_that_is_lost_leaves_the_old_session_usable_until_the_new_one_is_proved() -> None:
    air = pair()
    assert air.join()
    air.uplink(b"old")
    first = air.results[-1].session
    air.lose_down = lambda: True
    air.bin.sleep(3600)
    assert not air.join()
    stored = air.server.device(DEV)
    assert stored is not None and stored.pending is not None and stored.session is not None
    air.uplink(b"still old")
    assert (air.results[-1].kind, air.results[-1].session) == ("data", first)
    air.lose_down = lambda: False
    air.bin.sleep(3600)
    assert air.join()
    air.uplink(b"new")
    assert air.results[-1].kind == "data"
    assert air.results[-1].session == air.results[-2].session != first
    stored = air.server.device(DEV)
    assert stored is not None and stored.pending is None


def test_a_bin_asks_for_its_link_and_for_the_time() -> None:
    air = pair()
    assert air.join()
    air.bin.mac.ask_link_check()
    air.bin.mac.ask_time()
    assert air.uplink(b"what time is it?")
    assert air.bin.mac.link_check is not None and air.bin.mac.link_check[1] == 1
    assert air.bin.mac.network_time is not None
    gps_s = air.bin.mac.network_time[0]
    # 18 leap seconds lie between GPS time, which began on 6 January 1980, and UTC.
    sent_s = (air.now_us - 7_000_000) // 1_000_000
    assert abs(gps_s + 315_964_800 - 18 - sent_s) <= 1


def test_bins_that_nobody_waits_for_do_not_join_all_at_once() -> None:
    waits_s = sorted(Bin(seed=seed, spread=True).mac.join_wait_ms() // 1000 for seed in range(500))
    assert waits_s[0] < 60 and waits_s[-1] > 3400
    for minute in range(59):
        assert sum(minute <= wait_s // 60 < minute + 1 for wait_s in waits_s) <= 25


def test_a_bin_whose_network_forgot_it_falls_back_and_joins_again_by_itself() -> None:
    air = pair()
    air.join()
    air.uplink(b"a")
    air.server = NetworkServer([row()], random_bytes=random.Random(2).randbytes)
    days = 0.0
    while not air.bin.mac.lost():
        air.uplink(b"is anybody there?")
        air.bin.sleep(3600)
        air.now_us += 3600_000_000
        days += 1 / 24
    assert {result.reason for result in air.results[2:]} == {"unknown address"}
    # 320 uplinks of which each but the first 64 asks for an answer, and three to five silent days.
    assert 13 <= days <= 14
    assert air.join()
    assert air.uplink(b"again", confirmed=True)
    assert air.bin.mac.acknowledged and air.results[-1].kind == "data"


def test_a_replayed_frame_and_a_replayed_join_are_refused() -> None:
    air = pair()
    air.join()
    for text in (b"a", b"b", b"c"):
        air.uplink(text)
    for phy in air.bin.sent[1:-1]:
        air.now_us += 60_000_000
        assert air.server.on_uplink(heard(phy), air.now_us).reason == "replay"
    again = air.server.on_uplink(heard(air.bin.sent[0]), air.now_us)
    assert (again.kind, again.updates) == ("refused", ())
    assert again.reason == "dev_nonce used"
    last = air.server.on_uplink(heard(air.bin.sent[-1]), air.now_us)
    assert (last.kind, last.answer_due, last.updates) == ("copy", False, ())


def test_a_repeat_of_a_confirmed_uplink_is_one_reading_and_acknowledged_again() -> None:
    air = pair()
    air.join()
    air.lose_down = lambda: True
    assert not air.uplink(b"alarm", confirmed=True)
    air.lose_down = lambda: False
    assert air.exchange(air.bin.mac.repeat(), lambda phy: air.bin.mac.on_frame(phy, 5))
    assert air.bin.mac.acknowledged
    assert [result.kind for result in air.results] == ["join", "data", "copy"]


def test_a_network_that_lost_its_database_is_joined_again() -> None:
    air = pair()
    air.join()
    air.uplink(b"a")
    fresh = Air(NetworkServer([row()], random_bytes=random.Random(2).randbytes), air.bin, air.now_us + 120_000_000)
    fresh.uplink(b"b")
    assert fresh.results[-1].reason == "unknown address"
    fresh.bin.sleep(3600)
    assert fresh.join()
    fresh.uplink(b"c")
    assert fresh.results[-1].kind == "data"


@pytest.mark.parametrize("seed", range(8))
def test_with_losses_on_both_ways_no_number_is_used_twice_and_what_is_heard_is_understood(seed: int) -> None:
    source = random.Random(seed)
    air = pair(seed=seed)
    air.lose_up = lambda: source.random() < 0.3
    air.lose_down = lambda: source.random() < 0.3
    for _ in range(150):
        act(air, source)
        air.bin.sleep(900)
        air.now_us += 900_000_000
    kinds = Counter(result.kind for result in air.results)
    assert kinds["refused"] == 0
    assert kinds["data"] > 70
    nothing_twice(air)


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_power_cut_at_any_action_uses_no_nonce_and_no_counter_twice(cut: int) -> None:
    source = random.Random(cut)
    air = pair(seed=cut)
    air.bin.cut_at = cut
    cuts = 0
    for _ in range(30):
        try:
            act(air, source)
            air.bin.sleep(900)
        except PowerCut:
            cuts += 1
            air.bin.kept = None
            air.bin.boot()
            air.bin.cut_at = air.bin.actions + source.randrange(1, 25)
        air.now_us += 900_000_000
    assert cuts >= 2
    nothing_twice(air)
    refused = {result.reason for result in air.results if result.kind == "refused"}
    # A cut between the accept and its keeping leaves the server with a session that the bin has not got.
    assert refused <= {"unknown address"}


def act(air: Air, source: random.Random) -> None:
    """What a wake does on the radio."""
    try:
        if not air.bin.mac.joined:
            air.join()
        if air.bin.mac.joined:
            if source.random() < 0.3:
                air.server.queue(DEV, 2, source.randbytes(6), air.now_us, air.now_us + 10**10)
            air.uplink(source.randbytes(12), confirmed=source.random() < 0.2)
    except MacError as error:
        assert str(error) in ("wait", "duty")


def nothing_twice(air: Air) -> None:
    """Over all that was sent: nonces rise, and no counter occurs twice under one address with other bytes."""
    nonces = [frames.parse_join_request(phy)[2] for phy in air.bin.sent if phy[0] == 0]
    assert nonces == sorted(set(nonces))
    ups = [frames.parse_data(phy) for phy in air.bin.sent if phy[0]]
    assert len({(frame.dev_addr, frame.f_cnt) for frame in ups}) == len({frame.mic for frame in ups})
    downs = [base64.b64decode(downlink.txpk["data"]) for downlink in air.downlinks]
    data = [frames.parse_data(phy) for phy in downs if phy[0] != 0x20]
    assert len({(frame.dev_addr, frame.f_cnt) for frame in data}) == len({frame.mic for frame in data}) == len(data)


@pytest.mark.parametrize("crash", range(1, 12))
def test_a_server_killed_after_any_commit_uses_no_counter_twice(crash: int) -> None:
    air = pair(seed=crash)
    air.commit((row(),))
    for number in range(24):
        if number % crash == crash - 1:
            air.server = NetworkServer(air.rows.values(), random_bytes=random.Random(number).randbytes)
        act(air, random.Random(number))
        air.bin.sleep(900)
        air.now_us += 900_000_000
    assert sum(result.kind == "data" for result in air.results) >= 20
    nothing_twice(air)


def test_a_bin_that_keeps_talking_at_sf12_stays_within_its_duty_cycle() -> None:
    bin_ = Bin()
    air = pair()
    air.bin = bin_
    assert air.join()
    sent: list[tuple[int, int]] = []
    now_s = START_US // 1_000_000
    bin_.mac.dr = 0
    for _ in range(600):
        try:
            transmission, _ = bin_.carry_out(bin_.mac.send(1, bytes(12)))
            sent.append((now_s, airtime_us(len(transmission[4]), SF[bin_.mac.dr])))
            assert sub_band(transmission[1]) >= 0
        except MacError as error:
            assert str(error) == "duty"
        bin_.sleep(30)
        bin_.mac.dr = 0
        now_s += 30
    # Two sub-bands of 1 % each are in use.
    for start_s, _ in sent:
        assert sum(us for at_s, us in sent if start_s <= at_s < start_s + 3600) <= 2 * 36_000_000
    assert len(sent) > 150
