"""The daemon: what is wired to what, in which order it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sqlite3
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from brim_gateway.certificates import expiries
from brim_gateway.clock import Clock
from brim_gateway.config import Address, Config, MqttListenerConfig, OutputConfig
from brim_gateway.control import ControlServer
from brim_gateway.credentials import read_secret
from brim_gateway.errors import ConfigInvalid, StoreFault
from brim_gateway.fleet.directory import Directory
from brim_gateway.fleet.enrol import exceptions_of
from brim_gateway.fleet.queue import CommandDesk
from brim_gateway.fleet.strangers import Strangers
from brim_gateway.ingest.arrival import GATEWAY, UNSYNCHRONISED
from brim_gateway.ingest.lorawan import LorawanIngest
from brim_gateway.ingest.mqtt_listener import MqttListener
from brim_gateway.ingest.semtech_udp import SemtechUdp
from brim_gateway.ingest.wifi import WifiIngest
from brim_gateway.model import BinRecord
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.server import NetworkServer
from brim_gateway.outputs.outputs import Outputs
from brim_gateway.ratelog import RateLog
from brim_gateway.status import status_of
from brim_gateway.store import journal, registry
from brim_gateway.store.retention import Limits
from brim_gateway.store.store import Store
from brim_gateway.upkeep import Upkeep
from brim_gateway.verbs import Verbs

log = logging.getLogger("brim")
T = TypeVar("T")

SETTLE_S = 2.0
"""For what is under way at the stop."""


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
        self._sending: set[asyncio.Task[None]] = set()
        self._passwords = _passwords(config.outputs)
        self._tls = listener_tls(config.mqtt_listener) if config.mqtt_listener else None
        self.store = Store(config.database, config.linger_ms / 1000)
        try:
            self._wire(config)
        except BaseException:
            self.store.close()  # its thread and its lock
            raise

    def _wire(self, config: Config) -> None:
        self.reader = self.store.reader()
        self.clock = Clock(config.clock, journal.newest_received_us(self.reader))
        clock_us = self.clock.now_us
        self.started_us = clock_us()
        limits = Limits(config.keep_days, config.keep_max_mb << 20)
        self.upkeep = Upkeep(self.store, self.clock, limits, lambda: expiries(self.config))
        self.desk = CommandDesk(self.store.run, clock_us)
        self._strangers = Strangers(clock_us)
        wifi_log = RateLog(logging.getLogger("brim.wifi"))
        self.wifi = WifiIngest(self.store, self.directory, clock_us, wifi_log, self._time_source)
        devices = registry.all_devices(self.reader)
        trust_time = config.udp is not None and config.udp.trust_time
        server = NetworkServer(
            devices,
            random_bytes=os.urandom,
            trust_concentrator_clock=trust_time,
            clock_trusted=lambda: trust_time or self.clock.trusted(),
            sent_before=registry.airtime_of_removed(self.reader),
        )
        self.lorawan = LorawanIngest(
            server,
            self.store,
            self.directory,
            self.reader,
            clock_us=clock_us,
            trust_time=trust_time,
            strangers=self._strangers,
            desk=self.desk,
            source=self._time_source,
        )
        self.directory.replace(registry.all_bins(self.reader))
        self._warn(devices)
        self._control = ControlServer(config.control_socket, Verbs(self))

    def _time_source(self) -> str:
        return GATEWAY if self.clock.trusted() else UNSYNCHRONISED

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
        self.outputs = Outputs(config.site, self.store, self.clock)
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
                max_handshakes=config.mqtt_listener.max_handshakes,
                strangers=self._strangers,
                on_listening=self._on_listening,
            )
            self.listener.start(sock)
        if config.udp is not None:
            self.udp = SemtechUdp(
                on_push=lambda push, ack: self.lorawan.on_push(push.gateway, push.receptions, ack),
                on_pull=self.lorawan.on_pull,
                on_tx_ack=lambda ack: self.lorawan.on_tx_ack(ack.gateway, ack.token, ack.error),
                allowed=frozenset(config.udp.allow_gateways) or None,
                rate_limit=config.udp.rate_limit,
                on_path_lost=self.lorawan.server.on_path_lost,
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
        if self.udp is not None:
            self.udp.stop_reading()
        await self.lorawan.settle(SETTLE_S)
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
        # What a full disk held back has its answer now.
        await self.lorawan.settle(SETTLE_S)

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
        for dev in self.directory.by_dev:
            self._strangers.forget(dev)

    def strangers(self) -> list[dict[str, Any]]:
        return self._strangers.listing()

    def radio(self, dev: str) -> dict[str, Any]:
        return self.lorawan.server.link(dev)

    async def retry_letters(self, output: str) -> dict[str, Any]:
        assert self.outputs is not None
        return await self.outputs.retry_letters(output)

    async def commanded(self) -> None:
        await self.desk.refresh()
        for dev in self.desk.devices():
            await self._send_commands(dev)

    def _on_listening(self, dev: str) -> None:
        if self.desk.due(dev) is not None:
            task = asyncio.get_running_loop().create_task(self._send_commands(dev))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_commands(self, dev: str) -> None:
        """To a Wi-Fi bin that listens; a LoRaWAN bin is sent its own after its next uplink."""
        while self.listener is not None and (command := self.desk.due(dev)) is not None:
            if not self.listener.send(dev, command.payload):
                return
            with contextlib.suppress(StoreFault):  # it stays in the table, and is sent once more
                await self.desk.sent(command)

    def certificates(self) -> list[dict[str, Any]]:
        """When the certificates in use end, as of the last look."""
        return self.upkeep.certificates

    def status(self) -> dict[str, Any]:
        return status_of(self)


def _where(sock: socket.socket) -> str:
    name = sock.getsockname()
    return str(Address(name[0], name[1]))


def _passwords(outputs: Iterable[OutputConfig]) -> dict[str, str | None]:
    files = {output.name: output.password_file for output in outputs}
    return {name: None if path is None else read_secret(path) for name, path in files.items()}
