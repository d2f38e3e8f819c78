"""A second opinion: liblora (BSD, from Semtech's Basic MAC) reads what we write and writes what we read."""

from __future__ import annotations

import importlib
import random
import warnings
from typing import Any

import pytest
from brim.lorawan import frames
from brim.lorawan.airtime import airtime_us
from brim.lorawan.crypto import session_keys
from brim_gateway.network.device import Session
from brim_gateway.network.session import EcbCipher, SessionCrypto

with warnings.catch_warnings():
    # Its docstrings have stray backslashes.
    warnings.simplefilter("ignore")
    loramsg: Any = importlib.import_module("loramsg")
    loracrypto: Any = importlib.import_module("loracrypto")
    eui: Any = importlib.import_module("rtlib")

SOURCE = random.Random(20261123)
CASES = range(60)


def signed(addr: bytes) -> int:
    return int.from_bytes(addr, "little", signed=True)


@pytest.mark.parametrize("case", CASES)
def test_data_frames_both_ways(case: int) -> None:
    keys = SOURCE.randbytes(16), SOURCE.randbytes(16)
    addr = SOURCE.randbytes(4)
    f_cnt = SOURCE.choice([0, 1, 65535, 65536, SOURCE.randrange(1 << 31)])
    m_type = SOURCE.choice([frames.DATA_UP, frames.CONFIRMED_UP, frames.DATA_DOWN, frames.CONFIRMED_DOWN])
    f_port = SOURCE.choice([None, 0, 1, 223])
    payload = SOURCE.randbytes(SOURCE.randrange(51)) if f_port is not None else b""
    f_opts = SOURCE.randbytes(SOURCE.randrange(16)) if f_port != 0 else b""
    f_ctrl = SOURCE.choice([0, frames.ADR, frames.ACK])
    net, app = EcbCipher(keys[0]), EcbCipher(keys[1])
    ours = frames.build_data(m_type, net, app, addr, f_ctrl, f_cnt, f_opts, f_port, payload)
    read = loramsg.unpack_dataframe(ours, f_cnt, keys[0], keys[1])
    assert (read["FCnt"], read["FOpts"], read["FRMPayload"]) == (f_cnt, f_opts, payload)
    assert read["FPort"] == (-1 if f_port is None else f_port)
    theirs = loramsg.pack_dataframe(m_type << 5, signed(addr), f_ctrl, f_cnt, f_opts, f_port, payload, *keys)
    assert theirs == ours
    if m_type & 1:
        fast = SessionCrypto(Session(0, addr[::-1].hex(), *keys))
        assert fast.build_down(m_type, f_ctrl, f_cnt, f_opts, f_port, payload) == ours


@pytest.mark.parametrize("case", CASES)
def test_joins_both_ways(case: int) -> None:
    key = SOURCE.randbytes(16)
    app = EcbCipher(key)
    join_eui, dev_eui = b"\x00" + SOURCE.randbytes(7), b"\x00" + SOURCE.randbytes(7)
    dev_nonce = SOURCE.randrange(1 << 16)
    request = frames.build_join_request(app, join_eui, dev_eui, dev_nonce)
    loramsg.verify_jreq(key, request)
    read = loramsg.unpack_jreq(request)
    assert (read["JoinEUI"].as_int(), read["DevEUI"].as_int(), read["DevNonce"]) == (
        int.from_bytes(join_eui, "big"),
        int.from_bytes(dev_eui, "big"),
        dev_nonce,
    )
    addr = SOURCE.randbytes(4)
    cf_list = [867100000, 867300000, 867500000, 867700000, 867900000] if case % 2 else []
    accept = frames.Accept(SOURCE.randrange(1 << 24), SOURCE.randrange(1 << 24), addr, 0x23, 5, cf_list)
    ours = frames.build_join_accept(app, accept)
    got = loramsg.unpack_jacc(key, ours, dev_nonce)
    assert (got["AppNonce"], got["NetID"], got["DevAddr"]) == (accept.join_nonce, accept.net_id, signed(addr))
    assert (got["DLSettings"], got["RxDelay"]) == (0x23, 5)
    assert (
        loramsg.pack_jacc(
            key, accept.join_nonce, accept.net_id, signed(addr), 0x23, 5, got["CFList"], devnonce=dev_nonce
        )
        == ours
    )
    derived = session_keys(app, accept.join_nonce, accept.net_id, dev_nonce)
    for kind, one in enumerate(derived, 1):
        assert loracrypto.crypto.derive(key, dev_nonce, accept.join_nonce, accept.net_id, kind) == one


@pytest.mark.parametrize("sf", range(7, 13))
def test_airtime(sf: int) -> None:
    for length in range(12, 256, 9):
        for crc in (0, 1):
            theirs_us = loramsg.airtime(125, sf, length, crc=crc)
            # It rounds a float up: some values come out one microsecond longer.
            assert 0 <= theirs_us - airtime_us(length, sf, crc=bool(crc)) <= 1
