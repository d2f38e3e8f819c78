"""Publishes of Wi-Fi bins on their way into the journal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from brim_gateway.errors import DecodeError
from brim_gateway.fleet.directory import Directory
from brim_gateway.ingest.arrival import GATEWAY, to_reading
from brim_gateway.ingest.decoding import decode
from brim_gateway.ingest.mqtt_listener import Credentials
from brim_gateway.model import Reading
from brim_gateway.ratelog import RateLog
from brim_gateway.store.store import Store
from brim_gateway.store.transaction import Committed, Quarantined, Transaction


class WifiIngest:
    """What the listener asks: who may connect, and what becomes of a publish. ``clock_us`` is UTC; ``source()`` says
    whose clock that is (arrival.time_source)."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        clock_us: Callable[[], int],
        rate_log: RateLog,
        source: Callable[[], str] = lambda: GATEWAY,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._store = store
        self._directory = directory
        self._clock_us = clock_us
        self._rate_log = rate_log
        self._source = source

    def credentials(self, dev: str) -> Credentials | None:
        """None for anything but a Wi-Fi bin of the registry."""
        record = self._directory.by_dev.get(dev)
        return Credentials(record.password_hash) if record is not None and record.link == "wifi" else None

    def deliver(self, dev: str, payloads: list[bytes]) -> asyncio.Future[Committed]:
        """Resolves after the commit of all. What cannot be read is put aside, and is thereby taken too."""
        received_us = self._clock_us()
        self.counters["publishes"] += len(payloads)
        record = self._directory.by_dev.get(dev)
        source = self._source()
        readings: list[Reading] = []
        aside: list[Quarantined] = []
        for payload in payloads:
            try:
                decoded = decode(record, payload)
            except DecodeError as exc:
                self.counters["quarantined"] += 1
                self._rate_log.note("undecodable publish", f"{dev}: {exc}")
                aside.append(Quarantined(dev, "mqtt", received_us, str(exc), payload))
                continue
            if record is not None:
                readings += [
                    to_reading(one, record, received_us=received_us, time_source=source) for one in decoded.readings
                ]
        return self._store.submit(Transaction(tuple(readings), quarantine=tuple(aside)))
