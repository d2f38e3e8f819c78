"""What a network may order with MAC commands, what the bin asks, and how it answers (LoRaWAN 1.0.4, chapter 5)."""

from brim.lorawan import eu868

from tests.device.lorawan_bench import Flash, Network, fails, joined, make, run


def answers_to(commands):
    flash = Flash()
    mac, network = joined(flash)
    run(flash, mac.send(1, b"x"))
    down = network.down(0, f_opts=commands) if len(commands) <= 15 else network.down(0, 0, commands)
    run(flash, mac.on_frame(down, -7))
    frame, _ = network.open(run(flash, mac.send(1, b"x"))[0][4], 1)
    return mac, frame.f_opts


def test_link_adr_is_obeyed_as_a_block_or_not_at_all():
    mac, answer = answers_to(bytes.fromhex("0332070002"))
    assert answer == b"\x03\x07" and (mac.dr, mac.power, mac.mask, mac.nb_trans) == (3, 2, 7, 2)
    # a channel that does not exist, DR6, and TXPower 8: each refused by its bit, and nothing is changed
    mac, answer = answers_to(bytes.fromhex("0368070001"))
    assert answer == b"\x03\x01" and (mac.dr, mac.power, mac.mask, mac.nb_trans) == (5, 0, 7, 1)
    mac, answer = answers_to(bytes.fromhex("0332ff0001") + bytes.fromhex("0332070001"))
    assert answer == b"\x03\x06\x03\x06" and (mac.dr, mac.power, mac.mask, mac.nb_trans) == (5, 0, 7, 1)
    mac, answer = answers_to(bytes.fromhex("03ff050000"))
    assert answer == b"\x03\x07" and (mac.dr, mac.power, mac.mask, mac.nb_trans) == (5, 0, 5, 1)


def test_channels_and_windows_are_changed_where_the_region_allows_it():
    mac, answer = answers_to(bytes.fromhex("0703184f8450"))
    assert answer == b"\x07\x03" and mac.channels[3] == 867100000 and mac.mask == 15
    mac, answer = answers_to(bytes.fromhex("0700184f8450") + bytes.fromhex("070340e68950"))
    assert answer == b"\x07\x00\x07\x02" and mac.channels[0] == 868100000 and mac.channels[3] == 0
    mac, answer = answers_to(bytes.fromhex("0523d2ad84"))
    assert answer == b"\x05\x07" and (mac.rx1_offset, mac.rx2_dr, mac.rx2_hz) == (2, 3, 869525000)
    mac, answer = answers_to(bytes.fromhex("056fd2ad84"))
    assert answer == b"\x05\x01" and (mac.rx1_offset, mac.rx2_dr) == (0, 3)
    assert answers_to(b"\x08\x05")[0].rx1_delay_s == 5
    assert answers_to(b"\x06")[1] == b"\x06\xff" + bytes((-7 & 63,))


def test_a_network_may_answer_a_channel_on_another_frequency():
    # DlChannelReq: channel 1 to 868.8 MHz, channel 9 which is none, and a frequency outside of the region
    mac, answer = answers_to(bytes.fromhex("0a01809184") + bytes.fromhex("0a09809184") + bytes.fromhex("0a0118938a"))
    assert answer == b"\x0a\x03\x0a\x01\x0a\x02"
    again = make(Flash(), mac.state())
    seen = {}
    for turn in range(3):
        again._random = lambda n, turn=turn: bytes((turn,)) * n
        actions = again.send(1, b"x")
        sent, windows = run(Flash(), actions)
        assert windows[1][2] == 869525000
        seen[sent[1]] = windows[0][2]
    assert seen == {868100000: 868100000, 868300000: 868800000, 868500000: 868500000}
    # A new channel in its place begins with its own frequency.
    mac, answer = answers_to(
        bytes.fromhex("0703184f8450") + bytes.fromhex("0a03809184") + bytes.fromhex("0703184f8450")
    )
    assert answer == b"\x07\x03\x0a\x03\x07\x03" and mac.rx1_hz[3] == 0


