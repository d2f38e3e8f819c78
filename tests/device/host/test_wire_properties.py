"""Every codec gives back what it was given, and never fails in any other way than WireError."""

from brim.wire.command import decode_commands, encode_commands
from brim.wire.console_line import decode_answer, decode_request, encode_ok, encode_request
from brim.wire.errors import WireError
from brim.wire.report import NUMBER_STATUSES, STATUSES, Reading, decode_report, encode_report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICK = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # two cores, shared


@st.composite
def readings(draw: st.DrawFn) -> list[Reading]:
    epoch = draw(st.integers(0, 2047))
    seq = draw(st.integers(4, 65535))
    age_s = draw(st.integers(0, 0xFFFFFF))
    out = []
    for i in range(draw(st.integers(1, 4))):
        status = draw(st.sampled_from(STATUSES))
        reading = Reading(epoch, seq - i, status, age_s=age_s)
        if status in NUMBER_STATUSES:
            reading.distance_mm = draw(st.integers(0, 8191))
        if i == 0:
            if status in NUMBER_STATUSES:
                reading.spread_mm = draw(st.integers(0, 127)) * 2
            reading.echoes = draw(st.integers(0, 15))
            reading.temperature_c = draw(st.none() | st.integers(-40, 87))
            reading.battery_mv = draw(st.none() | st.integers(0, 127).map(lambda n: 2000 + 20 * n))
            reading.events = draw(st.integers(0, 511))
            reading.config_version = draw(st.integers(0, 31))
        out.append(reading)
        age_s += 4 * draw(st.integers(0, 0x7FFF))
    return out


@QUICK
@given(readings(), st.integers(0, 63))
def test_a_report_comes_back(sent: list[Reading], backlog: int) -> None:
    data = encode_report(sent, backlog)
    assert len(data) == 12 + 3 * bool(sent[0].age_s) + 4 * (len(sent) - 1)
    got = decode_report(data)
    assert got.readings == sent
    assert got.backlog == backlog


@QUICK
@given(st.binary(max_size=30) | st.binary(min_size=12, max_size=12).map(lambda b: bytes([b[0] & 7]) + b[1:]))
def test_any_bytes_are_one_report_or_an_error(data: bytes) -> None:
    try:
        report = decode_report(data)
    except WireError:
        return
    assert encode_report(report.readings, report.backlog) == data


@QUICK
@given(st.lists(st.tuples(st.just(1), *[st.integers(0, 65535)] * 3), max_size=7))
def test_commands_come_back(commands: list[tuple[int, ...]]) -> None:
    assert decode_commands(encode_commands(commands)) == commands


@QUICK
@given(st.binary(max_size=60))
def test_any_bytes_are_commands_or_an_error(data: bytes) -> None:
    try:
        assert encode_commands(decode_commands(data)) == data
    except WireError:
        pass


WORD = st.text("abcdefghijklmnop0123456789_-.*", min_size=1, max_size=20).filter(lambda word: word[0] != "*")


@QUICK
@given(st.text("0123456789abc", min_size=1, max_size=8), WORD, st.lists(WORD, max_size=8))
def test_a_console_request_comes_back(ident: str, verb: str, args: list[str]) -> None:
    assert decode_request(encode_request(ident, verb, args)) == (ident, verb, args)


@QUICK
@given(st.dictionaries(WORD, st.integers() | WORD | st.none(), max_size=4))
def test_a_console_answer_comes_back(fields: dict[str, object]) -> None:
    assert decode_answer(encode_ok("1", fields)) == ("1", True, "ok", fields)


@QUICK
@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_line_is_understood_or_an_error(line: bytes | str) -> None:
    for decode in (decode_request, decode_answer):
        try:
            decode(line)
        except WireError:
            continue
