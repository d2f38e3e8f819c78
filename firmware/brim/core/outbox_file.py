"""The outbox's overflow: one file, a head with a generation and then records, oldest first.

The state says which file it knows (generation), how many records at its beginning are held elsewhere (skip), and which
of the next WINDOW are (held, a bitmap). A file of another generation is one that was replaced in a wake that died:
then all of it is pending, which repeats readings and loses none. Every function raises OSError when flash fails.
"""

from brim.core.record import BATCH, RECORD_BYTES, WINDOW, at_of, key_of
from brim.wire.reading import STATUSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brim.core.hal import Flash
    from brim.core.rtc_state import RtcState

FLASH_RECORDS = 688  # a week at one reading each 15 minutes
HEAD = b"BO1"
HEAD_BYTES = 4


def recover(state: "RtcState", flash: "Flash") -> int:
    """After a boot without RTC memory everything in the file is pending. The time of its newest record, or 0."""
    state.flash_generation = -1
    try:
        if _open(state, flash):
            newest = _record(flash, state.flash_count - 1)
            return at_of(newest) if newest else 0
    finally:
        state.flash_generation = max(0, state.flash_generation)
    return 0


def _open(state: "RtcState", flash: "Flash") -> bool:
    """Whether the file has records; the state then fits it."""
    count = (flash.size() - HEAD_BYTES) // RECORD_BYTES
    head = flash.read(0, HEAD_BYTES) if count > 0 else b""
    if len(head) != HEAD_BYTES or head[:3] != HEAD:
        state.flash_generation = state.flash_count = state.flash_skip = state.flash_held = 0
        return False
    if head[3] != state.flash_generation or state.flash_skip > count:
        state.flash_generation, state.flash_skip, state.flash_held = head[3], 0, 0
    state.flash_count = count
    return True


def _record(flash: "Flash", index: int) -> "bytes | None":
    """A record of the file, None if it is damaged."""
    record = flash.read(HEAD_BYTES + index * RECORD_BYTES, RECORD_BYTES)
    sound = len(record) == RECORD_BYTES and key_of(record)[1] > 0 and record[8] < len(STATUSES)
    return record if sound else None


def spill(state: "RtcState", flash: "Flash", batch: bytes) -> None:
    """Append a batch. A file that is full loses its oldest, counted; one that is largely held elsewhere is renewed."""
    has_file = _open(state, flash)
    pending = state.flash_count - state.flash_skip
    over = max(0, pending + BATCH - FLASH_RECORDS)
    if has_file and pending and not over and state.flash_skip < FLASH_RECORDS // 4:
        flash.append(batch)
        state.flash_count += BATCH
        return
    leave = state.flash_skip + over
    generation = (state.flash_generation + 1) & 0xFF
    flash.replace(HEAD + bytes((generation,)), HEAD_BYTES + leave * RECORD_BYTES, batch)
    state.flash_generation = generation
    state.flash_count = state.flash_count - leave + BATCH
    state.flash_skip = 0
    state.flash_held >>= over
    state.dropped += over


def pending(state: "RtcState", flash: "Flash") -> "Iterator[tuple[int, bytes | None]]":
    """(index, record or None if it is damaged) of what is not held elsewhere, oldest first."""
    if not _open(state, flash):
        return
    for index in range(state.flash_skip, state.flash_count):
        bit = index - state.flash_skip
        if bit >= WINDOW or (bit >= 0 and not state.flash_held >> bit & 1):
            yield index, _record(flash, index)


def acknowledge(state: "RtcState", flash: "Flash", covers: "Callable[[int, int], bool]") -> "tuple[int, int] | None":
    """Drop what covers(epoch, seq) says is held elsewhere, within the window; the last (epoch, seq) dropped or None."""
    dropped = None
    for index, record in pending(state, flash):
        bit = index - state.flash_skip
        if bit >= WINDOW:
            break
        if record is not None:
            if not covers(*key_of(record)):
                continue
            dropped = key_of(record)
        # A damaged record is no reading any more: it goes with the rest.
        state.flash_held |= 1 << bit
        while state.flash_held & 1:
            state.flash_held >>= 1
            state.flash_skip += 1
    return dropped
