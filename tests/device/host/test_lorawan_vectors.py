"""Recorded LoRaWAN vectors against the gateway's fast crypto, and what is built again from them. The device's own code
meets them on both Pythons in test_lorawan_recorded.py."""

import json
from pathlib import Path

import pytest
from brim.lorawan import crypto, eu868, frames
from brim.lorawan.airtime import airtime_us, needs_ldro
from brim_gateway.network.device import Session
from brim_gateway.network.session import EcbCipher, SessionCrypto

DATA = Path(__file__).parents[2] / "data/lorawan"


def load(name):
    return json.loads((DATA / name).read_text(encoding="utf-8"))


FRAMES = load("frames.json")
GENERATED = load("frames_generated.json")
JOIN = load("join.json")
CMAC = load("cmac.json")
REGION = load("regional_eu868.json")
AIRTIME = load("airtime.json")
M_TYPES = {
    "UnconfirmedDataUp": frames.DATA_UP,
    "UnconfirmedDataDown": frames.DATA_DOWN,
    "ConfirmedDataUp": frames.CONFIRMED_UP,
    "ConfirmedDataDown": frames.CONFIRMED_DOWN,
}
ZERO = "00" * 16


def by_id(entry):
    return entry.get("id", entry.get("name", entry.get("phy", "")))


def direction(m_type):
    return crypto.DOWN if m_type & 1 else crypto.UP


def same_structure(entry):
    expected = entry["expected"]
    frame = frames.parse_data(bytes.fromhex(entry["phy"]))
    assert frame.m_type == M_TYPES[expected["mtype"]]
    assert frame.dev_addr[::-1].hex() == expected["dev_addr"]
    assert frame.f_cnt == expected["fcnt16"]
    assert frame.f_opts.hex() == expected["fopts"]
    assert frame.f_port == expected["fport"]
    assert frame.payload.hex() == expected["frm_payload"]
    assert frame.mic.hex() == expected["mic"]
    assert bool(frame.f_ctrl & frames.ADR) == expected["adr"]
    assert bool(frame.f_ctrl & frames.ACK) == expected["ack"]
    for name, bit in (("adr_ack_req", frames.ADR_ACK_REQ), ("fpending", frames.F_PENDING)):
        if name in expected:
            assert bool(frame.f_ctrl & bit) == expected[name]
    return frame


