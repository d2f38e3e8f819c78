"""Our device and a stranger: pamoja's network as its server, and pamoja's device beside it, frame for frame."""

from __future__ import annotations

import random
from typing import Any

import pytest
from brim.lorawan import eu868, frames
from brim.lorawan.eu868 import JOIN_CHANNELS_HZ
from pamoja._native import LoraLink, LorawanMacCommand, lorawan_mac_parse
from pamoja.gateway import Slot

from tests.interop.device_oracles import APP_KEY, Site, Twins, liblora_reads, loramsg, parts


def command(cid: int, **fields: Any) -> LorawanMacCommand:
    return LorawanMacCommand(cid, "Downlink", **fields)


def answers(read: dict[str, Any]) -> list[LorawanMacCommand]:
    return lorawan_mac_parse("Uplink", read["FOpts"])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("delay_s", [1, 5])
def test_a_session_at_a_strangers_site(seed: int, delay_s: int) -> None:
    site = Site(seed, receive_delay_us=delay_s * 1_000_000)
    event = site.join()
    assert event.outcome == "joined" and site.in_a_window(event.accept)
    assert site.mac.on_accept(event.accept.payload) is not None and site.mac.rx1_delay_s == delay_s
    source = random.Random(seed)
    for f_cnt in range(20):
        payload, confirmed = source.randbytes(source.randrange(1, 28)), source.random() < 0.3
        event, read = site.uplink(payload, f_cnt, confirmed)
        assert (event.outcome, event.fcnt, event.fport, event.payload) == ("data", f_cnt, 1, payload)
        assert event.confirmed == confirmed
        assert (read["FCnt"], read["FPort"], read["FRMPayload"]) == (f_cnt, 1, payload)
        if source.random() < 0.5:
            answer = site.network.answer(event.dev_addr, event.slot, 2, payload[::-1])
            assert site.in_a_window(answer)
            assert site.mac.on_frame(answer.payload, 5) is not None
            assert site.mac.received == (2, payload[::-1])
            assert site.mac.on_frame(answer.payload, 5) is None
        site.mac.advance(3_600_000)


@pytest.mark.parametrize(
    ("orders", "said", "then"),
    [
        (
            [command(3, data_rate=3, tx_power=2, channel_mask=5, mask_control=0, transmissions=2)],
            {"power_ack": True, "data_rate_ack": True, "channel_mask_ack": True},
            {"dr": 3, "power": 2, "mask": 5, "nb_trans": 2},
        ),
        (
            [command(3, data_rate=3, tx_power=2, channel_mask=0x100, mask_control=0, transmissions=2)],
            {"power_ack": True, "data_rate_ack": True, "channel_mask_ack": False},
            {"dr": 5, "power": 0, "mask": 7, "nb_trans": 1},
        ),
        ([command(4, max_duty_cycle=7)], {}, {"duty_shift": 7}),
        (
            [command(5, rx1_offset=2, rx2_data_rate=3, frequency_hz=869_525_000)],
            {"rx1_offset_ack": True, "rx2_data_rate_ack": True, "channel_ack": True},
            {"rx1_offset": 2, "rx2_dr": 3},
        ),
        ([command(6)], {"battery": 255, "snr_margin": -9}, {}),
        (
            [command(7, index=3, frequency_hz=867_100_000, max_data_rate=5, min_data_rate=0)],
            {"data_rate_range_ok": True, "frequency_ok": True},
            {"mask": 15},
        ),
        ([command(8, delay=5)], {}, {"rx1_delay_s": 5}),
        (
            [command(10, index=1, frequency_hz=868_800_000)],
            {"uplink_frequency_exists": True, "frequency_ok": True},
            {},
        ),
    ],
    ids=lambda value: str(value[0].kind) if isinstance(value, list) else "",
)
def test_a_strangers_order_is_obeyed_and_its_answer_understood(
    orders: list[LorawanMacCommand], said: dict[str, Any], then: dict[str, Any]
) -> None:
    site = Site()
    site.mac.on_accept(site.join().accept.payload)
    event, _ = site.uplink(b"one", 0)
    order = site.network.command(event.dev_addr, event.slot, orders)
    assert site.in_a_window(order)
    assert site.mac.on_frame(order.payload, -9) is not None
    event, read = site.uplink(b"two", 1)
    assert event.payload == b"two"
    (answer,) = answers(read)
    assert answer.cid == orders[0].cid
    assert {name: getattr(answer, name) for name in said} == said
    assert {name: getattr(site.mac, name) for name in then} == then


