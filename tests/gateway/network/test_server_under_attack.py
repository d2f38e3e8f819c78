"""Recordings that are played again, clocks that are set, devices that promise and do not keep: the server's budget and
counters hold."""

from __future__ import annotations

from brim.lorawan import frames, mac_commands
from brim_gateway.network.dedup import MAX_ACCEPTS, MAX_ANSWERS
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.server import NetworkServer
from msgspec.structs import replace

from tests.gateway.network.ends import DEV, GATEWAY, START_US, Bin, heard, pair, row
from tests.gateway.network.test_server import abp, server, uplink

HOUR_US = 3_600_000_000


def answered(network: NetworkServer, phy: bytes, at_us: int, dev: str = DEV) -> int:
    """Airtime of the answer to ``phy`` at SF12, 0 for none."""
    network.on_pull(GATEWAY, at_us)
    network.on_uplink(heard(phy, at_us & 0xFFFFFFFF, sf=12), at_us)
    downlink = network.answer(dev, at_us + 200_000)
    return 0 if downlink is None else downlink.airtime_us


def test_a_recorded_uplink_is_answered_a_few_times_and_leaves_airtime_for_others() -> None:
    network = server(abp())
    recorded = uplink(7, m_type=frames.CONFIRMED_UP)
    answers = [answered(network, recorded, START_US + 4_000_000 * number) > 0 for number in range(200)]
    # Once more each time the first is forgotten.
    assert MAX_ANSWERS <= sum(answers) <= MAX_ANSWERS + 2
    assert answered(network, uplink(8, m_type=frames.CONFIRMED_UP), START_US + 900_000_000)


def test_a_recorded_join_request_is_answered_three_times() -> None:
    bin_ = Bin()
    network = server(row())
    phy = next(action[4] for action in bin_.mac.join() if action[0] == "transmit")
    answers = sum(answered(network, phy, START_US + 4_000_000 * number) > 0 for number in range(200))
    assert answers == MAX_ACCEPTS


def test_a_confirmed_uplink_of_a_forgetful_device_is_one_reading_and_acknowledged_again() -> None:
    network = server(replace(abp(), counter="volatile"))
    phy = uplink(3, b"v", m_type=frames.CONFIRMED_UP)
    network.on_pull(GATEWAY, START_US)
    assert network.on_uplink(heard(phy, 1_000_000), START_US).kind == "data"
    assert network.answer(DEV, START_US + 200_000) is not None
    assert network.on_uplink(heard(phy, 5_000_000), START_US + 4_000_000).kind == "copy"
    assert network.answer(DEV, START_US + 4_200_000) is not None
    # Hours later the same bytes are a new value: the device has forgotten its counter.
    assert network.on_uplink(heard(phy, 9_000_000), START_US + HOUR_US).kind == "data"


def spend(network: NetworkServer, first: int, at_us: int) -> tuple[int, int, int]:
    """Confirmed uplinks until no answer is given: (airtime, next counter, time)."""
    total_us, f_cnt = 0, first
    while airtime_us := answered(network, uplink(f_cnt, m_type=frames.CONFIRMED_UP), at_us):
        total_us, f_cnt, at_us = total_us + airtime_us, f_cnt + 1, at_us + 7_000_000
    return total_us, f_cnt + 1, at_us


def test_a_clock_that_is_set_neither_frees_an_hour_of_airtime_nor_takes_it_for_years() -> None:
    year_us = 365 * 24 * HOUR_US
    for step_us in (HOUR_US + 100_000_000, -year_us):
        network = server(abp())
        first_us, f_cnt, now_us = spend(network, 0, START_US + year_us)
        network.clock_stepped(step_us)
        more_us, f_cnt, now_us = spend(network, f_cnt, now_us + step_us)
        # Sub-bands M and P together; some of the first has grown an hour old by itself.
        assert first_us + more_us <= 396_000_000 * 1.2, step_us
        assert answered(network, uplink(f_cnt, m_type=frames.CONFIRMED_UP), now_us + HOUR_US + 60_000_000), step_us


def test_airtime_noted_by_a_clock_that_was_years_ahead_counts_for_an_hour_after_a_restart() -> None:
    network = server(abp())
    _, f_cnt, _ = spend(network, 0, START_US + 365 * 24 * HOUR_US)
    stored = network.device(DEV)
    assert stored is not None
    again = server(DeviceRow.from_dict(stored.as_dict()))
    assert not answered(again, uplink(f_cnt, m_type=frames.CONFIRMED_UP), START_US)
    assert answered(again, uplink(f_cnt + 1, m_type=frames.CONFIRMED_UP), START_US + HOUR_US + 1)


def test_a_join_that_could_not_be_stored_gives_back_what_was_kept_for_its_answer() -> None:
    bin_ = Bin()
    network = server(row())
    phy = next(action[4] for action in bin_.mac.join() if action[0] == "transmit")
    for number in range(50):
        now_us = START_US + 100_000 * number
        network.on_pull(GATEWAY, now_us)
        assert network.on_uplink(heard(phy, now_us & 0xFFFFFFFF), now_us).kind == "join", number
        network.restore_device(row())
    for band in ("M", "P"):
        assert network.duty.load_percent(GATEWAY, {"M": 868_100_000, "P": 869_525_000}[band], 0, START_US) == 0


def test_going_back_to_a_stored_row_uses_no_downlink_counter_again() -> None:
    network = server(abp())
    before = network.device(DEV)
    assert before is not None
    assert answered(network, uplink(1, m_type=frames.CONFIRMED_UP), START_US)
    network.restore_device(before)
    after = network.device(DEV)
    assert after is not None and after.session is not None
    assert (after.session.f_cnt_down, after.session.f_cnt_up) == (1, None)


def test_a_device_that_agrees_to_a_rate_and_does_not_go_there_is_not_asked_for_ever() -> None:
    air = pair()
    assert air.join()
    asked = 0
    for _ in range(120):
        # Its rate never changes; it answers every request with consent.
        air.bin.mac.dr = 0
        air.uplink(b"x")
        downlink = air.downlinks[-1] if air.downlinks else None
        if downlink is not None and air.bin.mac.answers:
            asked += air.bin.mac.answers[0] == mac_commands.LINK_ADR
        air.now_us += 400_000_000
        air.bin.mac.advance(400_000)
    assert 0 < asked < 20


def test_the_queue_of_a_device_stays_bounded_when_a_forwarder_gives_payloads_back() -> None:
    network = server(abp())
    for number in range(16):
        assert network.queue(DEV, 5, bytes((number,)), START_US, START_US + HOUR_US)
    network.on_pull(GATEWAY, START_US)
    network.on_uplink(heard(uplink(1), START_US & 0xFFFFFFFF), START_US)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None and downlink.carries_payload
    assert network.queue(DEV, 5, b"late", START_US, START_US + HOUR_US)
    now_us = START_US + 900_000
    while downlink is not None:
        downlink = network.on_tx_ack(downlink, "TX_FREQ", now_us)
        now_us += 900_000
    assert network.queued(DEV) == 16
