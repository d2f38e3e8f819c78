"""When the certificates that this gateway uses end. Read from their files; no key is opened."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brim_gateway.config import Config

WARN_DAYS = 30
"""Time enough for a person to come to the cabinet."""
MOST_BYTES = 1024 * 1024


def expiries(config: Config, now: datetime | None = None) -> list[dict[str, Any]]:
    """{file, what, expires, days_left} of each certificate, the soonest first; days_left is negative once it is over.

    A file that cannot be read has expires and days_left None, and ``fault`` says why. Of a chain the one that ends
    first counts, of a bundle of authorities the one that ends last: others in it may be long over and do no harm.
    """
    now = now or datetime.now(UTC)
    found = [_look(path, what, now) for path, what in _files(config)]
    return sorted(found, key=lambda one: -1e9 if one["days_left"] is None else one["days_left"])


def _files(config: Config) -> Iterator[tuple[Path, str]]:
    listener = config.mqtt_listener
    if listener is not None:
        for path, what in ((listener.cert, "mqtt_listener.cert"), (listener.client_ca, "mqtt_listener.client_ca")):
            if path is not None:
                yield path, what
        site_ca = config.data_dir / "tls" / "site-ca.pem"
        if site_ca.is_file() and site_ca != listener.client_ca:
            yield site_ca, "the site's authority, which Wi-Fi bins pin"
    for output in config.outputs:
        for path, what in ((output.cert, "cert"), (output.ca, "ca")):
            if path is not None:
                yield path, f"output {output.name} {what}"


def _look(path: Path, what: str, now: datetime) -> dict[str, Any]:
    from cryptography import x509

    entry: dict[str, Any] = {"file": str(path), "what": what, "expires": None, "days_left": None}
    try:
        with path.open("rb") as file:
            found = [one.not_valid_after_utc for one in x509.load_pem_x509_certificates(file.read(MOST_BYTES))]
        ends = max(found) if what.endswith("ca") else min(found)
    except (OSError, ValueError) as exc:
        return entry | {"fault": exc.strerror or str(exc) if isinstance(exc, OSError) else "no certificate in PEM form"}
    return entry | {"expires": ends.strftime("%Y-%m-%dT%H:%M:%SZ"), "days_left": (ends - now).days}