def test_windows_that_a_stranger_has_moved_are_where_we_listen() -> None:
    site = Site()
    site.mac.on_accept(site.join().accept.payload)
    event, _ = site.uplink(b"one", 0)
    orders = [command(10, index=index, frequency_hz=863_100_000 + 200_000 * index) for index in range(3)]
    site.mac.on_frame(site.network.command(event.dev_addr, event.slot, orders).payload, 5)
    site.uplink(b"two", 1)
    index = JOIN_CHANNELS_HZ.index(site.sent[1])
    assert site.windows[0][2] == 863_100_000 + 200_000 * index


@pytest.mark.parametrize(("setup", "sf"), [(None, 12), (b"\x05\x03\xd2\xad\x84", 9)])
def test_an_answer_in_the_second_window_is_where_we_listen(setup: bytes | None, sf: int) -> None:
    site = Site()
    site.mac.on_accept(site.join().accept.payload)
    event, _ = site.uplink(b"one", 0)
    if setup:
        orders = [command(5, rx1_offset=0, rx2_data_rate=3, frequency_hz=869_525_000)]
        assert orders[0].encode() == setup
        site.mac.on_frame(site.network.command(event.dev_addr, event.slot, orders).payload, 5)
    event, read = site.uplink(b"two", 1)
    assert bool(read["FOpts"]) == bool(setup)
    second = Slot(event.slot.timestamp_us + 1_000_000, 869_525_000, LoraLink(sf, 125_000))
    answer = site.network.answer(event.dev_addr, second, 2, b"late")
    assert site.in_a_window(answer) and site.mac.on_frame(answer.payload, 5) is not None
    assert site.mac.received == (2, b"late")


def test_questions_of_the_bin_are_understood() -> None:
    site = Site()
    site.mac.on_accept(site.join().accept.payload)
    site.mac.ask_link_check()
    site.mac.ask_time()
    event, read = site.uplink(b"one", 0)
    assert [question.kind for question in answers(read)] == ["link_check_req", "device_time_req"]
    orders = [command(2, margin=17, gateways=3), command(13, seconds=1_400_000_000, fraction=128)]
    assert site.mac.on_frame(site.network.command(event.dev_addr, event.slot, orders).payload, 5) is not None
    assert site.mac.link_check == (17, 3) and site.mac.network_time == (1_400_000_000, 128)


def frequency_hz(source: random.Random) -> int:
    """Any that both know: pamoja takes what its radio could tune to, we take the region's sub-bands."""
    return source.choice((867_100_000, 867_300_000, 868_100_000, 869_525_000, 863_000_000, 0)) or (
        source.randrange(8_650_000, 8_686_000) * 100
    )


