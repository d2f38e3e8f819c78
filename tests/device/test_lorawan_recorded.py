"""What others recorded (tests/data/lorawan, origins there), through the device's own code, on both Pythons."""

import json

from brim.lorawan import crypto, eu868, frames, join_frames, mac_commands
from brim.lorawan.airtime import airtime_us

from tests.device.lorawan_bench import Cipher, Flash, joined, run

DATA = __file__[: __file__.rindex("device/")] + "data/lorawan/"
UNCONFIRMED = ("UnconfirmedDataUp", "UnconfirmedDataDown", "ConfirmedDataUp", "ConfirmedDataDown")


def load(name):
    with open(DATA + name) as file:
        return json.load(file)


def raw(text):
    return bytes.fromhex(text)


def on_air(addr):
    return bytes(reversed(raw(addr)))


def opened(phy, net_key, app_key, f_cnt):
    """The parsed frame and its payload; None for the payload where the MIC is wrong."""
    frame = frames.parse_data(phy)
    try:
        return frame, frames.open_data(Cipher(net_key), Cipher(app_key), phy, frame, f_cnt)
    except frames.FrameError:
        return frame, None


def test_data_frames_are_opened_and_made_again():
    ran = 0
    for entry in load("frames.json")["data_frames"]:
        if "nwk_s_key" not in entry:
            continue
        phy, keys = raw(entry["phy"]), (raw(entry["nwk_s_key"]), raw(entry.get("app_s_key", "00" * 16)))
        frame, plain = opened(phy, keys[0], keys[1], entry["fcnt32"])
        ran += 1
        assert frame.m_type == frames.DATA_UP + UNCONFIRMED.index(entry["expected"]["mtype"])
        assert (plain is not None) == entry["mic_valid"]
        if plain is not None:
            if "frm_payload_plain" in entry:
                assert plain == raw(entry["frm_payload_plain"])
            net, app = Cipher(keys[0]), Cipher(keys[1])
            made = frames.build_data(
                frame.m_type,
                net,
                app,
                frame.dev_addr,
                frame.f_ctrl & 0xF0,
                entry["fcnt32"],
                frame.f_opts,
                frame.f_port,
                plain,
            )
            assert made == phy
    assert ran >= 10


def test_frames_of_lora_packet_are_opened_under_their_32_bit_counter():
    entries = load("frames_generated.json")["frames"]
    assert len(entries) == 126
    for entry in entries:
        frame, plain = opened(raw(entry["phy"]), raw(entry["nwk_s_key"]), raw(entry["app_s_key"]), entry["fcnt32"])
        assert plain == raw(entry["plain"]) and frame.dev_addr == on_air(entry["dev_addr"])
        assert frame.f_cnt == entry["fcnt32"] & 0xFFFF and frame.f_opts == raw(entry["fopts"])
        assert frames.full_f_cnt(entry["fcnt32"], frame.f_cnt) == entry["fcnt32"]


def test_payloads_and_mics_of_each_direction():
    recorded = load("frames.json")
    for entry in recorded["frm_payload_crypto"]:
        way = crypto.UP if entry["direction"] == "up" else crypto.DOWN
        got = crypto.crypt_payload(
            Cipher(raw(entry["key"])), way, on_air(entry["dev_addr"]), entry["fcnt32"], raw(entry["plain"])
        )
        assert got == raw(entry["cipher"])
    for entry in recorded["mic_only"]:
        way = crypto.UP if entry["direction"] == "up" else crypto.DOWN
        mic = crypto.data_mic(
            Cipher(raw(entry["key"])), way, on_air(entry["dev_addr"]), entry["fcnt32"], raw(entry["phy_without_mic"])
        )
        assert mic == raw(entry["mic"])


def test_join_requests_and_session_keys():
    recorded = load("join.json")
    made = 0
    for entry in recorded["join_requests"]:
        if "app_key" not in entry:
            continue
        expected = entry["expected"]
        phy = join_frames.build_join_request(
            Cipher(raw(entry["app_key"])), raw(expected["join_eui"]), raw(expected["dev_eui"]), expected["dev_nonce"]
        )
        assert phy[-4:] == raw(entry["correct_mic"]) and (phy == raw(entry["phy"])) == entry["mic_valid"]
        made += 1
    assert made >= 4
    for entry in recorded["session_key_derivation_1_0"]:
        keys = crypto.session_keys(
            Cipher(raw(entry["app_key"])), entry["join_nonce"], int(entry["net_id"], 16), entry["dev_nonce"]
        )
        assert keys == (raw(entry["nwk_s_key"]), raw(entry["app_s_key"]))
    for entry in recorded["rejoin_mic"]:
        message = raw(entry["phy_without_mic"]) if "phy_without_mic" in entry else raw(entry["phy"])[:-4]
        assert crypto.cmac(Cipher(raw(entry["key"])), message)[:4] == raw(entry["mic"])


