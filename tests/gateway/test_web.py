"""Health, metrics and the status page."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import httpx
import msgspec
from brim_gateway.config import Config
from brim_gateway.model import BinRecord, BinState
from brim_gateway.pki import make_site
from brim_gateway.store import registry
from brim_gateway.store.database import Database
from brim_gateway.store.transaction import Quarantined, Transaction
from brim_gateway.web import page
from jinja2 import Environment, PackageLoader
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
        store = gateway.gateway.store
        aside = Quarantined("70b3d57ed0051f2a", "mqtt", 1, "a test", b"x")
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            gateway.loop.call_soon_threadsafe(lambda: store.submit(Transaction(quarantine=(aside,))))
            since = wait_until(lambda: store.health.busy_since, "the writer is busy")
            # Not ten seconds of waiting: the commit is made to look as old.
            store.health.busy_since = since - 11
            assert httpx.get(url).status_code == 503
            other.execute("ROLLBACK")
        wait_until(lambda: httpx.get(url).status_code == 200, "healthy again")


def test_a_database_that_cannot_be_read_is_ill_health_and_no_broken_page(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, HTTP + output(9))) as gateway:
        at = f"http://127.0.0.1:{gateway.port('http')}"
        with closing(sqlite3.connect(gateway.gateway.store.path, isolation_level=None)) as other:
            other.execute("DROP TABLE dead_letters")
        answer = httpx.get(f"{at}/health")
        assert answer.status_code == 503 and "cannot be read" in answer.json()["journal"]["fault"]
        assert [httpx.get(at + path).status_code for path in ("/metrics", "/")] == [200, 200]


MANY = 20_000
STALL_MOST_S = 0.1
"""Receive windows open 1 s after an uplink, and 200 ms of that are spent waiting for copies."""


def many_bins(config: Config) -> None:
    """A registry of 20,000 bins that have all spoken."""
    database = Database(config.database)
    connection = database.connection
    connection.execute("BEGIN")
    for number in range(MANY):
        name, dev = f"SE-0180-{number:05}", f"{0x70B3D57ED0000000 + number:016x}"
        registry.save_bin(connection, BinRecord(bin=name, dev=dev, link="lorawan"))
        state = BinState(bin=name, dev=dev, epoch=1, seq=1, status="ok", contact_us=10**15, received_us=10**15)
        connection.execute("INSERT INTO bin_states (bin, state) VALUES (?, ?)", (name, msgspec.json.encode(state)))
    connection.execute("COMMIT")
    database.close()


class StallMeter:
    """The longest time that the gateway's loop did nothing else, looked at from inside it."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.longest_s = 0.0
        self._loop = gateway.loop
        self._last = time.monotonic()
        self._on = True

    def _tick(self) -> None:
        if self._on:
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - self._last)
            self._last = now
            self._loop.call_later(0.001, self._tick)

    def __enter__(self) -> StallMeter:
        self._loop.call_soon_threadsafe(self._restart)
        return self

    def _restart(self) -> None:
        self._last = time.monotonic()
        self._tick()

    def __exit__(self, *_: object) -> None:
        self._on = False


def test_20000_bins_are_shown_and_scraped_without_holding_up_the_loop(tmp_path: Path) -> None:
    config = make_config(tmp_path, HTTP)
    many_bins(config)
    with RunningGateway(config) as gateway:
        url = f"http://127.0.0.1:{gateway.port('http')}"
        with StallMeter(gateway) as meter:
            scraped = httpx.get(f"{url}/metrics", timeout=20).text
            first = httpx.get(f"{url}/", timeout=20).text
            last = httpx.get(f"{url}/?page=40", timeout=20).text
        with StallMeter(gateway) as proof:
            gateway.loop.call_soon_threadsafe(time.sleep, STALL_MOST_S)
            wait_until(lambda: proof.longest_s >= STALL_MOST_S, "the meter sees a loop that is held up")
        beyond = httpx.get(f"{url}/?page=99999", timeout=20).text
        nonsense = httpx.get(f"{url}/?page=%C2%B2", timeout=20)
    print(f"longest stall {meter.longest_s * 1000:.1f} ms")
    assert meter.longest_s < STALL_MOST_S
    contacts = [line for line in scraped.splitlines() if line.startswith("brim_bin_last_contact_seconds{")]
    assert len(contacts) == MANY and contacts[0] == 'brim_bin_last_contact_seconds{bin="SE-0180-00000"} 1000000000.0'
    families = {family.name for family in text_string_to_metric_families(scraped)}
    assert "brim_bin_last_contact_seconds" in families and "brim_clock_trusted" in families
    assert "Bins (20000, page 1 of 40)" in first and "SE-0180-00499" in first and "SE-0180-00500" not in first
    assert "SE-0180-19999" in last and "next →" not in last and last == beyond
    assert nonsense.status_code == 200 and "page 1 of 40" in nonsense.text


