"""What a daemon tells of itself: for `status`, the pages and the metrics. JSON-ready and without secrets."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from brim_gateway.model import iso_utc
from brim_gateway.outputs.runner import OutputRunner
from brim_gateway.store import outputs, retention

if TYPE_CHECKING:
    from brim_gateway.app import Gateway

STUCK_S = 10.0
"""A commit under way for longer than this is no slow disk but a dead one."""


def status_of(gateway: Gateway) -> dict[str, Any]:
    """What is going on, JSON-ready and without secrets."""
    health = gateway.store.health
    unreadable = None
    kept: Mapping[str, Mapping[str, Any]] = {}
    used_bytes = None
    try:
        # Of all time, which only the database knows: what was lost is not forgotten by a restart.
        kept = {one["name"]: one for one in outputs.listing(gateway.reader)}
        used_bytes = retention.used_bytes(gateway.reader)
    except sqlite3.Error as exc:
        unreadable = f"cannot be read: {exc}"
    return {
        "site": gateway.config.site,
        "running": True,
        "healthy": gateway.store.stuck_for_s() < STUCK_S and not (health.last_fault or unreadable),
        "since": iso_utc(gateway.started_us),
        "addresses": gateway.addresses,
        "bins": len(gateway.directory.by_dev),
        "journal": {
            "rows": health.newest_id,
            "new": health.readings_new,
            "repeated": health.readings_repeated,
            "commits": health.commits,
            "last_commit_ms": round(health.last_commit_s * 1000, 2),
            "fault": health.last_fault or unreadable,
            "bytes": used_bytes,
            "waiting": gateway.store.waiting(),
            "dropped_unsent": gateway.upkeep.dropped_unsent,  # since the start
        },
        "clock": {"trusted": gateway.clock.trusted(), "why": gateway.clock.why_not()},
        "strangers": len(gateway.strangers()),
        "mqtt": dict(gateway.listener.counters) if gateway.listener else None,
        "wifi_connected": len(gateway.listener.sessions) if gateway.listener else 0,
        "wifi": dict(gateway.wifi.counters),
        "udp": dict(gateway.udp.counters) if gateway.udp else None,
        "udp_receive_buffer_bytes": gateway.udp.receive_buffer if gateway.udp else None,
        "lorawan": dict(gateway.lorawan.counters),
        "refused": dict(gateway.lorawan.refused),
        "outputs": [_output(gateway, one, kept) for one in gateway.outputs.runners.values()] if gateway.outputs else [],
    }


def _output(gateway: Gateway, runner: OutputRunner, kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One output for people and scripts; ``kept``: what the database says of each, by name."""
    status = runner.status
    on_disk = kept.get(status.name, {})
    waiting = max(0, gateway.store.health.newest_id - status.cursor)
    oldest_us = _oldest_us(gateway, status.cursor) if waiting else None
    return {
        "name": status.name,
        "connected": status.connected,
        "protocol": status.protocol,
        "waiting": waiting,
        "oldest_s": None if oldest_us is None else max(0, (gateway.clock.now_us() - oldest_us) // 1_000_000),
        "acknowledged": status.acknowledged,
        "refused": status.refused,
        "dead_letters": on_disk.get("dead_letters", 0),
        "dropped_unsent": on_disk.get("dropped_unsent", 0),
        "in_flight": status.in_flight,
        "reconnects": status.reconnects,
        "last_fault": status.last_fault,
    }


def _oldest_us(gateway: Gateway, cursor: int) -> int | None:
    """When the first row after ``cursor`` arrived; None also where the disk does not give it."""
    oldest = "SELECT received_us FROM journal WHERE id > ? ORDER BY id LIMIT 1"
    try:
        row = gateway.reader.execute(oldest, (cursor,)).fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else int(row[0])
