"""Health, metrics and the status page."""

from __future__ import annotations

import threading
from html.parser import HTMLParser
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.support import (
    HTTP,
    PLAIN_LISTENER,
    UDP,
    RunningGateway,
    WifiBin,
    free_port,
    make_config,
    output,
    reading,
    wait_until,
)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_lists_the_bins_without_script_and_with_everything_escaped(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER + HTTP)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        gateway.add_wifi("B-2")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            bin_.publish_and_wait(reading(1, 200, events=["full"]))
        answer = httpx.get(f"http://127.0.0.1:{gateway.port('http')}/")
    page = _Page()
    page.feed(answer.text)
    assert answer.status_code == 200 and "script" not in page.tags and "default-src 'none'" in str(answer.headers)
    assert {"main", "h1", "caption", "th"} <= set(page.tags) and 'lang="en"' in answer.text
    assert "B-1" in page.text and "100 %" in page.text and "■ full" in page.text and "no reading yet" in page.text


def test_the_metrics_tell_queue_contact_and_refusals(tmp_path: Path) -> None:
    text = PLAIN_LISTENER + HTTP + UDP + output(free_port())
    with RunningGateway(make_config(tmp_path, text)) as gateway:
        dev, password = gateway.add_wifi("B-1")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            bin_.publish_and_wait(reading(1))
            bin_.publish_and_wait(b"nonsense")
        gateway.gateway.lorawan.refused["mic"] += 3
        scraped = httpx.get(f"http://127.0.0.1:{gateway.port('http')}/metrics").text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
    }
    assert samples["brim_readings_total", "new"] == 1
    assert samples["brim_quarantined_total",] == 1
    assert samples["brim_refused_total", "mic"] == 3
    assert samples["brim_output_waiting", "city"] == 1 and samples["brim_output_connected", "city"] == 0
    assert samples["brim_output_oldest_seconds", "city"] >= 0
    assert samples["brim_bin_last_contact_seconds", "B-1"] > 1.7e9
    assert samples["brim_healthy",] == 1


def test_health_is_bad_while_a_commit_does_not_end(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, HTTP)) as gateway:
        url = f"http://127.0.0.1:{gateway.port('http')}/health"
        assert httpx.get(url).status_code == 200
        stuck = threading.Event()
        gateway.loop.call_soon_threadsafe(lambda: gateway.gateway.store.run(lambda _: stuck.wait(20)))
        wait_until(lambda: gateway.gateway.store.health.busy_since is not None, "the writer is busy")
        # Not ten seconds of waiting: the commit is made to look as old.
        gateway.gateway.store.health.busy_since = gateway.gateway.store.health.busy_since or 0
        gateway.gateway.store.health.busy_since -= 11
        assert httpx.get(url).status_code == 503
        stuck.set()
        wait_until(lambda: httpx.get(url).status_code == 200, "healthy again")