@pytest.mark.parametrize("entry", FRAMES["data_frames"], ids=by_id)
def test_a_recorded_data_frame(entry):
    frame = same_structure(entry)
    phy = bytes.fromhex(entry["phy"])
    if "nwk_s_key" not in entry:
        return
    net = EcbCipher(bytes.fromhex(entry["nwk_s_key"]))
    app = EcbCipher(bytes.fromhex(entry.get("app_s_key", ZERO)))
    way = direction(frame.m_type)
    mic = crypto.data_mic(net, way, frame.dev_addr, entry["fcnt32"], phy[:-4])
    assert mic.hex() == entry["correct_mic"]
    session = Session(
        0, frame.dev_addr[::-1].hex(), bytes.fromhex(entry["nwk_s_key"]), bytes.fromhex(entry.get("app_s_key", ZERO))
    )
    fast = SessionCrypto(session)
    assert fast.mic(way, entry["fcnt32"], phy[:-4]) == mic
    assert (mic == frame.mic) == entry["mic_valid"]
    if not entry["mic_valid"]:
        with pytest.raises(frames.FrameError):
            frames.open_data(net, app, phy, frame, entry["fcnt32"])
        return
    plain = frames.open_data(net, app, phy, frame, entry["fcnt32"])
    assert fast.crypt(way, entry["fcnt32"], frame.f_port, frame.payload) == plain
    if "frm_payload_plain" in entry:
        assert plain.hex() == entry["frm_payload_plain"]
    again = frames.build_data(
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
    assert again == phy


@pytest.mark.parametrize("entry", FRAMES["structure_only"], ids=by_id)
def test_a_recorded_structure(entry):
    if entry["expected"]["mtype"] in M_TYPES:
        same_structure(entry)
    else:
        with pytest.raises(frames.FrameError):
            frames.parse_data(bytes.fromhex(entry["phy"]))


@pytest.mark.parametrize("entry", GENERATED["frames"], ids=lambda entry: entry["phy"][:24])
def test_a_frame_of_lora_packet(entry):
    phy = bytes.fromhex(entry["phy"])
    frame = frames.parse_data(phy)
    assert frame.m_type == M_TYPES[entry["mtype"]]
    assert (frame.dev_addr[::-1].hex(), frame.f_opts.hex(), frame.f_port) == (
        entry["dev_addr"],
        entry["fopts"],
        entry["fport"],
    )
    assert frame.f_cnt == entry["fcnt32"] & 0xFFFF
    keys = bytes.fromhex(entry["nwk_s_key"]), bytes.fromhex(entry["app_s_key"])
    net, app = EcbCipher(keys[0]), EcbCipher(keys[1])
    assert frames.open_data(net, app, phy, frame, entry["fcnt32"]).hex() == entry["plain"]
    made = frames.build_data(
        frame.m_type,
        net,
        app,
        frame.dev_addr,
        frame.f_ctrl & 0xF0,
        entry["fcnt32"],
        frame.f_opts,
        frame.f_port,
        bytes.fromhex(entry["plain"]),
    )
    assert made == phy
    if frame.m_type == frames.DATA_DOWN:
        fast = SessionCrypto(Session(0, entry["dev_addr"], *keys))
        down = fast.build_down(
            frame.m_type,
            frame.f_ctrl & 0xF0,
            entry["fcnt32"],
            frame.f_opts,
            frame.f_port,
            bytes.fromhex(entry["plain"]),
        )
        assert down == phy


@pytest.mark.parametrize("row", FRAMES["fcnt32_reconstruction"]["rows"], ids=str)
def test_counter_reconstruction(row):
    expected, received, full = row
    if (expected, received) == (0xFFFFFFFF, 0):
        # The recording stack wraps here; a counter that wraps belongs to no session.
        assert frames.full_f_cnt(expected, received) > frames.MAX_F_CNT
    else:
        assert frames.full_f_cnt(expected, received) == full


# A 1.1 downlink without ACK has the very MIC of 1.0; only keys that no 1.0 device has tell it apart.
ELEVEN = [entry for entry in FRAMES["lorawan_1_1"] if "must be rejected" in entry.get("note", "")]


@pytest.mark.parametrize("entry", ELEVEN, ids=by_id)
def test_a_lorawan_1_1_frame_does_not_verify(entry):
    phy = bytes.fromhex(entry["phy"])
    frame = frames.parse_data(phy)
    app = EcbCipher(bytes.fromhex(entry["app_s_key"]))
    for name in ("s_nwk_s_int_key", "f_nwk_s_int_key", "nwk_s_enc_key"):
        if name in entry:
            with pytest.raises(frames.FrameError):
                frames.open_data(EcbCipher(bytes.fromhex(entry[name])), app, phy, frame, frame.f_cnt)


@pytest.mark.parametrize("entry", JOIN["join_requests"], ids=by_id)
def test_a_recorded_join_request(entry):
    phy = bytes.fromhex(entry["phy"])
    expected = entry["expected"]
    join_eui, dev_eui, dev_nonce = frames.parse_join_request(phy)
    assert (join_eui.hex(), dev_eui.hex(), dev_nonce) == (
        expected["join_eui"],
        expected["dev_eui"],
        expected["dev_nonce"],
    )
    if "app_key" in entry:
        made = frames.build_join_request(EcbCipher(bytes.fromhex(entry["app_key"])), join_eui, dev_eui, dev_nonce)
        assert made[-4:].hex() == entry["correct_mic"]
        assert (made == phy) == entry["mic_valid"]


@pytest.mark.parametrize("entry", JOIN["join_accepts"], ids=by_id)
def test_a_recorded_join_accept(entry):
    app = EcbCipher(bytes.fromhex(entry["app_key"]))
    phy = bytes.fromhex(entry["phy"])
    if not entry["mic_valid"]:
        with pytest.raises(frames.FrameError):
            frames.parse_join_accept(app, phy)
        return
    expected = entry["expected"]
    accept = frames.parse_join_accept(app, phy)
    assert (accept.join_nonce, accept.net_id) == (expected["join_nonce"], int(expected["net_id"], 16))
    assert (accept.dev_addr[::-1].hex(), accept.dl_settings) == (expected["dev_addr"], expected["dl_settings"])
    # RxDelay 0 means one second.
    assert accept.rx_delay_s == (expected["rx_delay"] or 1)
    accept.rx_delay_s = expected["rx_delay"]
    assert frames.build_join_accept(app, accept) == phy


def test_a_plain_join_accept_gets_the_recorded_mic():
    entry = JOIN["join_accepts_plain"][0]
    plain = bytes.fromhex(entry["phy_plain"])
    assert crypto.cmac(EcbCipher(bytes.fromhex(entry["app_key"])), plain[:-4])[:4].hex() == entry["mic"]


def test_the_recorded_channel_list_is_written_and_read():
    entry = JOIN["join_accepts_plain"][1]
    plain = bytes.fromhex(entry["payload_plain"])
    expected = entry["expected"]
    key = EcbCipher(bytes(range(16)))
    wire = plain + crypto.cmac(key, b"\x20" + plain)[:4]
    phy = b"\x20" + b"".join(key.decrypt(wire[at : at + 16]) for at in (0, 16))
    accept = frames.parse_join_accept(key, phy)
    assert accept.cf_list == expected["cf_list_hz"]
    assert (accept.dl_settings >> 4 & 7, accept.dl_settings & 15) == (expected["rx1_dr_offset"], expected["rx2_dr"])
    assert accept.rx_delay_s == expected["rx_delay"]
    assert frames.build_join_accept(key, accept) == phy


def test_cmac_and_aes():
    cipher = EcbCipher(bytes.fromhex(CMAC["cmac"]["key"]))
    for vector in CMAC["cmac"]["vectors"]:
        assert crypto.cmac(cipher, bytes.fromhex(vector["message"])).hex() == vector["tag"]
    for plain, cipher_text in zip(CMAC["aes128_ecb"]["plain"], CMAC["aes128_ecb"]["cipher"], strict=True):
        assert cipher.encrypt(bytes.fromhex(plain)).hex() == cipher_text
        assert cipher.decrypt(bytes.fromhex(cipher_text)).hex() == plain
    fips = CMAC["aes128_fips197"]
    assert EcbCipher(bytes.fromhex(fips["key"])).encrypt(bytes.fromhex(fips["plain"])).hex() == fips["cipher"]


@pytest.mark.parametrize("entry", AIRTIME["lora"], ids=lambda e: f"{e['phy_payload_bytes']}-SF{e['sf']}-{e['bw_hz']}")
def test_airtime(entry):
    coding = int(entry["coding_rate"][2]) - 4
    args = (entry["phy_payload_bytes"], entry["sf"], entry["bw_hz"], entry["crc"], entry["preamble"], coding)
    assert airtime_us(*args, entry["explicit_header"], entry["ldro"]) == entry["time_on_air_us"]
    if "always has it on" not in entry.get("note", ""):
        assert needs_ldro(entry["sf"], entry["bw_hz"]) == entry["ldro"]


def test_the_regions_tables():
    assert list(eu868.JOIN_CHANNELS_HZ) == REGION["join_channels_hz"]
    assert list(eu868.COMMON_CHANNELS_HZ) == REGION["common_cflist_hz"]
    assert eu868.MAX_CHANNELS == REGION["max_channels"]
    for dr, sf in enumerate(eu868.SF):
        assert REGION["data_rates"][str(dr)] == {"mod": "LORA", "sf": sf, "bw_hz": 125000}
        assert REGION["max_payload"][str(dr)]["N"] == eu868.MAX_PAYLOAD[dr]
        for offset in range(eu868.MAX_RX1_OFFSET + 1):
            assert eu868.rx1_dr(dr, offset) == REGION["rx1_dr_table"][dr][offset]
    assert (eu868.RX2_HZ, eu868.RX2_DR) == (REGION["rx2"]["freq_hz"], REGION["rx2"]["dr"])
    timing = REGION["timing_ms"]
    assert eu868.RX1_DELAY_S * 1000 == timing["receive_delay1"]
    assert eu868.JOIN_DELAY_S * 1000 == timing["join_accept_delay1"]
    bands = [
        (band["name"], band["min_hz"], band["max_hz"], round(band["duty"] * 10000)) for band in REGION["sub_bands"]
    ]
    assert list(eu868.SUB_BANDS) == bands
    assert [-2 * index for index in range(eu868.MAX_POWER_INDEX + 1)] == REGION["tx_power"]["table_offset_db"]
