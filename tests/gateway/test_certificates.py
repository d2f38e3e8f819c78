"""When certificates end, told before they do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from brim_gateway.certificates import expiries
from brim_gateway.config import Address, Config, MqttListenerConfig, OutputConfig
from brim_gateway.pki import make_client, make_site

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def config(folder: Path, listener: MqttListenerConfig | None, *outputs: OutputConfig) -> Config:
    return Config("s", folder / "data", folder / "c", mqtt_listener=listener, outputs=outputs)


def test_every_certificate_in_use_is_told_of_the_soonest_first(tmp_path: Path) -> None:
    files = make_site(tmp_path / "data" / "tls", "s", ["h"], NOW - timedelta(days=365 * 5 - 10))
    other = make_site(tmp_path / "other", "o", ["h"], NOW)
    certificate, _ = make_client(other.ca, other.ca_key, "02" * 8, NOW)
    (tmp_path / "client.pem").write_bytes(certificate)
    listener = MqttListenerConfig(Address("h", 1), cert=files.cert, key=files.key)
    city = OutputConfig("city", "h", 1, True, ca=other.ca, cert=tmp_path / "client.pem", key=files.key)
    found = expiries(config(tmp_path, listener, city), NOW)
    assert [(one["what"], one["days_left"]) for one in found] == [
        ("mqtt_listener.cert", 10),
        ("the site's authority, which Wi-Fi bins pin", 365 * 15 + 10),
        ("output city cert", 365 * 19),
        ("output city ca", 365 * 20),
    ]
    assert found[0]["expires"] == (NOW + timedelta(days=10)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_one_that_is_over_counts_below_zero_and_one_that_cannot_be_read_stands_first_with_its_fault(
    tmp_path: Path,
) -> None:
    files = make_site(tmp_path / "tls", "s", ["h"], NOW - timedelta(days=365 * 5 + 3))
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    listener = MqttListenerConfig(Address("h", 1), cert=files.cert, key=files.key, client_ca=wrong)
    broken, over = expiries(config(tmp_path, listener), NOW)
    assert broken["days_left"] is None and broken["fault"] and over["days_left"] == -3


def test_a_bundle_of_authorities_counts_as_the_one_that_ends_last_and_a_chain_as_the_first(tmp_path: Path) -> None:
    old = make_site(tmp_path / "old", "s", ["h"], NOW - timedelta(days=365 * 25))
    new = make_site(tmp_path / "new", "s", ["h"], NOW)
    both = tmp_path / "both.pem"
    both.write_bytes(old.ca.read_bytes() + new.ca.read_bytes())
    city = OutputConfig("city", "h", 1, True, ca=both)
    assert expiries(config(tmp_path, None, city), NOW)[0]["days_left"] == 365 * 20
    listener = MqttListenerConfig(Address("h", 1), cert=both, key=old.key)
    assert expiries(config(tmp_path, listener), NOW)[0]["days_left"] < 0
