"""A LoRaWAN device's counter is on disk with every uplink, whole row or not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from brim_gateway.model import BinRecord
from brim_gateway.network.device import DeviceRow, Sent, Session, abp_session, changed
from brim_gateway.network.server import NetworkServer
from brim_gateway.store import registry
from brim_gateway.store.database import Database
from brim_gateway.store.devices import Devices
from msgspec.structs import replace

KEYS = bytes(range(16)), bytes(range(16, 32))
ROW = DeviceRow("ff70b3d500000001", session=Session(7, "00a1b2c3", *KEYS, f_cnt_up=4))


def at(f_cnt: int, row: DeviceRow = ROW, **more: int) -> DeviceRow:
    assert row.session is not None
    return changed(row, session=changed(row.session, f_cnt_up=f_cnt, **more))


def written(connection: sqlite3.Connection, devices: Devices, *rows: DeviceRow) -> tuple[DeviceRow | None, int]:
    """(what is read back, changes to whole rows)."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS whole (n)")
    connection.execute(
        "CREATE TEMP TRIGGER IF NOT EXISTS seen AFTER UPDATE ON main.devices BEGIN INSERT INTO whole VALUES (1); END"
    )
    connection.execute("DELETE FROM whole")
    connection.execute("BEGIN")
    for row in rows:
        devices.put(row)
    devices.write()
    connection.execute("COMMIT")
    (whole,) = connection.execute("SELECT count(*) FROM whole").fetchone()
    found = registry.find_device(connection, ROW.dev)
    assert [found] == registry.all_devices(connection)
    return found, whole


def test_the_counter_goes_on_alone_and_everything_else_takes_the_row_along(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "brim.db")) as database:
        connection, devices = database.connection, Devices(database.connection)
        registry.save_device(connection, ROW)
        assert written(connection, devices, at(5)) == (at(5), 1), "the first since the start"
        assert written(connection, devices, at(6), at(7)) == (at(7), 0)
        assert written(connection, devices, at(8), at(8, f_cnt_down=1)) == (at(8, f_cnt_down=1), 1)
        assert written(connection, devices, at(9, f_cnt_down=1)) == (at(9, f_cnt_down=1), 0)


def test_after_a_rollback_or_the_work_of_others_the_row_goes_whole(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "brim.db")) as database:
        connection, devices = database.connection, Devices(database.connection)
        registry.save_device(connection, ROW)
        written(connection, devices, at(5))
        connection.execute("BEGIN")
        devices.put(at(6, f_cnt_down=1))
        connection.execute("ROLLBACK")
        devices.forget()
        assert written(connection, devices, at(7, f_cnt_down=1)) == (at(7, f_cnt_down=1), 1)


def test_a_counter_belongs_to_its_session_and_to_its_registration(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "brim.db")) as database:
        connection, devices = database.connection, Devices(database.connection)
        personal = replace(ROW, session=abp_session("00a1b2c3", *KEYS))
        registry.save_device(connection, personal)
        written(connection, devices, at(5, personal), at(900, personal))
        # Registered anew: its counter begins again, and what was counted before is not held against it.
        registry.save_device(connection, personal)
        assert registry.find_device(connection, ROW.dev) == personal
        devices.forget()
        written(connection, devices, at(3, personal))
        assert written(connection, devices, at(4, personal)) == (at(4, personal), 0)
        joined = replace(ROW, session=Session(8, "00a1b2c4", *KEYS, f_cnt_up=0))
        assert written(connection, devices, joined) == (joined, 1)


def test_a_device_that_was_removed_meanwhile_stays_removed(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "brim.db")) as database:
        connection, devices = database.connection, Devices(database.connection)
        registry.save_device(connection, ROW)
        written(connection, devices, at(5))
        connection.execute("DELETE FROM devices")
        connection.execute("BEGIN")
        devices.put(at(6))
        devices.write()
        connection.execute("COMMIT")
        assert registry.all_devices(connection) == [] and registry.find_device(connection, ROW.dev) is None


def test_the_airtime_of_a_device_that_was_removed_counts_on(tmp_path: Path) -> None:
    hour_us = 3_600_000_000
    sent = (Sent("aa", "M", 5 * hour_us, 200_000), Sent("bb", "P", 5 * hour_us + 7, 90_000))
    with closing(Database(tmp_path / "brim.db")) as database:
        connection = database.connection
        for number, entries in enumerate([sent, (Sent("aa", "M", 6 * hour_us + 5, 300_000),)]):
            record = BinRecord(bin=f"B-{number}", dev=f"{number:016x}", link="lorawan")
            registry.save_bin(connection, record)
            registry.save_device(connection, DeviceRow(record.dev, sent=entries))
            registry.remove_bin(connection, record)
        left = registry.airtime_of_removed(connection)
    assert left == [sent[1], Sent("aa", "M", 6 * hour_us + 5, 300_000)], "one hour before the newest is too long ago"
    server = NetworkServer(random_bytes=bytes, sent_before=left)
    assert server.duty.used_us("aa", "M", 6 * hour_us + 10) == 300_000
