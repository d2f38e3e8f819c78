"""Client certificate or password: who comes in, over real TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from brim_gateway.pki import SiteFiles, make_client, make_site

from tests.gateway.support import RunningGateway, make_config

IN, NOT_IN = b"\x20\x02\x00\x00", b"\x20\x02\x00\x04"
NO_TLS = b""
"""The TLS handshake itself was refused: no MQTT byte was exchanged."""


class Site:
    """A gateway with two bins, and its authority."""

    def __init__(self, folder: Path, gateway: RunningGateway, files: SiteFiles) -> None:
        self.folder = folder
        self.gateway = gateway
        self.files = files
        self.dev, self.password = gateway.add_wifi("B-1")
        self.other, _ = gateway.add_wifi("B-2")

    def certificate(self, dev: str, authority: SiteFiles | None = None, now: datetime | None = None) -> ssl.SSLContext:
        """A client's TLS with a certificate for ``dev``."""
        signer = authority or self.files
        certificate, key = make_client(signer.ca, signer.ca_key, dev, now)
        (self.folder / "client.pem").write_bytes(certificate + key)
        context = self.no_certificate()
        context.load_cert_chain(self.folder / "client.pem")
        return context

    def no_certificate(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.files.ca))

    def connect(self, context: ssl.SSLContext, user: str | None, password: str | None = None) -> bytes:
        """The CONNACK, or NO_TLS."""
        flags = 2 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
        body = b"\x00\x04MQTT\x04" + bytes((flags, 0, 60)) + b"\x00\x01d"
        for text in (user, password):
            if text is not None:
                body += len(text).to_bytes(2, "big") + text.encode()
        try:
            with (
                socket.create_connection(("127.0.0.1", self.gateway.port("mqtt")), 5) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secured,
            ):
                secured.sendall(b"\x10" + bytes((len(body),)) + body)
                return secured.recv(4)
        except (ssl.SSLError, ConnectionError):
            return NO_TLS


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    files = make_site(tmp_path / "tls", "cab-1", ["localhost"])
    tls = f'cert = "{files.cert}"\nkey = "{files.key}"\nclient_ca = "{files.ca}"\n'
    with RunningGateway(make_config(tmp_path, f'[mqtt_listener]\nlisten = "127.0.0.1:0"\n{tls}')) as gateway:
        yield Site(tmp_path, gateway, files)


def test_a_certificate_stands_for_the_password_and_even_for_the_user_name(site: Site) -> None:
    context = site.certificate(site.dev)
    assert site.connect(context, site.dev) == IN
    assert site.connect(context, None) == IN


def test_a_certificate_is_its_own_bins_and_no_others(site: Site) -> None:
    context = site.certificate(site.dev)
    assert site.connect(context, site.other) == NOT_IN
    assert site.connect(context, site.other, site.password) == NOT_IN
    assert site.connect(site.certificate("02ffffffffffffff"), "02ffffffffffffff") == NOT_IN, "nobody registered"
    assert site.connect(site.certificate("not a device"), None) == NOT_IN


def test_an_expired_certificate_does_not_get_through_the_handshake(site: Site) -> None:
    assert site.connect(site.certificate(site.dev, now=datetime(1999, 1, 1, tzinfo=UTC)), site.dev) == NO_TLS
    assert site.connect(site.certificate(site.dev, now=datetime(1999, 1, 1, tzinfo=UTC)), site.dev, "x") == NO_TLS


def test_a_certificate_of_another_authority_does_not_get_through_the_handshake(site: Site) -> None:
    foreign = make_site(site.folder / "foreign", "cab-1", ["localhost"])
    assert site.connect(site.certificate(site.dev, authority=foreign), site.dev, site.password) == NO_TLS


def test_without_a_certificate_the_password_decides(site: Site) -> None:
    context = site.no_certificate()
    assert site.connect(context, site.dev, site.password) == IN
    assert site.connect(context, site.dev, "wrong") == NOT_IN
    assert site.connect(context, site.dev) == NOT_IN
    assert site.connect(context, None) == NOT_IN


def test_the_certificate_of_a_removed_bin_is_worth_nothing(site: Site) -> None:
    context = site.certificate(site.dev)
    assert site.connect(context, site.dev) == IN
    site.gateway.ask("bins.remove", bin="B-1")
    assert site.connect(context, site.dev) == NOT_IN


def test_a_bin_that_verifies_refuses_a_listener_that_is_not_its_sites(site: Site) -> None:
    foreign = make_site(site.folder / "foreign", "cab-1", ["localhost"])
    context = ssl.create_default_context(cafile=str(foreign.ca))
    assert site.connect(context, site.dev, site.password) == NO_TLS