def order(source: random.Random) -> bytes:
    """A MAC command, good or refused, on which LoRaWAN 1.0.4 leaves no choice.

    Left out is what pamoja takes from RP002-1.0.5 and we refuse: DR6 and up, more than 16 channels.
    """
    cid = source.choice((3, 3, 3, 4, 5, 6, 7, 7, 8, 10))
    freq = (frequency_hz(source) // 100).to_bytes(3, "little")
    if cid == 3:
        rate_power = source.choice((0x50, 0x51, 0x0F, 0xFF, 0x21, 0x57, 0x58, 0x5F, 0xF8))
        mask = source.choice((7, 1, 0, 15, 0xFFFF, 6, source.randrange(65_536)))
        control = source.choice((0, 1, 2, 0x60, 0x61, 0x0F))
        return bytes((3, rate_power)) + mask.to_bytes(2, "little") + bytes((control,))
    if cid == 4:
        return bytes((4, source.randrange(4)))
    if cid == 5:
        return bytes((5, source.choice((0, 0x50, 0x25, 0x53, 0x63, 0x70, 0x15)))) + freq
    if cid == 6:
        return b"\x06"
    if cid == 7:
        rates = source.choice((0x50, 0x50, 0x30, 0x42, 0x11, 0x05))
        return bytes((7, source.choice((0, 1, 2, 3, 4, 7, 15)))) + freq + bytes((rates,))
    if cid == 8:
        return bytes((8, source.randrange(16)))
    return bytes((10, source.choice((0, 1, 2, 3, 4, 7, 15)))) + freq


def differences(twins: Twins, actions: list[Any], theirs: Any, f_cnt: int) -> list[str]:
    transmission, windows = parts(actions)
    found = []
    if liblora_reads(transmission[4], f_cnt, twins.keys)["FRMPayload"] != b"report":
        found.append("payload")
    if transmission[4] != theirs.frame:
        pair = [liblora_reads(phy, f_cnt, twins.keys)["FOpts"].hex() for phy in (transmission[4], theirs.frame)]
        found.append(f"frames, FOpts {pair}")
    if transmission[2] != theirs.link.spreading_factor:
        found.append("SF")
    for window, other in zip(windows, (theirs.rx1, theirs.rx2), strict=True):
        if (window[1] * 1000, window[3]) != (other.delay_us, other.link.spreading_factor):
            found.append(f"window {window[1:]}")
    if windows[1][2] != theirs.rx2.frequency_hz:
        found.append("RX2")
    if twins.ours.nb_trans != twins.theirs.transmissions:
        found.append("NbTrans")
    return found


@pytest.mark.parametrize("block", range(8))
def test_two_devices_under_the_same_orders_say_the_same_and_listen_alike(block: int) -> None:
    for seed in range(50 * block, 50 * block + 50):
        source = random.Random(seed)
        twins = Twins(seed)
        for f_cnt in range(12):
            orders = b"".join(order(source) for _ in range(source.randrange(4)))
            assert differences(twins, *twins.uplink(b"report"), f_cnt) == [], (seed, f_cnt)
            if source.random() < 0.85:
                twins.downlink(orders, confirmed=source.random() < 0.3)
            else:
                twins.silence()


@pytest.mark.parametrize("first", [0xFFF8, 0x1_FFF8, 0x7FFF_FFF8])
def test_counters_go_on_beyond_16_bits(first: int) -> None:
    twins = Twins(3, first, first)
    for f_cnt in range(first, first + 16):
        assert differences(twins, *twins.uplink(b"report"), f_cnt) == []
        twins.downlink(b"\x06")


def test_two_devices_that_nobody_answers_fall_back_alike() -> None:
    """Asking first, then full power, then slower rates, each 32 frames; theirs is one frame ahead all the way.

    It counts the frame that it sends, we count those that went unanswered. At the end it stops asking; we go on, as
    table 9 of LoRaWAN 1.0.4 has it.
    """
    twins = Twins(1)
    twins.uplink(b"x")
    twins.downlink(bytes.fromhex("0354070002"))
    ours, theirs = [], []
    for _ in range(340):
        actions, other = twins.uplink(b"report")
        _, _, sf, erp_dbm, phy = parts(actions)[0]
        ours.append((bool(phy[5] & frames.ADR_ACK_REQ), sf, erp_dbm))
        theirs.append((bool(other.frame[5] & frames.ADR_ACK_REQ), other.link.spreading_factor, other.output_dbm - 2))
        twins.silence()
    assert ours[1:289] == theirs[:288] and theirs[288] == (False, 12, 14)
    assert [ours.index(each) for each in sorted(set(ours), key=ours.index)] == [0, 64, 96, 128, 160, 192, 224, 256]
    assert (twins.ours.dr, twins.ours.power, twins.ours.nb_trans) == (0, 0, 1)


def test_a_repeat_is_the_same_frame_and_the_acknowledgement_is_understood() -> None:
    twins = Twins(1)
    actions, theirs = twins.uplink(b"alarm", confirmed=True)
    ours = parts(actions)[0][4]
    assert ours == theirs.frame == parts(twins.ours.repeat())[0][4]
    assert liblora_reads(ours, 0, twins.keys)["FRMPayload"] == b"alarm"
    twins.downlink(b"", ack=True)
    assert twins.ours.acknowledged


@pytest.mark.parametrize("seed", range(40))
def test_an_accept_that_liblora_made_gives_the_session_it_means(seed: int) -> None:
    source = random.Random(seed)
    mac = Site(seed).mac
    mac.join()
    net_id, nonce = source.randrange(1 << 24), source.randrange(1, 1 << 24)
    channels = [source.randrange(8_650_000, 8_686_000) * 100 for _ in range(5)] if seed % 2 else []
    cf_list = b"".join((hz // 100).to_bytes(3, "little") for hz in channels) + b"\0" if channels else b""
    addr = source.randrange(1 << 31)
    settings = source.randrange(6) << 4 | source.randrange(6)
    phy = loramsg.pack_jacc(APP_KEY, nonce, net_id, addr, settings, seed % 16, cf_list, devnonce=1)
    assert mac.on_accept(phy) is not None
    assert [hz for hz in mac.channels if hz] == [*eu868.JOIN_CHANNELS_HZ, *channels]
    assert (mac.rx1_offset, mac.rx2_dr, mac.rx1_delay_s) == (settings >> 4, settings & 15, seed % 16 or 1)
    keys = [loramsg.crypto.derive(APP_KEY, 1, nonce, net_id, kind) for kind in (1, 2)]
    uplink = parts(mac.send(1, b"hello"))[0][4]
    assert frames.parse_data(uplink).dev_addr == addr.to_bytes(4, "little")
    assert liblora_reads(uplink, 0, (keys[0], keys[1]))["FRMPayload"] == b"hello"
