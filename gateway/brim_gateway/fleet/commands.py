"""The verbs of the command line, as transactions on the registry. The same code serves daemon and offline use.

A verb takes JSON-ready arguments and answers a JSON-ready object; it raises GatewayError.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from brim_gateway.errors import RegistryError
from brim_gateway.fleet import queue
from brim_gateway.fleet.enrol import Enrolled, exceptions_of
from brim_gateway.ingest.passwords import hash_password, new_password
from brim_gateway.model import BinRecord, BinState, iso_utc
from brim_gateway.network.links import describe
from brim_gateway.store import registry
from brim_gateway.store.states import all_states


def add(connection: sqlite3.Connection, enrolled: Sequence[Enrolled]) -> None:
    """Register all of ``enrolled`` or, with every conflict named, none."""
    known = registry.all_bins(connection)
    names = {record.bin for record in known}
    devs = {record.dev: record.bin for record in known}
    problems = [f"{one.record.bin}: is registered already" for one in enrolled if one.record.bin in names]
    problems += [
        f"{one.record.bin}: device {one.record.dev} belongs to {devs[one.record.dev]}"
        for one in enrolled
        if one.record.dev in devs and one.record.bin not in names
    ]
    if problems:
        raise RegistryError(problems)
    for one in enrolled:
        registry.save_bin(connection, one.record)
        if one.device is not None:
            registry.save_device(connection, one.device)


def remove(connection: sqlite3.Connection, name: str) -> BinRecord:
    """Forget a bin, its keys and the commands that wait for it; its readings stay."""
    record = find(connection, name)
    queue.remove(connection, queue.ids_for(connection, record.dev))
    registry.remove_bin(connection, record)
    return record


def listing(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every bin with what is believed of it, without any secret."""
    states = {state.bin: state for state in all_states(connection)}
    return [bin_view(record, states.get(record.bin)) for record in registry.all_bins(connection)]


def show(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    """One bin, its state, and which of its keys are set."""
    record = find(connection, name)
    states = {state.bin: state for state in all_states(connection)}
    view = bin_view(record, states.get(name))
    device = registry.find_device(connection, record.dev)
    view["keys"] = {
        "mqtt_password": record.password_hash is not None,
        "app_key": device is not None and device.app_key is not None,
        "session": device is not None and device.session is not None,
    }
    if device is not None:
        view["join_eui"] = device.join_eui
        view["counter"] = device.counter
        view["warnings"] = exceptions_of(name, device)
        view["radio"] = radio_view(describe(device, None))
    return view


def radio_view(link: Mapping[str, Any]) -> dict[str, Any]:
    """A description of a link (network.links) with its times for people."""
    shown: dict[str, Any] = {}
    for key, value in link.items():
        if key == "concentrators":
            shown[key] = [radio_view(one) for one in value]
        elif key.endswith("_us"):
            shown[key.removesuffix("_us")] = None if value is None else iso_utc(value)
        elif key != "dev":
            shown[key] = value
    return shown


def prepare_new_keys(connection: sqlite3.Connection, name: str) -> BinRecord:
    """The bin whose keys are to be replaced; raises RegistryError where that cannot be done here."""
    record = find(connection, name)
    if record.link == "lorawan":
        device = registry.find_device(connection, record.dev)
        if device is None or device.app_key is None:
            raise RegistryError([f"{name}: its session keys were given at registration; remove it and add it again"])
    return record


def make_keys(record: BinRecord) -> tuple[dict[str, str], str | None, bytes | None]:
    """(entry for the keys file, password hash, AppKey): fresh. Slow for a password."""
    entry = {"bin": record.bin, "dev": record.dev, "link": record.link}
    if record.link == "wifi":
        entry["mqtt_password"] = new_password()
        return entry, hash_password(entry["mqtt_password"].encode()), None
    app_key = secrets.token_bytes(16)
    return entry | {"app_key": app_key.hex()}, None, app_key


def put_keys(
    connection: sqlite3.Connection, name: str, password_hash: str | None, app_key: bytes | None
) -> tuple[BinRecord, str]:
    """Store fresh keys; (the bin, its JoinEUI or ""). The running session of a LoRaWAN bin ends: it must join again."""
    record = find(connection, name)
    if app_key is None:
        record = msgspec.structs.replace(record, password_hash=password_hash)
        registry.save_bin(connection, record)
        return record, ""
    device = registry.find_device(connection, record.dev)
    if device is None:
        raise RegistryError([f"{name}: has no LoRaWAN device"])
    registry.save_device(connection, replace(device, app_key=app_key, last_dev_nonce=None, session=None, pending=None))
    return record, device.join_eui


def bin_view(record: BinRecord, state: BinState | None) -> dict[str, Any]:
    """A bin for people and scripts; nothing secret in it."""
    view: dict[str, Any] = {
        "bin": record.bin,
        "dev": record.dev,
        "link": record.link,
        "decoder": record.decoder,
        "empty_mm": record.empty_mm,
        "full_mm": record.full_mm,
        "shape": record.shape,
        "lat": record.lat,
        "lon": record.lon,
        "fill_pct": None,
        "state": None,
        "status": None,
        "time": None,
        "last_contact": None,
    }
    if state is not None:
        view |= {
            "fill_pct": state.fill_pct,
            "state": state.state,
            "status": state.status,
            "time": None if state.time_us is None else iso_utc(state.time_us),
            "last_contact": iso_utc(state.received_us),
            "battery_mv": state.battery_mv,
            "events": list(state.events),
        }
    return view


def text_rows(raw: object) -> list[tuple[str, Mapping[str, str]]]:
    """The rows of a request, checked for shape: [[place, {field: text}], …]."""
    try:
        rows: list[tuple[str, dict[str, str]]] = msgspec.convert(raw, list[tuple[str, dict[str, str]]])
    except msgspec.ValidationError as exc:
        raise RegistryError([f"rows: {exc}"]) from None
    return list(rows)


def find(connection: sqlite3.Connection, name: str) -> BinRecord:
    """The bin of that name; raises RegistryError."""
    record = registry.find_bin(connection, name)
    if record is None:
        raise RegistryError([f"{name[:64]!r}: no such bin; `brim gateway bins list` shows them"])
    return record
