"""liblora (Semtech's Basic MAC) reads what we write and writes what we read, over thousands of seeded frames."""

from __future__ import annotations

import random
from typing import Any

import pytest
from brim.lorawan import frames, mac_commands
from brim.lorawan.airtime import airtime_us
from brim.lorawan.crypto import DOWN, UP, session_keys
from brim_gateway.network.device import Session
from brim_gateway.network.explain import Keys, explain
from brim_gateway.network.explain_commands import explain_commands
from brim_gateway.network.session import EcbCipher, SessionCrypto

from tests.interop.cases import Case, data_cases
from tests.interop.oracles import liblora

loramsg, loraopts, loracrypto = liblora("loramsg"), liblora("loraopts"), liblora("loracrypto")
CASES = 2_000


def signed(addr: bytes) -> int:
    return int.from_bytes(addr, "big", signed=True)


def theirs(case: Case) -> bytes:
    packed: bytes = loramsg.pack_dataframe(
        case.m_type << 5, signed(case.dev_addr), case.f_ctrl, case.f_cnt, case.f_opts, case.f_port, case.payload,
        case.nwk_s_key, case.app_s_key,
    )  # fmt: skip
    return packed


def test_data_frames_are_the_same_bytes_and_read_the_same_both_ways() -> None:
    for case in data_cases(CASES, seed=1):
        ours = case.ours()
        assert theirs(case) == ours
        read = loramsg.unpack_dataframe(ours, case.f_cnt, case.nwk_s_key, case.app_s_key)
        assert (read["FCnt"], read["FOpts"], read["FRMPayload"]) == (case.f_cnt, case.f_opts, case.payload)
        assert read["FPort"] == (-1 if case.f_port is None else case.f_port)
        found = explain(ours, Keys(None, case.nwk_s_key, case.app_s_key, case.f_cnt))
        assert (found["f_cnt"], found["mic_ok"], found["frm_payload"]) == (case.f_cnt, True, case.payload.hex())


def test_the_servers_fast_way_to_a_downlink_gives_the_same_bytes() -> None:
    downs = [case for case in data_cases(CASES, seed=2) if case.m_type & 1]
    assert len(downs) > CASES // 3
    for case in downs:
        fast = SessionCrypto(Session(0, case.dev_addr.hex(), case.nwk_s_key, case.app_s_key))
        made = fast.build_down(case.m_type, case.f_ctrl, case.f_cnt, case.f_opts, case.f_port, case.payload)
        assert made == theirs(case)


def test_a_frame_with_one_bit_changed_is_refused_by_both() -> None:
    source = random.Random(3)
    for case in data_cases(CASES, seed=3):
        phy = bytearray(case.ours())
        # Not of the first byte: that would be another kind of frame.
        phy[source.randrange(1, len(phy))] ^= 1 << source.randrange(8)
        with pytest.raises(loramsg.VerifyError):
            loramsg.unpack_dataframe(bytes(phy), case.f_cnt, case.nwk_s_key, case.app_s_key)
        try:
            frame = frames.parse_data(bytes(phy))
        except frames.FrameError:
            continue
        f_cnt = case.f_cnt & ~0xFFFF | frame.f_cnt
        with pytest.raises(frames.FrameError):
            frames.open_data(EcbCipher(case.nwk_s_key), EcbCipher(case.app_s_key), bytes(phy), frame, f_cnt)


