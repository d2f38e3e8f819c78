"""What the firmware finds when it runs on CPython: MicroPython's ways, put on top of the standard library.

Only for platforms without a MicroPython wheel; the account of the demo says which runtime it was.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import random
import select
import socket
import ssl
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from littlefs import LittleFS, LittleFSError, UserContext

from brim_tools.virtual.chip_calls import Op
from brim_tools.virtual.models.flash import BLOCK_BYTES

CHIP_DIR = Path(__file__).parent / "chip"
_LOADED_FIRST = (json, random, select, socket, struct)  # before `time` is replaced under them


def run_main(argv: list[str]) -> int:
    """Boot the firmware of the environment in this process; the exit code where it ends by itself."""
    os.environ["BRIM_WATCH_HEAP"] = "0"
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = sys.stdout
    host = _chip("_host")
    for op in Op:
        setattr(host, op.name, int(op))
    for name in ("time", "machine", "esp32", "network"):
        _chip(name)
    sys.modules["cryptolib"] = _module("cryptolib", aes=_Aes)
    sys.modules["ssl"] = _module(
        "ssl", SSLContext=_TlsContext, PROTOCOL_TLS_CLIENT=ssl.PROTOCOL_TLS_CLIENT, CERT_REQUIRED=ssl.CERT_REQUIRED
    )
    firmware = Path(os.environ["BRIM_FIRMWARE"])
    sys.path.insert(0, str(firmware))
    files = importlib.import_module("brim.boards.files")
    flash = _Flash(host, int(os.environ["BRIM_FLASH_BLOCKS"]))
    files.open = flash.open  # type: ignore[attr-defined]
    files.os = flash  # type: ignore[attr-defined]
    host.call(Op.HEAP_BASE, bytes(4))
    try:
        for name in ("boot.py", "main.py"):
            path = firmware / name
            exec(compile(path.read_text(), name, "exec"), {"__name__": "__main__"})  # noqa: S102 - as the chip does
    except SystemExit:
        pass
    return 0


def _chip(name: str) -> Any:
    """A stand-in of chip/, under the name that the firmware imports."""
    spec = importlib.util.spec_from_file_location(name, CHIP_DIR / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _module(name: str, **contents: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(contents)
    return module


class _Aes:
    """`cryptolib.aes` in ECB (mode 1)."""

    def __init__(self, key: bytes, mode: int) -> None:
        if mode != 1:
            raise ValueError("mode")
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - LoRaWAN is built from single blocks
        self.encrypt = cipher.encryptor().update
        self.decrypt = cipher.decryptor().update


class _TlsStream:
    """A TLS socket as MicroPython has it: reads and writes give None where they would have to wait."""

    def __init__(self, inner: ssl.SSLSocket) -> None:
        self._inner = inner
        self.fileno = inner.fileno
        self.close = inner.close
        self.setblocking = inner.setblocking

    def read(self, size: int = 4096) -> bytes | None:
        try:
            return self._inner.read(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def write(self, data: bytes) -> int | None:
        try:
            return self._inner.write(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None


class _TlsContext(ssl.SSLContext):
    def wrap_socket(self, sock: Any, *arguments: Any, **options: Any) -> Any:
        return _TlsStream(super().wrap_socket(sock, *arguments, **options))


class _HostFlash(UserContext):
    """littlefs-python's block device on the host's NOR flash."""

    def __init__(self, host: Any, blocks: int) -> None:
        super().__init__(blocks * BLOCK_BYTES)
        self._host = host

    def read(self, cfg: Any, block: int, off: int, size: int) -> bytearray:
        return bytearray(self._host.call(Op.FLASH_READ, struct.pack("<II", block * BLOCK_BYTES + off, size)))

    def prog(self, cfg: Any, block: int, off: int, data: bytes) -> int:
        return self._done(Op.FLASH_WRITE, struct.pack("<I", block * BLOCK_BYTES + off) + bytes(data))

    def erase(self, cfg: Any, block: int) -> int:
        return self._done(Op.FLASH_ERASE, struct.pack("<I", block))

    def sync(self, cfg: Any) -> int:
        return 0

    def _done(self, op: int, data: bytes) -> int:
        answer = self._host.call(op, data)
        return -5 if answer and answer[0] else 0


class _Flash:
    """`open` and the few functions of `os` that the firmware's files need, on the bin's own LittleFS."""

    def __init__(self, host: Any, blocks: int) -> None:
        context = _HostFlash(host, blocks)
        self._fs = LittleFS(context=context, block_size=BLOCK_BYTES, block_count=blocks, mount=False)
        try:
            self._fs.mount()
        except LittleFSError:
            self._fs.format()
            self._fs.mount()

    def open(self, path: str, mode: str = "r") -> Any:
        return _os_errors(self._fs.open, path, mode)

    def stat(self, path: str) -> tuple[int, ...]:
        return (0, 0, 0, 0, 0, 0, _os_errors(self._fs.stat, path).size, 0, 0, 0)

    def rename(self, old: str, new: str) -> None:
        _os_errors(self._fs.rename, old, new)

    def remove(self, path: str) -> None:
        _os_errors(self._fs.remove, path)


def _os_errors(do: Callable[..., Any], *arguments: Any) -> Any:
    """MicroPython's file system raises OSError with the number that LittleFS gives."""
    try:
        return do(*arguments)
    except LittleFSError as error:
        raise OSError(-error.code, str(error)) from None
