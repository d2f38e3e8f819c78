"""The verbs on a database that no daemon holds: the command line's other way."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from brim_gateway.config import Config
from brim_gateway.control import ask
from brim_gateway.errors import StoreFault
from brim_gateway.model import BinRecord
from brim_gateway.network.device import DeviceRow
from brim_gateway.ownership import give_to_owner
from brim_gateway.store import outputs, registry
from brim_gateway.store.database import Database
from brim_gateway.store.journal import newest_id
from brim_gateway.store.states import BinStates
from brim_gateway.verbs import Verbs

T = TypeVar("T")


class _Offline:
    """verbs.Runtime on the file itself, under its lock."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._database = Database(config.database)
        self._bring_states_up_to_date()

    def _bring_states_up_to_date(self) -> None:
        connection = self._database.connection
        states = BinStates(connection)
        if states.unflushed:
            connection.execute("BEGIN IMMEDIATE")
            states.flush(newest_id(connection))
            connection.execute("COMMIT")

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._database.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            answer = work(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return answer

    def changed(self, bins: Iterable[BinRecord], devices: Iterable[DeviceRow], gone: BinRecord | None) -> None:
        """Nobody else holds anything in memory."""

    def status(self) -> dict[str, Any]:
        connection = self._database.connection
        newest = newest_id(connection)
        return {
            "site": self._config.site,
            "running": False,
            "bins": len(registry.all_bins(connection)),
            "journal": {"rows": newest},
            "outputs": outputs.listing(connection),
        }

    def strangers(self) -> list[dict[str, Any]]:
        """Only a daemon hears any."""
        return []

    def radio(self, dev: str) -> dict[str, Any]:
        """Only a daemon hears it; what the device said last stands in its row."""
        return {}

    async def retry_letters(self, output: str) -> dict[str, Any]:
        raise StoreFault("no daemon runs: only a running gateway can send; start it and ask again")

    async def commanded(self) -> None:
        """The daemon reads the table when it starts."""

    def close(self) -> None:
        self._database.close()


def perform(config: Config, verb: str, args: dict[str, Any]) -> Any:
    """Ask the running daemon; where none runs, do it here. Raises GatewayError."""
    try:
        return ask(config.control_socket, verb, args)
    except ConnectionError:
        pass
    offline = _Offline(config)
    try:
        return asyncio.run(_once(offline, verb, args))
    finally:
        offline.close()
        give_to_owner(config.data_dir)


async def _once(offline: _Offline, verb: str, args: dict[str, Any]) -> Any:
    return await Verbs(offline)(verb, args)
