"""LoRaWAN devices as the writer keeps them: a row whole where more has changed than the uplink counter, and the counter
alone otherwise. That is nearly always, and a tenth of the bytes."""

from __future__ import annotations

import sqlite3

from brim_gateway.network.device import DeviceRow, changed
from brim_gateway.store import registry
from brim_gateway.store.numbers import dev_number

_COUNT = (
    "INSERT INTO uplink_counters (dev, session, f_cnt_up) VALUES (?, ?, ?)"
    " ON CONFLICT (dev) DO UPDATE SET session = excluded.session, f_cnt_up = excluded.f_cnt_up"
)


class Devices:
    """The writer's thread alone. It knows the rows as they are on disk, but for their counters."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._on_disk: dict[str, DeviceRow] = {}
        self._counted: dict[str, DeviceRow] = {}

    def put(self, row: DeviceRow) -> None:
        """Part of the open transaction. A device that was removed meanwhile stays removed."""
        before = self._on_disk.get(row.dev)
        if before is not None and _differs_in_counter_only(before, row):
            self._counted[row.dev] = row
            return
        self._counted.pop(row.dev, None)
        registry.update_device(self._connection, row)
        self._on_disk[row.dev] = row

    def write(self) -> None:
        """Bring the counters into the file, inside the open transaction."""
        if self._counted:
            rows = [(dev_number(row.dev), *_counter(row)) for row in self._counted.values()]
            self._counted.clear()
            self._connection.executemany(_COUNT, rows)

    def forget(self) -> None:
        """The file may be other than what was written through here: a transaction was rolled back, or somebody else's
        work changed it."""
        self._on_disk.clear()
        self._counted.clear()


def _differs_in_counter_only(before: DeviceRow, row: DeviceRow) -> bool:
    old, new = before.session, row.session
    if old is None or new is None:
        return False
    return before == changed(row, session=changed(new, f_cnt_up=old.f_cnt_up))


def _counter(row: DeviceRow) -> tuple[int, int | None]:
    assert row.session is not None
    return row.session.number, row.session.f_cnt_up
