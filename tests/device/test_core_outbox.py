"""Nothing leaves the outbox but what is acknowledged, and what no longer fits is the oldest and is counted."""

from brim.core.outbox import RING_RECORDS, Outbox
from brim.core.outbox_file import FLASH_RECORDS
from brim.core.record import BATCH, key_of, pack_record, unpack_record
from brim.core.rtc_state import RtcState, load
from brim.wire.report import Reading
from brim.wire.report_encoder import BACKLOG_ANSWERED, MAX_BACKLOG

from tests.device.bench import Flash


def record(seq, epoch=1, at_s=None):
    return pack_record(
        Reading(epoch, seq, "ok", distance_mm=800, spread_mm=2, echoes=5), 900 * seq if at_s is None else at_s
    )


def fresh(flash=None):
    outbox = Outbox(RtcState(), flash or Flash())
    outbox.state.epoch = 1
    return outbox


def filled(count, flash=None):
    outbox = fresh(flash)
    for seq in range(1, count + 1):
        outbox.push(record(seq))
    return outbox


def held(outbox):
    return [key_of(item)[1] for item in outbox.oldest(10000)]


def reopened(outbox):
    """The outbox of the next wake."""
    state = load(outbox.state.pack())
    assert not state.fresh
    return Outbox(state, outbox.flash)


def test_a_record_gives_its_reading_back_with_its_age():
    reading = Reading(
        3,
        77,
        "jumped",
        distance_mm=812,
        spread_mm=6,
        echoes=15,
        temperature_c=-7,
        battery_mv=3600,
        events=257,
        config_version=31,
    )
    back = unpack_record(pack_record(reading, 5000), 5900)
    reading.age_s = 900
    assert back == reading
    nothing = Reading(1, 1, "no_echo", echoes=0, events=0, config_version=0)
    assert unpack_record(pack_record(nothing, 0), 2) == nothing


def test_a_full_ring_spills_its_oldest_batch_and_loses_nothing():
    outbox = filled(RING_RECORDS + 1)
    assert len(outbox) == RING_RECORDS + 1
    assert len(outbox.state.ring) // len(record(1)) == RING_RECORDS + 1 - BATCH
    assert held(outbox) == list(range(1, RING_RECORDS + 2))
    assert held(reopened(outbox)) == list(range(1, RING_RECORDS + 2))


def test_the_rtc_memory_holds_the_fullest_ring():
    outbox = filled(RING_RECORDS)
    outbox.state.link = bytes(300)
    assert len(outbox.state.pack()) <= 2048


def test_exactly_what_is_acknowledged_is_dropped():
    outbox = filled(RING_RECORDS + BATCH + 5)
    gone = (1, 2, 5, 17, 30, 60, 81)
    assert outbox.acknowledge(lambda epoch, seq: seq in gone) == (1, 81)
    assert held(outbox) == [seq for seq in range(1, 82) if seq not in gone]
    outbox = reopened(outbox)
    assert len(outbox) == 81 - len(gone)
    assert outbox.acknowledge(lambda epoch, seq: seq <= 80) == (1, 80)
    assert held(outbox) == []


def test_an_acknowledgement_of_another_epoch_drops_nothing():
    outbox = filled(5)
    assert outbox.acknowledge(lambda epoch, seq: epoch == 2) is None
    assert len(outbox) == 5


def test_spilling_goes_on_after_a_part_was_acknowledged():
    outbox = filled(RING_RECORDS + 1)
    outbox.acknowledge(lambda epoch, seq: seq <= 3)
    for seq in range(RING_RECORDS + 2, RING_RECORDS + 40):
        outbox.push(record(seq))
    assert held(outbox) == list(range(4, RING_RECORDS + 40))


def test_a_file_that_was_drained_begins_anew():
    outbox = filled(RING_RECORDS + 1)
    outbox.acknowledge(lambda epoch, seq: seq <= BATCH)
    size = outbox.flash.size()
    for seq in range(RING_RECORDS + 2, RING_RECORDS + 30):
        outbox.push(record(seq))
    assert outbox.flash.size() <= size + BATCH * len(record(1))
    assert held(outbox) == list(range(BATCH + 1, RING_RECORDS + 30))


