"""Peers that are measured where they are installed: Node-RED (`node-red` on PATH). ThingsBoard's gateway is named only:
its north is no plain broker, so a row of it would need a ThingsBoard to speak to."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from brim_tools.bench.procs import start
from brim_tools.bench.relays import Candidate, Relay, with_a_broker
from brim_tools.demo.backend import free_port

_SUBSCRIBED_AFTER_S = 1.0
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


def node_red(folder: Path, north_port: int) -> AbstractContextManager[Relay]:
    """mqtt in -> function -> mqtt out, QoS 1, with a mosquitto for the bins."""
    settings, flow = folder / "settings.js", folder / "flow.json"
    settings.write_text(f'module.exports = {{httpAdminRoot: false, uiPort: {free_port()}, uiHost: "127.0.0.1"}};\n')

    def launch(south_port: int) -> subprocess.Popen[str]:
        flow.write_text(json.dumps(_flow(south_port, north_port)))
        command = ["node-red", "--userDir", str(folder), "--settings", str(settings), str(flow)]
        return start(command, stdout=subprocess.PIPE, text=True)

    return with_a_broker(folder, launch, _wait_subscribed)


def _wait_subscribed(process: subprocess.Popen[str]) -> None:
    """It says that it is connected to the bins' side, and has subscribed soon after."""
    assert process.stdout is not None
    for line in process.stdout:
        if "red-south" in line and "Connected to broker" in line:
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
