"""What the gateway knows: readings, bins and what is believed of a bin now.

Times are microseconds since 1970 UTC (``*_us``); the words are those of the wire (statuses, events).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

DEV_PATTERN = re.compile(r"[0-9a-f]{16}\Z")
BIN_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
"""A bin's name is a topic level and a file name: no slash, no wildcard, no space."""

LINKS = ("lorawan", "wifi")


class Radio(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a reading came through the air (the best copy)."""

    kind: str
    rssi_dbm: int | float | None = None
    snr_db: int | float | None = None
    sf: int | None = None
    freq_hz: int | None = None
    gateway: str | None = None


class Measured(msgspec.Struct, frozen=True):
    """One reading as a decoder gives it: the device's own words, before time and place are known.

    ``age_s``: seconds between the measurement and the arrival. ``epoch`` and ``seq`` are None where the
    device gives none; ``events`` is None where it does not say (an earlier reading of a report).
    """

    status: str
    epoch: int | None = None
    seq: int | None = None
    age_s: int = 0
    distance_mm: int | None = None
    spread_mm: int | None = None
    echoes: int | None = None
    temperature_c: float | None = None
    battery_mv: int | None = None
    events: tuple[str, ...] | None = None
    config_version: int | None = None


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reading as the journal keeps it. Absent means absent: there is no value that stands for "none".

    ``seq`` is None only before the journal has numbered a reading of a device that forgets its counter.
    """

    dev: str
    bin: str
    epoch: int
    seq: int | None
    status: str
    time_us: int
    received_us: int
    time_source: str = "gateway"
    time_uncertainty_s: int = 0
    distance_mm: int | None = None
    spread_mm: int | None = None
    echoes: int | None = None
    temperature_c: float | None = None
    battery_mv: int | None = None
    events: tuple[str, ...] | None = None
    config_version: int | None = None
    fill_pct: int | None = None
    link: str = "wifi"
    radio: Radio | None = None

    @property
    def uid(self) -> str:
        """``{dev}:{epoch}:{seq}``: the one name of this reading, from the bin to the backend."""
        return f"{self.dev}:{self.epoch}:{self.seq}"


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that began at a bin. ``id`` is unique and stable: ``{uid}:{type}``."""

    type: str
    id: str
    time_us: int
    reading_uid: str
    confidence: str
    before_pct: int | None = None
    after_pct: int | None = None


class BinState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is believed of a bin now.

    ``fill_pct``, ``state`` and ``time_us`` are those of the newest reading that gave a distance;
    ``contact_us`` and ``status`` are those of the newest reading of any status.
    """

    bin: str
    dev: str
    epoch: int
    seq: int
    status: str
    contact_us: int
    received_us: int
    state: str = "normal"
    fill_pct: int | None = None
    time_us: int | None = None
    battery_mv: int | None = None
    events: tuple[str, ...] = ()
    last_emptied_us: int | None = None


class BinRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A bin in the registry. ``shape``: see brim.core.geometry. ``password_hash`` is a secret of sorts: never shown,
    never exported."""

    bin: str
    dev: str
    link: str
    decoder: str = "brim"
    empty_mm: int = 1000
    full_mm: int = 200
    shape: int = 0
    lat: float | None = None
    lon: float | None = None
    password_hash: str | None = None


def iso_utc(time_us: int) -> str:
    """RFC 3339 in UTC: whole seconds as ``…:10Z``, otherwise milliseconds as ``…:12.113Z``."""
    seconds, micros = divmod(time_us, 1_000_000)
    millis = micros // 1000
    return f"{_second(seconds)}.{millis:03d}Z" if millis else f"{_second(seconds)}Z"


@lru_cache(256)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def clean_text(text: object, limit: int = 120) -> str:
    """Text from outside, fit for a log line or a page: printable, one line, at most ``limit`` characters."""
    raw = str(text)
    shown = "".join(c if c.isprintable() else "�" for c in raw[: limit + 1])
    return shown[:limit] + "…" if len(shown) > limit else shown
