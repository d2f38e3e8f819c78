"""Adaptive data rate: the vectors of others, and how the server uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from brim.lorawan import frames, mac_commands
from brim.lorawan.mac import MacError
from brim_gateway.network.adr import rate_and_power, repeats, steps
from brim_gateway.network.links import GAP
from brim_gateway.network.server import NetworkServer

from tests.gateway.network.ends import DEV, GATEWAY, START_US, heard, pair
from tests.gateway.network.test_server import abp, opened, server, uplink

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "data" / "lorawan" / "frames.json").read_text()
)["adr"]
MINUTE_US = 60_000_000


@pytest.mark.parametrize("row", VECTORS["chirpstack_step"]["rows"])
def test_rate_and_power_follow_the_steps_as_in_chirpstack(row: list[int]) -> None:
    spare, power, dr, max_power, max_dr, expected_power, expected_dr = row
    assert rate_and_power(spare, dr, power, max_dr, max_power) == (expected_dr, expected_power)


def test_the_steps_are_those_of_chirpstack_and_the_floors_those_of_two_servers() -> None:
    for sf, floor_db in VECTORS["demod_snr_db"].items():
        dr = 12 - int(sf)
        for spare in range(-3, 6):
            assert steps(floor_db + 10 + 3 * spare, dr) == spare
            # Cut off towards zero: half a step is none.
            assert steps(floor_db + 10 + 3 * spare + (1.4 if spare >= 0 else -1.4), dr) == spare
    handled = next(case for case in VECTORS["chirpstack_handle"]["cases"] if case["name"] == "increase dr")
    assert steps(handled["max_snr"], handled["dr"], handled["installation_margin"]) == 1


def test_the_number_of_repeats_follows_the_table_of_losses() -> None:
    for row, lost in zip(VECTORS["nb_trans"]["rows"], ((0, 4.9), (5, 9.9), (10, 29.9), (30, 100)), strict=True):
        for percent in lost:
            assert [repeats(percent, now) for now in (1, 2, 3)] == row


def test_losses_are_counted_by_the_counters() -> None:
    for counters, share in VECTORS["tts_loss_rate"]["cases"]:
        # Repeats are no new uplinks here, and a session begins with an empty history.
        if counters != sorted(counters):
            continue
        network = server()
        for at, f_cnt in enumerate(dict.fromkeys(counters)):
            network.on_uplink(heard(uplink(f_cnt), at), START_US + at * MINUTE_US)
        assert network.link(DEV)["loss_percent"] == pytest.approx(100 * share, abs=0.05)


def commands_down(
    network: NetworkServer, f_cnt: int, f_cnt_down: int, f_ctrl: int = frames.ADR, f_opts: bytes = b"", **heard_as: Any
) -> list[tuple[int, bytes]]:
    """MAC commands that answer an uplink; empty where nothing is sent."""
    now_us = START_US + f_cnt * MINUTE_US
    network.on_pull(GATEWAY, now_us)
    phy = uplink(f_cnt, f_ctrl=f_ctrl, f_opts=f_opts)
    network.on_uplink(heard(phy, f_cnt * 1_000_000, **heard_as), now_us)
    downlink = network.answer(DEV, now_us + 200_000)
    return [] if downlink is None else mac_commands.parse(opened(downlink, f_cnt_down)[0].f_opts, 1)


ALL_WELL = b"\x03\x07"


def test_a_device_far_too_slow_is_told_the_rate_and_power_that_its_signal_allows() -> None:
    network = server()
    # 2 dB at SF12 is 12 above floor and margin: four steps.
    assert commands_down(network, 0, 0, sf=12, snr_db=2.0) == [(3, b"\x40\x07\x00\x01")]
    assert commands_down(network, 1, 1, sf=8, snr_db=2.0, f_opts=ALL_WELL) == []
    link = network.link(DEV)
    assert (link["dr"], link["power"], link["nb_trans"], link["margin_db"]) == (4, 0, 1, 12.0)


def test_a_device_that_does_not_set_the_adr_bit_is_left_alone() -> None:
    network = server()
    assert commands_down(network, 0, 0, sf=12, snr_db=10.0, f_ctrl=0) == []
    assert network.link(DEV)["adr"] is False


def test_the_best_of_several_concentrators_counts() -> None:
    network = server()
    now_us = START_US
    phy = uplink(0, f_ctrl=frames.ADR)
    network.on_uplink(heard(phy, 0, sf=12, snr_db=-15.0), now_us)
    network.on_uplink(heard(phy, 0, "00000000000000bb", sf=12, snr_db=3.0), now_us + 10_000)
    downlink = network.answer(DEV, now_us + 200_000)
    assert downlink is not None and opened(downlink)[0].f_opts == b"\x03\x40\x07\x00\x01"
    assert [c["snr_db"] for c in network.link(DEV)["concentrators"]] == [3.0, -15.0]


def test_power_is_raised_again_only_after_twenty_uplinks_that_lack() -> None:
    network = server()
    commands_down(network, 0, 0, snr_db=15.0)
    assert commands_down(network, 1, 1, snr_db=3.0, f_opts=ALL_WELL) == []
    assert network.link(DEV)["power"] == 4
    asked = [commands_down(network, f_cnt, 1, snr_db=-4.0) for f_cnt in range(2, 22)]
    # The one good frame must have left the history first.
    assert [bool(commands) for commands in asked] == [False] * 19 + [True]
    # -4 dB is 6.5 below what SF7 and the margin want: two steps up.
    assert asked[-1] == [(3, b"\x52\x07\x00\x01")]


@pytest.mark.parametrize(("sf", "step", "nb_trans"), [(7, 1, 1), (7, 2, 3), (10, 2, 2), (12, 2, 1)])
def test_a_device_whose_frames_get_lost_is_told_to_repeat_them_but_not_at_slow_rates(
    sf: int, step: int, nb_trans: int
) -> None:
    network = server()
    snr_db = -20 + 2.5 * (12 - sf) + 10
    asked = [commands_down(network, f_cnt, 0, sf=sf, snr_db=snr_db) for f_cnt in range(0, 20 * step, step)]
    wanted = [(3, bytes(((12 - sf) << 4, 7, 0, nb_trans)))]
    assert asked == [[]] * 19 + [wanted if nb_trans > 1 else []]


def test_a_request_that_is_never_answered_goes_out_more_and_more_rarely() -> None:
    network = server()
    asked: list[int] = []
    for f_cnt in range(100):
        if commands_down(network, f_cnt, len(asked), sf=12, snr_db=3.0):
            asked.append(f_cnt)
    assert asked == [0, 2, 6, 14, 30, 46, 62, 78, 94]


def test_a_request_refused_three_times_is_given_up() -> None:
    network = server()
    refusal = b"\x03\x00"
    asked = 0
    for f_cnt in range(60):
        asked += bool(commands_down(network, f_cnt, asked, sf=12, snr_db=3.0, f_opts=refusal if asked else b""))
    assert asked <= 3
    assert network.link(DEV)["refused"] == [mac_commands.LINK_ADR]


def test_what_a_device_refuses_is_left_out_of_the_next_request() -> None:
    network = server()
    # 15 dB at SF8 would allow DR5 and less power; it takes the rate and not the power.
    assert commands_down(network, 0, 0, sf=8, snr_db=15.0) == [(3, b"\x54\x07\x00\x01")]
    assert commands_down(network, 1, 1, sf=8, snr_db=15.0, f_opts=b"\x03\x03") == [(3, b"\x50\x07\x00\x01")]
    assert commands_down(network, 2, 2, sf=7, snr_db=15.0, f_opts=ALL_WELL) == []


def test_a_device_that_refuses_full_power_is_asked_for_the_step_below() -> None:
    network = server()
    asked = [commands_down(network, 0, 0, sf=12, snr_db=2.0)]
    for f_cnt in (1, 2):
        asked.append(commands_down(network, f_cnt, f_cnt, sf=12, snr_db=2.0, f_opts=b"\x03\x03"))
    assert [command[0][1][0] for command in asked] == [0x40, 0x40, 0x41]
    assert commands_down(network, 3, 3, sf=8, snr_db=2.0, f_opts=ALL_WELL) == []
    assert (network.link(DEV)["power"], network.link(DEV)["refused"]) == (1, [])


@pytest.mark.parametrize(("gap", "resent"), [(1, False), (GAP, False), (GAP + 1, True)])
def test_after_a_gap_in_the_counter_the_channels_are_told_again(gap: int, resent: bool) -> None:
    network = server()
    assert commands_down(network, 0, 0, snr_db=3.0) == []
    assert bool(commands_down(network, gap, 0, snr_db=3.0)) is resent
    if resent:
        assert commands_down(network, gap + 1, 1, snr_db=3.0, f_opts=ALL_WELL) == []


def test_a_device_that_asks_whether_anybody_hears_it_is_told_its_channels() -> None:
    network = server()
    asks = frames.ADR | frames.ADR_ACK_REQ
    assert commands_down(network, 0, 0, snr_db=3.0, f_ctrl=asks) == [(3, b"\x50\x07\x00\x01")]
    assert commands_down(network, 1, 1, snr_db=3.0, f_opts=ALL_WELL) == []


def test_what_was_agreed_survives_a_restart() -> None:
    network = server()
    commands_down(network, 0, 0, snr_db=15.0)
    row = network.device(DEV)
    assert row is not None
    # The answer comes to the next server: it knows from the disk what was asked.
    after = server(type(row).from_dict(row.as_dict()))
    assert commands_down(after, 1, 1, snr_db=3.0, f_opts=ALL_WELL) == []
    assert after.link(DEV)["power"] == 4


def test_a_device_that_forgets_its_counter_is_asked_nothing() -> None:
    network = server(abp())
    row = network.device(DEV)
    assert row is not None
    volatile = server(type(row).from_dict(row.as_dict() | {"counter": "volatile"}))
    assert commands_down(volatile, 0, 0, sf=12, snr_db=10.0) == []
    assert len(volatile.link(DEV)["concentrators"]) == 1


def test_our_own_bin_that_had_to_join_slowly_is_brought_to_the_rate_that_its_signal_allows() -> None:
    air = pair(seed=3)
    air.lose_up = lambda: True
    while air.bin.mac.state() and not air.bin.mac.joined:
        if len(air.bin.sent) >= 4:
            air.lose_up = lambda: False
        try:
            air.join()
        except MacError:
            pass
        air.bin.sleep(1_000)
        air.now_us += 1_000_000_000
    assert air.bin.mac.dr < 5
    air.uplink(b"slow")
    air.uplink(b"fast")
    assert (air.bin.mac.dr, air.bin.mac.mask) == (5, 0xFF)
    stored = air.server.device(DEV)
    assert stored is not None and stored.session is not None
    assert stored.session.agreed.power == air.bin.mac.power
    assert stored.session.agreed.mask == 0xFF
