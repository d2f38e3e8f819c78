"""What the city's broker receives: topics and payloads of the native profile. Pure.

``brim/v1/{site}/{bin}/reading``, ``…/state`` (retained), ``…/event/{type}`` (CloudEvents 1.0, structured),
``brim/v1/{site}/gateway/status`` (retained, last will).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from brim_gateway.insight.state import level
from brim_gateway.model import BinState, Event, Reading, iso_utc
from brim_gateway.store.journal import JournalRow

READING_TYPE = "application/json; v=1"
EVENT_TYPE = "application/cloudevents+json; charset=utf-8"
READING_SCHEMA = "urn:brim:schema:reading-1"
EXPIRY_S = 14 * 24 * 3600
ALARMS = ("fire", "tilted", "moved", "lid_open", "battery_low", "tamper")
LATE_S = 300
REPLAY_AFTER_US = 60_000_000
"""A reading handed over later than this after its arrival is marked as a replay."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT publish; ``properties`` are user properties for MQTT 5."""

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str = READING_TYPE
    properties: tuple[tuple[str, str], ...] = ()
    expiry_s: int | None = None


def quality(reading: Reading) -> int:
    """0 (no number) to 4 (many echoes that agree), as LwM2M 3435 grades it."""
    if reading.distance_mm is None:
        return 0
    if reading.status != "ok":
        return 1
    if reading.echoes is None or reading.spread_mm is None:
        return 2
    return 4 if reading.echoes >= 10 and reading.spread_mm <= 20 else 3


class RadioBody(msgspec.Struct, omit_defaults=True):
    """How the reading came."""

    kind: str
    rssi_dbm: int | float | None = None
    snr_db: int | float | None = None
    sf: int | None = None
    freq_hz: int | None = None


class ReadingBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The payload of a reading. What is absent is left out; ``fill_pct`` and ``state`` come only with a distance.

    ``late_s``: seconds between the measurement and its arrival, where that is more than LATE_S.
    """

    v: int
    uid: str
    bin: str
    dev: str
    seq: int | None
    time: str
    time_source: str
    received: str
    late_s: int | None = None
    fill_pct: int | None = None
    distance_mm: int | None = None
    state: str | None = None
    battery_mv: int | None = None
    temperature_c: float | None = None
    quality: int
    flags: tuple[str, ...]
    radio: RadioBody
    status: str
    spread_mm: int | None = None
    echoes: int | None = None
    time_uncertainty_s: int


def reading_body(reading: Reading) -> ReadingBody:
    """The payload of ``reading``."""
    radio = reading.radio
    late_s = (reading.received_us - reading.time_us) // 1_000_000
    return ReadingBody(
        v=1,
        uid=reading.uid,
        bin=reading.bin,
        dev=reading.dev,
        seq=reading.seq,
        time=iso_utc(reading.time_us),
        time_source=reading.time_source,
        received=iso_utc(reading.received_us),
        late_s=late_s if late_s > LATE_S else None,
        fill_pct=reading.fill_pct,
        distance_mm=reading.distance_mm,
        state=level(reading) if reading.fill_pct is not None else None,
        battery_mv=reading.battery_mv,
        temperature_c=reading.temperature_c,
        quality=quality(reading),
        flags=reading.events or (),
        radio=RadioBody(reading.link)
        if radio is None
        else RadioBody(reading.link, radio.rssi_dbm, radio.snr_db, radio.sf, radio.freq_hz),
        status=reading.status,
        spread_mm=reading.spread_mm,
        echoes=reading.echoes,
        time_uncertainty_s=reading.time_uncertainty_s,
    )


class StateBody(msgspec.Struct, omit_defaults=True):
    """The payload of a state. Without any distance so far there is no ``fill_pct`` and ``time`` is the contact's."""

    v: int
    bin: str
    state: str
    time: str
    alarms: list[str]
    fill_pct: int | None = None
    last_emptied: str | None = None


def state_body(state: BinState) -> StateBody:
    """The payload of ``state``."""
    return StateBody(
        1,
        state.bin,
        state.state,
        iso_utc(state.contact_us if state.time_us is None else state.time_us),
        [name for name in state.events if name in ALARMS],
        state.fill_pct,
        None if state.last_emptied_us is None else iso_utc(state.last_emptied_us),
    )


def event_body(site: str, bin_name: str, event: Event) -> dict[str, Any]:
    """The CloudEvent of an event."""
    return {
        "specversion": "1.0",
        "type": f"se.brim.bin.{event.type}.v1",
        "source": f"/site/{site}",
        "subject": bin_name,
        "id": event.id,
        "time": iso_utc(event.time_us),
        "datacontenttype": "application/json",
        "data": _present(
            {
                "before_pct": event.before_pct,
                "after_pct": event.after_pct,
                "confidence": event.confidence,
                "reading_uid": event.reading_uid,
            }
        ),
    }


def status_message(site: str, online: bool) -> Message:
    """The gateway's own retained liveness; the offline one is also the last will."""
    body = {"status": "online" if online else "offline"}
    return Message(f"brim/v1/{site}/gateway/status", _encode(body), retain=True)


def row_messages(site: str, row: JournalRow, with_state: bool, now_us: int) -> Iterable[Message]:
    """What one journal row says to the city, in order."""
    reading = row.reading
    base = f"brim/v1/{site}/{reading.bin}"
    replay = "1" if now_us - reading.received_us > REPLAY_AFTER_US else "0"
    yield Message(
        f"{base}/reading",
        _encode(reading_body(reading)),
        properties=(("uid", reading.uid), ("schema", READING_SCHEMA), ("replay", replay)),
        expiry_s=EXPIRY_S,
    )
    for event in row.events:
        yield Message(
            f"{base}/event/{event.type}",
            _encode(event_body(site, reading.bin, event)),
            content_type=EVENT_TYPE,
            properties=(("uid", event.id),),
            expiry_s=EXPIRY_S,
        )
    if with_state and row.state is not None:
        yield Message(f"{base}/state", _encode(state_body(row.state)), retain=True, expiry_s=EXPIRY_S)


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
