"""A frame explained: every recorded vector says what its makers say, and keys never show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from brim.lorawan import frames, mac_commands
from brim.lorawan.crypto import DOWN, UP
from brim_gateway.network.explain import Keys, KeysInvalid, explain, keys_from, phy_from
from brim_gateway.network.explain_commands import explain_commands
from brim_gateway.network.session import EcbCipher
from hypothesis import given
from hypothesis import strategies as st

DATA = Path(__file__).parents[2] / "data/lorawan"
FRAMES = json.loads((DATA / "frames.json").read_text(encoding="utf-8"))
GENERATED = json.loads((DATA / "frames_generated.json").read_text(encoding="utf-8"))["frames"]
JOIN = json.loads((DATA / "join.json").read_text(encoding="utf-8"))
BY_ID: dict[str, Any] = {"ids": lambda entry: entry["id"]}

# Names of the vectors -> where ours stand.
_F_CTRL = {"adr": "adr", "ack": "ack", "adr_ack_req": "adr_ack_req", "class_b": "class_b", "fpending": "f_pending"}


def keys_of(entry: dict[str, Any], **more: Any) -> Keys:
    return keys_from({name: entry.get(name) for name in ("app_key", "nwk_s_key", "app_s_key")} | more)


def assert_says(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["m_type"] == expected["mtype"]
    assert found["mic"] == expected["mic"]
    for theirs, ours in (("dev_addr", "dev_addr"), ("fopts", "f_opts"), ("fport", "f_port")):
        if theirs in expected:
            assert found[ours] == expected[theirs], theirs
    if "fcnt16" in expected:
        assert found["f_cnt"] & 0xFFFF == expected["fcnt16"]
    for theirs, ours in _F_CTRL.items():
        if theirs in expected:
            assert found["f_ctrl"][ours] is expected[theirs], theirs


@pytest.mark.parametrize("entry", FRAMES["data_frames"], **BY_ID)
def test_a_recorded_data_frame_says_what_its_makers_say(entry: dict[str, Any]) -> None:
    found = explain(bytes.fromhex(entry["phy"]), keys_of(entry, f_cnt=max(0, entry["fcnt32"] - 1)))
    assert_says(found, entry["expected"])
    assert found["f_cnt"] == entry["fcnt32"]
    assert found["mic_ok"] is entry.get("mic_valid")
    if "frm_payload_plain" in entry:
        assert found["frm_payload"] == entry["frm_payload_plain"]
    elif "app_s_key" not in entry and found["f_port"]:
        assert found["frm_payload"] == (None if entry["expected"]["frm_payload"] else "")


@pytest.mark.parametrize("entry", FRAMES["structure_only"], **BY_ID)
def test_a_frame_without_keys_is_taken_apart_and_nothing_is_claimed(entry: dict[str, Any]) -> None:
    found = explain(bytes.fromhex(entry["phy"]), Keys())
    assert_says(found, entry["expected"])
    assert found["mic_ok"] is None
    if "mac_payload" in entry["expected"]:
        assert found["mac_payload"] == entry["expected"]["mac_payload"]
    if "rejoin_type" in entry["expected"]:
        assert found["rejoin_type"] == entry["expected"]["rejoin_type"]
    elif entry["expected"].get("frm_payload"):
        assert found["frm_payload"] is None


@pytest.mark.parametrize("before", [0, 1, 700])
def test_frames_that_others_generated_open_from_a_counter_known_earlier(before: int) -> None:
    for entry in GENERATED:
        found = explain(bytes.fromhex(entry["phy"]), keys_of(entry, f_cnt=max(0, entry["fcnt32"] - before)))
        assert (found["m_type"], found["dev_addr"], found["f_cnt"], found["mic_ok"]) == (
            entry["mtype"],
            entry["dev_addr"],
            entry["fcnt32"],
            True,
        )
        assert (found["f_port"], found["f_opts"], found["frm_payload"]) == (
            entry["fport"],
            entry["fopts"],
            entry["plain"],
        )
        down = entry["mtype"].endswith("Down")
        theirs = entry["fctrl"]
        assert found["f_ctrl"]["adr"] is theirs["ADR"]
        assert found["f_ctrl"]["ack"] is theirs["ACK"]
        assert found["f_ctrl"]["f_pending" if down else "adr_ack_req"] is theirs["FPending" if down else "ADRACKReq"]
        assert ("mac_commands" in found) == (entry["fport"] == 0)


def test_without_a_known_counter_the_mic_tells_which_of_the_early_ones_it_is() -> None:
    low = [entry for entry in GENERATED if entry["fcnt32"] < 256 << 16]
    assert {entry["fcnt32"] >> 16 for entry in low} == {0, 1}
    for entry in low:
        found = explain(bytes.fromhex(entry["phy"]), keys_of(entry))
        assert (found["f_cnt"], found["mic_ok"]) == (entry["fcnt32"], True)


def test_a_frame_older_than_the_last_known_counter_is_still_read() -> None:
    for entry in GENERATED:
        last = min(entry["fcnt32"] + 5, frames.MAX_F_CNT)
        assert explain(bytes.fromhex(entry["phy"]), keys_of(entry, f_cnt=last))["f_cnt"] == entry["fcnt32"]


def test_a_wrong_key_or_a_changed_bit_is_a_wrong_mic_and_no_error() -> None:
    for entry in GENERATED[:40]:
        phy = bytearray.fromhex(entry["phy"])
        assert explain(bytes(phy), Keys(nwk_s_key=bytes(16), app_s_key=bytes(16)))["mic_ok"] is False
        phy[-1] ^= 1
        assert explain(bytes(phy), keys_of(entry, f_cnt=entry["fcnt32"]))["mic_ok"] is False


def test_an_uplink_of_lorawan_1_1_does_not_verify_under_any_key_of_it() -> None:
    # Its downlinks do, where they acknowledge nothing: the MIC of 1.1 is that of 1.0 then.
    entry = next(one for one in FRAMES["lorawan_1_1"] if "f_nwk_s_int_key" in one)
    for name in ("s_nwk_s_int_key", "f_nwk_s_int_key", "nwk_s_enc_key"):
        keys = keys_from({"nwk_s_key": entry[name], "app_s_key": entry["app_s_key"]})
        assert explain(bytes.fromhex(entry["phy"]), keys)["mic_ok"] is False


@pytest.mark.parametrize("entry", JOIN["join_requests"], **BY_ID)
def test_a_join_request_names_who_asks(entry: dict[str, Any]) -> None:
    found = explain(bytes.fromhex(entry["phy"]), keys_of(entry))
    assert found == {"m_type": "JoinRequest", **entry["expected"], "mic_ok": entry.get("mic_valid")}


@pytest.mark.parametrize("entry", JOIN["join_accepts"], **BY_ID)
def test_a_join_accept_says_everything_under_the_application_key(entry: dict[str, Any]) -> None:
    found = explain(bytes.fromhex(entry["phy"]), keys_of(entry))
    assert {name: found[name] for name in entry["expected"]} == entry["expected"]
    assert (found["m_type"], found["mic_ok"]) == ("JoinAccept", entry["mic_valid"])
    dark = explain(bytes.fromhex(entry["phy"]), Keys())
    assert dark.keys() == found.keys() and set(dark.values()) == {"JoinAccept", None}


def test_the_channels_of_a_join_accept_are_told_in_hertz() -> None:
    entry = next(one for one in JOIN["join_accepts_plain"] if "payload_plain" in one)
    key, plain, said = bytes(range(16)), bytes.fromhex(entry["payload_plain"]), entry["expected"]
    accept = frames.Accept(
        said["join_nonce"], int(said["net_id"], 16), plain[6:10], plain[10], plain[11], said["cf_list_hz"]
    )
    found = explain(frames.build_join_accept(EcbCipher(key), accept), Keys(app_key=key))
    assert {name: found[name] for name in said} == said
    assert found["cf_list"] == plain[12:].hex() and found["mic_ok"] is True


def test_rejoin_requests_of_both_shapes() -> None:
    shapes = [
        bytes.fromhex("c0" + kind + (where + "0807060504030201" + "0201") + "00000000")
        for kind, where in (("00", "030201"), ("01", "1817161514131211"), ("02", "030201"))
    ]
    found = [explain(phy, Keys()) for phy in shapes]
    assert [one["rejoin_type"] for one in found] == [0, 1, 2]
    assert {one["dev_eui"] for one in found} == {"0102030405060708"} and {one["rj_count"] for one in found} == {0x0102}
    assert (found[0]["net_id"], found[1]["join_eui"]) == ("010203", "1112131415161718")
    for phy in (shapes[0][:-1], shapes[0] + b"x", b"\xc0\x03" + shapes[0][2:]):
        with pytest.raises(frames.FrameError):
            explain(phy, Keys())


@pytest.mark.parametrize("entry", FRAMES["mac_commands"], ids=lambda entry: f"{entry['name']} {entry['hex']}")
def test_a_mac_command_has_its_name_and_fields(entry: dict[str, Any]) -> None:
    (found,) = explain_commands(bytes.fromhex(entry["hex"]), DOWN if entry["direction"] == "down" else UP)
    assert (found["name"], found["hex"]) == (entry["name"], entry["hex"])
    if "Do not use" not in entry.get("note", ""):
        texts = {"note", "ch_mask"}
        assert found["fields"] == {name: value for name, value in entry["fields"].items() if name not in texts}


def test_every_command_that_the_device_knows_has_a_name() -> None:
    known = {cid: lengths for cid in range(256) if (lengths := mac_commands.lengths(cid)) is not None}
    assert len(known) == 14
    for cid, lengths in known.items():
        for direction in (UP, DOWN):
            (found,) = explain_commands(bytes((cid,)) + bytes(lengths[direction]), direction)
            assert found["name"] != "unknown"


def test_what_cannot_be_read_on_is_told_as_it_stands() -> None:
    found = explain_commands(bytes.fromhex("020307f0f102"), UP)
    assert [(one["name"], one["hex"]) for one in found] == [
        ("LinkCheckReq", "02"),
        ("LinkADRAns", "0307"),
        ("unknown", "f0f102"),
    ]
    assert explain_commands(b"\x03", UP) == [{"name": "unknown", "hex": "03", "fields": {}}]


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fall(phy: bytes) -> None:
    keys = Keys(bytes(16), bytes(range(16)), bytes(16), 70_000)
    try:
        found = explain(phy, keys)
    except frames.FrameError:
        return
    json.dumps(found)
    assert not found["mic_ok"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "JSON object"),
        ({"nwk_s_key": "00" * 15}, "nwk_s_key"),
        ({"app_key": "5e" * 15 + "5"}, "app_key"),
        ({"app_s_key": 7}, "app_s_key"),
        ({"app_s_key": " " + "5e" * 15 + " "}, "app_s_key"),
        ({"f_cnt": -1}, "f_cnt"),
        ({"f_cnt": 1 << 32}, "f_cnt"),
        ({"f_cnt": True}, "f_cnt"),
        ({"5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e": "app_key"}, "not known"),
    ],
)
def test_a_mistake_in_the_keys_is_named_and_no_key_is_told(value: Any, says: str) -> None:
    with pytest.raises(KeysInvalid) as fault:
        keys_from(value)
    assert says in str(fault.value) and "5e" not in str(fault.value)


@pytest.mark.parametrize("text", ["", "4", "4g", "40 41", "0x40", "\uff14\uff10", None, 7, "00" * 256])
def test_what_is_no_hexadecimal_is_no_frame(text: Any) -> None:
    with pytest.raises(frames.FrameError):
        phy_from(text)
