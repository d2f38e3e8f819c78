"""The newest rows of the journal in memory, for outputs that keep up; the others read from disk."""

from __future__ import annotations

from brim_gateway.store.journal import JournalRow

ROWS_MOST = 2_000


class Tail:
    """Rows as they are committed, in order and without a gap. One thread."""

    def __init__(self) -> None:
        self._rows: list[JournalRow] = []

    def extend(self, rows: list[JournalRow]) -> None:
        """Rows that were just committed."""
        self._rows += rows
        if len(self._rows) > 2 * ROWS_MOST:
            del self._rows[:-ROWS_MOST]

    def after(self, cursor: int, limit: int) -> list[JournalRow] | None:
        """Up to ``limit`` rows with id > ``cursor``; None where the tail does not reach back so far."""
        if not self._rows or self._rows[0].id > cursor + 1:
            return None
        skip = cursor + 1 - self._rows[0].id
        return self._rows[skip : skip + limit]
