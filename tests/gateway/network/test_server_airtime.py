"""Who may send what and when: the concentrator's one transmitter, its sub-bands, and which downlink comes first."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import pytest
from brim.lorawan import frames, mac_commands
from brim_gateway.network.agenda import GUARD_US, Agenda
from brim_gateway.network.answering import JOIN_PERCENT, REQUEST_PERCENT
from brim_gateway.network.device import DeviceInvalid, DeviceRow, Status
from brim_gateway.network.duty import HOUR_US
from brim_gateway.network.join import ACCEPT_BYTES
from brim_gateway.network.server import NetworkServer
from brim_gateway.network.session import EcbCipher
from msgspec.structs import replace

from tests.gateway.network.ends import APP_KEY, DEV, GATEWAY, START_US, heard, row
from tests.gateway.network.test_server import OTHER, abp, join_request, opened, server, uplink

M_US, P_US = 36_000_000, 360_000_000


def fill(network: NetworkServer, percent: float, gateway: str = GATEWAY) -> None:
    """As if this much of the legal airtime of both sub-bands of the join channels had been used just now."""
    network.duty.spend(gateway, 868_100_000, int(M_US * percent / 100), START_US)
    network.duty.spend(gateway, 869_525_000, int(P_US * percent / 100), START_US)


def test_a_join_that_cannot_be_answered_burns_no_nonce() -> None:
    network = server(row())
    fill(network, JOIN_PERCENT - 0.1)
    before = network.device(DEV)
    result = network.on_uplink(heard(join_request(7), sf=12), START_US)
    assert (result.kind, result.reason, result.updates) == ("refused", "no airtime", ())
    assert network.device(DEV) == before
    later_us = START_US + HOUR_US + 1
    network.on_pull(GATEWAY, later_us)
    assert network.on_uplink(heard(join_request(7), sf=12), later_us).kind == "join"


def test_a_join_that_one_concentrator_cannot_answer_another_one_can() -> None:
    network = server(row())
    network.on_pull(OTHER, START_US)
    fill(network, 100)
    assert network.on_uplink(heard(join_request(7)), START_US).reason == "no airtime"
    assert network.on_uplink(heard(join_request(7), 0, OTHER), START_US + 10_000).kind == "join"
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None and downlink.gateway == OTHER


def test_a_join_is_not_accepted_where_no_concentrator_can_be_told() -> None:
    network = NetworkServer([row()], random_bytes=bytes)
    assert network.on_uplink(heard(join_request(1)), START_US).reason == "no airtime"


def test_joins_at_once_get_what_they_were_promised() -> None:
    """All arrive before the first is answered: what is accepted must find its window, its airtime and its turn."""
    devs = [f"{number:016x}" for number in range(1, 41)]
    network = server(*(row(dev) for dev in devs))
    accepted = [
        dev
        for number, dev in enumerate(devs)
        if network.on_uplink(heard(join_request(1, dev=dev), number * 40_000, sf=12), START_US + number * 40_000).kind
        == "join"
    ]
    assert 2 <= len(accepted) < len(devs)
    spans = []
    for dev in accepted:
        downlink = network.answer(dev, START_US + 40 * 40_000 + 200_000)
        assert downlink is not None
        spans.append((downlink.txpk["tmst"], downlink.txpk["tmst"] + downlink.airtime_us))
    spans.sort()
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_promises_that_nobody_calls_in_are_given_back() -> None:
    network = server(row())
    for number in range(200):
        now_us = START_US + number * 30_000_000
        network.on_pull(GATEWAY, now_us)
        assert network.on_uplink(heard(join_request(number + 1), number * 30_000_000, sf=12), now_us).kind == "join"


def test_joins_leave_room_for_acknowledgements_and_requests_for_both() -> None:
    for percent, kinds in ((0, 3), (REQUEST_PERCENT, 2), (JOIN_PERCENT, 1), (100, 0)):
        network = server(abp(rx2_dr=3), row("ee" * 8))
        fill(network, percent)
        done = 0
        confirmed = heard(uplink(0, m_type=frames.CONFIRMED_UP), 0)
        network.on_uplink(confirmed, START_US)
        done += network.answer(DEV, START_US + 200_000) is not None
        network.on_uplink(heard(uplink(1, f_ctrl=frames.ADR), 40_000_000, sf=12, snr_db=10.0), START_US + 40_000_000)
        done += network.answer(DEV, START_US + 40_200_000) is not None
        join = heard(join_request(1, dev="ee" * 8), 20_000_000)
        done += network.on_uplink(join, START_US + 20_000_000).kind == "join"
        assert done == kinds, percent


def test_rx2_comes_first_where_rx1_is_slower_or_its_sub_band_is_nearly_used_up() -> None:
    def window(sf: int, used_percent: float) -> int:
        network = server(abp(rx2_dr=3))
        network.duty.spend(GATEWAY, 868_100_000, int(M_US * used_percent / 100), START_US)
        network.on_uplink(heard(uplink(0, m_type=frames.CONFIRMED_UP), sf=sf), START_US)
        downlink = network.answer(DEV, START_US + 200_000)
        assert downlink is not None
        return downlink.window

    assert [window(sf, 0) for sf in (7, 9, 10, 12)] == [1, 1, 2, 2]
    assert [window(7, percent) for percent in (0, 40, 60)] == [1, 1, 2]


def test_an_agenda_keeps_transmissions_apart_across_the_wrap_of_the_counter() -> None:
    agenda = Agenda()
    start = 0xFFFFFFFF - 50_000
    key = agenda.book(GATEWAY, start, 100_000, START_US)
    end = (start + 100_000) & 0xFFFFFFFF
    for tmst_us, free in (
        (start, False),
        (end, False),
        (end + GUARD_US - 1, False),
        (end + GUARD_US, True),
        (start - 30_000 - GUARD_US, True),
        (start - 30_000 - GUARD_US + 1, False),
    ):
        assert agenda.free(GATEWAY, tmst_us & 0xFFFFFFFF, 30_000, START_US) is free
    assert agenda.free(OTHER, start, 30_000, START_US)
    agenda.cancel(GATEWAY, key)
    assert agenda.free(GATEWAY, start, 30_000, START_US)
    agenda.cancel(GATEWAY, key)
    agenda.book(GATEWAY, start, 100_000, START_US)
    assert agenda.free(GATEWAY, start, 30_000, START_US + 1), "what is over is forgotten"


def test_an_accept_is_as_long_as_promised() -> None:
    network = server(row())
    network.on_uplink(heard(join_request(1)), START_US)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None and len(base64.b64decode(downlink.txpk["data"])) == ACCEPT_BYTES


# What one frame carries.


def joined(**changes: Any) -> DeviceRow:
    """A device that joined, as an earlier release may have left it."""
    row = abp()
    assert row.session is not None
    values = {"number": 7, "rx2_dr": 3} | changes
    return replace(row, session=replace(row.session, **values))


def test_requests_ride_with_a_payload_as_far_as_there_is_room() -> None:
    for length, cids in ((10, [8, 5, 3]), (44, [8, 5]), (47, [8]), (50, [])):
        network = server(joined(rx1_delay_s=5, rx2_dr=0))
        network.queue(DEV, 2, bytes(length), START_US, START_US + 10**9)
        network.on_uplink(heard(uplink(0, f_ctrl=frames.ADR), sf=12, snr_db=9.0), START_US)
        downlink = network.answer(DEV, START_US + 200_000)
        assert downlink is not None
        frame, payload = opened(downlink)
        assert payload == bytes(length)
        assert [cid for cid, _ in mac_commands.parse(frame.f_opts, 1)] == cids


def test_commands_too_many_for_the_header_go_to_port_0_where_there_is_no_payload() -> None:
    network = server(replace(joined(rx1_delay_s=5, rx2_dr=0), status=Status(START_US - 2 * 86_400_000_000, 9, 0)))
    network.on_uplink(heard(uplink(0, f_ctrl=frames.ADR, f_opts=b"\x02\x0d"), sf=12, snr_db=9.0), START_US)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None
    frame, payload = opened(downlink)
    assert (frame.f_opts, frame.f_port) == (b"", 0)
    assert [cid for cid, _ in mac_commands.parse(payload, 1)] == [2, 13, 8, 5, 3, 6]


def test_windows_of_a_session_become_ours_when_the_device_says_so_and_stay_when_it_refuses() -> None:
    def after(answer: bytes) -> tuple[int, int]:
        network = server(joined(rx1_delay_s=5, rx2_dr=0))
        network.on_uplink(heard(uplink(0)), START_US)
        assert network.answer(DEV, START_US + 200_000) is not None
        # An uplink without the answer is lost time and nothing else: such answers go on until a downlink comes.
        network.on_uplink(heard(uplink(1)), START_US + 20_000_000)
        network.on_uplink(heard(uplink(2, f_opts=answer)), START_US + 40_000_000)
        stored = network.device(DEV)
        assert stored is not None and stored.session is not None
        return stored.session.rx1_delay_s, stored.session.rx2_dr

    assert after(b"\x08\x05\x07") == (1, 3)
    assert after(b"\x05\x05\x08") == (1, 0)
    assert after(b"\x05\x07") == (5, 3)
    assert after(b"") == (5, 0)


def test_windows_given_at_registration_are_never_changed() -> None:
    network = server(abp(rx1_delay_s=5))
    network.on_uplink(heard(uplink(0)), START_US)
    assert network.answer(DEV, START_US + 200_000) is None


def test_answers_that_nobody_asked_for_change_nothing() -> None:
    network = server(joined())
    for f_cnt, f_opts in enumerate((b"\x03\x07", b"\x05\x07", b"\x08", b"\x06\x50\x05", b"\x03\x00" * 7)):
        network.on_uplink(heard(uplink(f_cnt, f_opts=f_opts)), START_US + f_cnt * 20_000_000)
    stored = network.device(DEV)
    assert stored is not None and stored.session is not None
    assert stored.session == replace(joined().session, f_cnt_up=4)  # type: ignore[type-var]
    assert stored.status is None


def test_what_matters_more_goes_first_and_what_was_refused_keeps_its_place() -> None:
    network = server()
    for payload, priority in ((b"one", 0), (b"alarm", 5), (b"two", 0), (b"alarm too", 5)):
        assert network.queue(DEV, 2, payload, START_US, START_US + 10**9, priority=priority)
    came = []
    for f_cnt in range(5):
        now_us = START_US + f_cnt * 20_000_000
        network.on_uplink(heard(uplink(f_cnt), f_cnt * 20_000_000), now_us)
        downlink = network.answer(DEV, now_us + 200_000)
        assert downlink is not None
        frame, payload = opened(downlink, f_cnt)
        came.append(payload)
        assert bool(frame.f_ctrl & frames.F_PENDING) is (payload != b"two")
        if f_cnt == 0:
            again = network.on_tx_ack(downlink, "TOO_LATE", now_us + 300_000)
            assert again is not None and network.on_tx_ack(again, "TOO_LATE", now_us + 300_000) is None
    assert came == [b"alarm", b"alarm", b"alarm too", b"one", b"two"]


def test_a_concentrator_without_airtime_is_passed_over_for_the_next_best() -> None:
    network = server(abp(rx2_dr=3))
    network.on_pull(OTHER, START_US)
    fill(network, 100)
    phy = uplink(0, m_type=frames.CONFIRMED_UP)
    network.on_uplink(heard(phy, 0, snr_db=9.0), START_US)
    network.on_uplink(heard(phy, 0, OTHER, snr_db=-5.0), START_US + 10_000)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None and downlink.gateway == OTHER


def test_a_frame_that_was_not_stored_and_comes_again_counts_once_for_the_link() -> None:
    network = server()
    committed = network.device(DEV)
    assert committed is not None
    for _ in range(3):
        network.on_uplink(heard(uplink(0)), START_US)
        network.restore_device(committed)
    assert (network.link(DEV)["uplinks"], network.link(DEV)["loss_percent"]) == (1, 0.0)


# The option for devices older than LoRaWAN 1.0.4.


def test_a_device_that_draws_its_dev_nonce_may_draw_a_lower_one_but_none_of_the_last_again() -> None:
    network = server(replace(row(), dev_nonce="random"))
    source = [40_000, 7, 65_535, 0, *range(100, 180)]
    for at, nonce in enumerate(source):
        now_us = START_US + at * 60_000_000
        network.on_pull(GATEWAY, now_us)
        assert network.on_uplink(heard(join_request(nonce), at * 60_000_000), now_us).kind == "join"
        again = network.on_uplink(heard(join_request(nonce), at * 60_000_000), now_us + 30_000_000)
        assert again.reason == "dev_nonce used"
    stored = network.device(DEV)
    assert stored is not None and len(stored.used_nonces) == 64
    assert DeviceRow.from_dict(stored.as_dict()) == stored


def test_new_fields_survive_json_and_bad_ones_are_refused() -> None:
    network = server(replace(joined(), dev_nonce="random", used_nonces=(1, 2), status=Status(5, 6, -7)))
    network.on_uplink(heard(uplink(0, f_ctrl=frames.ADR), sf=12, snr_db=9.0), START_US)
    assert network.answer(DEV, START_US + 200_000) is not None
    stored = network.device(DEV)
    assert stored is not None and stored.session is not None and stored.session.agreed.asked
    good = stored.as_dict()
    assert DeviceRow.from_dict(good) == stored
    for change in (
        {"dev_nonce": "guess"},
        {"used_nonces": [70_000]},
        {"used_nonces": list(range(65))},
        {"status": [1, 2]},
        {"session": good["session"] | {"agreed": []}},
        {"session": good["session"] | {"agreed": [0, 0, 0, "", []]}},
        {"session": good["session"] | {"agreed": [0, 1, 0, "zz", []]}},
        {"session": good["session"] | {"agreed": [0, 1, 0, "00" * 60, []]}},
        {"session": good["session"] | {"agreed": [0, 1, 0, "", [[1, 2]]]}},
    ):
        with pytest.raises(DeviceInvalid):
            DeviceRow.from_dict(good | change)


def test_rows_of_an_earlier_release_load() -> None:
    old = joined().as_dict()
    assert not {"dev_nonce", "used_nonces", "status"} & old.keys()
    assert "agreed" not in old["session"]
    assert DeviceRow.from_dict(old) == joined()


def test_a_link_is_told_of_every_known_device_and_of_no_other() -> None:
    network = server()
    assert network.link("ee" * 8) == {}
    quiet = network.link(DEV)
    assert (quiet["uplinks"], quiet["concentrators"], quiet["dr"], quiet["battery"]) == (0, [], None, None)
    for f_cnt in (0, 1, 3):
        network.on_uplink(heard(uplink(f_cnt), f_cnt, snr_db=1.0 + f_cnt), START_US + f_cnt * 10_000_000)
    link = network.link(DEV)
    assert (link["uplinks"], link["loss_percent"], link["best_snr_db"], link["margin_db"]) == (3, 25.0, 4.0, 11.5)
    assert link["concentrators"] == [
        {"gateway": GATEWAY, "snr_db": 4.0, "rssi_dbm": -80.0, "sf": 7, "at_us": START_US + 30_000_000}
    ]
    network.remove_device(DEV)
    assert network.link(DEV) == {}


def test_an_accepted_join_can_be_read_by_the_device() -> None:
    network = server(replace(row(), dev_nonce="random"))
    network.on_uplink(heard(join_request(9)), START_US)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None
    assert frames.parse_join_accept(EcbCipher(APP_KEY), base64.b64decode(downlink.txpk["data"])).join_nonce
