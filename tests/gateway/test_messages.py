"""What the city receives is shaped as agreed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from brim_gateway.insight.state import advance
from brim_gateway.model import Radio, Reading, clean_text, iso_utc
from brim_gateway.outputs.messages import row_messages, status_message
from brim_gateway.store.journal import JournalRow

WIRE = Path(__file__).parents[1] / "data" / "backend" / "wire"
BASE: dict[str, Any] = {
    "dev": "70b3d57ed0051f2a", "bin": "SE-0180-04711", "epoch": 1, "status": "ok", "time_us": 1_000_000,
    "received_us": 3_113_000, "time_uncertainty_s": 2, "distance_mm": 180, "spread_mm": 6, "echoes": 12,
    "temperature_c": 4.5, "battery_mv": 3610, "events": (), "fill_pct": 78, "link": "lorawan",
    "radio": Radio("lorawan", -101, 5.5, 9, 868_100_000),
}  # fmt: skip


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((WIRE / name).read_text())
    return found


def messages(*readings: Reading) -> list[Any]:
    state, rows = None, []
    for i, reading in enumerate(readings, 1):
        new, events = advance(state, reading)
        rows.append(JournalRow(i, reading, new, tuple(events)))
        state = new or state
    return [message for row in rows for message in row_messages("cabinet-017", row, True, 3_200_000)]


def same_shape(made: Any, agreed: Any, where: str = "") -> None:
    """Every key sent is agreed, and of the agreed type."""
    number = isinstance(made, int | float) and isinstance(agreed, int | float)
    assert number or type(made) is type(agreed), where
    if isinstance(made, dict):
        assert set(made) <= set(agreed), where
        for key in made:
            same_shape(made[key], agreed[key], f"{where}.{key}")


def test_a_reading_has_every_agreed_key() -> None:
    agreed = example("mqtt-1-native-reading.json")
    (message, *_) = messages(Reading(seq=1043, **BASE))
    made = json.loads(message.payload)
    same_shape(made, agreed["payload"])
    assert set(made) == set(agreed["payload"])
    assert message.topic == agreed["topic"] and not message.retain
    assert {key for key, _ in message.properties} == {key for key, _ in agreed["mqtt5_properties"]["UserProperty"]}
    assert message.content_type == agreed["mqtt5_properties"]["ContentType"]
    assert message.expiry_s == agreed["mqtt5_properties"]["MessageExpiryInterval"]
    assert made["uid"] == agreed["payload"]["uid"] and made["received"] == "1970-01-01T00:00:03.113Z"
    assert made["quality"] == 4


def test_without_a_distance_there_is_no_fill_and_no_state() -> None:
    absent = BASE | {"status": "no_echo", "distance_mm": None, "spread_mm": None, "fill_pct": None}
    made = json.loads(messages(Reading(seq=1, **absent))[0].payload)
    assert made["status"] == "no_echo" and made["quality"] == 0
    assert not {"fill_pct", "distance_mm", "spread_mm", "state"} & set(made)


def test_an_emptying_is_one_event_with_before_and_after() -> None:
    agreed = example("mqtt-2-native-event.json")
    full = Reading(seq=1050, **BASE | {"fill_pct": 92})
    emptied = Reading(seq=1051, **BASE | {"fill_pct": 3, "events": ("emptied",), "time_us": 2_000_000})
    after = Reading(seq=1052, **BASE | {"fill_pct": 3, "events": ("emptied",), "time_us": 2_500_000})
    events = [message for message in messages(full, emptied, after) if "/event/" in message.topic]
    (event,) = events
    made = json.loads(event.payload)
    same_shape(made, agreed["payload"])
    assert event.topic == agreed["topic"] and event.content_type.startswith("application/cloudevents+json")
    assert {key: made[key] for key in ("id", "type", "source", "subject", "data")} == {
        key: agreed["payload"][key] for key in ("id", "type", "source", "subject", "data")
    }


def test_the_state_is_retained_and_of_the_agreed_shape() -> None:
    agreed = example("mqtt-3-native-state-retained.json")
    emptied = Reading(seq=1, **BASE | {"events": ("emptied", "tilted")})
    message = messages(emptied)[-1]
    made = json.loads(message.payload)
    same_shape(made, agreed["payload"])
    assert message.retain and message.topic == agreed["topic"]
    assert made["alarms"] == ["tilted"] and made["last_emptied"] == "1970-01-01T00:00:01Z"


@pytest.mark.parametrize(
    ("events", "fill", "state"),
    [((), 99, "normal"), ((), 100, "full"), (("full",), 80, "full"), (("full", "overfull"), 100, "overfull")],
)
def test_the_bins_own_word_comes_before_its_fill(events: tuple[str, ...], fill: int, state: str) -> None:
    made = json.loads(messages(Reading(seq=1, **BASE | {"events": events, "fill_pct": fill}))[-1].payload)
    assert made["state"] == state


def test_a_reading_without_number_keeps_the_fill_and_its_time() -> None:
    silent = BASE | {"status": "no_echo", "distance_mm": None, "fill_pct": None, "time_us": 9_000_000}
    made = json.loads(messages(Reading(seq=1, **BASE), Reading(seq=2, **silent))[-1].payload)
    assert (made["fill_pct"], made["time"]) == (78, "1970-01-01T00:00:01Z")


def test_an_older_reading_of_a_report_neither_clears_nor_begins_events() -> None:
    unknown = Reading(seq=2, **BASE | {"events": None})
    state, _ = advance(None, Reading(seq=1, **BASE | {"events": ("full",)}))
    after, events = advance(state, unknown)
    assert after is not None and after.events == ("full",) and events == []


def test_the_gateways_status_is_retained() -> None:
    assert status_message("s", online=False).payload == b'{"status":"offline"}' and status_message("s", True).retain


def test_outside_text_is_made_harmless() -> None:
    assert clean_text("a\nb\x1b[31m" + "x" * 500, 10) == "a�b�[31mxx…"
    assert iso_utc(1_795_412_530_000_000) == "2026-11-23T05:42:10Z"
