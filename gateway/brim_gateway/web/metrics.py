"""What Prometheus scrapes. Collected at the scrape from what the daemon counts anyway. Pure: no socket, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from brim_gateway.model import BinState

# key of an output's view -> metric, help
OUTPUT_GAUGES = (
    ("connected", "brim_output_connected", "1 while connected"),
    ("waiting", "brim_output_waiting", "Readings not yet handed over"),
    ("oldest_s", "brim_output_oldest_seconds", "Age of the oldest reading not yet handed over"),
    ("in_flight", "brim_output_in_flight", "Messages sent and not acknowledged"),
    ("dead_letters", "brim_output_dead_letters", "Messages refused for good and kept to be tried again"),
)
OUTPUT_COUNTERS = (
    ("acknowledged", "brim_output_acknowledged", "Readings handed over since the start"),
    ("refused", "brim_output_refused", "Messages the backend refused since the start"),
    ("reconnects", "brim_output_reconnects", "Connections lost since the start"),
    ("dropped_unsent", "brim_journal_dropped_unsent", "Readings keep_max_mb removed unsent, of all time"),
)


class _Collector:
    def __init__(self, status: Mapping[str, Any], certificates: Sequence[Mapping[str, Any]], held: Mapping[str, int]):
        self._status = status
        self._certificates = certificates
        self._held = held

    def collect(self) -> Iterable[Metric]:
        status, journal = self._status, self._status["journal"]
        yield _gauge("brim_healthy", "1 while commits succeed in time", 1 if status["healthy"] else 0)
        yield _gauge("brim_bins", "Bins in the registry", status["bins"])
        yield _gauge("brim_strangers", "Unknown devices heard lately", status.get("strangers", 0))
        yield _gauge("brim_clock_trusted", "1 while the clock is believed", status["clock"]["trusted"])
        yield _gauge("brim_wifi_connected", "Wi-Fi bins connected now", status["wifi_connected"])
        yield from _journal(journal)
        for name, text in (("mqtt", "Wi-Fi listener"), ("udp", "Concentrator socket"), ("lorawan", "LoRaWAN")):
            yield _labelled(f"brim_{name}", f"{text}: counted by what happened", "what", status[name] or {})
        if status["udp_receive_buffer_bytes"] is not None:
            given = status["udp_receive_buffer_bytes"]
            yield _gauge("brim_udp_receive_buffer_bytes", "What the kernel gave for bursts", given)
        yield _labelled("brim_refused", "LoRaWAN frames refused", "reason", status["refused"])
        quarantined = status["wifi"].get("quarantined", 0) + status["lorawan"].get("quarantined", 0)
        yield _counter("brim_quarantined", "Payloads put aside because no decoder reads them", quarantined)
        yield _labelled("brim_log_lines_held_back", "Log lines not written, too many at once", "level", self._held)
        yield from _outputs(status["outputs"])
        ends = GaugeMetricFamily("brim_certificate_expiry_seconds", "When it ends, Unix time", labels=["what", "file"])
        for one in self._certificates:
            if one["expires"] is not None:
                ends.add_metric([one["what"], one["file"]], datetime.fromisoformat(one["expires"]).timestamp())
        yield ends


def _journal(journal: Mapping[str, Any]) -> Iterable[Metric]:
    yield _gauge("brim_journal_rows", "Number of the newest reading", journal["rows"])
    if journal["bytes"] is not None:
        yield _gauge("brim_journal_bytes", "Size of the database", journal["bytes"])
    yield _gauge("brim_journal_waiting", "Submissions that no commit has taken up yet", journal.get("waiting", 0))
    yield _gauge("brim_commit_seconds", "Duration of the last commit", journal["last_commit_ms"] / 1000)
    yield _counter("brim_commits", "Commits", journal["commits"])
    readings = CounterMetricFamily("brim_readings", "Readings by outcome", labels=["outcome"])
    readings.add_metric(["new"], journal["new"])
    readings.add_metric(["repeated"], journal["repeated"])
    yield readings


def _outputs(outputs: Sequence[Mapping[str, Any]]) -> Iterable[Metric]:
    for key, name, text in OUTPUT_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=["output"])
        for one in outputs:
            gauge.add_metric([one["name"]], float(one.get(key) or 0))
        yield gauge
    for key, name, text in OUTPUT_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=["output"])
        for one in outputs:
            counter.add_metric([one["name"]], float(one[key]))
        yield counter


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def render(
    status: Mapping[str, Any],
    certificates: Sequence[Mapping[str, Any]],
    states: Iterable[BinState],
    held_back: Mapping[str, int],
) -> bytes:
    """The text format, from a registry of its own: nothing of the process leaks in."""
    collector = CollectorRegistry(auto_describe=False)
    collector.register(_Collector(status, certificates, dict(held_back)))
    return generate_latest(collector) + _contacts(states)


def _contacts(states: Iterable[BinState]) -> bytes:
    """A line for each bin, written here: the library needs ten times as long for 20,000. A bin's name needs no quoting
    (model.BIN_PATTERN)."""
    name = "brim_bin_last_contact_seconds"
    lines = [f"# HELP {name} Time of a bin's last reading", f"# TYPE {name} gauge"]
    lines += [f'{name}{{bin="{state.bin}"}} {state.received_us / 1e6}' for state in states]
    return ("\n".join(lines) + "\n").encode()
