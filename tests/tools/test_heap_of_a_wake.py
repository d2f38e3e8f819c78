"""What one wake costs on the real interpreter, with the files that are shipped: heap, bytes of code, hardware calls."""

import os
import subprocess
from pathlib import Path

import pytest
from brim.lorawan.eu868 import COMMON_CHANNELS_HZ
from brim.lorawan.join_frames import Accept, build_join_accept
from brim.lorawan.mac import Mac
from brim_gateway.network.session import EcbCipher

from tests.tools import test_wifi_link_on_micropython as wifi
from tests.tools.bin_image import Image, build

LORAWAN = {"dev_eui": bytes(range(8)), "join_eui": bytes(8), "app_key": bytes(range(16)), "link": b"lorawan"}


def joined() -> bytes:
    """What the flash of a bin keeps after a join."""
    app_key = LORAWAN["app_key"]
    mac = Mac(LORAWAN["dev_eui"], LORAWAN["join_eui"], app_key, EcbCipher, os.urandom, lambda: None, None)
    mac.hurry()
    mac.join()
    accept = Accept(1, 0, bytes(4), 3, 1, list(COMMON_CHANNELS_HZ))
    stored = mac.on_accept(build_join_accept(EcbCipher(app_key), accept))
    assert stored is not None
    return bytes(stored[0][1])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("image"))


def calls(done: subprocess.CompletedProcess[str]) -> int:
    return int(done.stdout.split("done ")[1].split()[1])


def test_a_wake_on_the_wifi_way_fits_in_90000_bytes(image: Image, tmp_path: Path) -> None:
    ca = wifi.make(tmp_path, "ca")
    pki = wifi.Pki(ca, ca, wifi.make(tmp_path, "server", ca, "gateway.brim"), ca)
    with wifi.mosquitto(tmp_path, pki, f"allow_anonymous false\npassword_file {tmp_path / 'passwords'}\n") as port:
        nvs = {
            "dev_eui": bytes.fromhex(wifi.DEV),
            "link": b"wifi",
            "ssid": b"city",
            "wifi_key": b"wifi-key",
            "mqtt_host": b"127.0.0.1",
            "mqtt_port": str(port).encode(),
            "tls_name": b"gateway.brim",
            "mqtt_pass": b"secret",
            "ca": Path(ca.file(".der")).read_bytes(),
        }
        done = image.run(90000, nvs)
        least = image.least_heap(nvs, "held 1:1", 90000)
    assert "reading 1:1 ok 812" in done.stdout
    assert "secret" not in done.stdout and "wifi-key" not in done.stdout
    print(f"\nWi-Fi way: a wake needs {least} bytes of heap and {calls(done)} hardware calls")
    assert least <= 90000


def test_a_wake_on_the_lorawan_way_fits_in_110000_bytes_up_to_the_radio(image: Image) -> None:
    """No chip answers here: the link's code is loaded, the MAC is made, an uplink is begun.

    The fakes count too. The whole wake, join and windows included, is held to the same figure in
    tests/tools/virtual/test_life_of_a_bin.py, stand-ins not counted.
    """
    nvs = LORAWAN | {"brim.lorawan": joined()}
    done = image.run(110000, nvs)
    assert "fault radio absent" in done.stdout, done
    assert "wifi" not in done.stdout
    least = image.least_heap(nvs, "fault radio absent", 110000)
    print(f"\nLoRaWAN way: {least} bytes of heap up to the radio")


def test_a_wake_without_news_needs_no_radio_code(image: Image) -> None:
    done = image.run(60000, {"dev_eui": b"short"})
    assert "done 3600000" in done.stdout, done
    print(f"\nUnprovisioned: {calls(done)} hardware calls")


def test_the_shipped_files_are_small(image: Image) -> None:
    sizes = {name: size for name, size in image.sizes.items() if name.startswith("brim/")}
    for name, size in sorted(sizes.items()):
        print(f"{size:6} {name}")
    print(f"{sum(sizes.values()):6} in all")
    assert sum(sizes.values()) <= 96 * 1024
