"""Payload to readings: a value or DecodeError, never a number that is none."""

from __future__ import annotations

import json

import msgspec
import pytest
from brim.wire import report
from brim_gateway.decoders import ascii_distance, brim
from brim_gateway.decoders.table import DECODERS
from brim_gateway.errors import DecodeError
from brim_gateway.ingest.arrival import to_reading
from brim_gateway.model import BinRecord
from hypothesis import given, settings
from hypothesis import strategies as st

RECORD = BinRecord(bin="B-1", dev="70b3d57ed0051f2a", link="lorawan", empty_mm=1000, full_mm=200)


def test_a_report_gives_its_readings_oldest_first_with_their_ages() -> None:
    newest = report.Reading(3, 12, "ok", 420, 4, 9, age_s=8, temperature_c=-3, battery_mv=3600, events=5)
    earlier = report.Reading(3, 11, "no_echo", age_s=908)
    decoded = brim.decode(report.encode_report([newest, earlier], 6))
    assert [(one.epoch, one.seq, one.status, one.age_s) for one in decoded.readings] == [
        (3, 11, "no_echo", 908),
        (3, 12, "ok", 8),
    ]
    assert decoded.backlog == 6
    last = decoded.readings[-1]
    assert (last.distance_mm, last.temperature_c, last.battery_mv, last.events) == (420, -3, 3600, ("full", "emptied"))
    assert decoded.readings[0].distance_mm is None and decoded.readings[0].events is None


def test_json_says_the_same_words() -> None:
    payload = b'{"epoch":1,"seq":7,"status":"ok","distance_mm":812,"age_s":0,"events":["fire"]}'
    (one,) = brim.decode(payload).readings
    assert (one.epoch, one.seq, one.distance_mm, one.events) == (1, 7, 812, ("fire",))


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"epoch": -1},
        {"seq": 1.5},
        {"seq": "7"},
        {"status": "fine"},
        {"status": "no_echo"},
        {"distance_mm": None},
        {"distance_mm": 10**9},
        {"age_s": -5},
        {"temperature_c": 1e400},
        {"events": ["party"]},
        {"surprise": 1},
    ],
)
def test_json_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        brim.decode(json.dumps({"epoch": 1, "seq": 7, "status": "ok", "distance_mm": 812} | change).encode())


@pytest.mark.parametrize("name", sorted(DECODERS))
@given(data=st.binary(max_size=60) | st.text(max_size=30).map(lambda text: ("{" + text).encode(errors="ignore")))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_value_or_the_one_error(name: str, data: bytes) -> None:
    try:
        decoded = DECODERS[name](data)
    except DecodeError:
        return
    for one in decoded.readings:
        assert (one.distance_mm is not None) == (one.status in report.NUMBER_STATUSES)
        reading = to_reading(one, RECORD, received_us=10**15)
        assert reading.fill_pct is None or 0 <= reading.fill_pct <= 100


def test_braces_hold_centimetres() -> None:
    (one,) = ascii_distance.decode(b"{37}").readings
    assert (one.status, one.distance_mm, one.seq) == ("ok", 370, None)
    assert ascii_distance.decode(b"{0}").readings[0].status == "no_echo"
    assert ascii_distance.decode(b"{9999}").readings[0].distance_mm is None
    for bad in (b"37", b"{}", b"{-1}", b"{37}\n", b"{12345}", "{٣٧}".encode()):
        with pytest.raises(DecodeError):
            ascii_distance.decode(bad)


def test_the_event_time_is_the_arrival_less_the_age_and_says_how_sure_it_is() -> None:
    (one,) = brim.decode(b'{"epoch":1,"seq":7,"status":"ok","distance_mm":200,"age_s":900}').readings
    reading = to_reading(one, RECORD, received_us=2_000_000_000)
    assert reading.time_us == 2_000_000_000 - 900_000_000
    assert (reading.time_uncertainty_s, reading.time_source, reading.fill_pct) == (92, "gateway", 100)
    assert reading.uid == "70b3d57ed0051f2a:1:7"


def test_the_fill_of_a_bin_that_is_no_prism_goes_by_its_volume() -> None:
    (one,) = brim.decode(b'{"epoch":1,"seq":7,"status":"ok","distance_mm":600}').readings
    assert to_reading(one, RECORD, received_us=10**15).fill_pct == 50
    shaped = msgspec.structs.replace(RECORD, shape=150_350_620)
    assert to_reading(one, shaped, received_us=10**15).fill_pct == 35
