"""The bin's own Wi-Fi link on real MicroPython against the listener: both ends are what is shipped."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from brim.wire.report import Reading, encode_report
from brim_gateway.pki import make_client, make_site
from cryptography.hazmat.primitives import serialization

from tests.gateway.support import RunningGateway, make_config

ROOT = Path(__file__).parents[2]
MICROPYTHON = shutil.which("micropython", path=sysconfig.get_path("scripts")) or "micropython"

DEVICE = """
import json, sys, time
sys.path[:] = ["firmware", ".frozen"]
from brim.links.wifi_link import WifiLink

class Wlan:
    def active(self, on): pass
    def connect(self, ssid, key): pass
    def isconnected(self): return True
    def disconnect(self): pass

class Clock:
    ticks_ms = staticmethod(lambda: time.ticks_ms() & 0x3fffffff)
    sleep_ms = staticmethod(time.sleep_ms)

class Identity: pass

given = json.loads(sys.stdin.read())
identity = Identity()
identity.dev_eui = bytes.fromhex(given["dev"])
identity.ssid, identity.wifi_key = "city", "wifi-key"
identity.mqtt_host, identity.mqtt_port, identity.tls_name = "127.0.0.1", given["port"], "brim-gateway"
identity.mqtt_pass = given["password"].encode() if given["password"] else None
for name in ("ca", "cert", "key"):
    setattr(identity, name, bytes.fromhex(given[name]) if given[name] else None)
link = WifiLink(Wlan(), identity, Clock())
start = Clock.ticks_ms()
out = {"open": link.open(start + 8000), "held": []}
if out["open"] is None:
    out["held"] = [link.exchange(bytes.fromhex(payload), start + 8000).held for payload in given["payloads"]]
link.close()
print(json.dumps(out))
"""


def wake(given: dict[str, Any]) -> dict[str, Any]:
    """One wake of a bin: open, publish everything, close."""
    done = subprocess.run(
        [MICROPYTHON, "-X", "heapsize=90000", "-c", DEVICE],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("proof", ["password", "certificate", "wrong password"])
def test_a_bins_readings_are_held_when_it_is_told_so(tmp_path: Path, proof: str) -> None:
    files = make_site(tmp_path / "tls", "cab-1", ["brim-gateway"])
    tls = f'cert = "{files.cert}"\nkey = "{files.key}"\nclient_ca = "{files.ca}"\n'
    with RunningGateway(make_config(tmp_path, f'[mqtt_listener]\nlisten = "127.0.0.1:0"\n{tls}')) as gateway:
        dev, password = gateway.add_wifi("B-1")
        given: dict[str, Any] = {"dev": dev, "port": gateway.port("mqtt"), "password": None, "cert": None, "key": None}
        given["ca"] = ssl.PEM_cert_to_DER_cert(files.ca.read_text()).hex()
        given["payloads"] = [encode_report([Reading(1, seq, "ok", 400, 2, 9)], 0).hex() for seq in (1, 2, 3)]
        if proof == "certificate":
            certificate, key_pem = make_client(files.ca, files.ca_key, dev)
            key = serialization.load_pem_private_key(key_pem, None)
            der = key.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
            given |= {"cert": ssl.PEM_cert_to_DER_cert(certificate.decode()).hex(), "key": der.hex()}
        else:
            given["password"] = password if proof == "password" else "not-" + password
        out = wake(given)
        if proof == "wrong password":
            assert out["open"] is not None and gateway.rows() == []
        else:
            assert out == {"open": None, "held": [True, True, True]}
            assert [row["seq"] for row in gateway.rows()] == [1, 2, 3]
