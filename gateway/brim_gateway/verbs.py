"""Every verb of the control socket, for a running daemon and for a database that nobody holds open."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

from brim_gateway.errors import RegistryError
from brim_gateway.fleet import commands
from brim_gateway.fleet.enrol import enrol, rows_from_csv
from brim_gateway.model import BinRecord
from brim_gateway.network.device import DeviceRow
from brim_gateway.store import registry

log = logging.getLogger("brim.control")
T = TypeVar("T")


class Runtime(Protocol):
    """Where a verb does its work: in the daemon, or on the file itself."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T: ...

    def changed(self, bins: Iterable[BinRecord], devices: Iterable[DeviceRow], gone: BinRecord | None) -> None: ...

    def status(self) -> dict[str, Any]: ...


class Verbs:
    """``await verbs(verb, args)`` answers a JSON-ready object; raises GatewayError."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._table: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "status": self._status,
            "bins.add": self._add,
            "bins.import": self._import,
            "bins.list": self._list,
            "bins.show": self._show,
            "bins.remove": self._remove,
            "keys.replace": self._replace_keys,
        }

    async def __call__(self, verb: str, args: dict[str, Any]) -> Any:
        handler = self._table.get(verb)
        if handler is None:
            raise RegistryError([f"unknown verb {verb[:40]!r}; the gateway and the command line differ in version"])
        return await handler(args)

    async def _status(self, _: dict[str, Any]) -> Any:
        return self._runtime.status()

    async def _add(self, args: dict[str, Any]) -> Any:
        return await self._enrol(commands.text_rows(args.get("rows")))

    async def _import(self, args: dict[str, Any]) -> Any:
        text = args.get("csv")
        if not isinstance(text, str):
            raise RegistryError(["csv: text expected"])
        return await self._enrol(rows_from_csv(text))

    async def _enrol(self, rows: list[Any]) -> dict[str, Any]:
        # In a thread: hashing passwords is slow on purpose, and the loop serves bins meanwhile.
        enrolled = await asyncio.to_thread(enrol, rows)
        await self._runtime.run(lambda connection: commands.add(connection, enrolled))
        await self._refresh([one.device for one in enrolled if one.device is not None])
        warnings = [text for one in enrolled for text in one.warnings]
        for text in warnings:
            log.warning("%s", text)
        log.info("%d bins registered", len(enrolled))
        return {
            "bins": [{"bin": one.record.bin, "dev": one.record.dev, "link": one.record.link} for one in enrolled],
            "warnings": warnings,
            "keys": [one.keys for one in enrolled],
        }

    async def _list(self, _: dict[str, Any]) -> Any:
        return await self._runtime.run(commands.listing)

    async def _show(self, args: dict[str, Any]) -> Any:
        name = _name(args)
        return await self._runtime.run(lambda connection: commands.show(connection, name))

    async def _remove(self, args: dict[str, Any]) -> Any:
        name = _name(args)
        record = await self._runtime.run(lambda connection: commands.remove(connection, name))
        await self._refresh([], gone=record)
        log.info("bin %s removed", record.bin)
        return {"bin": record.bin, "dev": record.dev}

    async def _replace_keys(self, args: dict[str, Any]) -> Any:
        name = _name(args)
        record = await self._runtime.run(lambda connection: commands.prepare_new_keys(connection, name))
        entry, password_hash, app_key = await asyncio.to_thread(commands.make_keys, record)
        record, join_eui = await self._runtime.run(
            lambda connection: commands.put_keys(connection, name, password_hash, app_key)
        )
        if join_eui:
            entry["join_eui"] = join_eui
        device = await self._runtime.run(lambda connection: registry.find_device(connection, record.dev))
        await self._refresh([device] if device is not None else [], gone=record)
        if device is not None:
            # A frame under the old keys may have been committed since: what stands last must be the new ones.
            await self._runtime.run(lambda connection: registry.save_device(connection, device))
        log.info("bin %s: keys replaced", record.bin)
        return {"bin": record.bin, "keys": [entry]}

    async def _refresh(self, devices: list[DeviceRow], gone: BinRecord | None = None) -> None:
        bins = await self._runtime.run(registry.all_bins)
        self._runtime.changed(bins, devices, gone)


def _name(args: dict[str, Any]) -> str:
    name = args.get("bin")
    if not isinstance(name, str):
        raise RegistryError(["bin: the name of a bin expected"])
    return name
