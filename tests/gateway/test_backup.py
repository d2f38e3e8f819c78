"""A backup is one step while the daemon works; what is restored never uses a counter twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from brim_gateway.errors import StoreFault
from brim_gateway.network.device import DeviceRow, Session
from brim_gateway.store import outputs, registry
from brim_gateway.store.backup import F_CNT_DOWN_RAISE, JOIN_NONCE_RAISE, backup, raised, restore
from brim_gateway.store.database import Database, newest_schema
from msgspec.structs import replace

from tests.gateway.support import PLAIN_LISTENER, RunningGateway, WifiBin, make_config, output, reading

NOW_US = 1_795_000_000_000_000
SESSION = Session(7, "00a1b2c3", bytes(range(16)), bytes(range(16, 32)), f_cnt_up=41, f_cnt_down=9)
DEVICE = DeviceRow("70b3d5000000000b", app_key=bytes(range(16)), join_nonce=470_000, session=SESSION, pending=SESSION)


def test_a_backup_of_a_running_gateway_holds_everything_acknowledged_before_it(tmp_path: Path) -> None:
    config = make_config(tmp_path, PLAIN_LISTENER + output(9))
    with RunningGateway(config) as gateway:
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            for seq in range(1, 301):
                bin_.publish(reading(seq))
            bin_.wait_acknowledged(300)
            report = backup(config.database, tmp_path / "copy.db")
            bin_.publish_and_wait(reading(301))
    assert report["readings_to"] == 300 and report["bins"] == 1
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM journal").fetchone() == (300,)
    assert not list(tmp_path.glob("copy.db?*")), "one file by itself"


def test_a_backup_replaces_no_file(tmp_path: Path) -> None:
    Database(tmp_path / "brim.db").close()
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(StoreFault, match="name a new file"):
        backup(tmp_path / "brim.db", tmp_path / "copy.db")
    with pytest.raises(StoreFault, match="no database"):
        backup(tmp_path / "nothing.db", tmp_path / "other.db")
    with pytest.raises(StoreFault, match="no such folder"):
        backup(tmp_path / "brim.db", tmp_path / "no folder" / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_after_a_restore_no_counter_that_a_bin_may_have_seen_is_used_again(tmp_path: Path) -> None:
    path, copy = tmp_path / "brim.db", tmp_path / "copy.db"
    with closing(Database(path)) as database:
        registry.save_device(database.connection, DEVICE)
        outputs.open_places(database.connection, "cab", [("city", False)], NOW_US)
        (name,) = database.connection.execute("SELECT client_id FROM outputs").fetchone()
    backup(path, copy)
    with closing(Database(path)) as database:
        used = replace(DEVICE, join_nonce=470_003, session=replace(SESSION, f_cnt_down=300))
        registry.save_device(database.connection, used)
    report = restore(path, copy, NOW_US)
    assert report["devices_raised"] == 1
    with closing(Database(path)) as database:
        (row,) = registry.all_devices(database.connection)
        assert row == raised(DEVICE) and row.session is not None and row.pending is not None
        assert row.session.f_cnt_down == row.pending.f_cnt_down == 9 + F_CNT_DOWN_RAISE > 300
        assert row.join_nonce == 470_000 + JOIN_NONCE_RAISE > 470_003
        assert (row.app_key, row.session.nwk_s_key, row.session.f_cnt_up) == (DEVICE.app_key, bytes(range(16)), 41)
        assert outputs.open_places(database.connection, "cab", [("city", False)], NOW_US)["city"].client_id != name
    kept = Path(report["kept"])
    with closing(sqlite3.connect(kept)) as before:
        assert b'"f_cnt_down":300' in before.execute("SELECT row FROM devices").fetchone()[0]
    assert sorted(each.name for each in tmp_path.iterdir() if "restoring" in each.name) == []


def test_counters_at_their_end_stay_in_range() -> None:
    last = replace(DEVICE, join_nonce=0xFFFFFF, session=replace(SESSION, f_cnt_down=0xFFFFFFFF), pending=None)
    assert raised(last).join_nonce == 0xFFFFFF
    session = raised(last).session
    assert session is not None and session.f_cnt_down == 1 << 32, "this session sends nothing more"


def test_nothing_is_restored_under_a_running_gateway_or_from_a_file_that_is_not_sound(tmp_path: Path) -> None:
    path, copy = tmp_path / "brim.db", tmp_path / "copy.db"
    Database(path).close()
    backup(path, copy)
    before = path.read_bytes()
    database = Database(path)
    with pytest.raises(StoreFault, match="in use by another"):
        restore(path, copy, NOW_US)
    database.close()
    (tmp_path / "noise.db").write_bytes(b"noise" * 5_000)
    (tmp_path / "torn.db").write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    with closing(sqlite3.connect(tmp_path / "empty.db")) as empty:
        empty.execute("CREATE TABLE t (x)")
    with closing(sqlite3.connect(tmp_path / "newer.db")) as newer:
        newer.execute(f"PRAGMA user_version = {newest_schema() + 1}")
    for name in ("noise", "torn", "empty", "newer", "missing"):
        with pytest.raises(StoreFault):
            restore(path, tmp_path / f"{name}.db", NOW_US)
    assert path.read_bytes() == before and not path.with_name("brim.db.restoring").exists()


def test_a_second_restore_in_the_same_second_keeps_what_the_first_one_kept(tmp_path: Path) -> None:
    path, copy = tmp_path / "brim.db", tmp_path / "copy.db"
    Database(path).close()
    backup(path, copy)
    assert restore(path, copy, NOW_US)["kept"] != restore(path, copy, NOW_US)["kept"]
    assert len([*tmp_path.glob("brim.db.before-restore-*Z")]) == len([*tmp_path.glob("*Z.2")]) == 1


def test_a_backup_of_an_earlier_schema_can_be_restored(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript((Path(__file__).parents[1] / "data" / "store" / "schema_1.sql").read_text())
    report = restore(tmp_path / "brim.db", old, NOW_US)
    assert (report["readings_to"], report["bins"], report["kept"]) == (148, 3, None)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["brim.db", "brim.db.lock", "old.db"]


@pytest.mark.parametrize("left", ["brim.db", "brim.db.restoring"])
def test_a_log_that_an_earlier_end_left_behind_is_not_taken_for_that_of_the_copy(tmp_path: Path, left: str) -> None:
    copy = tmp_path / "copy.db"
    with closing(Database(tmp_path / "other" / "brim.db")) as database:
        registry.save_device(database.connection, DEVICE)
        backup(database.path, copy)
        database.connection.execute("DELETE FROM devices")
        log = database.path.with_name("brim.db-wal").read_bytes()
    (tmp_path / f"{left}-wal").write_bytes(log)
    restore(tmp_path / "brim.db", copy, NOW_US)
    with closing(Database(tmp_path / "brim.db")) as database:
        assert [row.dev for row in registry.all_devices(database.connection)] == [DEVICE.dev]
