"""The database file, read and never opened for writing."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from brim_gateway.config import Config
from brim_gateway.doctor.finding import Finding, mend, note, ok
from brim_gateway.doctor.place import lock_holder
from brim_gateway.model import iso_utc
from brim_gateway.store.database import is_lost, newest_schema, quick_check

CHECK_WITHIN_S = 30.0
COPY_MOST_BYTES = 512 * 1024 * 1024
_MAGIC = b"SQLite format 3\0"
_RESTORE = "brim gateway restore FILE (the newest backup); what stands there is kept"


def database(config: Config) -> Iterator[Finding]:
    """There, whole, ours, and of a schema that this program reads."""
    path = config.database
    try:
        if is_lost(path):
            yield mend("database", f"{path}: was here and is gone or empty", _RESTORE)
            return
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        yield note("database", f"{path} is not there yet", "the first start makes it")
        return
    except OSError as exc:
        yield mend("database", f"{path}: {exc.strerror}", "run doctor as root or as the gateway's user")
        return
    size = path.stat().st_size
    if size and (len(head) < 100 or head[:16] != _MAGIC):
        yield mend("database", f"{path}: damaged: not an SQLite file", _RESTORE)
        return
    try:
        yield from _opened(config, path, size)
    except sqlite3.Error as exc:
        yield mend("database", f"{path}: damaged: {exc}", _RESTORE)


def _opened(config: Config, path: Path, size: int) -> Iterator[Finding]:
    """Three ways that leave no trace: beside a daemon as its reader; alone and closed well, as a file that nobody
    changes; with a log left by a kill, as a copy, because only a writer may bring the log in."""
    wal = path.with_name(path.name + "-wal")
    if lock_holder(config) is not None:
        with closing(_connect(f"{path.resolve().as_uri()}?mode=ro")) as connection:
            yield from _look(connection, path, running=True)
    elif not wal.exists() or not wal.stat().st_size:
        with closing(_connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1")) as connection:
            yield from _look(connection, path, running=False)
    elif size + wal.stat().st_size > COPY_MOST_BYTES:
        yield note(
            "database", f"{path}: a kill left its log beside it; too large to check a copy", "the start checks it"
        )
    else:
        with tempfile.TemporaryDirectory(prefix="brim-doctor-") as folder:
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            shutil.copyfile(wal, copy.with_name(wal.name))
            with closing(_connect(copy.as_uri())) as connection:
                yield from _look(connection, path, running=False)


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=2.0)


def _look(connection: sqlite3.Connection, path: Path, *, running: bool) -> Iterator[Finding]:
    schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
    newest = newest_schema()
    if schema > newest:
        text = f"{path}: schema {schema} is newer than this program's {newest}"
        yield mend("database", text, "install the newer version again; a downgrade is refused")
        return
    # A running daemon checked it when it opened it; a long read beside it would only keep its log growing.
    verdict = "ok" if running else _quick_check(connection)
    if verdict is None:
        yield note("database", f"{path}: not checked to its end in {CHECK_WITHIN_S:.0f} s", "the start checks it whole")
    elif verdict != "ok":
        yield mend("database", f"{path}: damaged: {verdict}", _RESTORE)
        return
    if not schema:
        yield note("database", f"{path}: empty", "the next start fills it")
        return
    rows, latest_us = connection.execute("SELECT coalesce(max(id), 0), max(received_us) FROM (SELECT id, received_us"
                                         " FROM journal ORDER BY id DESC LIMIT 1)").fetchone()  # fmt: skip
    older = f", schema {schema}: the start brings it to {newest} and keeps a copy" if schema < newest else ""
    yield ok("database", f"{path}: sound, readings to {rows}{older}")
    if latest_us is not None and latest_us > time.time_ns() // 1_000 + 60_000_000:
        text = f"the newest reading came at {iso_utc(latest_us)}, which is in the future: this clock was or is wrong"
        yield mend("clock", text, "set the clock (timedatectl); nothing is removed by age meanwhile")


def _quick_check(connection: sqlite3.Connection) -> str | None:
    """SQLite's verdict, or None where it takes too long."""
    deadline = time.monotonic() + CHECK_WITHIN_S
    connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 100_000)
    try:
        return quick_check(connection)
    except sqlite3.OperationalError as exc:
        if "interrupted" in str(exc):
            return None
        raise
    finally:
        connection.set_progress_handler(None, 0)
