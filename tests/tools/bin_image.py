"""A bin without a host: the shipped firmware on real MicroPython over the smallest fakes that answer."""

import json
import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from brim_tools.flash.compiler import compile_firmware, compile_mpy

ROOT = Path(__file__).parents[2]
SCRIPTS = sysconfig.get_path("scripts")

FAKES = {
    "machine": """
calls = 0
import os
PWRON_RESET, DEEPSLEEP_RESET = 1, 4
def reset_cause(): return int(os.getenv("RESET") or DEEPSLEEP_RESET)
def reset(): print("reset"); raise SystemExit
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

    def provision(self, nvs: dict[str, bytes]) -> None:
        """Values of the namespace `brim_id`, or of the one before the dot."""
        stored = {key if "." in key else f"brim_id.{key}": value.hex() for key, value in nvs.items()}
        (self.path / "nvs.json").write_text(json.dumps(stored))

    def command(self, heap_bytes: int) -> list[str]:
        micropython = shutil.which("micropython", path=SCRIPTS)
        assert micropython
        return [micropython, "-X", f"heapsize={heap_bytes}", "main.py"]

    def environment(self, cold: bool) -> dict[str, str]:
        return os.environ | {"MICROPYPATH": "fakes:.:.frozen", "RESET": "1" if cold else "4"}

    def run(
        self, heap_bytes: int, nvs: dict[str, bytes], cold: bool = False, typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """One boot; what is typed ends with the end of the input."""
        self.provision(nvs)
        return subprocess.run(
            self.command(heap_bytes),
            cwd=self.path,
            env=self.environment(cold),
            input=typed,
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


def build(path: Path) -> Image:
    """Compile the firmware and the fakes into `path`, as they are shipped."""
    sizes = compile_firmware(ROOT / "firmware/brim", path)
    for name, text in FAKES.items():
        sizes[f"fakes/{name}.py"] = compile_mpy(text, path / "fakes" / f"{name}.mpy", f"{name}.py")
    shutil.copy(ROOT / "firmware/main.py", path / "main.py")
    return Image(path, sizes)
