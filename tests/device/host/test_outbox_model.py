"""The outbox against a model: a plain list with the same limits, under any order of events and deaths."""

import importlib
from pathlib import Path
from typing import Any

from brim.boards.files import FlashFile, read_text, write_text
from brim.core.outbox import RING_RECORDS, Outbox
from brim.core.record import key_of, pack_record
from brim.core.rtc_state import RtcState, load
from brim.wire.report import Reading
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Flash: Any = importlib.import_module("tests.device.bench").Flash

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 40)),
        st.tuples(st.just("held to"), st.integers(0, 200)),
        st.tuples(st.just("held some"), st.sets(st.integers(1, 200), max_size=20)),
        st.tuples(st.just("wake"), st.none()),
        st.tuples(st.just("power cut"), st.none()),
        st.tuples(st.just("dies after the next event"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS)
def test_nothing_is_lost_that_was_not_held_or_in_the_ring_at_a_power_cut(events: list[tuple[str, Any]]) -> None:
    flash = Flash()
    outbox = Outbox(RtcState(), flash)
    held: set[int] = set()
    expected: set[int] = set()
    seq = 0
    forget = False
    for what, value in events:
        saved = bytes(outbox.state.pack())
        before = seq
        if what == "push":
            for _ in range(value):
                seq += 1
                expected.add(seq)
                outbox.push(pack_record(Reading(1, seq, "no_echo"), seq))
        elif what == "held to":
            outbox.acknowledge(lambda epoch, its, to=value: its <= to)  # type: ignore[misc]
            held |= set(range(1, value + 1)) & set(range(1, seq + 1))
        elif what == "held some":
            outbox.acknowledge(lambda epoch, its, some=value: its in some)  # type: ignore[misc]
            held |= value & set(range(1, seq + 1))
        elif what == "power cut":
            ring = outbox.state.ring
            outbox = Outbox(RtcState(), flash)
            expected -= {key_of(ring[at : at + 18])[1] for at in range(0, len(ring), 18)}
        elif what == "wake":
            outbox = Outbox(load(outbox.state.pack()), flash)
        if forget and what in ("held to", "held some"):
            # RTC memory is as it was before: what was held may be sent again.
            outbox = Outbox(load(saved), flash)
        forget = what.startswith("dies")
        assert seq >= before
        present = {key_of(record)[1] for record in outbox.oldest(10000)}
        assert expected - held <= present <= set(range(1, seq + 1))
        assert len(outbox.state.ring) <= RING_RECORDS * 18
        assert len(outbox.state.pack()) <= 2048


@given(st.binary(max_size=2100))
def test_any_rtc_memory_makes_a_state(data: bytes) -> None:
    assert load(data).fresh


@given(st.binary(max_size=2000))
def test_any_outbox_file_makes_an_outbox(data: bytes) -> None:
    for start in (b"", b"BO1\x00"):
        flash = Flash()
        flash.data = start + data
        outbox = Outbox(RtcState(), flash)
        assert len(outbox.oldest(10000)) <= len(data) // 18 + 1
        outbox.acknowledge(lambda epoch, seq: True)
        outbox.push(pack_record(Reading(1, 1, "no_echo"), 5))


def test_the_file_on_disk_behaves_as_the_one_in_memory(tmp_path: Path) -> None:
    disk, memory = FlashFile(str(tmp_path / "outbox.bin")), Flash()
    assert disk.size() == 0
    for file in (disk, memory):
        file.replace(b"head", 4, b"first")
        file.append(b" second" * 100)
        file.replace(b"HEAD", 9, b" end")
    assert disk.size() == memory.size()
    assert disk.read(0, 9999) == memory.read(0, 9999) == b"HEAD" + b" second" * 100 + b" end"
    assert list(tmp_path.iterdir()) == [tmp_path / "outbox.bin"]


def test_settings_on_disk_are_old_or_new(tmp_path: Path) -> None:
    path = str(tmp_path / "settings.json")
    assert read_text(path, 100) == "{}"
    write_text(path, '{"a": 1}')
    write_text(path, '{"a": 2}')
    assert read_text(path, 100) == '{"a": 2}'
    assert read_text(path, 3) == '{"a'
