"""Disks of a benchmark: a file system of its own whose power can be cut, that can be full, and one that is slow.

The image file is the disk. At a power cut it is copied as it is and the copy is mounted: what the daemon had not
forced to the disk was in memory only, and is gone. Needs root; every mount lives in a name space of this process and
ends with it, however it ends.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_SBIN = ("/usr/sbin", "/sbin")
_CLONE_NEWNS = 0x00020000
_SECTOR_BYTES = 512
_SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
static int sync_as_told(int fd, const char *name) {
    const char *ms = getenv("BRIM_BENCH_SYNC_MS");
    if (ms) usleep(1000 * atoi(ms));
    return getenv("BRIM_BENCH_SYNC_LIES") ? 0 : ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return sync_as_told(fd, "fsync"); }
int fdatasync(int fd) { return sync_as_told(fd, "fdatasync"); }
"""


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_SBIN)))


def _do(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{Path(command[0]).name}: {done.stderr.strip()[-200:]}")
    return done.stdout


def own_name_space() -> None:
    """From here on mounts are this process's and its children's alone. Once, as root, before any thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    _do("mount", "--make-rprivate", "/")


def why_no_disk() -> str:
    """Why no disk of our own can be made here; empty where it can."""
    if os.geteuid() != 0:
        return "not root"
    for name in ("mkfs.ext4", "mount", "umount", "losetup"):
        if _program(name) is None:
            return f"no {name}"
    try:
        own_name_space()
        with tempfile.TemporaryDirectory(prefix="brim-bench-") as folder:
            Disk(Path(folder), 16).close()
    except OSError as exc:
        return str(exc)
    return ""


class Disk:
    """An ext4 of ``size_mb`` in an image file (sparse), mounted at ``path``."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        self.path = folder / "disk"
        self.path.mkdir()
        self._image = folder / "disk.img"
        self._ballast = self.path / "ballast"
        with self._image.open("wb") as file:
            file.truncate(size_mb << 20)
        lazy = "lazy_itable_init=0,lazy_journal_init=0"  # nothing is written later that nobody asked for
        _do(_program("mkfs.ext4") or "mkfs.ext4", "-q", "-F", "-m", "0", "-E", lazy, str(self._image))
        self._mount()

    def _mount(self) -> None:
        _do("mount", "-o", "loop", str(self._image), str(self.path))

    def power_cut(self) -> None:
        """The caller has frozen what writes here. The disk as it is now comes back after `power_back`."""
        _do("cp", "--sparse=always", "--reflink=auto", str(self._image), str(self._image) + ".cut")

    def power_back(self) -> None:
        """What had been written here is dead by now; the copy takes the old disk's place."""
        _do("umount", str(self.path))
        Path(str(self._image) + ".cut").replace(self._image)
        self._mount()

    def fill(self) -> None:
        """Not a block is left."""
        with self._ballast.open("ab") as file:
            size = file.tell()
            step = 1 << 32
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError:
                    step >>= 1

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def written_bytes(self) -> int:
        """What has reached the device so far, by its own counter; what waits in memory is sent there first."""
        _do("sync", "--file-system", str(self.path))
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[4] == str(self.path):
                device = fields[fields.index("-") + 2].removeprefix("/dev/")
                return int(Path(f"/sys/block/{device}/stat").read_text().split()[6]) * _SECTOR_BYTES
        raise OSError(f"{self.path} is not mounted")

    def close(self) -> None:
        _do("umount", "--lazy", str(self.path))
        self._image.unlink()
        self.path.rmdir()


class SlowSync:
    """Makes fsync and fdatasync of a process take longer. ``why_not`` says what is missing, empty if nothing is.

    ``lies``: they do nothing at all, as on a disk that only says that it has written. Then a power cut must lose
    readings: a history that finds none would find none anywhere.
    """

    def __init__(self, folder: Path, lies: bool = False) -> None:
        self._lies = {"BRIM_BENCH_SYNC_LIES": "1"} if lies else {}
        self._library = folder / "slowsync.so"
        self.why_not = ""
        compiler = shutil.which("cc")
        if compiler is None:
            self.why_not = "no C compiler"
            return
        source = folder / "slowsync.c"
        source.write_text(_SHIM)
        try:
            _do(compiler, "-shared", "-fPIC", "-O2", "-o", str(self._library), str(source), "-ldl")
        except OSError as exc:
            self.why_not = str(exc)

    def env(self, more_ms: int) -> dict[str, str]:
        """For the process that is to be slow."""
        if not (more_ms or self._lies):
            return {}
        return {"LD_PRELOAD": str(self._library), "BRIM_BENCH_SYNC_MS": str(more_ms), **self._lies}
