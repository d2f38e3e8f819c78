"""What the journal holds of what was acknowledged, read behind the daemon's back: it opens the database read-only."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from brim_tools.bench.ledger import MOST, Ledger, bin_of

_DEV, _SEQ = re.compile(rb'"dev":"([0-9a-f]{16})"'), re.compile(rb'"seq":(\d+)')
STEP = 20_000


class JournalAudit:
    """Notes in the ledger's ``kept`` what is in ``database``; each look reads only what is new since the last."""

    def __init__(self, database: Path, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger
        self._read_to = 0
        self._sure = [0] * ledger.bins  # up to here every reading is acknowledged and kept
        self._reported: set[int] = set()

    def missing(self) -> list[str]:
        """Readings acknowledged by now and not in the journal, as ``bin:seq``; each is named once."""
        ledger, each = self._ledger, self._ledger.each
        acked: list[int] = []
        for number in range(ledger.bins):
            start = number * each
            seq, unbroken = self._sure[number] + 1, True
            while seq < each and ledger.sent[start + seq]:
                if ledger.acked[start + seq]:
                    acked.append(start + seq)
                    if unbroken:
                        self._sure[number] = seq
                else:
                    unbroken = False
                seq += 1
        self._read()
        lost = [i for i in acked if not ledger.kept[i] and i not in self._reported]
        self._reported.update(lost)
        return [f"{i // each}:{i % each}" for i in lost]

    def from_the_start(self) -> None:
        """Count every row of the journal anew."""
        self._ledger.kept[:] = bytes(len(self._ledger.kept))
        self._read_to = 0
        self._read()

    def _read(self) -> None:
        kept, each = self._ledger.kept, self._ledger.each
        for body in self._rows():
            dev, seq = _DEV.search(body), _SEQ.search(body)
            if dev is None or seq is None:
                raise RuntimeError(f"a journal row that names no reading: {body[:200]!r}")
            at = bin_of(dev[1]) * each + int(seq[1])
            kept[at] = min(kept[at] + 1, MOST)

    def _rows(self) -> Iterator[bytes]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=10)) as connection:
            while rows := connection.execute(
                "SELECT id, reading FROM journal WHERE id > ? ORDER BY id LIMIT ?", (self._read_to, STEP)
            ).fetchall():
                self._read_to = rows[-1][0]
                for _, reading in rows:
                    yield bytes(reading)
