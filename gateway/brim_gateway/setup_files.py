"""What `brim gateway init` writes: a configuration that runs as it is, with the site's own certificates."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from brim_gateway import credentials
from brim_gateway.config import parse
from brim_gateway.errors import ConfigInvalid
from brim_gateway.pki import make_site, write_secret

_TEMPLATE = """\
# Brim gateway. Written by `brim gateway init`; the gateway never changes this file.
# `brim gateway check` names every mistake in it. Relative paths are relative to this file.
site = {site}
data_dir = {data_dir}

# LoRaWAN concentrators (Semtech UDP packet forwarder). For one in another box: listen = "0.0.0.0:1700"
# and name it: allow_gateways = ["aa555a0000000101"].
[udp]
listen = "127.0.0.1:1700"

# Wi-Fi bins. Take the # away to let them in; they verify this certificate against tls/site-ca.pem.
{wifi_mark}[mqtt_listener]
{wifi_mark}listen = {wifi_listen}
{wifi_mark}cert = {cert}
{wifi_mark}key = {key}

# Health, metrics and the status page, for this machine only.
[http]
listen = "127.0.0.1:8080"

# The city's broker. Its password stands in a file of its own (chmod 600).
{output}"""

_OUTPUT_OFF = """\
# [[output]]
# name = "city"
# url = "mqtts://broker.example.org"
# user = "cabinet-017"
# password_file = "city.password"
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The answers that `init` was given. ``output_password`` is written to the password file, which must be new."""

    site: str
    data_dir: str = "data"
    tls_names: tuple[str, ...] = ()
    output_url: str | None = None
    output_user: str | None = None
    output_password_file: str | None = None
    wifi_listen: str | None = None
    output_password: str | None = field(default=None, repr=False)


def check_wanted(path: Path, wanted: Wanted, *, password_to_come: bool) -> None:
    """Raises ConfigInvalid with everything that speaks against ``write_setup``; ``password_to_come``: its file is not
    there yet."""
    folder = _tls_folder(path, wanted)
    if path.exists():
        raise ConfigInvalid([f"{path}: exists already; nothing was changed"])
    if folder.exists() and any(folder.iterdir()):
        raise ConfigInvalid([f"{folder}: is not empty; nothing was changed"])
    problems = [f"--tls-name {name!r}: ASCII only (IDNA for others)" for name in wanted.tls_names if not name.isascii()]
    if wanted.output_url is None and (wanted.output_user or wanted.output_password_file):
        problems.append("--output-user, --output-password-file: for which broker? --output-url is missing")
    try:
        parse(_without_files_to_come(_text(wanted), password_to_come), path, need_credentials=False)
    except ConfigInvalid as exc:
        # The lines are of a file that is not there: the name of the key says more.
        problems += [_LINE.sub("", problem, count=1) for problem in exc.problems]
    if problems:
        raise ConfigInvalid([f"{problem}; nothing was written" for problem in problems])


_LINE = re.compile(r"^.*?:\d+: ")


def _tls_folder(path: Path, wanted: Wanted) -> Path:
    return (path.parent / wanted.data_dir / "tls").absolute()


def write_setup(path: Path, wanted: Wanted) -> list[Path]:
    """Write the configuration and the certificates; the files written. Raises ConfigInvalid rather than replace any."""
    check_wanted(path, wanted, password_to_come=wanted.output_password is not None)
    folder, text = _tls_folder(path, wanted), _text(wanted)
    names = list(wanted.tls_names) or ["brim-gateway"]
    names += [name for name in (socket.gethostname(), "localhost", "127.0.0.1") if name not in names]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / wanted.data_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        files = make_site(folder, wanted.site, names)
        written = [path, files.ca, files.ca_key, files.cert, files.key]
        if wanted.output_password is not None and wanted.output_password_file is not None:
            written.append(password_file(path, wanted.output_password_file))
            write_secret(written[-1], wanted.output_password.encode() + b"\n")
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        path.chmod(0o644)  # no secret in it, and the daemon's user is not the one that wrote it
    except OSError as exc:
        raise ConfigInvalid([f"{exc.filename or path}: {exc.strerror or exc}"]) from None
    return written


def password_file(config: Path, said: str) -> Path:
    """Where the password stands: a credential's file has its name and stands beside the configuration."""
    return config.parent / said.removeprefix(credentials.PREFIX)


def _without_files_to_come(text: str, password_to_come: bool) -> str:
    """For the check before anything is written: the certificates and the password file are made afterwards."""
    lines = []
    for line in text.splitlines():
        if line.startswith("cert ="):
            line = "plain = true"
        elif line.startswith("key ="):
            line = ""
        elif line.startswith("password_file =") and password_to_come and credentials.PREFIX not in line:
            line = f'password_file = "{credentials.PREFIX}to-come"'
        lines.append(line)
    return "\n".join(lines)


def _text(wanted: Wanted) -> str:
    output = _OUTPUT_OFF
    if wanted.output_url is not None:
        pairs = (
            ("name", "city"),
            ("url", wanted.output_url),
            ("user", wanted.output_user),
            ("password_file", wanted.output_password_file),
        )
        output = "[[output]]\n" + "".join(f"{key} = {_quote(value)}\n" for key, value in pairs if value is not None)
    return _TEMPLATE.format(
        site=_quote(wanted.site),
        data_dir=_quote(wanted.data_dir),
        wifi_mark="" if wanted.wifi_listen else "# ",
        wifi_listen=_quote(wanted.wifi_listen or "0.0.0.0:8883"),
        cert=_quote(f"{wanted.data_dir}/tls/server.pem"),
        key=_quote(f"{wanted.data_dir}/tls/server.key"),
        output=output,
    )


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's."""
    return json.dumps(text)
