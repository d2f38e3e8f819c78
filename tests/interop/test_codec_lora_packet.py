"""npm lora-packet decodes what we write, and we decode what it writes, over thousands of seeded frames."""

from __future__ import annotations

import random

from brim.lorawan import frames
from brim_gateway.network.explain import Keys, explain, keys_from
from brim_gateway.network.session import EcbCipher

from tests.interop.cases import M_TYPES, Case, data_cases
from tests.interop.oracles import ask_lora_packet

CASES = 2_000


def test_it_reads_our_data_frames_as_we_meant_them() -> None:
    cases = data_cases(CASES, seed=11)
    answers = ask_lora_packet({"decode": case.ours().hex(), **case.keys()} for case in cases)
    assert len(answers) == CASES
    for case, found in zip(cases, answers, strict=True):
        assert found["mic_ok"] is True and found["m_type"] == M_TYPES[case.m_type]
        assert (found["dev_addr"], found["f_cnt16"]) == (case.dev_addr.hex(), case.f_cnt & 0xFFFF)
        assert (found["f_opts"], found["f_port"]) == (case.f_opts.hex(), case.f_port)
        assert found["frm_payload"] == case.payload.hex()
        assert found["adr"] is bool(case.f_ctrl & frames.ADR) and found["ack"] is bool(case.f_ctrl & frames.ACK)
        if case.m_type & 1:
            assert found["f_pending"] is bool(case.f_ctrl & frames.F_PENDING)
        else:
            assert found["adr_ack_req"] is bool(case.f_ctrl & frames.ADR_ACK_REQ)


def test_it_refuses_our_frames_once_a_bit_is_changed_or_the_counter_is_another() -> None:
    source = random.Random(12)
    questions = []
    for case in data_cases(CASES // 2, seed=12):
        phy = bytearray(case.ours())
        phy[-1 - source.randrange(4)] ^= 1 << source.randrange(8)
        questions.append({"decode": phy.hex(), **case.keys()})
        other = {**case.keys(), "f_cnt": case.f_cnt ^ 0x10000}
        questions.append({"decode": case.ours().hex(), **other})
    assert {found["mic_ok"] for found in ask_lora_packet(questions)} == {False}


def fields(case: Case) -> dict[str, object]:
    flags = {"ADR": frames.ADR, "ACK": frames.ACK}
    flags |= {"FPending": frames.F_PENDING} if case.m_type & 1 else {"ADRACKReq": frames.ADR_ACK_REQ}
    named = {name: bool(case.f_ctrl & bit) for name, bit in flags.items()}
    return {
        "MType": case.m_type, "DevAddr": case.dev_addr.hex(), "FCtrl": named, "FCnt": case.f_cnt & 0xFFFF,
        "FOpts": case.f_opts.hex(), "FPort": case.f_port, "payload": case.payload.hex(),
    }  # fmt: skip


def test_we_read_its_data_frames_as_it_meant_them_and_would_write_them_so() -> None:
    # It leaves a placeholder for the MIC of a frame without a payload.
    cases = [case for case in data_cases(CASES, seed=13) if case.payload]
    answers = ask_lora_packet({"encode": fields(case), **case.keys()} for case in cases)
    assert len(cases) > CASES // 2
    for case, answer in zip(cases, answers, strict=True):
        phy = bytes.fromhex(answer["phy"])
        assert phy == case.ours()
        found = explain(phy, keys_from(case.keys()))
        assert (found["mic_ok"], found["f_cnt"], found["frm_payload"]) == (True, case.f_cnt, case.payload.hex())


def test_join_requests_both_ways() -> None:
    source = random.Random(14)
    asked = [(source.randbytes(16), source.randbytes(8), source.randbytes(8), source.randrange(1 << 16))
             for _ in range(500)]  # fmt: skip
    ours = [frames.build_join_request(EcbCipher(key), join, dev, nonce) for key, join, dev, nonce in asked]
    read = ask_lora_packet({"decode": phy.hex(), "app_key": asked[at][0].hex()} for at, phy in enumerate(ours))
    for (_, join_eui, dev_eui, dev_nonce), found in zip(asked, read, strict=True):
        assert found["mic_ok"] is True and found["m_type"] == "JoinRequest"
        assert (found["join_eui"], found["dev_eui"]) == (join_eui.hex(), dev_eui.hex())
        assert int(found["dev_nonce"], 16) == dev_nonce
    theirs = ask_lora_packet(
        {
            "encode": {
                "MType": 0,
                "AppEUI": join.hex(),
                "DevEUI": dev.hex(),
                "DevNonce": nonce.to_bytes(2, "big").hex(),
            },
            "app_key": key.hex(),
        }
        for key, join, dev, nonce in asked
    )
    assert [bytes.fromhex(answer["phy"]) for answer in theirs] == ours
    for (key, join_eui, dev_eui, dev_nonce), phy in zip(asked, ours, strict=True):
        found = explain(phy, Keys(app_key=key))
        assert (found["join_eui"], found["dev_eui"], found["dev_nonce"], found["mic_ok"]) == (
            join_eui.hex(), dev_eui.hex(), dev_nonce, True,
        )  # fmt: skip
