"""Every verb of the control socket, for a running daemon and for a database that nobody holds open."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

from brim_gateway.errors import RegistryError
from brim_gateway.fleet import commands, queue
from brim_gateway.fleet.enrol import enrol, rows_from_csv
from brim_gateway.model import BinRecord
from brim_gateway.network.device import DeviceRow
from brim_gateway.store import outputs, registry

log = logging.getLogger("brim.control")
T = TypeVar("T")

LETTERS_MOST = 1_000
"""Dead letters in one answer."""


class Runtime(Protocol):
    """Where a verb does its work: in the daemon, or on the file itself."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T: ...

    def changed(self, bins: Iterable[BinRecord], devices: Iterable[DeviceRow], gone: BinRecord | None) -> None: ...

    def status(self) -> dict[str, Any]: ...

    def strangers(self) -> list[dict[str, Any]]:
        """Devices heard and not registered."""
        ...

    def radio(self, dev: str) -> dict[str, Any]:
        """How the link of a LoRaWAN device stands (network.links.describe); empty where nobody here knows."""
        ...

    async def retry_letters(self, output: str) -> dict[str, Any]:
        """Send an output's dead letters again."""
        ...

    async def commanded(self) -> None:
        """The table of commands has changed."""
        ...


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
            "bins.unknown": self._unknown,
            "bins.adopt": self._adopt,
            "keys.replace": self._replace_keys,
            "outputs.list": self._outputs,
            "outputs.letters": self._letters,
            "outputs.retry": self._retry,
            "outputs.forget": self._forget,
            "command.send": self._command,
            "command.list": self._commands,
            "command.drop": self._drop_command,
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
        log.info("bins registered: %d", len(enrolled))
        return {
            "bins": [{"bin": one.record.bin, "dev": one.record.dev, "link": one.record.link} for one in enrolled],
            "warnings": warnings,
            "keys": [one.keys for one in enrolled],
        }

    async def _list(self, _: dict[str, Any]) -> Any:
        return await self._runtime.run(commands.listing)

    async def _show(self, args: dict[str, Any]) -> Any:
        name = _name(args)
        view = await self._runtime.run(lambda connection: commands.show(connection, name))
        live = self._runtime.radio(view["dev"]) if "radio" in view else {}
        return view | {"radio": commands.radio_view(live)} if live else view

    async def _remove(self, args: dict[str, Any]) -> Any:
        name = _name(args)
        record = await self._runtime.run(lambda connection: commands.remove(connection, name))
        await self._refresh([], gone=record)
        await self._runtime.commanded()
        log.info("bin %s removed", record.bin)
        return {"bin": record.bin, "dev": record.dev}

    async def _unknown(self, _: dict[str, Any]) -> Any:
        known = {record.dev for record in await self._runtime.run(registry.all_bins)}
        return [one for one in self._runtime.strangers() if one.get("dev") not in known]

    async def _adopt(self, args: dict[str, Any]) -> Any:
        dev = _text(args, "dev").lower()
        ((where, row),) = commands.text_rows([["", args.get("row")]])
        heard = [one for one in await self._unknown({}) if dev in (one.get("dev"), one.get("dev_addr"))]
        if not heard:
            hint = "`bins unknown` shows who was; `bins add --dev` takes one that was not"
            raise RegistryError([f"{dev[:64]}: not heard lately; {hint}"])
        if heard[0].get("dev") is None:
            hint = "`bins import` takes it with its session keys"
            raise RegistryError([f"{dev}: a data frame tells only its address; {hint}"])
        return await self._enrol([(where or dev, {"link": heard[0]["link"], **row, "dev": dev})])

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

    async def _outputs(self, _: dict[str, Any]) -> Any:
        """What the database knows of each output, and what the daemon sees of it."""
        known = await self._runtime.run(outputs.listing)
        running = {one["name"]: one for one in self._runtime.status()["outputs"]}
        return [one | running.get(one["name"], {}) for one in known]

    async def _letters(self, args: dict[str, Any]) -> Any:
        name, limit = _text(args, "output"), args.get("limit", 100)
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= LETTERS_MOST:
            raise RegistryError([f"limit: 1 to {LETTERS_MOST}"])
        return await self._runtime.run(lambda connection: outputs.letters(connection, name, limit))

    async def _retry(self, args: dict[str, Any]) -> Any:
        return await self._runtime.retry_letters(_text(args, "output"))

    async def _forget(self, args: dict[str, Any]) -> Any:
        name = _text(args, "output")
        done = await self._runtime.run(lambda connection: outputs.forget(connection, name))
        log.warning("output %s forgotten: what was held for it is held no longer", name)
        return done

    async def _command(self, args: dict[str, Any]) -> Any:
        name, now_us = _name(args), time.time_ns() // 1_000

        def keep(connection: sqlite3.Connection) -> dict[str, Any]:
            record = commands.find(connection, name)
            asked = args.get("port"), args.get("payload"), args.get("expires_s", queue.EXPIRES_S)
            f_port, payload, expires_s = queue.checked(record, *asked)
            expires_us = now_us + expires_s * 1_000_000
            kept = queue.add(connection, record.dev, f_port, payload, now_us, expires_us)
            return kept.view({record.dev: record.bin})

        kept = await self._runtime.run(keep)
        await self._runtime.commanded()
        log.info("command %d for %s kept", kept["id"], name)
        return kept

    async def _commands(self, args: dict[str, Any]) -> Any:
        now_us = time.time_ns() // 1_000

        def look(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            names = {record.dev: record.bin for record in registry.all_bins(connection)}
            return [one.view(names) for one in queue.waiting(connection, now_us)]

        return await self._runtime.run(look)

    async def _drop_command(self, args: dict[str, Any]) -> Any:
        number = args.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 1 << 63:
            raise RegistryError(["id: the number of a command expected"])
        if not await self._runtime.run(lambda connection: queue.remove(connection, [number])):
            raise RegistryError([f"{number}: no such command waits; it was sent or has expired"])
        await self._runtime.commanded()
        return {"id": number}

    async def _refresh(self, devices: list[DeviceRow], gone: BinRecord | None = None) -> None:
        bins = await self._runtime.run(registry.all_bins)
        self._runtime.changed(bins, devices, gone)


def _name(args: dict[str, Any]) -> str:
    name = args.get("bin")
    if not isinstance(name, str):
        raise RegistryError(["bin: the name of a bin expected"])
    return name


def _text(args: dict[str, Any], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value or len(value) > 200:
        raise RegistryError([f"{key}: a short text expected"])
    return value
