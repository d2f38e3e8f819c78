"""The device MAC: what it sends, when it listens, what it believes, and what it has written down before."""

from brim.lorawan import eu868, frames
from brim.lorawan.crypto import session_keys
from brim.lorawan.mac import Mac, MacError

try:
    from cryptolib import aes

    class Cipher:
        def __init__(self, key):
            self.encrypt = aes(key, 1).encrypt
            self.decrypt = aes(key, 1).decrypt

except ImportError:
    from brim_gateway.network.session import EcbCipher as Cipher

DEV_EUI = bytes.fromhex("70b3d57ed0000001")
JOIN_EUI = bytes.fromhex("70b3d57ed0000000")
APP_KEY = bytes.fromhex("6f1e2d3c4b5a69788796a5b4c3d2e1f0")
ADDR = b"\x44\x33\x22\x01"


class Flash:
    def __init__(self):
        self.blob = None
        self.writes = 0

    def load(self):
        return self.blob


def make(flash, kept=None, app_key=APP_KEY, step=64):
    return Mac(DEV_EUI, JOIN_EUI, app_key, Cipher, lambda n: bytes(n), flash.load, kept, step)


def run(flash, actions):
    """Carry out, as a link does; gives the transmission and the windows."""
    sent, windows = None, []
    for action in actions:
        if action[0] == "persist":
            assert sent is None
            flash.blob = action[1]
            flash.writes += 1
        elif action[0] == "transmit":
            sent = action
        else:
            windows.append(action)
    return sent, windows


def accept(join_nonce, dl_settings=3, rx_delay_s=1, cf_list=None):
    made = frames.Accept(join_nonce, 0x13, ADDR, dl_settings, rx_delay_s, cf_list or [])
    return frames.build_join_accept(Cipher(APP_KEY), made)


class Network:
    """The other end's keys after a join with this nonce."""

    def __init__(self, join_nonce, dev_nonce):
        keys = session_keys(Cipher(APP_KEY), join_nonce, 0x13, dev_nonce)
        self.net, self.app = Cipher(keys[0]), Cipher(keys[1])

    def down(self, f_cnt, f_port=None, payload=b"", f_opts=b"", f_ctrl=0, m_type=frames.DATA_DOWN):
        return frames.build_data(m_type, self.net, self.app, ADDR, f_ctrl, f_cnt, f_opts, f_port, payload)

    def open(self, phy, f_cnt):
        frame = frames.parse_data(phy)
        return frame, frames.open_data(self.net, self.app, phy, frame, f_cnt)


def joined(flash, step=64, dl_settings=3, cf_list=None):
    mac = make(flash, step=step)
    run(flash, mac.join())
    more = mac.on_accept(accept(1, dl_settings, 1, cf_list))
    run(flash, more)
    return mac, Network(1, 1)


def fails(word, call, *args):
    try:
        call(*args)
    except MacError as error:
        return str(error) == word
    return False


def test_a_join_request_is_sent_with_both_windows_and_its_nonce_is_in_flash_first():
    flash = Flash()
    mac = make(flash)
    actions = mac.join()
    assert [action[0] for action in actions] == ["persist", "transmit", "listen", "listen"]
    sent, windows = run(flash, actions)
    assert frames.parse_join_request(sent[4]) == (JOIN_EUI, DEV_EUI, 1)
    assert sent[1] in eu868.JOIN_CHANNELS_HZ and sent[2] == 7 and sent[3] == 14
    assert windows == [("listen", 5000, sent[1], 7), ("listen", 6000, 869525000, 12)]
    again = make(flash)
    again.advance(again.join_wait_ms())
    assert frames.parse_join_request(run(flash, again.join())[0][4])[2] == 2


def test_an_accept_gives_a_session_with_the_networks_settings():
    flash = Flash()
    mac, network = joined(flash, cf_list=[867100000, 867300000, 867500000, 867700000, 867900000])
    assert mac.joined
    sent, windows = run(flash, mac.send(1, b"hello"))
    frame, payload = network.open(sent[4], 0)
    assert payload == b"hello" and frame.f_port == 1 and frame.dev_addr == ADDR and frame.f_ctrl == frames.ADR
    assert windows == [("listen", 1000, sent[1], 7), ("listen", 2000, 869525000, 9)]
    assert len([hz for hz in mac.channels if hz]) == 8 and mac.mask == 0xFF


def test_an_accept_that_is_not_ours_or_comes_twice_is_refused():
    flash = Flash()
    mac = make(flash)
    run(flash, mac.join())
    good = accept(5)
    assert mac.on_accept(good[:-1] + bytes((good[-1] ^ 1,))) is None
    assert mac.on_accept(bytes(17)) is None
    assert mac.on_accept(accept(5, dl_settings=0x80)) is None
    assert mac.on_accept(accept(5, dl_settings=0x0F)) is None
    assert not mac.joined
    run(flash, mac.on_accept(good))
    mac.advance(10000000)
    run(flash, mac.join())
    assert mac.on_accept(good) is None
    assert mac.on_accept(accept(6)) is not None