def test_who_is_unknown_stands_on_the_page_with_the_command_that_adopts_it() -> None:
    template = Environment(loader=PackageLoader("brim_gateway.web"), autoescape=True).get_template("status.html")
    status = {
        "site": "cab-1", "healthy": True, "since": "now", "clock": {"trusted": False, "why": "it jumped"}, "bins": 0,
        "journal": {"rows": 0, "dropped_unsent": 7, "fault": None},
        "outputs": [{"name": "city", "connected": False, "waiting": 0, "acknowledged": 0, "dead_letters": 3}],
    }  # fmt: skip
    strangers = [
        {"dev": "70b3d57ed0051f2a", "link": "lorawan", "count": 2, "last": "t", "via": "<gw>", "why": "not registered"},
        {"dev_addr": "01020304", "link": "lorawan", "count": 1, "last": "t", "via": "gw", "why": "unknown address"},
        {"dev": "0000000000000001", "link": "wifi", "count": 1, "last": "t", "via": "10.0.0.1", "why": "unknown user"},
    ]
    known = {"B-1": BinRecord(bin="B-1", dev="0000000000000001", link="wifi")}
    html = template.render(page.context(status, known, [], strangers, 1))
    assert "brim gateway bins adopt 70b3d57ed0051f2a BIN" in html and "address 01020304" in html
    assert "&lt;gw&gt;" in html and "0000000000000001" not in html.split("Unknown devices")[1].split("</table>")[0]
    assert "it jumped" in html and "keep_max_mb" in html and "brim gateway outputs letters city" in html


def test_what_an_output_lost_is_counted_on_over_a_restart(tmp_path: Path) -> None:
    config = make_config(tmp_path, HTTP + UDP + output(free_port()))
    with RunningGateway(config):
        pass
    with closing(sqlite3.connect(config.database)) as connection, connection:
        connection.execute("UPDATE outputs SET dropped = 7 WHERE name = 'city'")
    with RunningGateway(config) as gateway:
        lines = httpx.get(f"http://127.0.0.1:{gateway.port('http')}/metrics").text.splitlines()
        assert gateway.output()["dropped_unsent"] == 7
    assert 'brim_journal_dropped_unsent_total{output="city"} 7.0' in lines
    assert not [line for line in lines if line.startswith("brim_udp_total")], "a size is no counter"
    assert [line for line in lines if line.startswith("brim_udp_receive_buffer_bytes ")]


def test_the_metrics_tell_of_certificates_and_the_clock(tmp_path: Path) -> None:
    files = make_site(tmp_path / "tls", "s", ["localhost"])
    text = HTTP + f'[mqtt_listener]\nlisten = "127.0.0.1:0"\ncert = "{files.cert}"\nkey = "{files.key}"\n'
    with RunningGateway(make_config(tmp_path, text)) as gateway:
        url = f"http://127.0.0.1:{gateway.port('http')}/metrics"
        wait_until(lambda: gateway.gateway.certificates(), "the certificates are read")
        lines = httpx.get(url).text.splitlines()
    (ends,) = [line for line in lines if line.startswith("brim_certificate_expiry_seconds{")]
    assert 'what="mqtt_listener.cert"' in ends and float(ends.split()[-1]) > time.time() + 4 * 365 * 86_400
    names = {line.split("{")[0].split()[0] for line in lines if not line.startswith("#")}
    assert {"brim_clock_trusted", "brim_journal_bytes", "brim_strangers"} <= names
