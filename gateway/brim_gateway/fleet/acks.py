"""When a LoRaWAN bin is told what we hold, and how. Pure.

A bin drops a reading only when an ACK command names it. Downlinks are scarce, so one is sent when the bin holds
much, when something is missing, or when a join shows that it has lost its memory of us.
"""

from __future__ import annotations

from collections.abc import Iterable

from brim.wire.command import ACK
from brim.wire.report import MAX_BACKLOG, MAX_SEQ
from brim.wire.report_encoder import BACKLOG_ANSWERED

BITMAP_BITS = 16


def oldest_wanted(seq: int, backlog: int, known: int) -> int:
    """The oldest sequence number that the bin may still hold, from a report and from what was known before.

    A backlog of 63 means "63 or more" and tells nothing; then ``known`` (at least 1) stays.
    """
    if backlog >= MAX_BACKLOG:
        return max(1, known)
    return max(1, known, seq - backlog)


def acknowledgement(
    epoch: int, seq: int, backlog: int, oldest: int, held: Iterable[int], first_of_session: bool
) -> tuple[int, int, int, int] | None:
    """The ACK command for the report whose newest reading is ``epoch:seq``, or None where none is due.

    ``oldest``: from ``oldest_wanted``; ``held``: the sequence numbers of that epoch from ``oldest`` on that are
    committed (what lies below it the bin has dropped: it is not needed).
    """
    have = {number for number in held if oldest <= number <= MAX_SEQ}
    span = range(max(1, oldest, seq - backlog), seq + 1)
    missing = any(number not in have for number in span)
    if not (missing or first_of_session or backlog >= BACKLOG_ANSWERED):
        return None
    held_to = oldest - 1
    while held_to + 1 in have:
        held_to += 1
    bitmap = 0
    for bit in range(BITMAP_BITS):
        if held_to + 2 + bit in have:
            bitmap |= 1 << bit
    return ACK, epoch, held_to, bitmap
