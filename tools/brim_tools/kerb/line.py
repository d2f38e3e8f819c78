"""The way to a bin: a serial port, a pseudo-terminal, or `socket://HOST:PORT`.

pyserial needs termios on POSIX as soon as it is imported, so it is imported for real ports only.
"""

import socket
from typing import Any, Protocol
from urllib.parse import urlsplit

BAUD = 115200
READ_S = 0.2
WRITE_S = 2.0
CONNECT_S = 5.0
READ_BYTES = 1024


class PortError(Exception):
    """One line: what is wrong with the port and what to do."""


class Line(Protocol):
    def read(self) -> bytes:
        """What came, b"" after a short while without anything. PortError when the line is gone."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class SocketLine:
    def __init__(self, host: str, port: int) -> None:
        try:
            self._socket = socket.create_connection((host, port), CONNECT_S)
        except OSError as error:
            raise PortError(f"socket://{host}:{port}: {error.strerror or error}. Is the virtual bin running?") from None
        self._socket.settimeout(READ_S)

    def read(self) -> bytes:
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return b""
        except OSError as error:
            raise PortError(f"the line broke: {error.strerror or error}") from None
        if not data:
            raise PortError("the bin closed the line")
        return data

    def write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise PortError(f"the line broke: {error.strerror or error}") from None

    def close(self) -> None:
        self._socket.close()


class SerialLine:
    def __init__(self, port: str) -> None:
        serial = _pyserial()
        self._error: type[Exception] = serial.SerialException
        try:
            self._serial = serial.serial_for_url(
                port, baudrate=BAUD, timeout=READ_S, write_timeout=WRITE_S, do_not_open=True
            )
            # Both lines together would hold an ESP32 in reset. A pseudo-terminal has neither and says ENOTTY.
            self._serial.dtr = False
            self._serial.rts = False
            self._serial.open()
        except (OSError, ValueError) as error:
            hint = "`brim bin ports` lists what is there"
            if isinstance(error, PermissionError) or "Permission" in str(error):
                hint = "your account may not use it; on Linux: sudo usermod -aG dialout $USER, then log in again"
            raise PortError(f"{port}: cannot open; {hint}") from None

    def read(self) -> bytes:
        try:
            return bytes(self._serial.read(self._serial.in_waiting or 1))
        except (self._error, OSError):
            raise PortError("the port is gone: was the cable pulled?") from None

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except (self._error, OSError):
            raise PortError("the port does not take data: was the cable pulled?") from None

    def close(self) -> None:
        self._serial.close()


def _pyserial() -> Any:
    try:
        import serial
    except ImportError as error:
        missing = "pyserial is missing: pip install 'brim[kerb]'"
        raise PortError(missing if error.name == "serial" else f"serial ports cannot be used here: {error}") from None
    return serial


def open_line(port: str) -> Line:
    """PortError if `port` cannot be opened."""
    if port.startswith("socket://"):
        try:
            parts = urlsplit(port)
            host, number = parts.hostname, parts.port
        except ValueError:
            host = number = None
        if not host or not number:
            raise PortError("a socket is written socket://HOST:PORT")
        return SocketLine(host, number)
    return SerialLine(port)


# (vendor, product) -> what it is; product None stands for all of a vendor
KNOWN = {
    (0x10C4, 0xEA60): "CP210x bridge (Heltec V3 and many ESP32 boards)",
    (0x1A86, None): "CH34x bridge",
    (0x0403, None): "FTDI bridge",
    (0x303A, None): "ESP32 with its own USB",
}


def list_ports() -> list[dict[str, Any]]:
    """What is plugged in: device, what it looks like, its USB ids and serial number."""
    _pyserial()
    from serial.tools import list_ports as found

    ports = []
    for port in sorted(found.comports()):
        kind = KNOWN.get((port.vid, port.pid)) or KNOWN.get((port.vid, None))
        ids = f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None and port.pid is not None else None
        ports.append({"port": port.device, "looks_like": kind, "usb": ids, "serial": port.serial_number})
    return ports
