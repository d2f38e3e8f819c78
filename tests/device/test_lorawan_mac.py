"""The device MAC: what it sends, when it listens, what it believes, and what it has written down before."""

from brim.lorawan import eu868, frames, join_frames
from brim.lorawan.mac import Mac, MacError

try:
    from tests.device.lorawan_bench import (
        ADDR,
        APP_KEY,
        DEV_EUI,
        JOIN_EUI,
        Cipher,
        Flash,
        accept,
        fails,
        joined,
        make,
        run,
    )
except ImportError:
    from lorawan_bench import ADDR, APP_KEY, DEV_EUI, JOIN_EUI, Cipher, Flash, accept, fails, joined, make, run


def test_a_join_request_is_sent_with_both_windows_and_its_nonce_is_in_flash_first():
    flash = Flash()
    mac = make(flash)
    actions = mac.join()
    assert [action[0] for action in actions] == ["persist", "transmit", "listen", "listen"]
    sent, windows = run(flash, actions)
    assert join_frames.parse_join_request(sent[4]) == (JOIN_EUI, DEV_EUI, 1)
    assert sent[1] in eu868.JOIN_CHANNELS_HZ and sent[2] == 7 and sent[3] == 14
    assert windows == [("listen", 5000, sent[1], 7), ("listen", 6000, 869525000, 12)]
    again = make(flash)
    again.advance(again.join_wait_ms())
    assert join_frames.parse_join_request(run(flash, again.join())[0][4])[2] == 2


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


def test_a_counter_that_is_used_up_ends_the_session():
    flash = Flash()
    mac, network = joined(flash)
    mac._f_cnt_up = frames.MAX_F_CNT - 1
    sent, _ = run(flash, mac.send(1, b"last"))
    assert network.open(sent[4], frames.MAX_F_CNT - 1)[1] == b"last"
    assert fails("exhausted", mac.send, 1, b"x") and mac.lost()
    # Nor does a loss of memory give it back.
    assert make(flash).lost()
    down = network.down(frames.MAX_F_CNT, 2, b"x")
    mac._f_cnt_down = frames.MAX_F_CNT - 3
    assert mac.on_frame(down, 0) is None


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
    assert join_frames.parse_join_request(sent[4])[2] == 2


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
    assert join_frames.parse_join_request(sent[4])[2] == 41
    assert old.on_accept(accept(7)) is None and old.on_accept(accept(8)) is not None
    assert old._ledger.used_ms(2) >= 9000


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
