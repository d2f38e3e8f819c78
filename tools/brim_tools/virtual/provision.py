"""Gives a virtual bin what provisioning writes onto a real one: identity in NVS, settings in the flash."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping

from littlefs import LittleFS

from brim_tools.virtual.models.flash import BLOCK_BYTES, NorFlash, Nvs

IDENTITY = "brim_id"


def lorawan_identity(nvs: Nvs, keys: Mapping[str, str]) -> None:
    """`keys`: an entry of the gateway's keys file (dev, bin, join_eui, app_key in hex)."""
    _common(nvs, keys, "lorawan")
    nvs.provision(IDENTITY, "join_eui", bytes.fromhex(keys["join_eui"]))
    nvs.provision(IDENTITY, "app_key", bytes.fromhex(keys["app_key"]))


def wifi_identity(nvs: Nvs, keys: Mapping[str, str], host: str, port: int, ca_pem: str, tls_name: str = "") -> None:
    """`keys`: an entry of the gateway's keys file (dev, bin, mqtt_password)."""
    _common(nvs, keys, "wifi")
    values = {
        "ssid": b"city",
        "wifi_key": b"a-street-of-its-own",
        "mqtt_host": host.encode(),
        "mqtt_port": str(port).encode(),
        "tls_name": (tls_name or host).encode(),
        "mqtt_pass": keys["mqtt_password"].encode(),
        "ca": ssl.PEM_cert_to_DER_cert(ca_pem),
    }
    for name, value in values.items():
        nvs.provision(IDENTITY, name, value)


def _common(nvs: Nvs, keys: Mapping[str, str], link: str) -> None:
    nvs.provision(IDENTITY, "dev_eui", bytes.fromhex(keys["dev"]))
    nvs.provision(IDENTITY, "link", link.encode())
    nvs.provision(IDENTITY, "bin", keys["bin"].encode())


def flash_with(settings: Mapping[str, int], blocks: int = 64) -> NorFlash:
    """A flash as a laptop writes it: LittleFS2 with settings.json in it."""
    filesystem = LittleFS(block_size=BLOCK_BYTES, block_count=blocks)
    with filesystem.open("/settings.json", "w") as file:
        file.write(json.dumps(dict(settings)))
    return NorFlash(blocks, bytes(filesystem.context.buffer))
