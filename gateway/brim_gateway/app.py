"""The daemon: what is wired to what, in which order it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sqlite3
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from brim_gateway.certificates import expiries
from brim_gateway.clock import Clock
from brim_gateway.config import Address, Config, MqttListenerConfig, OutputConfig
from brim_gateway.control import ControlServer
from brim_gateway.errors import ConfigInvalid
from brim_gateway.fleet.directory import Directory
from brim_gateway.fleet.enrol import exceptions_of
from brim_gateway.fleet.queue import CommandDesk
from brim_gateway.ingest.lorawan import LorawanIngest
from brim_gateway.ingest.mqtt_listener import MqttListener
from brim_gateway.ingest.semtech_udp import SemtechUdp
from brim_gateway.ingest.wifi import WifiIngest
from brim_gateway.model import BinRecord, iso_utc
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.server import NetworkServer
from brim_gateway.outputs.outputs import Outputs
from brim_gateway.outputs.runner import OutputRunner
from brim_gateway.ratelog import RateLog
from brim_gateway.store import journal, outputs, registry, retention
from brim_gateway.store.retention import Limits
from brim_gateway.store.store import Store
from brim_gateway.upkeep import Upkeep
from brim_gateway.verbs import Verbs

log = logging.getLogger("brim")
T = TypeVar("T")

STUCK_S = 10.0
"""A commit under way for longer than this is no slow disk but a dead one."""


def listen_tcp(address: Address) -> socket.socket:
    """A listening socket; raises ConfigInvalid where the address cannot be had."""
    try:
        family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen(256)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
    except OSError as exc:
        raise ConfigInvalid([f"cannot listen on {address}: {exc.strerror or exc}"]) from None
    return sock


def listener_tls(config: MqttListenerConfig) -> ssl.SSLContext | None:
    """The listener's TLS, or None where the configuration says plain."""
    if config.cert is None or config.key is None:
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(config.cert, config.key)
        if config.client_ca is not None:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as exc:
        raise ConfigInvalid([f"mqtt_listener: certificate or key cannot be used: {exc}"]) from None
    return context


