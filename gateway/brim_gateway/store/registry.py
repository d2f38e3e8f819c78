"""The registry's SQL: bins and LoRaWAN devices. No thread, no commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple

import msgspec

from brim_gateway.errors import StoreFault
from brim_gateway.model import BinRecord
from brim_gateway.network.device import DeviceInvalid, DeviceRow, Sent, changed
from brim_gateway.network.duty import HOUR_US
from brim_gateway.store.numbers import dev_number

_COLUMNS = ("bin", "dev", "link", "decoder", "empty_mm", "full_mm", "shape", "lat", "lon", "password_hash")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM bins"  # noqa: S608 - a literal table of names


def _record(row: tuple[object, ...]) -> BinRecord:
    return msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), BinRecord)


def all_bins(connection: sqlite3.Connection) -> list[BinRecord]:
    """Every bin, by name."""
    return [_record(row) for row in connection.execute(f"{_SELECT} ORDER BY bin")]


def find_bin(connection: sqlite3.Connection, name: str) -> BinRecord | None:
    """The bin of that name."""
    row = connection.execute(f"{_SELECT} WHERE bin = ?", (name,)).fetchone()
    return _record(row) if row else None


def save_bin(connection: sqlite3.Connection, record: BinRecord) -> None:
    """Add a bin or replace the one of that name."""
    marks = ", ".join("?" * len(_COLUMNS))
    connection.execute(
        f"INSERT OR REPLACE INTO bins ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608
        tuple(getattr(record, name) for name in _COLUMNS),
    )


def remove_bin(connection: sqlite3.Connection, record: BinRecord) -> None:
    """Forget a bin, its device and its state; its readings stay in the journal, and its airtime counts on."""
    with suppress(StoreFault):  # a row that cannot be read must not stay for ever
        _keep_airtime(connection, find_device(connection, record.dev))
    connection.execute("DELETE FROM bins WHERE bin = ?", (record.bin,))
    connection.execute("DELETE FROM devices WHERE dev = ?", (record.dev,))
    connection.execute("DELETE FROM uplink_counters WHERE dev = ?", (dev_number(record.dev),))
    connection.execute("DELETE FROM bin_states WHERE bin = ?", (record.bin,))


def _keep_airtime(connection: sqlite3.Connection, row: DeviceRow | None) -> None:
    sent = row.sent if row is not None else ()
    connection.executemany("INSERT INTO airtime_of_removed VALUES (?, ?, ?, ?)", map(astuple, sent))
    connection.execute(
        "DELETE FROM airtime_of_removed WHERE end_us <= (SELECT max(end_us) FROM airtime_of_removed) - ?", (HOUR_US,)
    )


def airtime_of_removed(connection: sqlite3.Connection) -> list[Sent]:
    """What devices that are no longer registered have sent lately."""
    return [
        Sent(*row) for row in connection.execute("SELECT gateway, band, end_us, airtime_us FROM airtime_of_removed")
    ]


def all_devices(connection: sqlite3.Connection) -> list[DeviceRow]:
    """Every LoRaWAN device. Raises StoreFault for a row that breaks a rule."""
    counted = {dev: rest for dev, *rest in connection.execute("SELECT dev, session, f_cnt_up FROM uplink_counters")}
    rows = connection.execute("SELECT dev, row FROM devices").fetchall()
    return [_counted(_device(dev, row), counted.get(dev_number(dev))) for dev, row in rows]


def find_device(connection: sqlite3.Connection, dev: str) -> DeviceRow | None:
    """The LoRaWAN device of that EUI."""
    row = connection.execute("SELECT row FROM devices WHERE dev = ?", (dev,)).fetchone()
    if row is None:
        return None
    select = "SELECT session, f_cnt_up FROM uplink_counters WHERE dev = ?"
    return _counted(_device(dev, row[0]), connection.execute(select, (dev_number(dev),)).fetchone())


def _counted(row: DeviceRow, counter: Sequence[int] | None) -> DeviceRow:
    """The row with the uplink counter that was written alone, where it belongs to the row's session and is newer."""
    session = row.session
    if counter is None or session is None or counter[0] != session.number:
        return row
    if session.f_cnt_up is not None and session.f_cnt_up >= counter[1]:
        return row
    return changed(row, session=changed(session, f_cnt_up=counter[1]))


def _device(dev: str, row: bytes) -> DeviceRow:
    try:
        return DeviceRow.from_dict(msgspec.json.decode(row))
    except (DeviceInvalid, msgspec.DecodeError) as exc:
        raise StoreFault(f"device {dev} in the database cannot be used: {exc}; restore a backup") from None


def save_device(connection: sqlite3.Connection, row: DeviceRow) -> None:
    """Add or replace a device."""
    connection.execute("DELETE FROM uplink_counters WHERE dev = ?", (dev_number(row.dev),))
    connection.execute(
        "INSERT INTO devices (dev, row) VALUES (?, ?) ON CONFLICT (dev) DO UPDATE SET row = excluded.row",
        (row.dev, msgspec.json.encode(row.as_dict())),
    )


def update_device(connection: sqlite3.Connection, row: DeviceRow) -> None:
    """Keep new counters and sessions; a device that was removed meanwhile stays removed."""
    connection.execute("UPDATE devices SET row = ? WHERE dev = ?", (msgspec.json.encode(row.as_dict()), row.dev))
