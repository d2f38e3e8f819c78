"""Commands of the operator to bins: kept in the database until they are sent or expired.

Sent means handed to a concentrator that took it, or written to a Wi-Fi bin's connection; a kill just then sends it
again, so a command must bear being done twice (all of ours do).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from brim.wire.ports import PORT_COMMAND

from brim_gateway.errors import RegistryError
from brim_gateway.model import BinRecord, iso_utc

log = logging.getLogger("brim.commands")

WAITING_MOST = 8
"""For one bin: a downlink a wake is all there is."""
PAYLOAD_MOST = 51
"""EU868 at DR0, with no MAC command beside it (LoRaWAN regional parameters, 2.4.6)."""
PORT_MOST = 223
EXPIRES_S = 7 * 24 * 3_600
EXPIRES_MOST_S = 90 * 24 * 3_600

_COLUMNS = "id, dev, f_port, payload, created_us, expires_us"


@dataclass(frozen=True, slots=True)
class Command:
    """One payload for one device."""

    id: int
    dev: str
    f_port: int
    payload: bytes
    created_us: int
    expires_us: int

    def view(self, names: dict[str, str]) -> dict[str, Any]:
        """For people and scripts; ``names``: bin by dev."""
        return {
            "id": self.id,
            "bin": names.get(self.dev),
            "dev": self.dev,
            "port": self.f_port,
            "payload": self.payload.hex(),
            "created": iso_utc(self.created_us),
            "expires": iso_utc(self.expires_us),
        }


def checked(record: BinRecord, f_port: object, payload: object, expires_s: object) -> tuple[int, bytes, int]:
    """(port, payload, seconds) of a request; raises RegistryError with every mistake in it."""
    problems = []
    if not isinstance(f_port, int) or isinstance(f_port, bool) or not 1 <= f_port <= PORT_MOST:
        problems.append(f"port: 1 to {PORT_MOST}")
    elif record.link == "wifi" and f_port != PORT_COMMAND:
        problems.append(f"port: a Wi-Fi bin takes commands only, port {PORT_COMMAND}")
    try:
        data = bytes.fromhex(payload) if isinstance(payload, str) else b""
    except ValueError:
        data = b""
    if not 0 < len(data) <= PAYLOAD_MOST:
        problems.append(f"payload: 1 to {PAYLOAD_MOST} bytes as hexadecimal digits")
    if not isinstance(expires_s, int) or isinstance(expires_s, bool) or not 1 <= expires_s <= EXPIRES_MOST_S:
        problems.append(f"expires: 1 to {EXPIRES_MOST_S} seconds")
    if problems or not isinstance(f_port, int) or not isinstance(expires_s, int):
        raise RegistryError(problems)
    return f_port, data, expires_s


def add(connection: sqlite3.Connection, dev: str, f_port: int, payload: bytes, now_us: int, expires_us: int) -> Command:
    """Keep a command; raises RegistryError where too many wait for this device."""
    drop_expired(connection, now_us)
    (count,) = connection.execute("SELECT count(*) FROM commands WHERE dev = ?", (dev,)).fetchone()
    if count >= WAITING_MOST:
        raise RegistryError([f"{count} commands wait for device {dev} already; `brim gateway command list` shows them"])
    cursor = connection.execute(
        "INSERT INTO commands (dev, f_port, payload, created_us, expires_us) VALUES (?, ?, ?, ?, ?)",
        (dev, f_port, payload, now_us, expires_us),
    )
    return Command(cursor.lastrowid or 0, dev, f_port, payload, now_us, expires_us)


def waiting(connection: sqlite3.Connection, now_us: int) -> list[Command]:
    """What is to be sent yet, oldest first."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM commands WHERE expires_us > ? ORDER BY id", (now_us,))  # noqa: S608
    return [Command(*row) for row in rows]


def ids_for(connection: sqlite3.Connection, dev: str) -> list[int]:
    """The commands that are kept for ``dev``."""
    return [row[0] for row in connection.execute("SELECT id FROM commands WHERE dev = ?", (dev,))]


def remove(connection: sqlite3.Connection, ids: Iterable[int]) -> int:
    """Strike out; how many there were."""
    return sum(connection.execute("DELETE FROM commands WHERE id = ?", (one,)).rowcount for one in ids)


def drop_expired(connection: sqlite3.Connection, now_us: int) -> int:
    """Strike out what nobody took in time; how many."""
    return connection.execute("DELETE FROM commands WHERE expires_us <= ?", (now_us,)).rowcount


class CommandDesk:
    """The daemon's side: what waits, by device, and the striking out of what was sent. One event loop.

    ``run`` is Store.run. A link asks ``due(dev)`` when it can send, and calls ``sent`` when it has.
    """

    def __init__(
        self, run: Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]], clock_us: Callable[[], int]
    ) -> None:
        self._run = run
        self._clock_us = clock_us
        self._by_dev: dict[str, list[Command]] = {}

    async def refresh(self) -> None:
        """Read the table again: at the start and after every verb that changed it."""
        now_us = self._clock_us()
        found: list[Command] = await self._run(lambda connection: waiting(connection, now_us))
        self._by_dev = {}
        for command in found:
            self._by_dev.setdefault(command.dev, []).append(command)

    def due(self, dev: str) -> Command | None:
        """The oldest command that waits for ``dev`` and has not expired."""
        now_us = self._clock_us()
        return next((one for one in self._by_dev.get(dev, ()) if one.expires_us > now_us), None)

    def devices(self) -> list[str]:
        """Those that something waits for."""
        return list(self._by_dev)

    async def sent(self, command: Command) -> None:
        """Strike it out; the next of that device is due at once."""
        left = [one for one in self._by_dev.get(command.dev, []) if one.id != command.id]
        if left:
            self._by_dev[command.dev] = left
        else:
            self._by_dev.pop(command.dev, None)
        log.info("command %d sent to %s", command.id, command.dev)
        now_us = self._clock_us()

        def strike_out(connection: sqlite3.Connection) -> None:
            remove(connection, [command.id])
            drop_expired(connection, now_us)

        await self._run(strike_out)

    async def put_back(self, command: Command) -> None:
        """A concentrator took it and then refused to send it: it waits as before, in its old place."""
        self._by_dev[command.dev] = [command, *self._by_dev.get(command.dev, [])]
        log.info("command %d was not sent to %s after all", command.id, command.dev)
        row = (command.id, command.dev, command.f_port, command.payload, command.created_us, command.expires_us)
        await self._run(
            lambda connection: (
                connection.execute(
                    f"INSERT OR IGNORE INTO commands ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                    row,
                ).rowcount
            )
        )