def test_a_failed_join_backs_off_ever_longer_and_leaves_an_old_session_usable():
    flash = Flash()
    mac, network = joined(flash)
    run(flash, mac.join())
    assert fails("wait", mac.join)
    assert mac.join_wait_ms() >= 6100
    sent, _ = run(flash, mac.send(1, b"x"))
    assert network.open(sent[4], 0)[1] == b"x"
    spent = {}
    mac = make(Flash())
    for minute in range(35 * 60):
        if not mac.join_wait_ms():
            try:
                sent, _ = run(flash, mac.join())
            except MacError:
                continue
            hour = minute // 60
            part = 0 if hour < 1 else 1 if hour < 11 else 2
            from brim.lorawan.airtime import airtime_us

            spent[part] = spent.get(part, 0) + airtime_us(23, sent[2])
        mac.advance(60000)
    assert spent[0] <= 36000000 and spent[1] <= 36000000 and spent[2] <= 8700000
    assert all([spent.get(part, 0) > 0 for part in (0, 1, 2)])


def test_counters_survive_sleep_exactly_and_a_power_cut_with_a_gap():
    flash = Flash()
    mac, network = joined(flash)
    for f_cnt in range(3):
        sent, _ = run(flash, mac.send(1, b"x"))
        assert network.open(sent[4], f_cnt)
    kept = mac.state()
    assert len(kept) <= 300
    sent, _ = run(flash, make(flash, kept).send(1, b"y"))
    assert network.open(sent[4], 3)[1] == b"y"
    sent, _ = run(flash, make(flash).send(1, b"z"))
    assert network.open(sent[4], 64)[1] == b"z"
    sent, _ = run(flash, make(flash).send(1, b"z"))
    assert network.open(sent[4], 128)[1] == b"z"


def test_flash_is_written_once_in_64_uplinks():
    flash = Flash()
    mac, _ = joined(flash)
    before = flash.writes
    for _ in range(64):
        run(flash, mac.send(1, b"x"))
        mac.advance(900000)
    assert flash.writes - before <= 3


def test_a_damaged_or_foreign_state_is_not_believed():
    flash = Flash()
    mac, network = joined(flash)
    run(flash, mac.send(1, b"x"))
    kept = mac.state()
    for bad in (b"", kept[:-1], kept[:40] + bytes((kept[40] ^ 1,)) + kept[41:], bytes(len(kept))):
        sent, _ = run(Flash(), make(flash, bad).send(1, b"z"))
        assert network.open(sent[4], 64)
    other = make(flash, kept, bytes(range(16)))
    assert not other.joined
    sent, _ = run(Flash(), other.join())
    assert frames.parse_join_request(sent[4])[2] == 2


def test_a_downlink_is_taken_once_and_its_counter_is_in_flash():
    flash = Flash()
    mac, network = joined(flash)
    run(flash, mac.send(1, b"x"))
    phy = network.down(0, 2, b"\x01\x02", f_ctrl=frames.ACK | frames.F_PENDING)
    assert mac.on_frame(phy[:-1] + bytes((phy[-1] ^ 1,)), 0) is None
    assert mac.on_frame(phy[:6] + b"\x01" + phy[7:], 0) is None
    more = mac.on_frame(phy, 5)
    assert more[0][0] == "persist"
    run(flash, more)
    assert mac.received == (2, b"\x01\x02") and mac.acknowledged and mac.more_pending
    assert mac.on_frame(phy, 5) is None
    again = make(flash)
    run(flash, again.send(1, b"x"))
    assert again.on_frame(phy, 5) is None
    assert again.on_frame(network.down(70000, 2, b"x"), 5) is None
    assert again.on_frame(network.down(3, 2, b"x"), 5) is not None


def test_a_confirmed_downlink_is_acknowledged_in_the_next_uplink_only():
    flash = Flash()
    mac, network = joined(flash)
    run(flash, mac.send(1, b"x"))
    run(flash, mac.on_frame(network.down(0, 2, b"\x01", m_type=frames.CONFIRMED_DOWN), 0))
    assert network.open(run(flash, mac.send(1, b"x"))[0][4], 1)[0].f_ctrl & frames.ACK
    assert not network.open(run(flash, mac.send(1, b"x"))[0][4], 2)[0].f_ctrl & frames.ACK


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


