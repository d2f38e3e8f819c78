"""From a row of text (CSV, command line) to a bin with keys. Pure but for fresh random keys; every error at once."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from brim.core.geometry import volumes
from msgspec.structs import replace

from brim_gateway.decoders.table import DECODERS
from brim_gateway.errors import RegistryError
from brim_gateway.ingest.passwords import MAX_PASSWORD_BYTES, hash_password, new_password
from brim_gateway.model import BIN_PATTERN, DEV_PATTERN, LINKS, BinRecord, clean_text
from brim_gateway.network.device import MAX_COUNTER, DeviceInvalid, DeviceRow, abp_session

COLUMNS = (
    "bin", "dev", "link", "empty_mm", "full_mm", "shape", "lat", "lon", "decoder", "counter", "allow_public_key",
    "dev_nonce", "dev_addr", "nwk_s_key", "app_s_key", "f_cnt_up", "f_cnt_down", "app_key", "join_eui", "mqtt_password",
)  # fmt: skip
_LORAWAN_ONLY = (
    "counter", "allow_public_key", "dev_nonce", "dev_addr", "nwk_s_key", "app_s_key", "f_cnt_up", "f_cnt_down",
    "app_key", "join_eui",
)  # fmt: skip
MAX_CSV_BYTES = 4 * 1024 * 1024
MAX_BINS = 20_000
MAX_MM = 8_191


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A bin ready for the registry. ``keys`` is what its bin must be given: for the keys file, never for a screen."""

    record: BinRecord
    device: DeviceRow | None
    keys: dict[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()


def rows_from_csv(text: str) -> list[tuple[str, dict[str, str]]]:
    """("line N", row) for each bin of a CSV with a header. Raises RegistryError."""
    if len(text) > MAX_CSV_BYTES:
        raise RegistryError([f"the file is longer than {MAX_CSV_BYTES} bytes"])
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        unknown = [name for name in header if name not in COLUMNS]
        if unknown or "bin" not in header or len(set(header)) != len(header):
            what = f"unknown column {clean_text(unknown[0], 40)!r}" if unknown else "column bin missing, or one twice"
            raise RegistryError([f"line 1: {what}; known: {', '.join(COLUMNS)}"])
        rows = []
        for row in reader:
            where = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise RegistryError([f"{where}: {len(header)} columns expected"])
            if any(value.strip() for value in row.values()):
                rows.append((where, {name: value.strip() for name, value in row.items() if value.strip()}))
    except csv.Error as exc:
        raise RegistryError([f"line {reader.line_num}: {exc}"]) from None
    if not rows or len(rows) > MAX_BINS:
        raise RegistryError([f"{len(rows)} bins; 1 to {MAX_BINS} can be taken at once"])
    return rows


def enrol(rows: Sequence[tuple[str, Mapping[str, str]]]) -> list[Enrolled]:
    """Check every row and make what keys are missing. Raises RegistryError with every problem, each with its place.

    Hashes a password for each Wi-Fi bin (15 ms): call it in a worker thread.
    """
    problems: list[str] = []
    done: list[Enrolled] = []
    bins: dict[str, str] = {}
    devs: dict[str, str] = {}
    for where, row in rows:
        checker = _Row(row)
        made = checker.build()
        problems += [f"{where}: {text}" for text in checker.problems]
        if made is None:
            continue
        for name, seen in ((made.record.bin, bins), (made.record.dev, devs)):
            if name in seen:
                problems.append(f"{where}: {name} stands on {seen[name]} too")
            seen[name] = where
        done.append(made)
    if problems:
        raise RegistryError(problems)
    return done


class _Row:
    """One row under examination; ``problems`` never quote a key."""

    def __init__(self, row: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._row = row

    def build(self) -> Enrolled | None:
        row = self._row
        for name in row:
            if name not in COLUMNS:
                self.problems.append(f"unknown field {clean_text(name, 40)!r}")
        name = row.get("bin", "")
        if not BIN_PATTERN.match(name):
            self.problems.append("bin: 1 to 64 letters, digits, . _ : or -")
        link = self._choice("link", LINKS)
        dev = row.get("dev", "").lower() or _new_dev()
        if not DEV_PATTERN.match(dev):
            self.problems.append("dev: 16 hexadecimal digits")
        decoder = self._choice("decoder", tuple(DECODERS))
        empty_mm, full_mm = self._number("empty_mm", 1000), self._number("full_mm", 200)
        if empty_mm <= full_mm:
            self.problems.append("empty_mm: must be more than full_mm (distances from the sensor down)")
        shape = self._shape()
        lat, lon = self._degrees("lat", 90), self._degrees("lon", 180)
        if (lat is None) != (lon is None):
            self.problems.append("lat and lon belong together")
        device, keys, warnings = None, {"bin": name, "dev": dev, "link": link}, []
        password_hash = None
        if link == "lorawan":
            device = self._device(dev, keys)
            if "mqtt_password" in row:
                self.problems.append("mqtt_password: only for link wifi")
            if device is not None:
                warnings = exceptions_of(name, device)
        else:
            self.problems += [f"{field_}: only for link lorawan" for field_ in _LORAWAN_ONLY if field_ in row]
            keys["mqtt_password"] = row.get("mqtt_password") or new_password()
            if len(keys["mqtt_password"].encode()) > MAX_PASSWORD_BYTES or len(keys["mqtt_password"]) < 12:
                self.problems.append("mqtt_password: 12 to 256 characters, or leave it out and one is made")
        if self.problems:
            return None
        if link == "wifi":
            password_hash = hash_password(keys["mqtt_password"].encode())
        record = BinRecord(
            bin=name, dev=dev, link=link, decoder=decoder, empty_mm=empty_mm, full_mm=full_mm, shape=shape,
            lat=lat, lon=lon, password_hash=password_hash,
        )  # fmt: skip
        return Enrolled(record, device, keys, tuple(warnings))

    def _device(self, dev: str, keys: dict[str, str]) -> DeviceRow | None:
        row = self._row
        session_fields = [name for name in ("dev_addr", "nwk_s_key", "app_s_key") if name in row]
        counters = self._counters(given=bool(session_fields))
        session, app_key = None, None
        if session_fields:
            if len(session_fields) != 3 or "app_key" in row:
                self.problems.append("dev_addr, nwk_s_key and app_s_key belong together, without app_key")
                return None
            nwk_s_key, app_s_key = self._key("nwk_s_key"), self._key("app_s_key")
            if nwk_s_key is None or app_s_key is None:
                return None
            try:
                session = replace(abp_session(row["dev_addr"], nwk_s_key, app_s_key), **counters)
            except DeviceInvalid as exc:
                self.problems.append(str(exc))
                return None
        elif "app_key" in row:
            app_key = self._key("app_key")
        else:
            app_key = secrets.token_bytes(16)
        join_eui = row.get("join_eui", "0" * 16).lower()
        if app_key is not None:
            keys |= {"join_eui": join_eui, "app_key": app_key.hex()}
        allow = self._choice("allow_public_key", ("false", "true")) == "true"
        counter = self._choice("counter", ("strict", "volatile"))
        dev_nonce = self._choice("dev_nonce", ("rising", "random"))
        if self.problems:
            return None
        try:
            return DeviceRow(
                dev=dev,
                join_eui=join_eui,
                app_key=app_key,
                counter="volatile" if counter == "volatile" else "strict",
                allow_public_key=allow,
                dev_nonce="random" if dev_nonce == "random" else "rising",
                session=session,
            )
        except DeviceInvalid as exc:
            self.problems.append(str(exc))
            return None

    def _counters(self, given: bool) -> dict[str, int]:
        """What another network server says of a session that moves here: the last FCntUp it took, the next FCntDown.
        Without them an old uplink could be played again, and the device would refuse our downlinks."""
        found = {}
        for name in ("f_cnt_up", "f_cnt_down"):
            text = self._row.get(name)
            if text is None:
                continue
            if not given:
                self.problems.append(f"{name}: only with dev_addr, nwk_s_key and app_s_key")
            elif not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > MAX_COUNTER:
                self.problems.append(f"{name}: whole number, 0 to {MAX_COUNTER}")
            else:
                found[name] = int(text)
        return found

    def _key(self, name: str) -> bytes | None:
        try:
            key = bytes.fromhex(self._row[name])
        except ValueError:
            key = b""
        if len(key) != 16:
            self.problems.append(f"{name}: 32 hexadecimal digits")
            return None
        return key

    def _choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self._row.get(name, choices[0])
        if value not in choices:
            self.problems.append(f"{name}: one of {', '.join(choices)}")
            return choices[0]
        return value

    def _number(self, name: str, default: int) -> int:
        text = self._row.get(name, str(default))
        if not text.isascii() or not text.isdigit() or len(text) > 5 or not 0 <= int(text) <= MAX_MM:
            self.problems.append(f"{name}: whole millimetres, 0 to {MAX_MM}")
            return default
        return int(text)

    def _shape(self) -> int:
        text = self._row.get("shape", "0")
        try:
            if not text.isascii() or not text.isdigit() or len(text) > 9:
                raise ValueError
            if shape := int(text):
                volumes(shape)
            return shape
        except ValueError:
            self.problems.append(
                "shape: what a quarter, half and three quarters of the height hold, three digits of permille each,"
                " such as 150350620"
            )
            return 0

    def _degrees(self, name: str, limit: int) -> float | None:
        if name not in self._row:
            return None
        try:
            value = float(self._row[name])
        except ValueError:
            value = float("nan")
        if not -limit <= value <= limit:
            self.problems.append(f"{name}: degrees from -{limit} to {limit}")
            return None
        return value


def exceptions_of(bin_name: str, device: DeviceRow) -> list[str]:
    """What is unsafe about a device, in words for the log and the command line."""
    found = []
    if device.counter == "volatile":
        found.append(f"{bin_name}: counter = volatile: this device forgets its counter, so replays cannot be refused")
    if device.allow_public_key:
        found.append(f"{bin_name}: allow_public_key = true: anybody who reads the key in a book can forge its readings")
    elif device.has_public_key():
        found.append(f"{bin_name}: has a publicly known key: its frames are refused (allow_public_key is off)")
    return found


def _new_dev() -> str:
    """A locally administered EUI-64 (IEEE 802: the U/L bit is set) for a bin that has none yet."""
    return bytes((0x02, *secrets.token_bytes(7))).hex()