def test_a_channel_is_used_at_its_data_rates_only():
    # channel 3: 867.1 MHz at DR0 to DR2; then channel 3 alone, at DR5, which it does not carry
    mac, answer = answers_to(bytes.fromhex("0703184f8420") + bytes.fromhex("0350080001"))
    assert answer == b"\x07\x03\x03\x05" and mac.mask == 15
    assert mac.usable(mac.mask, 5) == [0, 1, 2] and mac.usable(mac.mask, 2) == [0, 1, 2, 3]
    mac, answer = answers_to(bytes.fromhex("0703184f8420") + bytes.fromhex("0320080001"))
    assert answer == b"\x07\x03\x03\x07" and mac.mask == 8
    # Where no channel carries the rate, the join channels do.
    mac.dr = 5
    assert run(Flash(), mac.send(1, b"x"))[0][1] in eu868.JOIN_CHANNELS_HZ
    for rates in (0x60, 0x05, 0x15):
        mac, answer = answers_to(bytes.fromhex("0703184f84") + bytes((rates,)))
        assert answer == b"\x07\x01" and mac.channels[3] == 0


def test_the_bin_may_ask_for_its_link_and_for_the_time():
    flash = Flash()
    mac, network = joined(flash)
    mac.ask_link_check()
    mac.ask_time()
    mac = make(flash, mac.state())
    frame, _ = network.open(run(flash, mac.send(1, b"x"))[0][4], 0)
    assert frame.f_opts == b"\x02\x0d" and mac.link_check is None and mac.network_time is None
    assert mac.on_frame(network.down(0, f_opts=b"\x02\x14\x03"), 0)
    assert mac.link_check == (20, 3)
    frame, _ = network.open(run(flash, mac.send(1, b"x"))[0][4], 1)
    assert frame.f_opts == b""
    assert mac.on_frame(network.down(1, f_opts=b"\x0d" + (1400000000).to_bytes(4, "little") + b"\x80"), 0)
    assert mac.network_time == (1400000000, 128)
    # One question fits, the other waits for the next uplink.
    mac.ask_link_check()
    mac.ask_time()
    mac.dr = 0
    assert network.open(run(flash, mac.send(1, bytes(50)))[0][4], 2)[0].f_opts == b"\x02"
    assert network.open(run(flash, mac.send(1, bytes(12)))[0][4], 3)[0].f_opts == b"\x0d"


def test_answers_keep_their_order_and_what_does_not_fit_is_cut_at_its_end_though_obeyed():
    mac, answer = answers_to(b"\x06" * 4 + b"\x08\x03" + b"\x06" + bytes.fromhex("0523d2ad84"))
    assert answer == b"\x06\xff\x39" * 4 + b"\x08"
    assert mac.rx1_delay_s == 3 and mac.rx2_dr == 3
    mac, answer = answers_to(b"\x08\x03\x06\x04\x00\x06")
    assert answer == b"\x08\x06\xff\x39\x04\x06\xff\x39"


def test_a_duty_cycle_of_the_network_holds_over_all_bands_but_not_for_a_join():
    flash = Flash()
    mac, network = joined(flash)
    # 1/2^13 of an hour: 439 ms
    run(flash, mac.on_frame(network.down(0, f_opts=b"\x04\x0d"), 0))
    run(flash, mac.send(1, b"x"))
    mac.dr = 0
    assert fails("duty", mac.send, 1, b"x")
    run(flash, mac.join())


def test_an_answer_about_windows_is_repeated_until_a_downlink_comes():
    mac, answer = answers_to(b"\x08\x05\x06")
    flash = Flash()
    network = Network(1, 1)
    assert answer == b"\x08\x06\xff\x39"
    frame, _ = network.open(run(flash, mac.send(1, b"x"))[0][4], 2)
    assert frame.f_opts == b"\x08"
    run(flash, mac.on_frame(network.down(1), 0))
    frame, _ = network.open(run(flash, mac.send(1, b"x"))[0][4], 3)
    assert frame.f_opts == b""


def test_what_is_too_long_for_the_rate_is_refused_and_answers_wait_for_room():
    flash = Flash()
    mac, network = joined(flash)
    assert fails("no session", make(Flash()).send, 1, b"x")
    mac.dr = 0
    assert fails("too long", mac.send, 1, bytes(52))
    run(flash, mac.on_frame(network.down(0, f_opts=b"\x06"), 0))
    assert network.open(run(flash, mac.send(1, bytes(51)))[0][4], 0)[0].f_opts == b""
    assert network.open(run(flash, mac.send(1, bytes(12)))[0][4], 1)[0].f_opts[:1] == b"\x06"
