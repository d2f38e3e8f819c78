"""What Prometheus scrapes. Collected at the scrape from what the daemon counts anyway."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from brim_gateway.web.source import Source

MAX_BINS = 20_000


class _Collector:
    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        status = self._source.status()
        journal = status["journal"]
        yield _gauge("brim_healthy", "1 while commits succeed in time", 1 if status["healthy"] else 0)
        yield _gauge("brim_journal_rows", "Readings in the journal", journal["rows"])
        yield _gauge("brim_commit_seconds", "Duration of the last commit", journal["last_commit_ms"] / 1000)
        yield _gauge("brim_wifi_connected", "Wi-Fi bins connected now", status["wifi_connected"])
        yield _counter("brim_commits", "Commits", journal["commits"])
        readings = CounterMetricFamily("brim_readings", "Readings by outcome", labels=["outcome"])
        readings.add_metric(["new"], journal["new"])
        readings.add_metric(["repeated"], journal["repeated"])
        yield readings
        for name, text in (("mqtt", "Wi-Fi listener"), ("udp", "Concentrator socket"), ("lorawan", "LoRaWAN")):
            yield _labelled(f"brim_{name}", f"{text}: counted by what happened", "what", status[name] or {})
        yield _labelled("brim_refused", "LoRaWAN frames refused", "reason", status["refused"])
        quarantined = status["wifi"].get("quarantined", 0) + status["lorawan"].get("quarantined", 0)
        yield _counter("brim_quarantined", "Payloads put aside because no decoder reads them", quarantined)
        yield from _outputs(status["outputs"])
        contact = GaugeMetricFamily("brim_bin_last_contact_seconds", "Time of a bin's last reading", labels=["bin"])
        for bin_name, received_us in self._source.last_contacts()[:MAX_BINS]:
            contact.add_metric([bin_name], received_us / 1e6)
        yield contact


def _outputs(outputs: list[dict[str, Any]]) -> Iterable[Metric]:
    gauges = (
        ("connected", "brim_output_connected", "1 while connected"),
        ("waiting", "brim_output_waiting", "Readings not yet handed over"),
        ("oldest_s", "brim_output_oldest_seconds", "Age of the oldest reading not yet handed over"),
        ("in_flight", "brim_output_in_flight", "Messages sent and not acknowledged"),
    )
    counters = (
        ("acknowledged", "brim_output_acknowledged", "Readings handed over since the start"),
        ("refused", "brim_output_refused", "Messages the backend refused since the start"),
        ("reconnects", "brim_output_reconnects", "Connections lost since the start"),
    )
    for key, name, text in gauges:
        gauge = GaugeMetricFamily(name, text, labels=["output"])
        for one in outputs:
            gauge.add_metric([one["name"]], float(one[key] or 0))
        yield gauge
    for key, name, text in counters:
        counter = CounterMetricFamily(name, text, labels=["output"])
        for one in outputs:
            counter.add_metric([one["name"]], float(one[key]))
        yield counter


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def render(source: Source) -> bytes:
    """The text format, from a registry of its own: nothing of the process leaks in."""
    collector = CollectorRegistry(auto_describe=False)
    collector.register(_Collector(source))
    return generate_latest(collector)
