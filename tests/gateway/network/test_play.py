"""The recording of Technical University of Denmark: real bins, real frames, played as a packet forwarder would."""

from __future__ import annotations

import asyncio
import csv
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from brim_gateway.ingest.semtech_codec import PushData, parse
from brim_gateway.ingest.semtech_udp import SemtechUdp
from brim_gateway.network.device import DeviceRow, abp_session
from brim_gateway.network.reception import Reception, UplinkResult
from brim_gateway.network.server import NetworkServer
from brim_gateway.play import Account, NoAnswer, RecordingInvalid, play, push_data, read_recording
from msgspec.structs import replace

RECORDING = Path(__file__).parents[2] / "data/traces/dtu_2016_lorawan_frames.csv"
PUBLIC_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
NODES = ("02014100", "02014101", "02014102")
NOW_US = 1_790_000_000_000_000


def devices(allow: bool = True, volatile: bool = True) -> list[DeviceRow]:
    return [
        DeviceRow(
            "00000000" + address,
            counter="volatile" if volatile else "strict",
            allow_public_key=allow,
            session=abp_session(address, PUBLIC_KEY, PUBLIC_KEY),
        )
        for address in NODES
    ]


def server(rows: list[DeviceRow], trust: bool = True) -> NetworkServer:
    return NetworkServer(rows, random_bytes=bytes, trust_concentrator_clock=trust)


def played_into(answer: Callable[[int, PushData, Callable[[], None]], None], **options: float) -> Account:
    """Play to an endpoint on a real socket that calls `answer(n, push, ack)` for its n-th datagram."""
    ready = threading.Event()
    bound: list[tuple[str, int]] = []
    stop: list[Callable[[], object]] = []

    def serve() -> None:
        async def run() -> None:
            count = iter(range(1_000_000))
            endpoint = SemtechUdp(
                lambda push, ack: answer(next(count), push, ack), lambda gateway: None, lambda verdict: None
            )
            bound.append(endpoint.open("127.0.0.1", 0))
            over = asyncio.Event()
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(over.set))
            ready.set()
            await over.wait()
            endpoint.close()

        asyncio.run(run())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(5)
        return play(RECORDING, *bound[0], **options)  # type: ignore[arg-type]
    finally:
        stop[0]()
        thread.join()


def test_the_recording_becomes_977_readings_with_their_recorded_time() -> None:
    network = server(devices())
    results: list[UplinkResult] = []

    def answer(_: int, push: PushData, ack: Callable[[], None]) -> None:
        results.extend(network.on_uplink(reception, NOW_US + len(results)) for reception in push.receptions)
        ack()

    account = played_into(answer)
    assert (account.rows, account.without_frame, account.sent, account.acknowledged) == (1011, 30, 981, 981)
    readings = [result for result in results if result.kind == "data"]
    assert len(readings) == 977
    assert {result.kind for result in results} == {"data", "copy"}
    assert all(result.volatile and result.f_port == 1 for result in readings)
    with RECORDING.open(encoding="utf-8", newline="") as text:
        rows = [row for row in csv.DictReader(text) if row["phy_payload_hex"]]
    assert {result.payload.decode() for result in readings} == {row["decrypted"] for row in rows}
    assert min(result.heard_us for result in readings) == 1462351018_112000


def test_what_gets_no_answer_is_sent_again_and_known_again_after_a_restart_of_the_gateway() -> None:
    network = [server(devices())]
    stored: dict[str, DeviceRow] = {}
    readings: list[UplinkResult] = []

    def answer(count: int, push: PushData, ack: Callable[[], None]) -> None:
        for reception in push.receptions:
            result = network[0].on_uplink(reception, NOW_US + count)
            stored.update({row.dev: row for row in result.updates})
            if result.kind == "data":
                readings.append(result)
        if count % 300 == 299:
            # Killed after the commit and before the answer; the rows of the store are all that is left.
            network[0] = server([stored.get(row.dev, row) for row in devices()])
        else:
            ack()

    account = played_into(answer, resend_s=0.05)
    assert account.acknowledged == 981
    assert account.resent >= 3
    assert len(readings) == 977


