"""What an ESP32 does before `main.py`: mount the flash as `/`, put the frozen firmware on the path, run boot.py.

The firmware lies under /rom as it would be frozen into the image. A main.py in the flash comes before the frozen one,
as on the chip, so that a technician may copy a program of their own onto a bin.
"""

import gc
import os
import sys
import time

import _host
import esp32
import machine
import network
import vfs


class Flash:
    """NOR flash as MicroPython's block device: erase sets a 4 KiB block to ones, a write only clears bits.

    On the chip a read costs next to nothing; here it is a call to the host, so the last line read of the even blocks
    and of the odd ones is kept: LittleFS goes to and fro between the two blocks of a metadata pair.
    """

    BLOCK_BYTES = 4096
    LINE_BYTES = 512

    def __init__(self, blocks):
        self._blocks = blocks
        self._forget()

    def _forget(self):
        self._lines = [b"", b""]
        self._lines_at = [0, 0]

    def readblocks(self, block, buf, off=0):
        at = block * self.BLOCK_BYTES + off
        n = len(buf)
        i = block & 1
        start = at - self._lines_at[i]
        if start < 0 or start + n > len(self._lines[i]):
            self._lines_at[i] = at & ~(self.LINE_BYTES - 1)
            start = at - self._lines_at[i]
            where = self._lines_at[i].to_bytes(4, "little")
            count = max(self.LINE_BYTES, start + n)
            self._lines[i] = _host.call(_host.FLASH_READ, where + count.to_bytes(4, "little"))
        buf[:] = memoryview(self._lines[i])[start : start + n]

    def writeblocks(self, block, buf, off=None):
        if off is None:
            off = 0
            self.ioctl(6, block)
        self._forget()
        at = block * self.BLOCK_BYTES + off
        return _failed(_host.call(_host.FLASH_WRITE, at.to_bytes(4, "little") + bytes(buf)))

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        if op == 5:
            return self.BLOCK_BYTES
        if op == 6:
            self._forget()
            return _failed(_host.call(_host.FLASH_ERASE, arg.to_bytes(4, "little")))
        return 0


def _failed(answer):
    return -5 if answer and answer[0] else 0  # EIO


def _mount():
    flash = Flash(int(os.getenv("BRIM_FLASH_BLOCKS")))
    try:
        root = vfs.VfsLfs2(flash)
    except OSError:
        vfs.VfsLfs2.mkfs(flash)
        root = vfs.VfsLfs2(flash)
    firmware = os.getenv("BRIM_FIRMWARE")
    vfs.umount("/")
    vfs.mount(root, "/")
    vfs.mount(vfs.VfsPosix(firmware), "/rom")
    os.chdir("/")
    sys.path[:] = ["/rom", ".frozen", "", "/lib"]


def _run(name, own):
    with open(name if name in own else "/rom/" + name) as f:
        source = f.read()
    exec(compile(source, name, "exec"), {"__name__": "__main__"})


_mount()
_own = os.listdir("/")
gc.collect()
_host.call(_host.HEAP_BASE, gc.mem_alloc().to_bytes(4, "little"))
_run("boot.py", _own)
if os.getenv("BRIM_RUN_MAIN") == "1":
    _run("main.py", _own)
