"""A copy of the database while the daemon runs, and the way back.

A restored database knows less than the bins do: its frame counters have been used since the backup was made. So
``restore`` raises what must never repeat: JoinNonce and FCntDown.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from brim_gateway.errors import StoreFault
from brim_gateway.network.device import DeviceRow, Session
from brim_gateway.store import registry
from brim_gateway.store.database import Database, keep_copy, newest_schema, open_reader, quick_check, sync
from brim_gateway.store.journal import newest_id

F_CNT_DOWN_RAISE = 10_000
"""Below the 16,384 that a LoRaWAN 1.0.3 device takes as a gap, and more downlinks than a bin gets in years."""
JOIN_NONCE_RAISE = 1_000
_MAX_JOIN_NONCE = 0xFFFFFF
_MAX_F_CNT = 0xFFFFFFFF


def backup(database: Path, target: Path) -> dict[str, Any]:
    """Copy ``database`` to the new file ``target`` (0600, checked, synced). A daemon may run and goes on working.

    Raises StoreFault; then there is no ``target``. It holds keys: keep it as safe as the database.
    """
    if not database.is_file():
        raise StoreFault(f"{database}: there is no database to copy")
    if not target.parent.is_dir():
        raise StoreFault(f"{target.parent}: no such folder")
    if target.exists():
        raise StoreFault(f"{target} exists; name a new file")
    try:
        with closing(open_reader(database)) as source:
            keep_copy(source, target)
        with closing(open_reader(target)) as copy:
            report = _checked(copy, target)
    except (OSError, sqlite3.Error) as exc:
        raise StoreFault(f"backup to {target}: {exc}") from None
    return {"file": str(target), "bytes": target.stat().st_size, **report}


def restore(database: Path, source: Path, now_us: int) -> dict[str, Any]:
    """Put a copy of the backup ``source`` in the place of ``database``. No daemon may run.

    What stood there is kept beside it. Raises StoreFault and changes nothing where the backup is not sound.
    """
    if not source.is_file():
        raise StoreFault(f"{source}: no such file")
    stamp = datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    fresh = database.with_name(database.name + ".restoring")
    kept = None
    lock = Database.lock(database)
    try:
        with closing(open_reader(source)) as old:
            _checked(old, source)
            # The log of an attempt that a power cut ended would be taken for this copy's.
            for suffix in ("-wal", "-shm"):
                fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
            keep_copy(old, fresh)
        with closing(Database(fresh, keep_old=False)) as opened:
            report = _raise_ceilings(opened.connection)
        fresh.with_name(fresh.name + ".lock").unlink(missing_ok=True)
        sync(fresh)
        aside = _new_name(database, f"before-restore-{stamp}")
        # Also where the database itself is gone: its log would be taken for that of the copy.
        for suffix in ("-wal", "-shm", ""):
            beside = database.with_name(database.name + suffix)
            if beside.exists():
                kept = aside
                beside.rename(aside.with_name(aside.name + suffix))
        fresh.rename(database)
        sync(database.parent)
    except (OSError, sqlite3.Error) as exc:
        raise StoreFault(f"restore from {source}: {exc}; nothing was changed") from None
    finally:
        os.close(lock)
    return {"file": str(database), "kept": None if kept is None else str(kept), **report}


def _new_name(database: Path, what: str) -> Path:
    """A name beside ``database`` that nothing has, its log neither."""
    number, name = 1, database.with_name(f"{database.name}.{what}")
    while name.exists() or name.with_name(name.name + "-wal").exists():
        number += 1
        name = database.with_name(f"{database.name}.{what}.{number}")
    return name


def _checked(connection: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """Raises StoreFault where the file is damaged, is not ours, or is from a newer version."""
    verdict = quick_check(connection)
    if verdict != "ok":
        raise StoreFault(f"{path}: damaged ({verdict})")
    schema = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 1 <= schema <= newest_schema():
        raise StoreFault(f"{path}: schema {schema}; this program reads 1 to {newest_schema()}")
    return {"readings_to": newest_id(connection), "bins": connection.execute("SELECT count(*) FROM bins").fetchone()[0]}


def _raise_ceilings(connection: sqlite3.Connection) -> dict[str, Any]:
    devices = registry.all_devices(connection)
    connection.execute("BEGIN IMMEDIATE")
    for row in devices:
        registry.save_device(connection, raised(row))
    # A new name at the broker: the database that this one was copied from may still be running somewhere.
    connection.execute("UPDATE outputs SET client_id = ''")
    connection.execute("COMMIT")
    return {
        "readings_to": newest_id(connection),
        "bins": connection.execute("SELECT count(*) FROM bins").fetchone()[0],
        "devices_raised": len(devices),
    }


def raised(row: DeviceRow) -> DeviceRow:
    """The row with counters that the device cannot have seen yet."""
    join_nonce = min(row.join_nonce + JOIN_NONCE_RAISE, _MAX_JOIN_NONCE)
    return replace(row, join_nonce=join_nonce, session=_raised(row.session), pending=_raised(row.pending))


def _raised(session: Session | None) -> Session | None:
    if session is None:
        return None
    return replace(session, f_cnt_down=min(session.f_cnt_down + F_CNT_DOWN_RAISE, _MAX_F_CNT + 1))
