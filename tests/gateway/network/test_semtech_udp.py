"""The packet-forwarder protocol against recorded datagrams, malformed ones, and a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from brim_gateway.ingest import semtech_codec, semtech_socket
from brim_gateway.ingest.semtech_codec import DatagramError, PullData, PushData, TxAck, parse
from brim_gateway.ingest.semtech_limits import BURST_S, HOST_SHARE, MAX_SOURCES, RateLimit
from brim_gateway.ingest.semtech_socket import MOST, BatchReader
from brim_gateway.ingest.semtech_udp import MAX_PATHS_OF_HOST, SemtechUdp
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
        packets = json.loads(datagram[12:] or b"{}").get("rxpk", [])
        lora = [packet for packet in packets if packet["modu"] == "LORA" and packet.get("stat", 1) == 1]
        heard = [(len(r.phy), r.freq_hz, r.rssi_dbm, r.snr_db, r.tmst_us) for r in parsed.receptions]
        assert heard == [(one["size"], round(one["freq"] * 1e6), one["rssi"], one["lsnr"], one["tmst"]) for one in lora]
        assert (len(packets), len(parsed.refused)) == (expect.get("rxpk", 0), len(packets) - len(lora))
        assert [one["size"] for one in packets] == expect.get("payload_lens", [one["size"] for one in packets])
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


@pytest.mark.parametrize("name", ["pull-resp-lora", "pull-resp-fsk"])
def test_pull_resp_is_written_as_the_protocol_text_shows_it_and_never_taken_from_outside(name: str) -> None:
    example = bytes.fromhex(VALID[name]["hex"])
    txpk = json.loads(example[4:])["txpk"]
    assert semtech_codec.pull_resp(example[1:3], txpk) == example
    with pytest.raises(DatagramError):
        parse(example)


def test_every_recorded_datagram_is_used_by_a_test_here() -> None:
    assert len(VECTORS["valid"]) + len(VECTORS["malformed"]) == 31
    assert {entry["kind"] for entry in VECTORS["valid"]} == {"PUSH_DATA", "PULL_DATA", "PULL_RESP", "TX_ACK"}
    assert len(UPLINKS) + 2 == len(VECTORS["valid"])


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


def test_a_source_that_floods_is_cut_off_and_the_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    pull = bytes.fromhex("02000002aa555a0000000001")

    async def run() -> SemtechUdp:
        endpoint = SemtechUdp(lambda push, ack: ack(), lambda _: None, lambda _: None, rate_limit=10)
        address = endpoint.open("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(address)
            for _ in range(100):
                await loop.sock_sendall(client, pull)
            # Another concentrator behind the same address.
            await loop.sock_sendall(client, bytes.fromhex("02ffff02") + b"\x11" * 8)
            came: list[bytes] = []
            while not came or came[-1] != bytes.fromhex("02ffff04"):
                came.append(await asyncio.wait_for(loop.sock_recv(client, 100), 5))
        endpoint.close()
        assert len(came) - 1 == 100 - endpoint.counters["rate_limited"]
        return endpoint

    counters = asyncio.run(run()).counters
    # Two seconds' worth, and what the drain of a hundred datagrams lets grow back.
    assert 70 <= counters["rate_limited"] <= 80
    assert [record.message for record in caplog.records] == [
        "concentrator sends too much: aa555a0000000001 at 127.0.0.1; the rest is dropped"
    ]


def test_a_bucket_fills_again_and_tells_of_the_next_flood() -> None:
    limit = RateLimit(10)
    assert [limit.allows("h", "a", 0.0) for _ in range(21)] == [True] * 20 + [False]
    assert [limit.first_refusal("h", "a") for _ in range(2)] == [True, False]
    assert not limit.allows("h", "a", 0.05) and limit.allows("h", "a", 0.16)
    assert limit.allows("other host", "a", 0.16), "a forged name elsewhere takes nothing from the real one"
    assert [limit.allows("h", "a", 60.0) for _ in range(21)].count(True) == 20
    assert limit.first_refusal("h", "a")
    assert all(RateLimit(0).allows("h", "a", 0.0) for _ in range(10_000))


def test_however_many_sources_come_the_table_and_the_sum_stay_bounded() -> None:
    limit = RateLimit(10)
    taken = sum(limit.allows(f"h{number}", "a", 0.0) for number in range(10 * MAX_SOURCES))
    assert len(limit) == MAX_SOURCES + 1 and MAX_SOURCES // 2 < taken <= MAX_SOURCES // 2 + 20
    assert limit.allows("h0", "a", 0.1), "who was there before is not pushed out"
    assert limit.allows("new", "a", 200.0) and len(limit) == 2, "the silent ones have made room"


def test_one_host_may_send_for_some_concentrators_and_not_for_as_many_as_it_can_name() -> None:
    limit = RateLimit(10)
    taken = sum(limit.allows("h", str(number), 0.0) for number in range(1_000))
    assert taken == 10 * BURST_S * HOST_SHARE
    assert limit.allows("another", "0", 0.0)


def test_only_a_pull_from_a_named_concentrator_moves_the_way_of_downlinks() -> None:
    name = "aa555a0000000001"

    async def run() -> None:
        endpoint = SemtechUdp(lambda push, ack: ack(), lambda _: None, lambda _: None, allowed=(name,))
        address = endpoint.open("127.0.0.1", 0)
        loop = asyncio.get_running_loop()

        async def say(client: socket.socket, kind: int, eui: str = name) -> None:
            await loop.sock_sendall(client, bytes((2, 0, 0, kind)) + bytes.fromhex(eui))

        async def hear(client: socket.socket) -> int:
            return (await asyncio.wait_for(loop.sock_recv(client, 1000), 5))[3]

        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as new,
        ):
            for client in (old, new):
                client.setblocking(False)
                client.connect(address)
            await say(old, 2)
            assert await hear(old) == 4
            # A status, a TX_ACK and a PULL_DATA of somebody else: none of them is a reason.
            await say(new, 2, "bb555a0000000001")
            await say(new, 5)
            await say(new, 0)
            assert await hear(new) == 1
            assert endpoint.send(name, {}) is not None and await hear(old) == 3
            await say(new, 2)
            assert await hear(new) == 4
            assert endpoint.send(name, {}) is not None and await hear(new) == 3
        endpoint.close()

    asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("many", [True, False], ids=["recvmmsg", "recvfrom"])
def test_datagrams_are_read_with_their_senders(host: str, many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not many:
        monkeypatch.setattr(semtech_socket, "_recvmmsg", None)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((host, 0))
        client.bind((host, 0))
        server.setblocking(False)
        reader = BatchReader(server)
        assert reader.receive() == []
        sent = [bytes((number,)) * (number * 20) for number in range(MOST + 3)]
        for one in sent:
            client.sendto(one, server.getsockname())
        found = []
        while came := reader.receive():
            assert len(came) <= (MOST if many else 1)
            found += came
        assert found == [(one, client.getsockname()) for one in sent]
        assert reader.receive() == []
        server.sendto(b"back", found[0][1])
        assert client.recv(10) == b"back"


def test_a_fault_over_one_datagram_loses_no_other(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[bytes] = []

    def on_push(push: PushData, ack: Callable[[], None]) -> None:
        if not taken:
            taken.append(b"")
            raise RuntimeError("a fault of ours")
        ack()

    async def run() -> SemtechUdp:
        endpoint = SemtechUdp(on_push, lambda _: None, lambda _: None)
        address = endpoint.open("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(address)
            for token in (b"\0\1", b"\0\2"):
                push = bytes.fromhex(VALID["push-tts-uplink"]["hex"])
                await loop.sock_sendall(client, push[:1] + token + push[3:])
            assert await asyncio.wait_for(loop.sock_recv(client, 100), 5) == b"\x02\0\2\1"
        endpoint.close()
        return endpoint

    assert asyncio.run(run()).counters["faults"] == 1
    assert "fault while taking a datagram" in caplog.text


def test_invented_pulls_of_one_host_leave_room_for_the_concentrators_of_others() -> None:
    lost: list[str] = []

    async def pull(address: tuple[str, int], host: str, euis: Iterable[int]) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.bind((host, 0))
            for eui in euis:
                await loop.sock_sendto(client, b"\x02\x00\x00\x02" + eui.to_bytes(8, "big"), address)
                await asyncio.wait_for(loop.sock_recv(client, 16), 5)

    async def run() -> set[str]:
        endpoint = SemtechUdp(
            lambda push, ack: ack(), lambda _: None, lambda _: None, rate_limit=0, on_path_lost=lost.append
        )
        address = endpoint.open("127.0.0.1", 0)
        await pull(address, "127.0.0.1", range(1, 301))
        await pull(address, "127.0.0.2", [1_001])
        paths = set(endpoint.paths())
        endpoint.close()
        return paths

    paths = asyncio.run(run())
    assert f"{1_001:016x}" in paths
    assert len(paths) == MAX_PATHS_OF_HOST + 1
    assert lost == [f"{eui:016x}" for eui in range(1, 301 - MAX_PATHS_OF_HOST)]
