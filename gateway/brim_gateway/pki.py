"""The site's own certificate authority and the listener's certificate, made at `init`."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_YEARS = 20
"""Bins pin the CA and outlive many servers."""
SERVER_YEARS = 5


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """What `make_site` wrote."""

    ca: Path
    ca_key: Path
    cert: Path
    key: Path


def make_site(folder: Path, site: str, names: list[str], now: datetime | None = None) -> SiteFiles:
    """Make a CA and a server certificate for ``names`` (host names and addresses) in ``folder``.

    P-256, because an ESP32 verifies it quickly. Keys are 0600; raises FileExistsError rather than replace a file.
    """
    now = now or datetime.now(UTC)
    files = SiteFiles(folder / "site-ca.pem", folder / "site-ca.key", folder / "server.pem", folder / "server.key")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Brim site {site}"[:64])])
    ca = (
        _builder(ca_name, ca_name, ca_key, now, CA_YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    server, key = _server(ca, ca_key, names, now)
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in (
        (files.ca_key, _private(ca_key)),
        (files.key, key),
        (files.ca, ca.public_bytes(serialization.Encoding.PEM)),
        (files.cert, server),
    ):
        write_secret(path, content)
    return files


def renew_server(folder: Path, names: list[str], now: datetime | None = None) -> SiteFiles:
    """A new listener's certificate and key, signed by the authority in ``folder``: bins that pin it notice nothing.

    ``names`` empty: those of the old certificate. What was there is kept as ``….old``. Raises OSError, ValueError.
    """
    files = SiteFiles(folder / "site-ca.pem", folder / "site-ca.key", folder / "server.pem", folder / "server.key")
    authority, signer = _authority(files.ca, files.ca_key)
    cert, key = _server(authority, signer, names or _names_of(files.cert), now or datetime.now(UTC))
    for path, content in ((files.key, key), (files.cert, cert)):
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        write_secret(fresh, content)
        if path.exists():
            path.replace(path.with_name(path.name + ".old"))
        fresh.rename(path)
    return files


def _names_of(cert: Path) -> list[str]:
    found = x509.load_pem_x509_certificate(cert.read_bytes())
    return [str(name.value) for name in found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def _server(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, names: list[str], now: datetime
) -> tuple[bytes, bytes]:
    """(certificate, key) as PEM for the listener."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    made = (
        _builder(name, ca.subject, key, now, SERVER_YEARS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), _private(key)


def _authority(ca: Path, ca_key: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    signer = serialization.load_pem_private_key(ca_key.read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{ca_key}: not a key that make_site made")
    return x509.load_pem_x509_certificate(ca.read_bytes()), signer


def make_client(ca: Path, ca_key: Path, dev: str, now: datetime | None = None) -> tuple[bytes, bytes]:
    """(certificate, key) as PEM for the Wi-Fi bin ``dev``: its CN is the device, which stands for a password."""
    authority, signer = _authority(ca, ca_key)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dev)])
    certificate = (
        _builder(name, authority.subject, key, now or datetime.now(UTC), CA_YEARS - 1)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _private(key)


def write_secret(path: Path, content: bytes) -> None:
    """A new file that only its owner may read. Raises FileExistsError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, years: int
) -> x509.CertificateBuilder:
    # Begins a day early: a cabinet's clock may be behind at first start.
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * years))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
