"""The daemon as a process: signals, systemd, reload. Everything it serves is in app."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from brim_gateway.app import Gateway
from brim_gateway.config import Config, load
from brim_gateway.errors import ConfigInvalid, GatewayError, StoreFault
from brim_gateway.store.store import Store
from brim_gateway.systemd import Notifier

log = logging.getLogger("brim")


async def serve(config: Config, path: Path) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the outputs of ``path`` again. Prints one ready line on standard
    output."""
    stopping, reloading = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    notifier = Notifier()
    gateway = Gateway(config)
    await gateway.start()
    gateway.store.when_dead(stopping.set)
    doors = [f"{name}={gateway.addresses[name]}" for name in ("udp", "mqtt", "http") if name in gateway.addresses]
    sys.stdout.write(" ".join(["ready", *doors]) + "\n")
    sys.stdout.flush()
    log.info("ready: %s", gateway.addresses)
    notifier.ready()
    notifier.status(" ".join(doors))
    background = [
        loop.create_task(_reload_when_asked(gateway, path, reloading, notifier)),
        loop.create_task(feed_watchdog(gateway.store, notifier)),
    ]
    try:
        await stopping.wait()
        log.info("stopping")
        notifier.stopping()
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await gateway.stop()
    if gateway.store.dead:
        raise StoreFault(f"{gateway.store.health.last_fault}; what was acknowledged is on disk, start again")
    log.info("stopped; everything taken is on disk")


async def feed_watchdog(store: Store, notifier: Notifier) -> None:
    """Tell systemd that we live, each time that a question has gone through the loop and the writer and come back.

    A gateway without bins, without a city or without room on its disk is alive: starting it again would mend nothing.
    """
    interval_s = notifier.watchdog_interval_s
    if interval_s is None:
        return
    while True:
        with suppress(TimeoutError):
            with suppress(StoreFault):
                await asyncio.wait_for(store.run(lambda _: None), interval_s)
            if not store.dead:
                notifier.watchdog()
        await asyncio.sleep(interval_s / 4)


async def _reload_when_asked(gateway: Gateway, path: Path, reloading: asyncio.Event, notifier: Notifier) -> None:
    while True:
        await reloading.wait()
        reloading.clear()
        notifier.reloading()
        try:
            await reload(gateway, path)
        except ConfigInvalid as exc:
            for problem in exc.problems:
                log.error("reload refused: %s", problem)
            log.error("reload refused: the outputs go on as they were")
        except GatewayError as exc:
            log.error("reload failed: %s", exc)
        except Exception:  # the next SIGHUP must be heard
            log.exception("reload failed")
        notifier.ready()


async def reload(gateway: Gateway, path: Path) -> None:
    """Bring the outputs in line with the file. Raises ConfigInvalid where anything in it is wrong; nothing changes
    then."""
    fresh = await asyncio.to_thread(load, path)
    if replace(fresh, outputs=gateway.config.outputs) != gateway.config:
        log.warning("reload: only outputs are changed while the gateway runs; the rest waits for a restart")
    await gateway.replace_outputs(fresh.outputs)
    log.info("reload: %d output(s)", len(fresh.outputs))