def test_the_first_join_of_a_boot_waits_at_random_unless_somebody_waits_for_it():
    waits = set()
    for each in (b"\x00\x00", b"\x00\x80", b"\xff\xff"):
        mac = Mac(DEV_EUI, JOIN_EUI, APP_KEY, Cipher, lambda n, each=each: (each * n)[:n], Flash().load, None)
        waits.add(mac.join_wait_ms())
        kept = make(Flash(), mac.state())
        assert kept.join_wait_ms() == mac.join_wait_ms()
    assert sorted(waits) == [0, 32768 * 54, 65535 * 54]
    assert fails("wait", mac.join)
    mac.hurry()
    run(Flash(), mac.join())
    # After a try it is back-off, and that holds whoever waits.
    mac.hurry()
    assert fails("wait", mac.join)


def test_a_bin_that_dies_of_its_own_join_request_does_not_send_them_faster():
    from brim.lorawan.airtime import airtime_us

    flash = Flash()
    spent_us = 0
    for _ in range(3600):
        # The supply lasts for 10 s.
        mac = make(flash)
        mac.advance(10000)
        if not mac.join_wait_ms():
            spent_us += airtime_us(23, run(flash, mac.join())[0][2])
    assert 0 < spent_us <= 8700000 * 10 // 24


def test_a_rejoin_waits_for_silent_days_and_for_a_random_time():
    flash = Flash()
    mac, _ = joined(flash)
    mac._patience = 10
    for _ in range(64 + 8 * 32):
        assert not mac.lost()
        mac._ledger = type(mac._ledger)()
        run(flash, mac.send(1, b"x"))
    assert mac.dr == 0 and not mac.lost()
    mac.advance(3 * 86400000)
    assert not mac.lost()
    mac = make(flash, mac.state())
    mac.advance(10 * 720000)
    assert mac.lost()


def test_a_state_of_the_version_before_loses_the_session_and_no_number():
    import struct

    flash = Flash()
    mac, _ = joined(flash)
    head = struct.pack("<BIII6HB", 1, mac._owner, 41, 7, 0, 0, 9000, 0, 0, 0, 1)
    flash.blob = head + bytes(121)
    old = make(flash)
    assert not old.joined
    sent, _ = run(flash, old.join())
    assert frames.parse_join_request(sent[4])[2] == 41
    assert old.on_accept(accept(7)) is None and old.on_accept(accept(8)) is not None
    assert old._ledger.used_ms(2) >= 9000


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


def test_silence_leads_to_full_power_slower_rates_and_at_last_a_new_join():
    flash = Flash()
    mac, network = joined(flash)
    mac.power = 3
    asked = {}
    for f_cnt in range(700):
        if f_cnt == 300:
            assert mac.dr == 0
        frame, _ = network.open(run(flash, mac.send(1, b"x"))[0][4], f_cnt)
        if frame.f_ctrl & frames.ADR_ACK_REQ and "first" not in asked:
            asked["first"] = f_cnt
        if mac.power == 0 and "power" not in asked:
            asked["power"] = f_cnt + 1
        if mac.dr == 4 and "rate" not in asked:
            asked["rate"] = f_cnt + 1
        if mac.lost():
            break
        mac.advance(3600000)
    assert asked == {"first": 64, "power": 96, "rate": 128}
    assert mac.lost()
    run(flash, mac.on_frame(network.down(0), 0))
    assert not mac.lost()


def test_a_full_duty_cycle_is_a_fault_that_changes_nothing():
    flash = Flash()
    mac, network = joined(flash)
    mac.dr = 0
    count = 0
    while True:
        try:
            sent, _ = run(flash, mac.send(1, bytes(12)))
        except MacError as error:
            assert str(error) == "duty"
            break
        count += 1
    assert count == 36000 // 1483
    mac.advance(3600000 + 720000)
    sent, _ = run(flash, mac.send(1, b"again"))
    assert network.open(sent[4], count)[1] == b"again"


def test_after_a_power_cut_reserved_airtime_counts_as_spent():
    flash = Flash()
    mac, _ = joined(flash)
    mac.dr = 0
    before = 0
    while not fails("duty", mac.send, 1, bytes(12)):
        run(flash, mac._transmit([0], None))
        before += 1
    assert before > 10
    cold = make(flash)
    cold.dr = 0
    assert fails("duty", cold.send, 1, bytes(12))


def test_what_is_too_long_for_the_rate_is_refused_and_answers_wait_for_room():
    flash = Flash()
    mac, network = joined(flash)
    assert fails("no session", make(Flash()).send, 1, b"x")
    mac.dr = 0
    assert fails("too long", mac.send, 1, bytes(52))
    run(flash, mac.on_frame(network.down(0, f_opts=b"\x06"), 0))
    assert network.open(run(flash, mac.send(1, bytes(51)))[0][4], 0)[0].f_opts == b""
    assert network.open(run(flash, mac.send(1, bytes(12)))[0][4], 1)[0].f_opts[:1] == b"\x06"
