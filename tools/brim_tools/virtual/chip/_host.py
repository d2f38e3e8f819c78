"""The wire between the interpreter and the chip models, which live in the host process.

A request is `op, heap bytes in use (u32) or 0, length (u16), data`, an answer `length (u16), data`. Everything a
chip knows stays on the host, so that the bin's heap holds only what it would hold on an ESP32. The operations
(`_host.PIN_GET` ...) are those of brim_tools.virtual.chip_calls: the image builder puts in their numbers.
"""

import gc
import os
import struct

_REQUEST_FD = "/dev/fd/201"
_ANSWER_FD = "/dev/fd/200"

_out = open(_REQUEST_FD, "wb", 0)
_in = open(_ANSWER_FD, "rb", 0)
_head = bytearray(7)
_length = bytearray(2)
_watch_heap = os.getenv("BRIM_WATCH_HEAP") == "1"


def call(op, data=b""):
    """One request, one answer; the host decides how much virtual time it takes."""
    n = len(data)
    struct.pack_into("<BIH", _head, 0, op, gc.mem_alloc() if _watch_heap else 0, n)
    if n < 256:
        _out.write(bytes(_head) + data if n else _head)
    else:
        _out.write(_head)
        _out.write(data)
    _fill(_length)
    n = _length[0] | _length[1] << 8
    if not n:
        return b""
    answer = bytearray(n)
    _fill(answer)
    return answer


def _fill(buffer):
    view = memoryview(buffer)
    done = 0
    while done < len(buffer):
        n = _in.readinto(view[done:])
        if not n:
            raise SystemExit  # the host is gone
        done += n


def call_u32(op, data=b""):
    return struct.unpack("<I", call(op, data))[0]
