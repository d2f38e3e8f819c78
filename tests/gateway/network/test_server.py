"""The network server alone: copies, windows, concentrators, duty cycle, what it refuses, and that it never falls."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from brim.lorawan import frames
from brim.lorawan.airtime import airtime_us
from brim_gateway.network.device import DeviceInvalid, DeviceRow, Session, abp_session, is_public_key
from brim_gateway.network.duty import DutyLedger
from brim_gateway.network.reception import Downlink
from brim_gateway.network.server import NetworkServer
from brim_gateway.network.session import EcbCipher, SessionCrypto
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.gateway.network.ends import APP_KEY, DEV, GATEWAY, START_US, heard, pair, row

KEYS = bytes(range(3, 19)), bytes(range(5, 21))
ADDR = "01020304"
OTHER = "00000000000000bb"


def abp(dev: str = DEV, addr: str = ADDR, keys: tuple[bytes, bytes] = KEYS, **changes: Any) -> DeviceRow:
    return DeviceRow(dev, session=replace(abp_session(addr, *keys), **changes))


def uplink(
    f_cnt: int,
    payload: bytes = b"x",
    f_port: int | None = 1,
    keys: tuple[bytes, bytes] = KEYS,
    m_type: int = frames.DATA_UP,
    f_opts: bytes = b"",
    f_ctrl: int = 0,
) -> bytes:
    addr = bytes.fromhex(ADDR)[::-1]
    net, app = EcbCipher(keys[0]), EcbCipher(keys[1])
    return frames.build_data(m_type, net, app, addr, f_ctrl, f_cnt, f_opts, f_port, payload)


def server(*rows: DeviceRow, **options: Any) -> NetworkServer:
    made = NetworkServer(rows or (abp(),), random_bytes=random.Random(1).randbytes, **options)
    made.on_pull(GATEWAY, START_US)
    return made


def opened(downlink: Downlink, f_cnt: int = 0, keys: tuple[bytes, bytes] = KEYS) -> tuple[frames.Data, bytes]:
    phy = base64.b64decode(downlink.txpk["data"])
    frame = frames.parse_data(phy)
    return frame, frames.open_data(EcbCipher(keys[0]), EcbCipher(keys[1]), phy, frame, f_cnt)


def test_copies_of_other_concentrators_are_one_reading_and_the_best_of_them_answers() -> None:
    network = server()
    network.on_pull(OTHER, START_US)
    phy = uplink(0)
    first = network.on_uplink(heard(phy, 1_000_000, snr_db=-3.0), START_US)
    second = network.on_uplink(heard(phy, 0xFFFFFF00, OTHER, snr_db=7.5), START_US + 50_000)
    assert (first.kind, second.kind, second.updates) == ("data", "copy", ())
    assert network.queue(DEV, 2, b"\x01", START_US, START_US + 10**9)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None
    assert downlink.gateway == OTHER
    # the counter of this concentrator wraps before RX1
    assert downlink.txpk["tmst"] == (0xFFFFFF00 + 1_000_000) & 0xFFFFFFFF
    assert network.answer(DEV, START_US + 210_000) is None


def test_a_downlink_is_what_the_packet_forwarder_and_the_device_expect() -> None:
    network = server()
    network.on_uplink(heard(uplink(5), 77, freq_hz=868_299_975, sf=9), START_US)
    network.queue(DEV, 2, b"\x01\x02", START_US, START_US + 10**9)
    network.queue(DEV, 2, b"\x03", START_US, START_US + 10**9)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None
    phy = base64.b64decode(downlink.txpk.pop("data"))
    assert downlink.txpk == {
        "imme": False,
        "tmst": 1_000_077,
        "freq": 868.3,
        "rfch": 0,
        "powe": 14,
        "modu": "LORA",
        "datr": "SF9BW125",
        "codr": "4/5",
        "ipol": True,
        "ncrc": True,
        "size": len(phy),
    }
    downlink.txpk["data"] = base64.b64encode(phy).decode()
    frame, payload = opened(downlink)
    assert (frame.f_port, payload, frame.f_ctrl & 0xF0) == (2, b"\x01\x02", frames.F_PENDING)
    assert downlink.updates[0].session is not None
    assert downlink.updates[0].session.f_cnt_down == 1
    assert downlink.airtime_us == airtime_us(len(phy), 9, crc=False)


def test_an_answer_too_late_for_rx1_goes_to_rx2_and_too_late_for_both_is_kept() -> None:
    network = server(abp(rx2_dr=3))
    for f_cnt, late_us, window in ((0, 200_000, 1), (1, 950_000, 2), (2, 1_950_000, None)):
        now_us = START_US + f_cnt * 10_000_000
        network.on_uplink(heard(uplink(f_cnt), 0), now_us)
        network.queue(DEV, 2, b"\x07", now_us, now_us + 10**9)
        downlink = network.answer(DEV, now_us + late_us)
        assert (downlink.window if downlink else None) == window
        if window == 2:
            assert downlink is not None
            assert (downlink.txpk["freq"], downlink.txpk["datr"], downlink.txpk["tmst"]) == (
                869.525,
                "SF9BW125",
                2_000_000,
            )
            assert downlink.txpk["powe"] == 27
    network.on_uplink(heard(uplink(3), 0), START_US + 60_000_000)
    assert network.answer(DEV, START_US + 60_200_000) is not None


def test_a_refused_rx1_is_given_again_for_rx2_and_then_to_another_concentrator() -> None:
    network = server(abp(rx2_dr=3))
    network.on_pull(OTHER, START_US)
    phy = uplink(0)
    network.on_uplink(heard(phy, 0, snr_db=5.0), START_US)
    network.on_uplink(heard(phy, 500, OTHER, snr_db=1.0), START_US + 10_000)
    network.queue(DEV, 2, b"\x07", START_US, START_US + 10**9)
    seen: list[tuple[str, int, str]] = []
    downlink = network.answer(DEV, START_US + 200_000)
    while downlink is not None:
        seen.append((downlink.gateway, downlink.window, downlink.txpk["data"]))
        downlink = network.on_tx_ack(downlink, "COLLISION_PACKET", START_US + 210_000)
    assert [(gateway, window) for gateway, window, _ in seen] == [(GATEWAY, 1), (GATEWAY, 2), (OTHER, 1), (OTHER, 2)]
    assert len({data for _, _, data in seen}) == 1
    # refused everywhere: it waits for the next uplink, under a new counter
    network.on_uplink(heard(uplink(1), 0), START_US + 60_000_000)
    again = network.answer(DEV, START_US + 60_200_000)
    assert again is not None
    assert opened(again, 1)[1] == b"\x07"
    assert network.on_tx_ack(again, None, START_US + 60_210_000) is None
    assert network.on_tx_ack(again, "TOO_LATE", START_US + 60_210_000) is None


def test_nothing_is_sent_where_no_concentrator_can_be_reached() -> None:
    network = server()
    network.on_uplink(heard(uplink(0), 0, OTHER), START_US)
    network.queue(DEV, 2, b"\x07", START_US, START_US + 10**9)
    assert network.answer(DEV, START_US + 200_000) is None
    later_us = START_US + 91_000_000
    network.on_uplink(heard(uplink(1), 0), later_us)
    assert network.answer(DEV, later_us + 200_000) is None
    stored = network.device(DEV)
    assert stored is not None and stored.session is not None and stored.session.f_cnt_down == 0


def test_invented_concentrators_do_not_push_out_real_ones_nor_fill_the_memory() -> None:
    network = server()
    for number in range(2000):
        network.on_pull(f"{number:016x}", START_US)
    network.on_uplink(heard(uplink(0, m_type=frames.CONFIRMED_UP)), START_US)
    assert network.answer(DEV, START_US + 200_000) is not None
    later_us = START_US + 100_000_000
    network.on_pull(OTHER, later_us)
    network.on_uplink(heard(uplink(1, m_type=frames.CONFIRMED_UP), 0, OTHER), later_us)
    assert network.answer(DEV, later_us + 200_000) is not None


def test_a_queue_is_bounded_and_forgets_what_is_too_old() -> None:
    network = server()
    assert not network.queue("0000000000000000", 2, b"x", START_US, START_US + 1)
    assert not network.queue(DEV, 0, b"x", START_US, START_US + 1)
    assert not network.queue(DEV, 224, b"x", START_US, START_US + 1)
    assert not network.queue(DEV, 2, b"", START_US, START_US + 1)
    assert not network.queue(DEV, 2, bytes(52), START_US, START_US + 1)
    assert sum(network.queue(DEV, 2, b"x", START_US, START_US + 1_000_000) for _ in range(100)) == 16
    network.on_uplink(heard(uplink(0), 0), START_US + 1_000_000)
    assert network.answer(DEV, START_US + 1_200_000) is None


def test_a_confirmed_uplink_is_acknowledged_and_an_unconfirmed_one_is_not_answered() -> None:
    network = server()
    result = network.on_uplink(heard(uplink(0), 0), START_US)
    assert (result.kind, result.confirmed, result.answer_due) == ("data", False, True)
    assert network.answer(DEV, START_US + 200_000) is None
    result = network.on_uplink(heard(uplink(1, m_type=frames.CONFIRMED_UP), 0), START_US + 5_000_000)
    assert result.confirmed
    downlink = network.answer(DEV, START_US + 5_200_000)
    assert downlink is not None
    frame, payload = opened(downlink)
    assert frame.f_ctrl & frames.ACK and frame.f_port is None and payload == b""


def test_a_device_that_asks_for_a_sign_of_life_gets_one() -> None:
    network = server()
    network.on_uplink(heard(uplink(0, f_ctrl=frames.ADR | frames.ADR_ACK_REQ), 0), START_US)
    assert network.answer(DEV, START_US + 200_000) is not None


@pytest.mark.parametrize("f_port", [0, 1])
def test_link_check_and_device_time_are_answered(f_port: int) -> None:
    network = server(trust_concentrator_clock=True)
    phy = uplink(0, b"\x02\x0d", 0) if f_port == 0 else uplink(0, b"x", 1, f_opts=b"\x02\x0d")
    result = network.on_uplink(heard(phy, 0, sf=10, snr_db=-5.0, time_us=1_600_000_000_500_000), START_US)
    assert result.payload == (b"" if f_port == 0 else b"x")
    assert result.heard_us == 1_600_000_000_500_000
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None
    # -5 dB is 10 above the floor of SF10; 1600000000 Unix is 1284035218 GPS
    assert opened(downlink)[0].f_opts == b"\x02\x0a\x01" + b"\x0d" + (1_284_035_218).to_bytes(4, "little") + b"\x80"


def test_nobody_is_told_the_time_by_a_clock_that_nobody_trusts() -> None:
    trusted = False
    network = server(clock_trusted=lambda: trusted)
    network.on_uplink(heard(uplink(0, b"x", 1, f_opts=b"\x02\x0d"), 0, sf=10, snr_db=-5.0), START_US)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None and opened(downlink)[0].f_opts == b"\x02\x0a\x01", "the link check only"
    trusted = True
    network.on_uplink(heard(uplink(1, b"x", 1, f_opts=b"\x0d"), 20_000_000), START_US + 20_000_000)
    downlink = network.answer(DEV, START_US + 20_200_000)
    assert downlink is not None and opened(downlink, 1)[0].f_opts[:1] == b"\x0d"


def test_the_first_mac_that_fits_decides_between_devices_of_one_address() -> None:
    mine, yours = (bytes([1]) + bytes(15), bytes([2]) + bytes(15)), (bytes([3]) + bytes(15), bytes([4]) + bytes(15))
    network = server(abp("aa" * 8, keys=mine), abp("bb" * 8, keys=yours))
    result = network.on_uplink(heard(uplink(9, b"yours", keys=yours)), START_US)
    assert (result.dev, result.payload) == ("bb" * 8, b"yours")
    assert network.on_uplink(heard(uplink(9, b"mine", keys=mine)), START_US).dev == "aa" * 8
    assert network.on_uplink(heard(uplink(9, keys=KEYS)), START_US).reason == "mic"
    network.remove_device("bb" * 8)
    network.remove_device("cc" * 8)
    assert network.on_uplink(heard(uplink(10, keys=yours)), START_US).reason == "mic"
    network.remove_device("aa" * 8)
    assert network.on_uplink(heard(uplink(10, keys=yours)), START_US).reason == "unknown address"


def test_counters_have_32_bits_and_end() -> None:
    network = server(abp(f_cnt_up=0xFFFE))
    for f_cnt in (0xFFFF, 0x10000, 0x1FFFF):
        assert network.on_uplink(heard(uplink(f_cnt)), START_US + f_cnt * 10**6).f_cnt == f_cnt
    last = server(abp(f_cnt_up=0xFFFFFFFE))
    assert last.on_uplink(heard(uplink(0xFFFFFFFF)), START_US).f_cnt == 0xFFFFFFFF
    assert last.on_uplink(heard(uplink(0)), START_US + 10**7).reason == "session exhausted"
    spent = server(abp(f_cnt_down=0x100000000))
    spent.on_uplink(heard(uplink(0, m_type=frames.CONFIRMED_UP)), START_US)
    assert spent.answer(DEV, START_US + 200_000) is None


def test_a_frame_whose_commit_failed_is_new_when_it_is_sent_again() -> None:
    network = server()
    network.on_uplink(heard(uplink(1)), START_US)
    committed = network.device(DEV)
    assert committed is not None
    phy = uplink(2, m_type=frames.CONFIRMED_UP)
    assert network.on_uplink(heard(phy), START_US + 10**6).kind == "data"
    network.restore_device(committed)
    assert network.answer(DEV, START_US + 1_200_000) is None
    again = network.on_uplink(heard(phy), START_US + 1_300_000)
    assert (again.kind, again.f_cnt) == ("data", 2)


def test_the_same_counter_with_other_bytes_is_refused() -> None:
    network = server()
    network.on_uplink(heard(uplink(4, b"one")), START_US)
    result = network.on_uplink(heard(uplink(4, b"two")), START_US + 2_000_000)
    assert (result.kind, result.reason, result.updates) == ("refused", "counter used twice", ())


def test_what_a_city_has_no_use_for_is_refused_with_a_reason() -> None:
    network = server()
    good = uplink(0)
    down = SessionCrypto(Session(0, ADDR, *KEYS)).build_down(frames.DATA_DOWN, 0, 0, b"", 1, b"x")
    cases: tuple[tuple[bytes, dict[str, Any], str], ...] = (
        (good, {"sf": 6}, "data rate"),
        (good, {"bw_hz": 250_000}, "data rate"),
        (good, {"freq_hz": 902_500_000}, "frequency"),
        (b"", {}, "no LoRaWAN R1 frame"),
        (good[:11], {}, "no LoRaWAN R1 frame"),
        (b"\x41" + good[1:], {}, "no LoRaWAN R1 frame"),
        (b"\xe0" + good[1:], {}, "message type"),
        (down, {}, "message type"),
        (b"\x00" + bytes(21), {}, "no join-request"),
        (b"\x00" + bytes(22), {}, "unknown device"),
        (good[:-1] + bytes((good[-1] ^ 1,)), {}, "mic"),
    )
    for phy, changes, reason in cases:
        result = network.on_uplink(heard(phy, **changes), START_US)
        assert (result.kind, result.reason, result.updates) == ("refused", reason, ())


def join_request(dev_nonce: int, app_key: bytes = APP_KEY, join_eui: str = "70b3d57ed0000000", dev: str = DEV) -> bytes:
    return frames.build_join_request(EcbCipher(app_key), bytes.fromhex(join_eui), bytes.fromhex(dev), dev_nonce)


def test_joins_are_refused_with_a_reason() -> None:
    network = server(row(), abp("cc" * 8), DeviceRow("dd" * 8, "70b3d57ed0000000", bytes(16)))
    for phy, reason in (
        (join_request(1, dev="ee" * 8), "unknown device"),
        (join_request(1, dev="cc" * 8), "device has no app_key"),
        (join_request(1, join_eui="0000000000000001"), "wrong join_eui"),
        (join_request(1, app_key=bytes(16)), "mic"),
        (join_request(1, app_key=bytes(16), dev="dd" * 8), "public key"),
    ):
        result = network.on_uplink(heard(phy), START_US)
        assert (result.kind, result.reason) == ("refused", reason)
    assert network.on_uplink(heard(join_request(7)), START_US).kind == "join"
    for nonce in (6, 0):
        assert network.on_uplink(heard(join_request(nonce)), START_US).reason == "dev_nonce used"
    assert network.on_uplink(heard(join_request(8)), START_US).kind == "join"


def test_an_identical_join_request_in_the_window_is_answered_again_with_the_same_accept() -> None:
    network = server(row())
    phy = join_request(1)
    first = network.on_uplink(heard(phy, 0), START_US)
    copy = network.on_uplink(heard(phy, 5, OTHER), START_US + 100_000)
    one = network.answer(DEV, START_US + 200_000)
    again = network.on_uplink(heard(phy, 4_000_000), START_US + 4_000_000)
    two = network.answer(DEV, START_US + 4_200_000)
    assert (first.kind, copy.kind, again.kind, again.answer_due, again.updates) == ("join", "copy", "copy", True, ())
    assert one is not None and two is not None
    assert one.txpk["data"] == two.txpk["data"]
    assert (one.txpk["tmst"], two.txpk["tmst"]) == (5_000_000, 9_000_000)
    assert network.on_uplink(heard(phy, 0), START_US + 60_000_000).reason == "dev_nonce used"


def test_an_accept_says_rx2_is_sf9_and_names_the_regions_channels() -> None:
    network = server(row())
    network.on_uplink(heard(join_request(1)), START_US)
    downlink = network.answer(DEV, START_US + 200_000)
    assert downlink is not None
    accept = frames.parse_join_accept(EcbCipher(APP_KEY), base64.b64decode(downlink.txpk["data"]))
    assert (accept.dl_settings, accept.rx_delay_s, len(accept.cf_list)) == (3, 1, 5)
    pending = downlink.updates[0].pending
    assert pending is not None
    assert (pending.number, pending.rx2_dr, pending.dev_addr) == (accept.join_nonce, 3, accept.dev_addr[::-1].hex())
    late = server(row())
    late.on_uplink(heard(join_request(1), 0), START_US)
    second = late.answer(DEV, START_US + 5_100_000)
    assert second is not None
    assert (second.txpk["datr"], second.txpk["freq"], second.txpk["tmst"]) == ("SF12BW125", 869.525, 6_000_000)


def test_join_nonces_rise_even_when_the_registry_was_lost() -> None:
    first = server(row()).on_uplink(heard(join_request(1)), START_US).session
    later_us = START_US + 120_000_000
    network = server(row())
    network.on_pull(GATEWAY, later_us)
    again = network.on_uplink(heard(join_request(9)), later_us).session
    assert first is not None and again is not None and again > first


def test_joins_of_a_whole_city_at_once_stay_within_the_duty_cycle_of_one_concentrator() -> None:
    devs = [f"{number:016x}" for number in range(1, 1201)]
    network = server(*(row(dev) for dev in devs))
    sent: list[tuple[str, int, int]] = []
    rows: dict[str, DeviceRow] = {}
    for number, dev in enumerate(devs):
        now_us = START_US + number * 2_000_000
        network.on_pull(GATEWAY, now_us)
        network.on_uplink(heard(join_request(1, dev=dev), number, sf=10), now_us)
        downlink = network.answer(dev, now_us + 200_000)
        if downlink is not None:
            band = "P" if downlink.txpk["freq"] == 869.525 else "M"
            sent.append((band, now_us + 200_000, downlink.airtime_us))
            rows.update({entry.dev: entry for entry in downlink.updates})
        if number == 900:
            # A restart in the middle forgets nothing that was sent.
            network = server(*(rows.get(each, network.device(each) or row(each)) for each in devs))
    limits = {"M": 36_000_000, "P": 360_000_000}
    for band, limit in limits.items():
        times = [(at_us, us) for name, at_us, us in sent if name == band]
        for start_us, _ in times[::20]:
            assert sum(us for at_us, us in times if start_us <= at_us < start_us + 3_600_000_000) <= limit
    assert sum(us for name, _, us in sent if name == "M") > 30_000_000
    assert sum(name == "P" for name, _, _ in sent) > 100


def test_the_ledger_of_a_concentrator_forgets_after_one_hour() -> None:
    ledger = DutyLedger()
    ledger.spend(GATEWAY, 868_100_000, 30_000_000, START_US)
    assert ledger.load_percent(GATEWAY, 868_300_000, 7_000_000, START_US + 3_599_000_000) > 100
    assert ledger.load_percent(GATEWAY, 867_100_000, 7_000_000, START_US) <= 100
    assert ledger.load_percent(OTHER, 868_300_000, 7_000_000, START_US) <= 100
    assert ledger.load_percent(GATEWAY, 868_300_000, 7_000_000, START_US + 3_600_000_000) <= 100
    assert ledger.load_percent(GATEWAY, 868_650_000, 1, START_US) > 100


def test_public_keys_are_known_and_refused_unless_allowed() -> None:
    for key in ("2B7E151628AED2A6ABF7158809CF4F3C", "00" * 16, "ff" * 16, "000102030405060708090a0b0c0d0e0f"):
        assert is_public_key(bytes.fromhex(key))
    assert not is_public_key(APP_KEY)
    public = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    keys = (public, KEYS[1])
    refused = server(abp(keys=keys)).on_uplink(heard(uplink(0, keys=keys)), START_US)
    assert (refused.reason, refused.dev) == ("public key", DEV)
    allowed = server(replace(abp(keys=keys), allow_public_key=True))
    assert allowed.on_uplink(heard(uplink(0, keys=keys)), START_US).kind == "data"


def test_rows_survive_json_and_bad_ones_are_refused_without_telling_a_key() -> None:
    air = pair()
    air.join()
    air.uplink(b"x", confirmed=True)
    stored = air.server.device(DEV)
    assert stored is not None and stored.sent
    assert DeviceRow.from_dict(stored.as_dict()) == stored
    good = stored.as_dict()
    for change in (
        {"dev": "XY"},
        {"dev": DEV.upper() + "A"},
        {"app_key": "zz"},
        {"app_key": "00"},
        {"counter": "loose"},
        {"last_dev_nonce": 70000},
        {"surprise": 1},
        {"sent": [[1]]},
        {"session": good["session"] | {"heard": [[1]]}},
        {"session": {"number": 1}},
        {"session": good["session"] | {"nwk_s_key": "q"}},
        {"session": good["session"] | {"f_cnt_up": -1}},
        {"session": good["session"] | {"rx2_dr": 9}},
    ):
        with pytest.raises(DeviceInvalid) as caught:
            DeviceRow.from_dict(good | change)
        assert APP_KEY.hex()[:6] not in str(caught.value)


FUZZED = server(abp("cc" * 8), row())


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300), st.integers(-5, 20), st.integers(-1, 2**33))
def test_no_bytes_make_the_server_fall(phy: bytes, sf: int, tmst_us: int) -> None:
    result = FUZZED.on_uplink(heard(phy, tmst_us, sf=sf), START_US)
    assert (result.kind, result.updates) == ("refused", ())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([uplink(3, b"reading 12 b"), uplink(3, b"", None), join_request(5)]), st.data())
def test_no_mutated_frame_is_accepted(phy: bytes, data: st.DataObject) -> None:
    network = server(abp("cc" * 8), row())
    broken = bytearray(phy)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        broken = broken[: data.draw(st.integers(0, len(broken)))]
    if bytes(broken) == phy:
        return
    result = network.on_uplink(heard(bytes(broken)), START_US)
    assert (result.kind, result.updates) == ("refused", ())
    assert network.on_uplink(heard(phy), START_US).kind in ("data", "join")
