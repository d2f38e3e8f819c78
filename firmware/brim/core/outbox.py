"""Readings that nobody else is known to hold: the newest in RTC memory, the overflow in one flash file.

A record is packed and of fixed size. When the ring is full its oldest batch goes to the file; when the file is full its
oldest go and are counted. Whatever moment the bin dies in, a reading is in one of the two or in both, never in none.
"""

from brim.core.record import BATCH, RECORD_BYTES, WINDOW, follows, key_of
from brim.wire.report_encoder import BACKLOG_ANSWERED, MAX_BACKLOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brim.core.hal import Flash
    from brim.core.rtc_state import RtcState

RING_RECORDS = 60


class Outbox:
    """The queue over `state.ring` and `flash`. The caller saves the state after every change.

    What concerns the file is loaded only when there is one.
    """

    def __init__(self, state: "RtcState", flash: "Flash") -> None:
        self.state = state
        self.flash = flash
        self.fault: "str | None" = None
        self.last_at_s = 0  # of the newest record that a boot without RTC memory found in the file
        if len(state.ring) % RECORD_BYTES:
            state.ring = b""
        if state.fresh:
            from brim.core.outbox_file import recover

            try:
                self.last_at_s = recover(state, flash)
            except OSError:
                self.fault = "flash"

    def __len__(self) -> int:
        state = self.state
        held = 0
        for bit in range(WINDOW):
            held += state.flash_held >> bit & 1
        return state.flash_count - state.flash_skip - held + len(state.ring) // RECORD_BYTES

    def push(self, record: bytes) -> None:
        """Take a record in; when the ring is full its oldest batch moves to flash, or its oldest is dropped if flash
        fails."""
        state = self.state
        if len(state.ring) >= RING_RECORDS * RECORD_BYTES:
            from brim.core.outbox_file import spill

            moved = BATCH
            try:
                spill(state, self.flash, state.ring[: BATCH * RECORD_BYTES])
            except OSError:
                self.fault = "flash"
                moved = 1
                state.dropped += 1
            state.ring = state.ring[moved * RECORD_BYTES :]
        state.ring += record

    def _records(self) -> "Iterator[bytes]":
        """Everything, oldest first."""
        state = self.state
        if state.flash_count > state.flash_skip:
            from brim.core.outbox_file import pending

            try:
                for _, record in pending(state, self.flash):
                    if record is not None:
                        yield record
            except OSError:
                self.fault = "flash"
        for at in range(0, len(state.ring), RECORD_BYTES):
            yield state.ring[at : at + RECORD_BYTES]

    def oldest(self, limit: int, skip: "Callable[[int, int], bool] | None" = None) -> "list[bytes]":
        """Up to `limit` records, oldest first, without those for which skip(epoch, seq) is true."""
        found: "list[bytes]" = []
        for record in self._records():
            if len(found) >= limit:
                break
            if not (skip and skip(*key_of(record))):
                found.append(record)
        return found

    def newest(self, limit: int) -> "list[bytes]":
        """The newest record and up to limit - 1 that directly precede it, newest first; [] when the ring is empty."""
        ring = self.state.ring
        found: "list[bytes]" = []
        for at in range(len(ring) - RECORD_BYTES, -1, -RECORD_BYTES):
            record = ring[at : at + RECORD_BYTES]
            if len(found) >= limit or (found and not follows(record, found[-1])):
                break
            found.append(record)
        return found

    def backlog(self, epoch: int, seq: int) -> int:
        """seq minus the oldest seq of `epoch` that is held here (0 if none is older).

        While readings of an earlier epoch are held it is at least what the gateway answers: no later report repeats
        them, so without an answer they would stay for ever. While the file cannot be read it is what says
        nothing: a number that is too small would have the gateway acknowledge what it never got.
        """
        least = 0 if epoch == self.state.epoch else BACKLOG_ANSWERED
        for record in self._records():
            its_epoch, its_seq = key_of(record)
            if its_epoch == epoch:
                return MAX_BACKLOG if self.fault else max(least, seq - its_seq)
            least = BACKLOG_ANSWERED
        return least

    def acknowledge(self, covers: "Callable[[int, int], bool]") -> "tuple[int, int] | None":
        """Drop what covers(epoch, seq) says is held elsewhere; the last (epoch, seq) dropped or None."""
        state = self.state
        dropped = None
        if state.flash_count > state.flash_skip:
            from brim.core.outbox_file import acknowledge

            try:
                dropped = acknowledge(state, self.flash, covers)
            except OSError:
                self.fault = "flash"
        kept = []
        for at in range(0, len(state.ring), RECORD_BYTES):
            record = state.ring[at : at + RECORD_BYTES]
            if covers(*key_of(record)):
                dropped = key_of(record)
            else:
                kept.append(record)
        state.ring = b"".join(kept)
        return dropped