def test_overflow_drops_the_oldest_and_counts():
    total = RING_RECORDS + FLASH_RECORDS + 3 * BATCH
    outbox = filled(total)
    kept = held(outbox)
    assert kept[-1] == total
    assert kept == list(range(kept[0], total + 1))
    assert outbox.state.dropped == kept[0] - 1 > 0
    assert len(kept) >= FLASH_RECORDS


def test_flash_that_fails_costs_the_oldest_only():
    flash = Flash()
    flash.broken = True
    outbox = filled(RING_RECORDS + 1, flash)
    assert outbox.fault == "flash"
    assert held(outbox) == list(range(2, RING_RECORDS + 2))
    assert outbox.state.dropped == 1


def test_flash_that_cannot_be_read_for_a_moment_loses_nothing():
    outbox = filled(RING_RECORDS + 1)
    outbox.flash.broken = True
    assert held(outbox) == list(range(BATCH + 1, RING_RECORDS + 2))
    outbox.acknowledge(lambda epoch, seq: True)
    outbox.flash.broken = False
    assert held(outbox) == list(range(1, BATCH + 1))


def test_after_a_power_cut_the_file_is_still_there():
    flash = filled(RING_RECORDS + 1).flash
    outbox = fresh(flash)
    assert held(outbox) == list(range(1, BATCH + 1))
    assert outbox.last_at_s == 900 * BATCH
    assert held(reopened(outbox)) == list(range(1, BATCH + 1))


def test_a_kill_between_file_and_rtc_memory_doubles_but_loses_nothing():
    outbox = filled(RING_RECORDS)
    before = bytes(outbox.state.pack())
    outbox.push(record(RING_RECORDS + 1))
    again = Outbox(load(before), outbox.flash)
    again.push(record(RING_RECORDS + 1))
    assert set(held(again)) == set(range(1, RING_RECORDS + 2))


def test_a_replaced_file_never_inherits_an_old_skip():
    outbox = filled(RING_RECORDS + 1)
    outbox.acknowledge(lambda epoch, seq: seq <= BATCH)
    before = bytes(outbox.state.pack())
    for seq in range(RING_RECORDS + 2, RING_RECORDS + 2 + BATCH):
        outbox.push(record(seq))
    stale = load(before)
    stale.flash_count = BATCH * 2
    again = Outbox(stale, outbox.flash)
    assert set(held(again)) == set(range(BATCH + 1, RING_RECORDS + 2))


def test_a_damaged_record_is_passed_over_and_goes_with_the_rest():
    outbox = filled(RING_RECORDS + 1)
    size = len(record(1))
    data = outbox.flash.data
    outbox.flash.data = data[: 4 + size] + b"\xff" * size + data[4 + 2 * size :]
    assert held(outbox) == [1] + list(range(3, RING_RECORDS + 2))
    outbox.acknowledge(lambda epoch, seq: seq <= BATCH)
    assert len(outbox) == RING_RECORDS + 1 - BATCH


def test_the_newest_come_with_those_that_directly_precede():
    outbox = fresh()
    for seq in (1, 2, 4, 5, 6):
        outbox.push(record(seq))
    assert [key_of(item)[1] for item in outbox.newest(4)] == [6, 5, 4]
    assert [key_of(item)[1] for item in outbox.newest(2)] == [6, 5]
    outbox.push(record(7, at_s=900 * 6 + 200000))
    assert [key_of(item)[1] for item in outbox.newest(4)] == [7]


def test_the_backlog_reaches_to_the_oldest_of_its_epoch():
    outbox = fresh()
    outbox.push(record(900, epoch=1))
    outbox.state.epoch = 2
    for seq in (3, 4, 19):
        outbox.push(record(seq, epoch=2))
    assert outbox.backlog(2, 19) == 16


def test_while_an_earlier_epoch_is_held_the_gateway_is_made_to_answer():
    outbox = fresh()
    outbox.state.epoch = 2
    outbox.push(record(900, epoch=1))
    outbox.push(record(3, epoch=2))
    assert (outbox.backlog(2, 3), outbox.backlog(1, 900)) == (BACKLOG_ANSWERED, BACKLOG_ANSWERED)
    outbox.acknowledge(lambda epoch, seq: epoch == 1)
    assert outbox.backlog(2, 3) == 0


def test_a_file_that_cannot_be_read_makes_the_backlog_say_nothing():
    outbox = filled(RING_RECORDS + 1)
    outbox.flash.broken = True
    assert outbox.backlog(1, RING_RECORDS + 1) == MAX_BACKLOG
