"""What the gateway stands on: the clock, certificates, ports, the kernel's buffers, the city's brokers."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from brim_gateway import certificates as table
from brim_gateway.clock import kernel_synchronised
from brim_gateway.config import Address, Config, OutputConfig
from brim_gateway.credentials import is_given_by_systemd
from brim_gateway.doctor.finding import Finding, mend, note, ok
from brim_gateway.doctor.place import lock_holder

OLDEST_CLOCK_S = 1_735_689_600
"""2025-01-01: this program did not exist before."""
RMEM_LEAST = 212_992
"""The kernel's usual rmem_max: about 0.3 s of a busy concentrator, which a slow commit takes too."""
RMEM_GOOD = 1_048_576
RMEM_BEST = 4_194_304
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
PROBE_WITHIN_S = 5.0


def clock(config: Config) -> Iterator[Finding]:
    """Right, or known not to be."""
    if time.time() < OLDEST_CLOCK_S:
        yield mend("clock", "it says a year before 2025", "set it (timedatectl set-time); start a time service")
    elif config.clock == "trusted":
        yield ok("clock", 'clock = "trusted": taken as it is')
    elif kernel_synchronised():
        yield ok("clock", "synchronised")
    else:
        yield mend(
            "clock",
            "not synchronised: nothing is removed by age, and bins are not told the time",
            'timedatectl set-ntp true; without any network: set it, and say clock = "trusted"',
        )


def certificates(config: Config) -> Iterator[Finding]:
    """None that has ended or soon will, and each with its key."""
    found = table.expiries(config)
    for one in found:
        name, days = f"{one['what']} ({one['file']})", one["days_left"]
        if days is None:
            yield mend("certificate", f"{name}: {one['fault']}", "put the right file there")
        elif days < 0:
            yield mend("certificate", f"{name}: ended {one['expires']}", _renew(one["what"]))
        elif days < table.WARN_DAYS:
            yield mend("certificate", f"{name}: ends in {days} days", _renew(one["what"]))
    if found and all(one["days_left"] is not None and one["days_left"] >= table.WARN_DAYS for one in found):
        yield ok("certificate", f"{len(found)}, the first ends {found[0]['expires']}")
    pairs = [(output.cert, output.key, f"output {output.name}") for output in config.outputs]
    if config.mqtt_listener is not None:
        pairs.append((config.mqtt_listener.cert, config.mqtt_listener.key, "mqtt_listener"))
    for cert, key, what in pairs:
        if cert is None or key is None or (is_given_by_systemd(key) and not key.exists()):
            continue
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as exc:
            yield mend("certificate", f"{what}: cert and key do not go together: {exc}", "name the pair that does")


def _renew(what: str) -> str:
    if "authority" in what or what == "mqtt_listener.client_ca":
        return "every bin must be given a new one: plan it (operator's guide: certificates)"
    if what.startswith("output") and what.endswith("ca"):
        return "ask the broker's operator for the new authority"
    if what.startswith("output"):
        return "ask the broker's operator for a new client certificate"
    return "brim gateway keys renew, then restart; bins refuse the gateway otherwise"


def doors(config: Config) -> Iterator[Finding]:
    """The ports are ours to take. A running daemon has them."""
    if lock_holder(config) is not None:
        return
    wanted: list[tuple[str, Address, socket.SocketKind]] = []
    if config.udp is not None:
        wanted.append(("udp", config.udp.listen, socket.SOCK_DGRAM))
    for name, section in (("mqtt_listener", config.mqtt_listener), ("http", config.http)):
        if section is not None:
            wanted.append((name, section.listen, socket.SOCK_STREAM))
    for name, address, kind in wanted:
        try:
            _bind(address, kind)
        except OSError as exc:
            tool = "ss -lunp" if kind == socket.SOCK_DGRAM else "ss -ltnp"
            if exc.errno == errno.EADDRINUSE:
                do = f"`{tool}` names the program; stop it, or listen elsewhere"
                yield mend("port", f"{name}.listen {address}: taken by another program", do)
            elif exc.errno == errno.EACCES:
                yield mend("port", f"{name}.listen {address}: not allowed", "choose a port above 1023")
            else:
                text = f"{name}.listen {address}: {exc.strerror or exc}"
                yield mend("port", text, "name an address of this machine (`ip address`)")
        else:
            yield ok("port", f"{name}.listen {address}: free")


def _bind(address: Address, kind: socket.SocketKind) -> None:
    family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=kind)[0]
    with socket.socket(family, kind) as sock:
        if kind == socket.SOCK_STREAM:
            # As the daemon does: what has just been closed does not count as taken.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)


def receive_buffer(config: Config) -> Iterator[Finding]:
    """Room for a burst of datagrams while a commit is under way."""
    if config.udp is None:
        return
    try:
        most = int(RMEM_MAX.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    do = f"sysctl -w net.core.rmem_max={RMEM_BEST}, and the same line in /etc/sysctl.d/brim.conf"
    if most < RMEM_LEAST:
        yield mend("receive buffer", f"net.core.rmem_max = {most}: a burst of frames would be dropped", do)
    elif most < RMEM_GOOD:
        yield note("receive buffer", f"net.core.rmem_max = {most}: enough for a few concentrators", do)
    else:
        yield ok("receive buffer", f"net.core.rmem_max = {most}")


def outputs(config: Config) -> Iterator[Finding]:
    """Each broker can be reached, is who it says, and lets us in. Nothing is published."""
    if not config.outputs:
        yield note("outputs", "none: readings are kept here only", "add [[output]] to the configuration")
    for output in config.outputs:
        yield from _output(output, config.site)


def _output(output: OutputConfig, site: str) -> Iterator[Finding]:
    from brim_gateway.probe import probe

    for secret in (output.password_file, output.key):
        if secret is not None and is_given_by_systemd(secret) and not secret.exists():
            text = f"{output.name}: {secret} is not there to see; the connection is not tried"
            yield note("outputs", text, "run doctor as root while the daemon runs")
            return
    steps = list(probe(output, site, publish=False, within_s=PROBE_WITHIN_S))
    failed = [step for step in steps if step.verdict == "mend"]
    for step in failed:
        do = f"brim gateway outputs test {output.name}"
        yield mend("outputs", f"{output.name}: {step.what}: {step.text}", do)
    if not failed:
        yield ok("outputs", f"{output.name}: {steps[-1].text}")
