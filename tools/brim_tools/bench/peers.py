"""Peers that are measured where they are installed: Node-RED (`node-red` on PATH). ThingsBoard's gateway is named only:
its north is no plain broker, so a row of it would need a ThingsBoard to speak to."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brim_tools.bench.ledger import dev_of
from brim_tools.bench.north import Mosquitto
from brim_tools.bench.procs import end, start
from brim_tools.bench.relays import Candidate, Relay
from brim_tools.demo.backend import free_port

_SUBSCRIBED_AFTER_S = 1.0  # it says that it is connected, not that it has subscribed
_TURN = 'msg.topic = "out" + msg.topic.slice(2); return msg;'


def installed_peers() -> list[Candidate]:
    """A row for each; without ``open`` where it cannot be measured here."""
    thingsboard = importlib.util.find_spec("thingsboard_gateway") is not None
    return [
        Candidate("Node-RED", node_red, note="and the broker that it needs")
        if shutil.which("node-red")
        else Candidate("Node-RED", None, note="not installed"),
        Candidate(
            "ThingsBoard gateway",
            None,
            note="not run: needs a ThingsBoard as its north" if thingsboard else "not installed",
        ),
    ]


@contextmanager
def node_red(folder: Path, north_port: int) -> Iterator[Relay]:
    """mqtt in -> function -> mqtt out, QoS 1, with a mosquitto for the bins."""
    settings, flow = folder / "settings.js", folder / "flow.json"
    settings.write_text(f'module.exports = {{httpAdminRoot: false, uiPort: {free_port()}, uiHost: "127.0.0.1"}};\n')
    with Mosquitto(folder, "max_queued_messages 0\n") as south:
        flow.write_text(json.dumps(_flow(south.port, north_port)))
        process = start(
            ["node-red", "--userDir", str(folder), "--settings", str(settings), str(flow)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            _wait_connected(process)
            logins = [[dev_of(i), ""] for i in range(8)]
            yield Relay(south.port, "in/{dev}", "out/#", logins, [south.pid, process.pid])
        finally:
            end(process)
            if process.stdout is not None:
                process.stdout.close()


def _wait_connected(process: subprocess.Popen[Any]) -> None:
    assert process.stdout is not None
    missing = 2
    for line in process.stdout:
        missing -= "Connected to broker" in line
        if not missing:
            time.sleep(_SUBSCRIBED_AFTER_S)
            return
    raise RuntimeError("Node-RED did not start")


def _flow(south_port: int, north_port: int) -> list[dict[str, Any]]:
    def broker(name: str, port: int) -> dict[str, Any]:
        return {
            "id": name, "type": "mqtt-broker", "broker": "127.0.0.1", "port": str(port), "clientid": f"red-{name}",
            "autoConnect": True, "usetls": False, "protocolVersion": "4", "keepalive": "60", "cleansession": False,
        }  # fmt: skip

    return [
        {"id": "tab", "type": "tab", "label": "relay"},
        broker("south", south_port),
        broker("north", north_port),
        {"id": "in", "type": "mqtt in", "z": "tab", "topic": "in/#", "qos": "1", "datatype": "buffer",
         "broker": "south", "inputs": 0, "wires": [["turn"]]},
        {"id": "turn", "type": "function", "z": "tab", "func": _TURN, "outputs": 1, "wires": [["out"]]},
        {"id": "out", "type": "mqtt out", "z": "tab", "topic": "", "qos": "1", "broker": "north", "wires": []},
    ]  # fmt: skip
