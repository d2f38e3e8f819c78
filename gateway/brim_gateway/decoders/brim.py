"""Brim's own payloads: the report's bytes, or the same words as JSON."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from brim.wire import report
from brim.wire.errors import WireError

from brim_gateway.errors import DecodeError
from brim_gateway.model import Measured

MAX_PAYLOAD_BYTES = 2_048
_EVENTS = frozenset(report.EVENTS)
_STATUSES = frozenset(report.STATUSES)


class Decoded(msgspec.Struct, frozen=True):
    """Readings oldest first, and how far back the device still holds unacknowledged ones (None: it does not say)."""

    readings: tuple[Measured, ...]
    backlog: int | None = None


class _Json(msgspec.Struct, forbid_unknown_fields=True):
    """What any MQTT client may send for one reading. JSON has no bounds of its own: they are checked after it."""

    epoch: int
    seq: int
    status: str
    distance_mm: int | None = None
    spread_mm: int | None = None
    echoes: int | None = None
    age_s: int = 0
    temperature_c: float | None = None
    battery_mv: int | None = None
    events: list[str] = []
    config_version: int | None = None


_BOUNDS: tuple[tuple[str, int, int], ...] = (
    ("epoch", 0, 2**31 - 1),
    ("seq", 1, 2**32 - 1),
    ("distance_mm", 0, report.MAX_DISTANCE_MM),
    ("spread_mm", 0, report.MAX_DISTANCE_MM),
    ("echoes", 0, 255),
    ("age_s", 0, report.MAX_AGE_S),
    ("temperature_c", -100, 200),
    ("battery_mv", 0, 65_535),
    ("config_version", 0, 65_535),
)
_decode_json = msgspec.json.Decoder(_Json | list[_Json]).decode


def decode(payload: bytes) -> Decoded:
    """A report (bytes), or JSON: one object or a list of at most 100. Raises DecodeError for anything else."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DecodeError("payload too long")
    if payload[:1] in (b"{", b"["):
        return _from_json(payload)
    try:
        decoded = report.decode_report(payload)
    except WireError as exc:
        raise DecodeError(str(exc)) from None
    return Decoded(tuple(_measured(reading) for reading in reversed(decoded.readings)), decoded.backlog)


@lru_cache(1 << len(report.EVENTS))
def _events(bits: int) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(report.EVENTS) if bits >> i & 1)


def _measured(reading: report.Reading) -> Measured:
    bits = reading.events
    return Measured(
        status=reading.status,
        epoch=reading.epoch,
        seq=reading.seq,
        age_s=reading.age_s,
        distance_mm=reading.distance_mm,
        spread_mm=reading.spread_mm,
        echoes=reading.echoes,
        temperature_c=reading.temperature_c,
        battery_mv=reading.battery_mv,
        events=None if bits is None else _events(bits),
        config_version=reading.config_version,
    )


def _from_json(payload: bytes) -> Decoded:
    try:
        found = _decode_json(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise DecodeError(f"JSON: {exc}") from None
    objects = found if isinstance(found, list) else [found]
    if not objects:
        raise DecodeError("JSON: no reading")
    return Decoded(tuple(sorted((_checked(one) for one in objects), key=lambda one: (one.epoch, one.seq))))


def _checked(one: _Json) -> Measured:
    for name, low, high in _BOUNDS:
        value = getattr(one, name)
        if value is not None and not low <= value <= high:
            raise DecodeError(f"{name}: must be {low} to {high}")
    if one.status not in _STATUSES:
        raise DecodeError("status: unknown")
    if (one.distance_mm is not None) != (one.status in report.NUMBER_STATUSES):
        raise DecodeError("distance_mm: given exactly where the status is a number")
    if not _EVENTS.issuperset(one.events):
        raise DecodeError("events: unknown name")
    return Measured(
        status=one.status,
        epoch=one.epoch,
        seq=one.seq,
        age_s=one.age_s,
        distance_mm=one.distance_mm,
        spread_mm=one.spread_mm,
        echoes=one.echoes,
        temperature_c=one.temperature_c,
        battery_mv=one.battery_mv,
        events=tuple(dict.fromkeys(one.events)),
        config_version=one.config_version,
    )
