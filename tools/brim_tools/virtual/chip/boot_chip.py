"""What an ESP32 does before `main.py`: mount the flash as `/`, put the frozen firmware on the path, run boot.py, main.py.

The firmware lies under /rom as it would be frozen into the image. A main.py in the flash comes before the frozen one,
as on the chip, so that a technician may copy a program of their own onto a bin.
"""

import gc
import os
import sys

import _host
import esp32
import machine
import network
import time
import vfs


# Each read is a call to the host: larger ones than the chip's 32 bytes save most of them and change nothing on the disk.
_READ_BYTES = 128


class Flash:
    """NOR flash as MicroPython's block device: erase sets a 4 KiB block to ones, a write only clears bits."""

    BLOCK_BYTES = 4096

    def __init__(self, blocks):
        self._blocks = blocks

    def readblocks(self, block, buf, off=0):
        at = block * self.BLOCK_BYTES + off
        n = len(buf)
        buf[:] = _host.call(_host.FLASH_READ, at.to_bytes(4, "little") + n.to_bytes(4, "little"))

    def writeblocks(self, block, buf, off=None):
        if off is None:
            off = 0
            self.ioctl(6, block)
        at = block * self.BLOCK_BYTES + off
        return _failed(_host.call(_host.FLASH_WRITE, at.to_bytes(4, "little") + bytes(buf)))

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        if op == 5:
            return self.BLOCK_BYTES
        if op == 6:
            return _failed(_host.call(_host.FLASH_ERASE, arg.to_bytes(4, "little")))
        return 0


def _failed(answer):
    return -5 if answer and answer[0] else 0  # EIO


def _mount():
    flash = Flash(int(os.getenv("BRIM_FLASH_BLOCKS")))
    try:
        root = vfs.VfsLfs2(flash, readsize=_READ_BYTES)
    except OSError:
        vfs.VfsLfs2.mkfs(flash)
        root = vfs.VfsLfs2(flash, readsize=_READ_BYTES)
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
_run("main.py", _own)
