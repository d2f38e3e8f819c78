"""The UDP socket of the concentrators, read many datagrams at a time.

Why recvmmsg by ctypes: Python's own recvfrom lets other threads run before each datagram, and the writer's thread,
busy with a commit, then keeps the loop waiting: 20 us a datagram instead of 2. recvmmsg does not wait here
(MSG_DONTWAIT), so nothing is lost by keeping the interpreter. Where the C library has none, recvfrom is used.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Any

MOST = 64
"""Datagrams of one call."""
_ROOM = 65_536
_ADDRESS_BYTES = 28
"""sockaddr_in6; sockaddr_in is shorter."""
_KNOWN_MOST = 1_024

Address = tuple[Any, ...]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct msghdr (recvmsg(2))."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """struct mmsghdr (recvmmsg(2))."""

    _fields_ = (("message", _Message), ("length", ctypes.c_uint32))


_SIZE = ctypes.sizeof(_Header)
_NAME_LENGTH, _LENGTH = _Message.name_length.offset, _Header.length.offset
_recvmmsg = getattr(ctypes.PyDLL(None, use_errno=True), "recvmmsg", None)
if _recvmmsg is not None:
    _recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
    _recvmmsg.restype = ctypes.c_int


class BatchReader:
    """``receive()`` gives what waits in a bound, non-blocking UDP socket: up to MOST (datagram, address), [] for none.
    Raises OSError for what the kernel says of something that was sent earlier."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        if _recvmmsg is None:
            return
        self._data = ctypes.create_string_buffer(MOST * _ROOM)
        self._names = ctypes.create_string_buffer(MOST * _ADDRESS_BYTES)
        self._headers = (_Header * MOST)()
        self._iovecs = (_Iovec * MOST)()
        data, names = ctypes.addressof(self._data), ctypes.addressof(self._names)
        for at, header in enumerate(self._headers):
            self._iovecs[at] = _Iovec(data + at * _ROOM, _ROOM)
            message = header.message
            message.name, message.name_length = names + at * _ADDRESS_BYTES, _ADDRESS_BYTES
            message.iov, message.iov_count = ctypes.addressof(self._iovecs) + at * ctypes.sizeof(_Iovec), 1
        # The kernel writes lengths into the headers: they are made new for every call.
        self._fresh = bytes(self._headers)
        self._lengths = memoryview(self._headers).cast("B").cast("I")
        self._data_view, self._names_view = memoryview(self._data), memoryview(self._names)
        self._known: dict[bytes, Address] = {}

    def receive(self) -> list[tuple[bytes, Address]]:
        if _recvmmsg is None:
            return self._one()
        ctypes.memmove(self._headers, self._fresh, len(self._fresh))
        count = _recvmmsg(self._socket.fileno(), ctypes.addressof(self._headers), MOST, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR):
                return []
            raise OSError(number, os.strerror(number))
        lengths, data, names = self._lengths, self._data_view, self._names_view
        found = []
        for at in range(count):
            length, name_length = lengths[(at * _SIZE + _LENGTH) // 4], lengths[(at * _SIZE + _NAME_LENGTH) // 4]
            name = bytes(names[at * _ADDRESS_BYTES : at * _ADDRESS_BYTES + min(name_length, _ADDRESS_BYTES)])
            found.append((bytes(data[at * _ROOM : at * _ROOM + length]), self._known.get(name) or self._address(name)))
        return found

    def _one(self) -> list[tuple[bytes, Address]]:
        try:
            return [self._socket.recvfrom(_ROOM)]
        except (BlockingIOError, InterruptedError):
            return []

    def _address(self, name: bytes) -> Address:
        """What sendto wants, from a sockaddr; kept, because it is the same few again and again."""
        port = int.from_bytes(name[2:4], "big")
        address: Address
        if self._socket.family == socket.AF_INET6:
            host = socket.inet_ntop(socket.AF_INET6, name[8:24])
            flow, scope = int.from_bytes(name[4:8], "big"), int.from_bytes(name[24:28], "little")
            address = (host, port, flow, scope)
        else:
            address = (socket.inet_ntop(socket.AF_INET, name[4:8]), port)
        if len(self._known) >= _KNOWN_MOST:
            self._known.clear()
        self._known[name] = address
        return address
