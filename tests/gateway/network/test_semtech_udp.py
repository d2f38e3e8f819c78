"""The packet-forwarder protocol against recorded datagrams, malformed ones, and a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brim_gateway.ingest import semtech_codec
from brim_gateway.ingest.semtech_codec import DatagramError, PullData, PushData, TxAck, parse
from brim_gateway.ingest.semtech_udp import SemtechUdp
from hypothesis import given
from hypothesis import strategies as st

VECTORS = json.loads((Path(__file__).parents[2] / "data/lorawan/udp_protocol.json").read_text(encoding="utf-8"))
VALID = {entry["id"]: entry for entry in VECTORS["valid"]}
MALFORMED = {entry["id"]: entry for entry in VECTORS["malformed"]}
UPLINKS = [entry for entry in VECTORS["valid"] if entry["kind"] in ("PUSH_DATA", "PULL_DATA", "TX_ACK")]


def replies(*datagrams: bytes, allowed: tuple[str, ...] | None = None) -> tuple[list[bytes], SemtechUdp, list[Any]]:
    """What an endpoint on a real socket answers to these datagrams, acknowledging all it is given."""
    seen: list[Any] = []

    def on_push(push: PushData, ack: Callable[[], None]) -> None:
        seen.append(push)
        ack()

    async def run() -> tuple[list[bytes], SemtechUdp]:
        endpoint = SemtechUdp(on_push, seen.append, seen.append, allowed)
        address = endpoint.open("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(address)
            for datagram in datagrams:
                await loop.sock_sendall(client, datagram)
            # A PULL_DATA is always answered: what stands before its answer is all that came.
            await loop.sock_sendall(client, bytes.fromhex("02ffff02") + b"\x11" * 8)
            came: list[bytes] = []
            while not came or came[-1] != bytes.fromhex("02ffff04"):
                came.append(await asyncio.wait_for(loop.sock_recv(client, 2000), 5))
        endpoint.close()
        return came[:-1], endpoint

    answers, endpoint = asyncio.run(run())
    return answers, endpoint, seen


@pytest.mark.parametrize("entry", UPLINKS, ids=lambda entry: entry["id"])
def test_a_valid_datagram_is_understood_and_answered(entry: dict[str, Any]) -> None:
    datagram = bytes.fromhex(entry["hex"])
    parsed = parse(datagram)
    assert parsed.token.hex() == entry["token"]
    assert parsed.gateway == entry["gateway"]
    answers, _, _ = replies(datagram)
    assert [answer.hex() for answer in answers] == ([entry["reply_hex"]] if entry.get("reply_hex") else [])
    expect = entry.get("expect", {})
    if isinstance(parsed, PushData):
        assert len(parsed.receptions) + len(parsed.refused) == expect.get("rxpk", 0)
        if "LORA" in expect.get("modu", ["LORA"]) and "payload_lens" in expect and len(expect["payload_lens"]) == 1:
            assert [len(reception.phy) for reception in parsed.receptions] == expect["payload_lens"]
        if "freq_hz" in expect and len(expect["freq_hz"]) == 1:
            assert [reception.freq_hz for reception in parsed.receptions] == expect["freq_hz"]
        for name in ("rssi", "lsnr"):
            if name in expect:
                values = [r.rssi_dbm if name == "rssi" else r.snr_db for r in parsed.receptions]
                assert values == expect[name]
        if "lati" in expect.get("stat", {}):
            assert parsed.stat is not None
            assert parsed.stat["lati"] == expect["stat"]["lati"]
    elif isinstance(parsed, TxAck):
        assert (parsed.error or "NONE") == expect["error"]
    else:
        assert isinstance(parsed, PullData)


def test_unpadded_and_url_safe_base64_of_the_protocol_text_are_read_and_fsk_is_left_out() -> None:
    push = parse(bytes.fromhex(VALID["push-3-rxpk"]["hex"]))
    assert isinstance(push, PushData)
    assert [(reception.freq_hz, len(reception.phy), reception.sf) for reception in push.receptions] == [
        (866349812, 32, 7),
        (863009810, 32, 10),
    ]
    assert push.refused == ("modulation",)
    assert push.receptions[0].time_us == 1364746877_528002


@pytest.mark.parametrize("entry", MALFORMED.values(), ids=lambda entry: entry["id"])
def test_a_malformed_datagram_gives_no_reception_and_only_the_due_reply(entry: dict[str, Any]) -> None:
    answers, endpoint, seen = replies(bytes.fromhex(entry["hex"]))
    assert [answer.hex() for answer in answers] == ([entry["reply"]] if entry["reply"] else [])
    receptions = [r for push in seen if isinstance(push, PushData) for r in push.receptions]
    if entry["id"] == "rxpk-one-good-one-bad":
        assert [len(reception.phy) for reception in receptions] == [17]
    else:
        assert receptions == []
    refused = sum(endpoint.counters.get(name, 0) for name in ("malformed", "not_allowed", "rxpk_refused"))
    assert refused >= (entry["id"] not in ("rxpk-null", "pull-data-trailing"))


def test_pull_resp_is_written_as_the_protocol_text_shows_it() -> None:
    example = bytes.fromhex(VALID["pull-resp-lora"]["hex"])
    txpk = json.loads(example[4:])["txpk"]
    assert semtech_codec.pull_resp(example[1:3], txpk) == example


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_fall(datagram: bytes) -> None:
    with contextlib.suppress(DatagramError):
        parse(datagram)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["LORA", "SF7BW125"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["rxpk", "stat", "tmst", "freq", "modu", "datr", "data", "size", "rssi", "lsnr", "time"]),
            inner,
            max_size=8,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_no_json_makes_the_parser_fall(value: Any) -> None:
    body = json.dumps({"rxpk": [value], "stat": value}).encode()
    parsed = parse(bytes.fromhex("02000000aa555a0000000001") + body)
    assert isinstance(parsed, PushData)
    assert len(parsed.receptions) + len(parsed.refused) >= 1


def test_deeply_nested_json_is_refused_and_acknowledged() -> None:
    answers, _, _ = replies(bytes.fromhex("02010200aa555a0000000001") + b"[" * 60_000)
    assert answers == [bytes.fromhex("02010201")]


def test_only_named_concentrators_are_heard_where_names_are_given() -> None:
    good = bytes.fromhex(VALID["push-tts-uplink"]["hex"])
    answers, endpoint, seen = replies(good, allowed=("1111111111111111",))
    assert answers == []
    assert endpoint.counters["not_allowed"] == 1
    assert [entry for entry in seen if isinstance(entry, PushData)] == []


def test_receptions_are_acknowledged_only_when_the_application_says_so() -> None:
    held: list[Callable[[], None]] = []

    async def run() -> None:
        endpoint = SemtechUdp(lambda push, ack: held.append(ack), lambda gateway: None, lambda tx_ack: None)
        address = endpoint.open("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(address)
            await loop.sock_sendall(client, bytes.fromhex(VALID["push-tts-uplink"]["hex"]))
            await loop.sock_sendall(client, bytes.fromhex("02ffff02") + b"\x11" * 8)
            assert await asyncio.wait_for(loop.sock_recv(client, 100), 5) == bytes.fromhex("02ffff04")
            held[0]()
            assert await asyncio.wait_for(loop.sock_recv(client, 100), 5) == bytes.fromhex("02000201")
            token = endpoint.send("1111111111111111", {"freq": 868.1})
            downlink = await asyncio.wait_for(loop.sock_recv(client, 100), 5)
            assert token is not None
            assert downlink == b"\x02" + token + b'\x03{"txpk":{"freq":868.1}}'
            assert endpoint.send("2222222222222222", {}) is None
            assert list(endpoint.paths()) == ["1111111111111111"]
            # The kernel says twice what it grants.
            assert endpoint.receive_buffer > 0
        endpoint.close()

    asyncio.run(run())
