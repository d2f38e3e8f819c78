"""Where the gateway lives: its folder, its disk, its secrets, its process."""

from __future__ import annotations

import os
import shutil
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brim_gateway import control
from brim_gateway.config import Config
from brim_gateway.doctor.finding import Finding, mend, note, ok
from brim_gateway.errors import GatewayError

FREE_LEAST_MB = 64
FREE_LEAST_PCT = 2
INODES_LEAST = 100
MB = 1_000_000


def data_dir_of(path: Path) -> Path:
    """Where an invalid configuration says that its data is, or where it would be by itself."""
    said: Any = None
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8")).get("data_dir")
    except (OSError, ValueError, RecursionError):
        pass
    return (path.parent / (said if isinstance(said, str) and said and "\0" not in said else "data")).absolute()


def folder(config: Config) -> Iterator[Finding]:
    """The data folder can be written, and by one user."""
    where = config.data_dir
    try:
        found = where.stat()
    except FileNotFoundError:
        nearest = next(parent for parent in where.parents if parent.exists())
        if os.access(nearest, os.W_OK) and not _read_only(nearest):
            yield note("data folder", f"{where} is not there yet", "the first start makes it")
        else:
            yield mend("data folder", f"{where} cannot be made: {nearest} cannot be written", _let_in(nearest))
        return
    except OSError as exc:
        yield mend("data folder", f"{where}: {exc.strerror}", "run doctor as root or as the gateway's user")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield mend("data folder", f"{where} is no folder", "move it away, or name another data_dir")
        return
    if _read_only(where):
        what = "is on a file system that is mounted read-only (a failing disk does that by itself)"
        yield mend("data folder", f"{where} {what}", "look at `dmesg`; check the disk, then: mount -o remount,rw")
    elif not os.access(where, os.R_OK | os.W_OK | os.X_OK):
        yield mend("data folder", f"{where} cannot be written by user {os.geteuid()}", _let_in(where))
    else:
        yield ok("data folder", f"{where} can be written")
    yield from _owners(config, found)


def _owners(config: Config, found: os.stat_result) -> Iterator[Finding]:
    """What root left behind cannot be opened by the daemon's user."""
    foreign = [
        path.name
        for path in sorted(config.data_dir.glob("brim.db*"))
        if path.lstat().st_uid != found.st_uid and found.st_uid != 0
    ]
    if foreign:
        yield mend(
            "owner",
            f"{', '.join(foreign)} in {config.data_dir}: not the folder's owner's: the daemon cannot open it",
            f"chown --reference={config.data_dir} {config.data_dir}/brim.db*",
        )


def _let_in(path: Path) -> str:
    owner = path.stat().st_uid
    if owner == os.geteuid():
        return f"chmod u+rwx {path}"
    return f"chown it to the gateway's user, or run as that user ({path} belongs to user {owner})"


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def disk(config: Config) -> Iterator[Finding]:
    """Room, and enough of it for the journal that the configuration allows."""
    where = next(one for one in (config.data_dir, *config.data_dir.parents) if one.exists())
    usage = shutil.disk_usage(where)
    free_mb, total_mb = usage.free // MB, usage.total // MB
    inodes = os.statvfs(where)
    if free_mb < FREE_LEAST_MB or usage.free * 100 < usage.total * FREE_LEAST_PCT:
        do = "make room: nothing is acknowledged once it is full, and bins keep their readings"
        yield mend("disk", f"nearly full: {free_mb} MB free of {total_mb} MB", do)
    elif inodes.f_files and inodes.f_favail < INODES_LEAST:
        yield mend("disk", f"{inodes.f_favail} inodes free", "remove small files: no file can be made soon")
    else:
        yield ok("disk", f"{free_mb} MB free of {total_mb} MB")
    database = config.database
    try:
        used_mb = database.stat().st_size // MB
    except OSError:  # not there yet, or told of elsewhere
        used_mb = 0
    if config.keep_max_mb > used_mb + free_mb:
        text = f"keep_max_mb = {config.keep_max_mb}, and the disk has room for {used_mb + free_mb} MB of journal"
        yield note("disk", text, "set keep_max_mb lower: otherwise the disk is full before the oldest readings go")


def secrets(config: Config) -> Iterator[Finding]:
    """Nobody else reads keys. (Files that the configuration names are checked with it.)"""
    if config.data_dir.is_dir() and not os.access(config.data_dir, os.R_OK | os.X_OK):
        return  # ``folder`` has told of it
    folder_mode = config.data_dir.stat().st_mode if config.data_dir.is_dir() else 0
    files = [*sorted(config.data_dir.glob("brim.db*")), *sorted((config.data_dir / "tls").glob("*.key"))]
    open_to_others = [path for path in files if path.is_file() and path.stat().st_mode & 0o077]
    # Behind a closed folder nobody reaches them; still, a copy of the file would be open.
    for path in open_to_others:
        text = f"{path}: others may read the keys in it (mode {stat.S_IMODE(path.stat().st_mode):o})"
        if folder_mode & 0o077:
            yield mend("secrets", text, f"chmod 600 {path}")
        else:
            yield note("secrets", f"{text}, but its folder is closed to them", f"chmod 600 {path}")
    if not open_to_others:
        yield ok("secrets", f"{len(files)} files with keys, none that others may read")


def daemon(config: Config) -> Iterator[Finding]:
    """Whether one runs, answers and is healthy."""
    holder = lock_holder(config)
    path = config.control_socket
    try:
        answers = control.answers(path)
    except OSError as exc:
        text = f"{path}: {exc.strerror or exc}"
        yield mend("control socket", text, "run doctor as the gateway's user; otherwise move that file away")
        return
    if holder is None and not answers:
        left = " (its socket is left behind: the next start replaces it)" if path.is_socket() else ""
        yield note("daemon", f"none runs{left}", "systemctl start brim-gateway, or brim gateway run")
        return
    if not answers:
        text = f"process {holder} holds the database, and nobody answers on {path}"
        yield mend("control socket", text, f"systemctl restart brim-gateway, or end process {holder}")
        return
    try:
        status = control.ask(path, "status", {})
    except (GatewayError, OSError, ValueError) as exc:
        yield mend("daemon", f"does not answer: {exc}", "systemctl restart brim-gateway")
        return
    if status.get("healthy"):
        yield ok("daemon", f"runs and is healthy since {status.get('since')}")
    else:
        fault = status.get("journal", {}).get("fault") or "a commit does not end"
        yield mend("daemon", f"not healthy: {fault}", "look at the disk; nothing is acknowledged meanwhile")
    dropped = status.get("journal", {}).get("dropped_unsent")
    if dropped:
        text = f"{dropped} readings went since the start before an output had them, because keep_max_mb forced it"
        yield mend("journal", text, "make keep_max_mb larger, and look why that output does not take them")
    for output in status.get("outputs", []):
        if output.get("dead_letters"):
            text = f"{output['name']}: {output['dead_letters']} dead letters"
            yield note("outputs", text, f"brim gateway outputs letters {output['name']}")


def lock_holder(config: Config) -> int | None:
    """Who holds the database's lock, by the kernel's list: trying the lock could stop a daemon that starts."""
    try:
        lock = config.database.with_name(config.database.name + ".lock").stat()
        lines = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    wanted = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    for line in lines:
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted:
            return int(words[4])
    return None