def test_joins_and_the_keys_that_come_of_them() -> None:
    source = random.Random(4)
    for number in range(CASES // 2):
        key, addr = source.randbytes(16), source.randbytes(4)
        app = EcbCipher(key)
        # It holds EUIs as signed numbers: the first bit stays clear.
        join_eui, dev_eui = b"\x00" + source.randbytes(7), b"\x00" + source.randbytes(7)
        dev_nonce = source.choice((0, 0xFFFF, source.randrange(1 << 16)))
        request = frames.build_join_request(app, join_eui, dev_eui, dev_nonce)
        loramsg.verify_jreq(key, request)
        read = loramsg.unpack_jreq(request)
        eui = (int.from_bytes(join_eui, "big"), int.from_bytes(dev_eui, "big"), dev_nonce)
        assert (read["JoinEUI"].as_int(), read["DevEUI"].as_int(), read["DevNonce"]) == eui
        cf_list = [source.randrange(863_000_000, 870_000_000) // 100 * 100 for _ in range(5)] if number % 2 else []
        accept = frames.Accept(
            source.randrange(1 << 24), source.randrange(1 << 24), addr, source.randrange(128), source.randrange(1, 16),
            cf_list,
        )  # fmt: skip
        ours = frames.build_join_accept(app, accept)
        got = loramsg.unpack_jacc(key, ours, dev_nonce)
        assert (got["AppNonce"], got["NetID"], got["DevAddr"]) == (
            accept.join_nonce, accept.net_id, int.from_bytes(addr, "little", signed=True),
        )  # fmt: skip
        assert (got["DLSettings"], got["RxDelay"]) == (accept.dl_settings, accept.rx_delay_s)
        packed = loramsg.pack_jacc(
            key, accept.join_nonce, accept.net_id, got["DevAddr"], accept.dl_settings, accept.rx_delay_s,
            got["CFList"], devnonce=dev_nonce,
        )  # fmt: skip
        assert packed == ours
        found = explain(ours, Keys(app_key=key))
        assert (found["mic_ok"], found["dev_addr"], found["cf_list_hz"]) == (True, addr[::-1].hex(), cf_list)
        for kind, one in enumerate(session_keys(app, accept.join_nonce, accept.net_id, dev_nonce), 1):
            assert loracrypto.crypto.derive(key, dev_nonce, accept.join_nonce, accept.net_id, kind) == one


# Our field of a command -> its field. Frequencies it keeps in steps of 100 Hz.
_FIELDS = {
    "margin": "Margin", "gw_cnt": "GwCnt", "dr": "DR", "tx_power": "TXPow", "ch_mask_int": "ChMask",
    "ch_mask_cntl": "ChMaskCntl", "nb_trans": "NbTrans", "ch_mask_ack": "ChAck", "dr_ack": "DRAck",
    "power_ack": "TXPowAck", "max_dcycle": "MaxDC", "rx1_dr_offset": "RX1DRoff", "rx2_dr": "RX2DR",
    "channel_ack": "FreqAck", "rx2_dr_ack": "RX2DRAck", "rx1_dr_offset_ack": "RX1DRoffAck", "battery": "Batt",
    "ch_index": "Chnl", "min_dr": "MinDR", "max_dr": "MaxDR", "dr_ok": "DRAck", "delay": "Delay",
    "max_eirp_index": "MaxEIRP", "up_dwell": "UpDwell", "down_dwell": "DnDwell", "freq_hz": "Freq",
}  # fmt: skip
_COMMANDS_CHECKED = range(2, 11)


def _length(cid: int, direction: int) -> int:
    known = mac_commands.lengths(cid)
    assert known is not None
    return known[direction]


def test_mac_commands_have_the_same_lengths_and_fields() -> None:
    source = random.Random(5)
    seen: set[tuple[int, int]] = set()
    compared = 0
    for _ in range(CASES):
        direction = source.choice((UP, DOWN))
        cids = [source.choice(_COMMANDS_CHECKED) for _ in range(source.randrange(1, 6))]
        data = b"".join(bytes((cid,)) + source.randbytes(_length(cid, direction)) for cid in cids)
        ours = explain_commands(data, direction)
        theirs: list[Any] = loraopts.unpack_opts(data, loraopts.OPTSUP if direction == UP else loraopts.OPTSDN)
        assert [one["name"] for one in ours] == [one.NAME for one in theirs]
        assert [cid for cid, _ in mac_commands.parse(data, direction)] == cids
        seen |= {(cid, direction) for cid in cids}
        for our, their in zip(ours, theirs, strict=True):
            for name, value in our["fields"].items():
                known = getattr(their, _FIELDS.get(name, ""), None)
                if known is None:
                    continue
                compared += 1
                # It takes the four bits of MaxDC for signed, which they are not (section 5.3).
                said = {"freq_hz": known.value * 100, "max_dcycle": known.value % 16}.get(name, known.value)
                assert int(value) == said, (our, name)
    assert len(seen) == 2 * len(_COMMANDS_CHECKED) and compared > CASES


@pytest.mark.parametrize("sf", range(7, 13))
def test_time_on_air(sf: int) -> None:
    for length in range(12, 256):
        for crc in (0, 1):
            theirs_us = loramsg.airtime(125, sf, length, crc=crc)
            # It rounds a float up: some values come out one microsecond longer.
            assert 0 <= theirs_us - airtime_us(length, sf, crc=bool(crc)) <= 1