def test_join_accepts_are_read_or_refused():
    read = refused = 0
    for entry in load("join.json")["join_accepts"]:
        try:
            accept = join_frames.parse_join_accept(Cipher(raw(entry["app_key"])), raw(entry["phy"]))
        except frames.FrameError:
            refused += 1
            assert not entry["mic_valid"]
            continue
        expected = entry["expected"]
        assert (accept.join_nonce, accept.net_id) == (expected["join_nonce"], int(expected["net_id"], 16))
        assert (accept.dev_addr, accept.dl_settings) == (on_air(expected["dev_addr"]), expected["dl_settings"])
        read += 1
    assert read >= 4 and refused >= 1


def test_a_recorded_channel_list_is_understood():
    recorded = load("join.json")
    app = Cipher(bytes(16))
    plain = raw(recorded["join_accepts_plain"][1]["payload_plain"])[:12]
    for entry in recorded["cflists"]:
        whole = plain + raw(entry["hex"])
        whole += crypto.cmac(app, b"\x20" + whole)[:4]
        phy = b"\x20" + app.decrypt(whole[:16]) + app.decrypt(whole[16:])
        assert join_frames.parse_join_accept(app, phy).cf_list == entry["freqs_hz"]


def test_cmac_of_rfc_4493():
    recorded = load("cmac.json")["cmac"]
    for vector in recorded["vectors"]:
        assert crypto.cmac(Cipher(raw(recorded["key"])), raw(vector["message"])) == raw(vector["tag"])


def test_airtime_of_every_case():
    for entry in load("airtime.json")["lora"]:
        coding = int(entry["coding_rate"][2:]) - 4
        crc, header = entry["crc"], entry["explicit_header"]
        args = (entry["phy_payload_bytes"], entry["sf"], entry["bw_hz"], crc, entry["preamble"], coding, header)
        assert airtime_us(*args, entry["ldro"]) == entry["time_on_air_us"]


def test_every_recorded_command_has_its_length():
    for entry in load("frames.json")["mac_commands"]:
        data = raw(entry["hex"])
        way = crypto.UP if entry["direction"] == "up" else crypto.DOWN
        assert mac_commands.parse(data + data, way) == [(data[0], data[1:])] * 2


# What this device says to the recorded orders: the channel lists of other regions and frequencies outside of this one
# are refused, TxParamSetupReq and Class B are none of its business.
ANSWERS = {
    "0352040211": "0306",
    "0312040045": "0306",
    "040d": "04",
    "055c42ffff": "0504",
    "053b010204": "0504",
    "06": "06ff05",
    "070fffff4242": "0702",
    "070f00000042": "0703",
    "07030102045a": "0700",
    "080f": "08",
    "092f": "",
    "0a04ffff42": "0a00",
    "0a00287684": "0a03",
    "0a01107a84": "0a03",
    "11ffff420f": "",
    "021403": "",
    "020a0f": "",
    "0dffffff4242": "",
    "0d0100000002": "",
}


def test_recorded_orders_are_answered():
    seen = 0
    for entry in load("frames.json")["mac_commands"]:
        if entry["direction"] != "down":
            continue
        flash = Flash()
        mac, network = joined(flash)
        run(flash, mac.on_frame(network.down(0, f_opts=raw(entry["hex"])), 5))
        assert mac.answers == raw(ANSWERS[entry["hex"]]), entry["name"]
        fields = entry["fields"]
        if entry["name"] == "LinkCheckAns":
            assert mac.link_check == (fields["margin"], fields["gw_cnt"])
        elif entry["name"] == "DeviceTimeAns":
            assert mac.network_time == (fields["gps_seconds"], fields["fraction_256"])
        elif entry["name"] == "RXTimingSetupReq":
            assert mac.rx1_delay_s == fields["delay"]
        elif entry["name"] == "DutyCycleReq":
            assert mac.duty_shift == fields["max_dcycle"]
        elif entry["name"] == "DlChannelReq" and mac.answers[-1] == 3:
            assert mac.rx1_hz[fields["ch_index"]] == fields["freq_hz"]
        seen += 1
    assert seen == len(ANSWERS)


def test_a_recorded_device_status_is_said_the_same_way():
    for entry in load("frames.json")["mac_commands"]:
        if entry["name"] == "DevStatusAns":
            flash = Flash()
            mac, network = joined(flash)
            mac.battery = entry["fields"]["battery"]
            run(flash, mac.on_frame(network.down(0, f_opts=b"\x06"), entry["fields"]["margin"]))
            assert mac.answers == raw(entry["hex"])


def test_the_region_is_the_recorded_one():
    region = load("regional_eu868.json")
    assert list(eu868.JOIN_CHANNELS_HZ) == region["join_channels_hz"]
    for dr in range(eu868.MAX_DR + 1):
        assert region["data_rates"][str(dr)]["sf"] == eu868.SF[dr]
        assert region["max_payload"][str(dr)]["N"] == eu868.MAX_PAYLOAD[dr]
        for offset in range(eu868.MAX_RX1_OFFSET + 1):
            assert eu868.rx1_dr(dr, offset) == region["rx1_dr_table"][dr][offset]
    assert (eu868.RX2_HZ, eu868.RX2_DR) == (region["rx2"]["freq_hz"], region["rx2"]["dr"])