class Gateway:
    """One daemon. ``start``, then ``stop``; after ``stop`` everything taken is on disk and the file is closed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.addresses: dict[str, str] = {}
        self.directory = Directory()
        self.outputs: Outputs | None = None
        self.listener: MqttListener | None = None
        self.udp: SemtechUdp | None = None
        self._web: Any = None
        self._passwords = _passwords(config.outputs)
        self._tls = listener_tls(config.mqtt_listener) if config.mqtt_listener else None
        self.store = Store(config.database, config.linger_ms / 1000)
        self.reader = self.store.reader()
        self.clock = Clock(config.clock, journal.newest_received_us(self.reader))
        clock_us = self.clock.now_us
        self.started_us = clock_us()
        limits = Limits(config.keep_days, config.keep_max_mb << 20)
        self.upkeep = Upkeep(self.store, self.clock, limits, lambda: expiries(self.config))
        self.desk = CommandDesk(self.store.run, clock_us)
        self.wifi = WifiIngest(self.store, self.directory, clock_us, RateLog(logging.getLogger("brim.wifi")))
        devices = registry.all_devices(self.reader)
        trust_time = config.udp is not None and config.udp.trust_time
        server = NetworkServer(devices, random_bytes=os.urandom, trust_concentrator_clock=trust_time)
        self.lorawan = LorawanIngest(
            server,
            self.store,
            self.directory,
            self.reader,
            clock_us=clock_us,
            trust_time=trust_time,
            desk=self.desk,
        )
        self.directory.replace(registry.all_bins(self.reader))
        self._warn(devices)
        self._control = ControlServer(config.control_socket, Verbs(self))

    def _warn(self, devices: Iterable[DeviceRow]) -> None:
        """The exceptions in the registry and the configuration, loudly, at each start."""
        for device in devices:
            record = self.directory.by_dev.get(device.dev)
            for text in exceptions_of(record.bin if record else device.dev, device):
                log.warning("%s", text)
        if self.config.udp is not None and self.config.udp.trust_time:
            log.warning("udp.trust_time = true: event times are the concentrators' own")
        if self.config.mqtt_listener is not None and self.config.mqtt_listener.plain:
            log.warning("mqtt_listener.plain = true: bins' passwords and readings cross the network readable")

    async def start(self) -> None:
        """Outputs first, so that nothing waits; the doors last. Raises GatewayError and leaves nothing open."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config = self.config
        self.outputs = Outputs(config.site, self.store, self.clock.now_us)
        await self.outputs.replace(config.outputs, self._passwords)
        await self.desk.refresh()
        self.upkeep.start()
        await self._control.start()
        if config.http is not None:
            from brim_gateway.web.server import WebServer

            sock = listen_tcp(config.http.listen)
            self.addresses["http"] = _where(sock)
            self._web = WebServer(self, sock)
            await self._web.start()
        if config.mqtt_listener is not None:
            sock = listen_tcp(config.mqtt_listener.listen)
            self.addresses["mqtt"] = _where(sock)
            self.listener = MqttListener(
                self.wifi.deliver,
                self.wifi.credentials,
                tls=self._tls,
                max_connections=config.mqtt_listener.max_connections,
            )
            self.listener.on_subscribed = self._hand_over_commands
            self.listener.start(sock)
        if config.udp is not None:
            self.udp = SemtechUdp(
                on_push=lambda push, ack: self.lorawan.on_push(push.gateway, push.receptions, ack),
                on_pull=self.lorawan.on_pull,
                on_tx_ack=lambda ack: self.lorawan.on_tx_ack(ack.gateway, ack.token, ack.error),
                allowed=frozenset(config.udp.allow_gateways) or None,
            )
            try:
                host, port = self.udp.open(config.udp.listen.host, config.udp.listen.port)
            except OSError as exc:
                raise ConfigInvalid([f"cannot listen on {config.udp.listen}: {exc.strerror or exc}"]) from None
            self.addresses["udp"] = str(Address(host, port))
            self.lorawan.sender = self.udp

    async def stop(self) -> None:
        """Shut the doors, finish what came in, hand on what is in flight, close the file."""
        if self.listener is not None:
            await self.listener.stop()
        await self.lorawan.settle()
        await self.desk.settle()
        if self.udp is not None:
            self.udp.close()
        await self._control.stop()
        if self._web is not None:
            await self._web.stop()
        await self.upkeep.stop()
        if self.outputs is not None:
            await self.outputs.stop()
        self.reader.close()
        await asyncio.to_thread(self.store.close)

    async def replace_outputs(self, wanted: tuple[OutputConfig, ...]) -> None:
        """Bring the running outputs in line with ``wanted``; raises ConfigInvalid before anything has changed."""
        assert self.outputs is not None
        await self.outputs.replace(wanted, _passwords(wanted))
        self.config = replace(self.config, outputs=wanted)
        await self.upkeep.look_at_certificates()

    # What the verbs need (verbs.Runtime).

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self.store.run(work)

    def changed(self, bins: Iterable[BinRecord], devices: Iterable[DeviceRow], gone: BinRecord | None) -> None:
        self.directory.replace(bins)
        if gone is not None:
            self.lorawan.server.remove_device(gone.dev)
            if self.listener is not None:
                self.listener.forget(gone.dev)
            self.store.forget_state(gone.bin)
        for device in devices:
            self.lorawan.server.put_device(device)

    def strangers(self) -> list[dict[str, Any]]:
        return []

    async def retry_letters(self, output: str) -> dict[str, Any]:
        assert self.outputs is not None
        return await self.outputs.retry_letters(output)

    async def commanded(self) -> None:
        await self.desk.refresh()
        for dev in self.desk.devices():
            self._hand_over_commands(dev)

    def _hand_over_commands(self, dev: str) -> None:
        """To a Wi-Fi bin that is connected; a LoRaWAN bin gets them when it next speaks."""
        if self.listener is not None:
            self.desk.hand_over(dev, self.listener.send)

    def certificates(self) -> list[dict[str, Any]]:
        """When the certificates in use end, as of the last look."""
        return self.upkeep.certificates

    def status(self) -> dict[str, Any]:
        """What is going on, JSON-ready and without secrets."""
        health = self.store.health
        return {
            "site": self.config.site,
            "running": True,
            "healthy": self.store.stuck_for_s() < STUCK_S and health.last_fault is None,
            "since": iso_utc(self.started_us),
            "addresses": self.addresses,
            "bins": len(self.directory.by_dev),
            "journal": {
                "rows": health.newest_id,
                "new": health.readings_new,
                "repeated": health.readings_repeated,
                "commits": health.commits,
                "last_commit_ms": round(health.last_commit_s * 1000, 2),
                "fault": health.last_fault,
                "bytes": retention.used_bytes(self.reader),
                "waiting": self.store.waiting(),
                "dropped_unsent": self.upkeep.dropped_unsent,
            },
            "clock": {"trusted": self.clock.trusted(), "why": self.clock.why_not()},
            "strangers": len(self.strangers()),
            "mqtt": dict(self.listener.counters) if self.listener else None,
            "wifi_connected": len(self.listener.sessions) if self.listener else 0,
            "wifi": dict(self.wifi.counters),
            "udp": dict(self.udp.counters) if self.udp else None,
            "lorawan": dict(self.lorawan.counters),
            "refused": dict(self.lorawan.refused),
            "outputs": [self.output_view(one) for one in self.outputs.runners.values()] if self.outputs else [],
        }

    def last_contacts(self) -> list[tuple[str, int]]:
        """(bin, UTC microseconds of the arrival of its last reading)."""
        return [(state.bin, state.received_us) for state in self.store.states()]

    def output_view(self, runner: OutputRunner) -> dict[str, Any]:
        """One output for people and scripts."""
        status = runner.status
        waiting = max(0, self.store.health.newest_id - status.cursor)
        oldest_us = self._oldest_us(status.cursor) if waiting else None
        return {
            "name": status.name,
            "connected": status.connected,
            "protocol": status.protocol,
            "waiting": waiting,
            "oldest_s": None if oldest_us is None else max(0, (self.clock.now_us() - oldest_us) // 1_000_000),
            "acknowledged": status.acknowledged,
            "refused": status.refused,
            "dead_letters": outputs.letters_count(self.reader, status.name),
            "in_flight": status.in_flight,
            "reconnects": status.reconnects,
            "last_fault": status.last_fault,
        }

    def _oldest_us(self, cursor: int) -> int | None:
        """When the first row after ``cursor`` arrived."""
        oldest = "SELECT received_us FROM journal WHERE id > ? ORDER BY id LIMIT 1"
        row = self.reader.execute(oldest, (cursor,)).fetchone()
        return None if row is None else int(row[0])


def _where(sock: socket.socket) -> str:
    name = sock.getsockname()
    return str(Address(name[0], name[1]))


def _passwords(outputs: Iterable[OutputConfig]) -> dict[str, str | None]:
    return {output.name: _password(output.password_file) for output in outputs}


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return str(path.read_text(encoding="utf-8")).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigInvalid([f"{path}: password cannot be read: {exc}"]) from None
