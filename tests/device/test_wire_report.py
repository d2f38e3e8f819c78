"""A report says exactly what was measured, and nothing else is a report."""

from brim.wire.errors import WireError
from brim.wire.report import EARLIER, EVENTS, FIELDS, STATUSES, Reading, decode_report, encode_report


def refuses(data):
    try:
        decode_report(data)
    except WireError:
        return True
    return False


def refuses_to_encode(readings, backlog=0):
    try:
        encode_report(readings, backlog)
    except WireError:
        return True
    return False


def full_reading():
    return Reading(
        3,
        1000,
        "ok",
        distance_mm=812,
        spread_mm=6,
        echoes=15,
        temperature_c=-7,
        battery_mv=3600,
        events=0b100000001,
        config_version=31,
    )


def test_one_reading_is_twelve_bytes_and_comes_back():
    data = encode_report([full_reading()], 2)
    assert len(data) == 12
    report = decode_report(data)
    assert report.readings == [full_reading()]
    assert report.backlog == 2


def test_the_bits_stand_where_the_format_says():
    assert sum(width for _, width in FIELDS) == 96
    assert sum(width for _, width in EARLIER) == 32
    assert len(EVENTS) == 9 and len(STATUSES) == 9
    # version 00, n_earlier 00, aged 0, status 0000, echoes 1111, epoch 00000000011, seq 1000, distance 812,
    # spread 3, temp 1+33, battery 1+80, events 101 hex, backlog 2, config 31: worked out by hand.
    bits = "000000000111100000000011000000111110100000011001011000000011101000011101000010000000100001011111"
    assert encode_report([full_reading()], 2) == int(bits, 2).to_bytes(12, "big")


def test_three_earlier_readings_make_twenty_four_bytes():
    readings = [
        Reading(3, 1000, "ok", distance_mm=812, spread_mm=0, echoes=5, events=0, config_version=0),
        Reading(3, 999, "no_echo", age_s=900),
        Reading(3, 998, "jumped", distance_mm=8191, age_s=1800),
        Reading(3, 997, "ok", distance_mm=0, age_s=86400),
    ]
    data = encode_report(readings, 3)
    assert len(data) == 24
    assert decode_report(data).readings == readings


def test_an_old_reading_carries_its_age_in_three_more_bytes():
    reading = full_reading()
    reading.age_s = 70000
    data = encode_report([reading], 0)
    assert len(data) == 15
    assert decode_report(data).readings[0].age_s == 70000


def test_rounded_gaps_do_not_add_up():
    readings = [full_reading()]
    for i in range(1, 4):
        readings.append(Reading(3, 1000 - i, "ok", distance_mm=1, age_s=i * 7))
    got = decode_report(encode_report(readings, 3)).readings
    assert len(got) == 4
    for i in range(4):
        assert 0 <= readings[i].age_s - got[i].age_s < 4


def test_a_status_without_a_number_has_none():
    got = decode_report(encode_report([Reading(1, 1, "too_close", echoes=3)], 0)).readings[0]
    assert got.status == "too_close"
    assert got.distance_mm is None and got.spread_mm is None
    assert got.temperature_c is None and got.battery_mv is None
    assert refuses_to_encode([Reading(1, 1, "too_close", distance_mm=30)])
    assert refuses_to_encode([Reading(1, 1, "ok")])


def test_what_saturates_says_at_least_and_nothing_else_is_bent():
    reading = full_reading()
    reading.spread_mm = 9999
    reading.temperature_c = 200
    reading.battery_mv = 100
    report = decode_report(encode_report([reading], 5000))
    assert report.backlog == 63
    assert report.readings[0].spread_mm == 254
    assert report.readings[0].temperature_c == 87
    assert report.readings[0].battery_mv == 2000
    reading.distance_mm = 8192
    assert refuses_to_encode([reading])


def test_a_small_spread_never_becomes_none_at_all():
    reading = full_reading()
    reading.spread_mm = 1
    assert decode_report(encode_report([reading], 0)).readings[0].spread_mm == 2


def test_wrong_sequences_are_refused():
    assert refuses_to_encode([])
    assert refuses_to_encode([full_reading()] * 5)
    assert refuses_to_encode([full_reading(), Reading(3, 998, "no_echo")])
    assert refuses_to_encode([full_reading(), Reading(2, 999, "no_echo")])
    assert refuses_to_encode([Reading(1, 0, "no_echo")])
    assert refuses_to_encode([Reading(1, 65536, "no_echo")])
    assert refuses_to_encode([Reading(2048, 1, "no_echo")])
    assert refuses_to_encode([Reading(1, 1, "fine")])


def test_anything_else_is_refused():
    good = encode_report([full_reading()], 0)
    assert refuses(b"")
    assert refuses(good[:-1])
    assert refuses(good + b"\x00")
    assert refuses(bytes([good[0] | 0x40]) + good[1:])  # version 1
    assert refuses(bytes([good[0] | 0x10]) + good[1:])  # one earlier reading that is not there
    assert refuses(bytes([good[0] | 0x08]) + good[1:])  # an age that is not there
    assert refuses(bytes([good[0] | 0x08]) + good[1:] + b"\x00\x00\x00")  # an age of nothing
    assert refuses(bytes([good[0] | 0x07]) + good[1:])  # status 14