def test_without_the_two_exceptions_the_frames_are_refused_with_a_reason() -> None:
    push_of = _receptions()
    refused = server(devices(allow=False))
    assert {refused.on_uplink(reception, NOW_US).reason for reception in push_of[:50]} == {"public key"}
    strict = server(devices(volatile=False))
    kinds = [strict.on_uplink(reception, NOW_US + 10_000_000 * n) for n, reception in enumerate(push_of)]
    assert sum(result.kind == "data" for result in kinds) == len(NODES)
    unknown = server([])
    assert unknown.on_uplink(push_of[0], NOW_US).reason == "unknown address"


def test_without_the_concentrators_clock_frames_hours_apart_stay_different_readings() -> None:
    network = server(devices(), trust=False)
    results = [network.on_uplink(reception, NOW_US + n) for n, reception in enumerate(_receptions())]
    # The counter that is left to tell them apart wraps every 72 minutes: a few of the same value coincide.
    assert 970 <= sum(result.kind == "data" for result in results) <= 977
    assert all(result.heard_us >= NOW_US for result in results)


def _receptions() -> list[Reception]:
    frames, _ = read_recording(RECORDING)
    pushes = [parse(push_data(b"\0\0", frame)) for frame in frames]
    return [reception for push in pushes if isinstance(push, PushData) for reception in push.receptions]


HEAD = "time_utc,gateway_eui,frequency_mhz,datarate,rssi_dbm,snr_db,phy_payload_hex\n"
GOOD = "2016-05-10T06:30:09.164Z,FFFEB827EBFF31D1,868.5,SF7BW125,-114,3.5,4000410102\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: no column time_utc"),
        ("a,b\n", "line 1: no column"),
        (HEAD, "no row has a frame"),
        (HEAD + GOOD + "2016,x\n", "line 3: not as many fields"),
        (HEAD + GOOD.replace("2016-05-10T06", "2016-05-10T66"), "line 2: time_utc"),
        (HEAD + GOOD.replace("2016-05-10T", "1816-05-10T"), "line 2: time_utc"),
        (HEAD + GOOD.replace("FFFEB8", "FFFE"), "line 2: gateway_eui"),
        (HEAD + GOOD.replace("868.5", "nan"), "line 2: frequency_mhz"),
        (HEAD + GOOD.replace("868.5", "8685"), "line 2: frequency_mhz"),
        (HEAD + GOOD.replace("SF7", "SF77"), "line 2: datarate"),
        (HEAD + GOOD.replace("4000410102", "400041010"), "line 2: phy_payload_hex"),
        (HEAD + GOOD.replace("4000410102", "40" * 256), "line 2: phy_payload_hex"),
        (HEAD + GOOD.replace("-114", "1e9"), "line 2: rssi_dbm"),
        (HEAD + '"unclosed', "no UTF-8 CSV text"),
    ],
)
def test_a_bad_recording_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "recording.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecordingInvalid) as caught:
        read_recording(file)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingInvalid, match="No such file"):
        read_recording(tmp_path / "absent.csv")
    file = tmp_path / "binary.csv"
    file.write_bytes(HEAD.encode() + b"\xff\xfe\n")
    with pytest.raises(RecordingInvalid, match="no UTF-8"):
        read_recording(file)


def test_a_gateway_that_never_answers_is_given_up() -> None:
    with pytest.raises(NoAnswer, match="0 of 981"):
        played_into(lambda count, push, ack: None, resend_s=0.02, give_up_s=0.1)


def test_a_row_survives_being_written_down() -> None:
    for row in devices():
        assert DeviceRow.from_dict(row.as_dict()) == row
        assert "2b7e" not in repr(row)
        assert "2b7e" not in repr(replace(row, app_key=PUBLIC_KEY))
