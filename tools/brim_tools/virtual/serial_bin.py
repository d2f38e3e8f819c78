"""A virtual bin on a serial line: a pseudo-terminal or a TCP port, for `brim bin` and for unmodified mpremote.

The interpreter runs on an inner terminal of its own; this supervisor carries bytes between it and the outside, boots
the bin again after a soft reset, and wakes it when somebody speaks to a sleeping bin (a USB adapter pulls the reset
line when its port is opened).
"""

from __future__ import annotations

import os
import pty
import random
import socket
import tty
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from brim_tools.virtual.bin import Firmware, VirtualBin
from brim_tools.virtual.chips import Litter
from brim_tools.virtual.ether import Ether
from brim_tools.virtual.interpreter import Zygote
from brim_tools.virtual.models.flash import Nvs
from brim_tools.virtual.world import World

_RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
_PROMPT = b">>> "
SERIAL_HEAP_BYTES = 160_000  # console and mpremote's helpers need more than a wake; an ESP32 may grow its heap for them


@dataclass
class Port:
    """Where the outside connects: `url` for pyserial, non-blocking reads and writes."""

    url: str
    fileno: Callable[[], int]
    read: Callable[[], bytes]
    write: Callable[[bytes], None]
    close: Callable[[], None]


def pty_port() -> Port:
    """A pseudo-terminal; what nobody reads is dropped once its buffer is full, as on a wire."""
    outer, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(outer, False)

    def read() -> bytes:
        try:
            return os.read(outer, 4096)
        except (BlockingIOError, OSError):
            return b""

    def write(data: bytes) -> None:
        try:
            os.write(outer, data)
        except BlockingIOError:
            pass

    def close() -> None:
        os.close(outer)
        os.close(slave)

    return Port(os.ttyname(slave), lambda: outer, read, write, close)


class TcpPort:
    """`socket://127.0.0.1:PORT` for pyserial. One client at a time; a new one takes the place of the old."""

    def __init__(self, world: World, on_data: Callable[[bytes], None], port: int = 0) -> None:
        self._world = world
        self._on_data = on_data
        self._listener = socket.create_server(("127.0.0.1", port))
        self._client: socket.socket | None = None
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        world.watch(self._listener, self._accept)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self._drop()
        client.setblocking(False)
        self._client = client
        self._world.watch(client, self._readable)

    def _readable(self) -> None:
        assert self._client is not None
        try:
            data = self._client.recv(4096)
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self._drop()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._world.unwatch(client)
            client.close()

    def write(self, data: bytes) -> None:
        if self._client is not None:
            try:
                self._client.send(data)
            except OSError:
                self._drop()

    def close(self) -> None:
        self._drop()
        self._world.unwatch(self._listener)
        self._listener.close()


class SerialBin:
    """One bin behind a serial line. `urls` are where it answers."""

    def __init__(
        self,
        world: World,
        zygote: Zygote,
        image: Path,
        litter: Litter,
        dev: str,
        *,
        ether: Ether | None = None,
        seed: int = 1,
        sleep_speed: float = 1.0,
        tcp_port: int | None = None,
        configure: Callable[[VirtualBin], None] = lambda bin_: None,
    ) -> None:
        self._world = world
        self._inner, self._inner_slave = pty.openpty()
        os.set_blocking(self._inner, False)
        self._pty = pty_port()
        self._tcp = TcpPort(world, self._typed, tcp_port) if tcp_port is not None else None
        self.urls = [self._pty.url] + ([self._tcp.url] if self._tcp is not None else [])
        self._raw = False
        self._swallow: bytes | None = None
        self._tail = b""
        self._waiting = b""
        self._booted = False
        self.bin = VirtualBin(
            "serial",
            dev,
            world,
            zygote,
            Firmware(image, SERIAL_HEAP_BYTES),
            litter,
            rng=random.Random(seed),
            ether=ether,
            sleep_speed=sleep_speed,
            tty_fd=self._inner_slave,
        )
        self.bin.on_booted = self._deliver
        self.bin.on_end = self._soft_reset
        configure(self.bin)
        world.watch(self._inner, self._printed)
        world.watch(self._pty.fileno(), lambda: self._typed(self._pty.read()))
        self.bin.power_on()

    @property
    def nvs(self) -> Nvs:
        return self.bin.chips.nvs

    def _typed(self, data: bytes) -> None:
        """Bytes from outside. A bin that sleeps is reset by them; one that boots gets them when it listens."""
        if not data:
            return
        if not self.bin.running:
            self._waiting += data[:4096]
            if not self.bin.booting:
                self._booted = False
                self.bin.power_on()
        elif not self._booted:
            self._waiting += data[:4096]
        else:
            self._to_inner(data)

    def _to_inner(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._inner, data) :]
            except BlockingIOError:
                return  # the terminal's buffer is full: lost, as on a UART without flow control

    def _deliver(self) -> None:
        """The interpreter is up."""
        self._booted = True
        waiting, self._waiting = self._waiting, b""
        if self._swallow is not None:
            self._to_inner(b"\x01")
        if waiting:
            # A moment later, so that a Ctrl-C meets the program and not its start.
            self._world.after(100_000, lambda: self._to_inner(waiting))

    def _soft_reset(self) -> None:
        """Ctrl-D ended the interpreter: an ESP32 prints this and starts again, in raw mode without main.py."""
        self._write(b"MPY: soft reboot\r\n")
        self._booted = False
        self._swallow = b"" if self._raw else None
        self.bin.soft_reset(run_main=not self._raw)

    def _printed(self) -> None:
        try:
            data = os.read(self._inner, 4096)
        except OSError:
            return
        if self._swallow is not None:
            self._swallow += data
            at = self._swallow.find(_RAW_BANNER)
            if at < 0:
                return
            data, self._swallow = self._swallow[at:], None
        self._tail = (self._tail + data)[-400:]
        raw, prompt = self._tail.rfind(_RAW_BANNER[:-3]), self._tail.rfind(_PROMPT)
        if raw != prompt:
            self._raw = raw > prompt
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._pty.write(data)
        if self._tcp is not None:
            self._tcp.write(data)

    def close(self) -> None:
        self.bin.cut_power()
        self._world.unwatch(self._inner)
        self._world.unwatch(self._pty.fileno())
        self._pty.close()
        if self._tcp is not None:
            self._tcp.close()
        os.close(self._inner)
        os.close(self._inner_slave)
