"""Whose fault it is that a commit failed, and how long to wait before the next attempt."""

from __future__ import annotations

import sqlite3

RETRY_S = (0.5, 1.0, 2.0, 5.0)
"""After a disk refused a commit."""
_DISK_FAULTS = frozenset(
    (
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS,
    )
)  # fmt: skip


def is_disk_fault(exc: Exception) -> bool:
    """The file or the disk, not one submission, is at fault."""
    code = getattr(exc, "sqlite_errorcode", None)
    return isinstance(exc, sqlite3.Error) and code is not None and (code & 0xFF) in _DISK_FAULTS
