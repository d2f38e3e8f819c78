"""Opening the database file: lock, integrity, schema. The only place that opens it for writing."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

from brim_gateway.errors import StoreFault

BUSY_MS = 5_000
"""How long the writer waits for a reader's lock; readers hold theirs for a second at most."""
PAGE_BYTES = 1_024
"""A commit of a few readings touches a few pages and writes them whole. A database of schema 1 keeps its own size."""
CHECKPOINT_PAGES = 4_000
"""The log is carried over into the file after so many pages (4 MB): what is written again and again goes over once. A
log that still grows costs the file system a write of its own with each commit, so it is not to be larger."""


def schema_files() -> list[tuple[int, str]]:
    """(number, SQL) of every schema file, in order."""
    folder = resources.files("brim_gateway.store.schema")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:4]), (folder / name).read_text(encoding="utf-8")) for name in names]


def newest_schema() -> int:
    """The schema that this program writes."""
    return schema_files()[-1][0]


class Database:
    """The one writing connection to ``path`` (created 0600), with the lock that keeps any other writer out.

    A file of an earlier schema is copied to ``PATH.schema-N`` first, unless ``keep_old`` is False. Raises StoreFault:
    locked by a running daemon, damaged, or written by a newer version.
    """

    def __init__(self, path: Path, *, keep_old: bool = True) -> None:
        self.path = path
        self._keep_old = keep_old
        self._lock_fd = self.lock(path)
        try:
            self.connection = self._open()
        except BaseException:
            os.close(self._lock_fd)
            raise

    @staticmethod
    def lock(path: Path) -> int:
        """Keep every other writer out until the descriptor is closed. Raises StoreFault."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StoreFault(f"{path.parent}: {exc.strerror}; the data directory must be writable") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(descriptor)
            raise StoreFault(f"{path}: in use by another gateway process; only one may write; stop it first") from exc
        return descriptor

    def _open(self) -> sqlite3.Connection:
        try:
            if is_lost(self.path):
                hint = f"restore a backup, or remove {self.path.name}.lock to begin without its bins and keys"
                raise StoreFault(f"{self.path}: was here and is gone or empty; {hint}")
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as exc:
            raise StoreFault(f"{self.path}: cannot be opened: {exc}") from exc
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            verdict = quick_check(connection)
            if verdict != "ok":
                raise StoreFault(f"{self.path}: damaged ({verdict}); restore a backup")
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise StoreFault(f"{self.path}: this file system does not support WAL; use a local disk")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            self._migrate(connection)
            # From now on a database that is missing is a loss, and no first start.
            os.pwrite(self._lock_fd, b"1", 0)
        except (OSError, sqlite3.OperationalError) as exc:
            # The disk is full, read-only or failing, or another has the file: nothing is wrong with what is in it.
            connection.close()
            raise StoreFault(f"{self.path}: cannot be used: {exc}; nothing was changed") from exc
        except sqlite3.Error as exc:
            connection.close()
            raise StoreFault(f"{self.path}: not a healthy database: {exc}; restore a backup") from exc
        except StoreFault:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the schema up to the newest number; each file is one transaction. A downgrade is refused."""
        have: int = connection.execute("PRAGMA user_version").fetchone()[0]
        files = schema_files()
        newest = files[-1][0]
        if have > newest:
            raise StoreFault(
                f"{self.path}: schema {have} is newer than this program's {newest}; install the newer version"
            )
        if 0 < have < newest and self._keep_old:
            keep_copy(connection, self.path.with_name(f"{self.path.name}.schema-{have}"))
        for number, sql in files:
            if number > have:
                connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")

    def close(self) -> None:
        """Close the file (the WAL is checkpointed) and give up the lock."""
        self.connection.close()
        os.close(self._lock_fd)


def is_lost(path: Path) -> bool:
    """Whether a database was here before (its lock file says so) and is gone or empty now. Raises OSError."""
    lock = path.with_name(path.name + ".lock")
    was_here = lock.exists() and lock.stat().st_size > 0
    return was_here and not (path.exists() and path.stat().st_size)


def quick_check(connection: sqlite3.Connection) -> str:
    """ "ok", or the first thing that is wrong with the file, on one line. Raises sqlite3.Error."""
    return " ".join(str(connection.execute("PRAGMA quick_check(1)").fetchone()[0]).split())


def keep_copy(connection: sqlite3.Connection, target: Path) -> None:
    """Copy what ``connection`` sees to ``target`` (0600, one file by itself, on disk when this returns), replacing it.

    Raises OSError or sqlite3.Error, and leaves ``target`` as it was.
    """
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(part)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        sync(part)
        part.rename(target)
    except (OSError, sqlite3.Error):
        part.unlink(missing_ok=True)
        raise
    sync(target.parent)


def sync(path: Path) -> None:
    """What was written to a file, or the names in a folder, are on disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Hold a read for a second at most: a reader keeps the WAL from shrinking."""
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
