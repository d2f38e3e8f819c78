"""LoRaWAN frames and region on the device: a few recorded values that need no files."""

from brim.lorawan import eu868, frames, join_frames, mac_commands
from brim.lorawan.airtime import airtime_us, needs_ldro
from brim.lorawan.crypto import cmac
from brim.lorawan.ledger import Ledger

try:
    from cryptolib import aes

    class Cipher:
        def __init__(self, key):
            self.encrypt = aes(key, 1).encrypt
            self.decrypt = aes(key, 1).decrypt

except ImportError:
    from brim_gateway.network.session import EcbCipher as Cipher


def raises(call, *args):
    try:
        call(*args)
    except frames.FrameError:
        return True
    return False


def test_cmac_is_that_of_rfc_4493():
    cipher = Cipher(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    message = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411")
    assert cmac(cipher, message) == bytes.fromhex("dfa66747de9ae63030ca32611497c827")
    assert cmac(cipher, b"") == bytes.fromhex("bb1d6929e95937287fa37d129b756746")
    assert cmac(cipher, message[:16]) == bytes.fromhex("070a16b46b4d4144f79bdd9dd04a287c")


def test_a_data_frame_of_another_stack_is_opened_and_made_again():
    # lora-packet (MIT), __tests__/decrypt_test.ts
    net = Cipher(bytes.fromhex("44024241ed4ce9a68c6a8bc055233fd3"))
    app = Cipher(bytes.fromhex("ec925802ae430ca77fd3dd73cb2cc588"))
    phy = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
    frame = frames.parse_data(phy)
    assert frames.open_data(net, app, phy, frame, 2) == b"test"
    assert frames.build_data(frames.DATA_UP, net, app, frame.dev_addr, 0, 2, b"", 1, b"test") == phy
    assert raises(frames.open_data, net, app, phy, frame, 3)
    assert raises(frames.open_data, app, app, phy, frame, 2)


def test_a_join_request_of_another_stack_is_made_again():
    # lora-packet (MIT), __tests__/mic_test.ts
    app = Cipher(bytes.fromhex("98929b92c49edba9676d646d3b612456"))
    phy = bytes.fromhex("0039363463336913aa05693574323831330489c65b1304")
    join_eui, dev_eui = bytes.fromhex("aa13693363343639"), bytes.fromhex("3331383274356905")
    assert join_frames.build_join_request(app, join_eui, dev_eui, 35076) == phy
    assert join_frames.parse_join_request(phy) == (join_eui, dev_eui, 35076)


def test_a_join_accept_with_channels_goes_there_and_back():
    app = Cipher(bytes(range(16)))
    made = join_frames.Accept(7, 0x13, b"\x01\x02\x03\x04", 0x23, 5, [867100000, 0, 867500000, 867700000, 867900000])
    got = join_frames.parse_join_accept(app, join_frames.build_join_accept(app, made))
    assert (got.join_nonce, got.net_id, got.dev_addr, got.dl_settings, got.rx_delay_s) == (
        7,
        0x13,
        b"\x01\x02\x03\x04",
        0x23,
        5,
    )
    assert got.cf_list == made.cf_list
    assert raises(join_frames.parse_join_accept, Cipher(bytes(16)), join_frames.build_join_accept(app, made))


def test_a_join_accept_of_lorawan_1_1_is_refused():
    # lora-packet (MIT), __tests__/join_accept_encrypt.ts
    app = Cipher(bytes.fromhex("0102030405060708090a0b0c0d0e0f10"))
    assert raises(join_frames.parse_join_accept, app, bytes.fromhex("207abeea06b02920f11c02d0348fcf1815"))


def test_bytes_that_are_no_frame_are_refused():
    whole = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
    for phy in (b"", whole[:11], bytes(256), b"\x41" + whole[1:], whole[:5] + b"\x0f" + whole[6:], b"\xe0" + whole[1:]):
        assert raises(frames.parse_data, phy)
    # MAC commands in FOpts and on port 0 at once
    assert raises(frames.parse_data, bytes.fromhex("4004030201010000020069369eee6aa508"))


def test_fields_that_make_no_frame_are_refused():
    key = Cipher(bytes(16))
    build = frames.build_data
    assert raises(build, 2, key, key, bytes(4), 0, 0, bytes(16), 1, b"")
    assert raises(build, 2, key, key, bytes(4), 0, 0, b"\x02", 0, b"\x02")
    assert raises(build, 2, key, key, bytes(4), 0, 0, b"", None, b"x")
    assert raises(build, 2, key, key, bytes(4), 0, 1 << 32, b"", 1, b"x")
    assert raises(build, 2, key, key, bytes(4), 0, 0, b"", 1, bytes(243))


def test_the_counter_grows_to_32_bits():
    # chirpstack (MIT), storage/device.rs
    for expected, received, full in (
        (1, 1, 1),
        (65536, 0, 65536),
        (0, 1, 1),
        (65537, 2, 65538),
        (2, 1, 1),
        (65536, 65535, 65535),
    ):
        assert frames.full_f_cnt(expected, received) == full
    assert frames.full_f_cnt(0xFFFFFFFF, 0) > frames.MAX_F_CNT


def test_airtime_of_a_join_request():
    assert airtime_us(23, 7) == 61696
    assert airtime_us(23, 12) == 1482752
    assert needs_ldro(11) and not needs_ldro(10)


def test_every_channel_of_the_region_has_a_sub_band():
    names = [eu868.SUB_BANDS[eu868.sub_band(hz)][0] for hz in eu868.JOIN_CHANNELS_HZ + eu868.COMMON_CHANNELS_HZ]
    assert "".join(names) == "MMMLLLLL"
    assert eu868.SUB_BANDS[eu868.sub_band(eu868.RX2_HZ)][0] == "P"
    assert eu868.sub_band(868650000) == -1 and eu868.sub_band(902300000) == -1


def test_unknown_and_cut_commands_end_the_list():
    assert mac_commands.parse(bytes.fromhex("0602140a"), 1) == [(6, b""), (2, b"\x14\x0a")]
    assert mac_commands.parse(bytes.fromhex("06ff06"), 1) == [(6, b"")]
    assert mac_commands.parse(bytes.fromhex("060352"), 1) == [(6, b"")]


def test_an_hour_never_sees_more_than_the_duty_cycle():
    ledger = Ledger()
    band = eu868.sub_band(868100000)
    sent = []
    for second in range(0, 4 * 3600, 7):
        if ledger.fits(band, 1483):
            ledger.spend(band, 1483)
            sent.append(second)
        ledger.advance(7000)
    # more than half of what the law gives is usable
    assert len(sent) > 4 * 24 // 2
    for start in sent:
        assert sum([1483 for at in sent if start <= at < start + 3600]) <= 36000


def test_a_band_of_ten_percent_is_used_as_far_as_it_can_be_written_down():
    ledger = Ledger()
    band = eu868.sub_band(869525000)
    spent = 0
    while ledger.fits(band, 1483):
        ledger.spend(band, 1483)
        spent += 1483
    assert 60000 < spent <= 65535 and ledger.used_ms(band) == spent
    again = Ledger()
    again.unpack(ledger.pack())
    assert again.used_ms(band) == spent and not again.fits(band, 1483)


def test_a_ledger_survives_packing():
    ledger = Ledger()
    ledger.spend(2, 700)
    ledger.advance(800000)
    ledger.spend(2, 50)
    again = Ledger()
    again.unpack(ledger.pack())
    assert again.used_ms(2) == 750 and again.wait_ms() == ledger.wait_ms()
    again.advance(5 * 720000)
    assert again.used_ms(2) == 0 or again.used_ms(2) == 50
