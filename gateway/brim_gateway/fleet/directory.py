"""The registry's bins in memory, for the hot path. Replaced whole when the registry changes."""

from __future__ import annotations

from collections.abc import Iterable

from brim_gateway.model import BinRecord


class Directory:
    """Bins by device and by name."""

    def __init__(self, records: Iterable[BinRecord] = ()) -> None:
        self.by_dev: dict[str, BinRecord] = {}
        self.by_bin: dict[str, BinRecord] = {}
        self.replace(records)

    def replace(self, records: Iterable[BinRecord]) -> None:
        """Take ``records`` in place of what was known."""
        known = list(records)
        self.by_dev = {record.dev: record for record in known}
        self.by_bin = {record.bin: record for record in known}
