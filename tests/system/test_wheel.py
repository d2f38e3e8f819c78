"""The wheel, installed far from the checkout, carries the whole firmware: a laptop without a checkout runs a bin."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a technician's Windows laptop does not have.
LAPTOP = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("termios", "fcntl", "pty", "tty", "brim_gateway"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("termios", "fcntl", "pty", "tty"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
from brim_tools.cli import main
main()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout and unpacked as an installer does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("brim-*.whl")
    target = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def environment(installed: Path, home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(installed), "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}


def test_the_wheel_holds_what_is_flashed(installed: Path) -> None:
    sources = {p.relative_to(ROOT / "firmware") for p in (ROOT / "firmware/brim").rglob("*.py")}
    assert sources and all((installed / path).exists() for path in sources)
    for name in ("main.py", "boot.py"):
        assert (installed / "brim/flash" / name).read_text() == (ROOT / "firmware" / name).read_text()
    for package in ("brim", "brim_gateway", "brim_tools"):
        assert (installed / package / "py.typed").exists()
    assert list(installed.glob("brim_gateway/store/schema/*.sql"))


def test_a_bin_starts_from_the_wheel_and_a_laptop_without_posix_speaks_to_it(installed: Path, tmp_path: Path) -> None:
    env = environment(installed, tmp_path)
    where = [sys.executable, "-c", "import brim; print(brim.__file__)"]
    assert str(installed) in subprocess.run(where, env=env, cwd=tmp_path, capture_output=True, text=True).stdout
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "brim_tools", "bin", "virtual", "--port-file", str(port_file), "--tcp", "0"]
    bin_ = subprocess.Popen(command, env=env, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert bin_.poll() is None and time.monotonic() < deadline
        url = port_file.read_text().splitlines()[1]
        assert url.startswith("socket://127.0.0.1:")
        who = subprocess.run(
            [sys.executable, "-c", LAPTOP, "bin", "who", "--port", url, "--json"],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert who.returncode == 0, who.stderr
        assert '"firmware": "0.1.0"' in who.stdout and '"board": "heltec_v3"' in who.stdout
    finally:
        bin_.terminate()
        assert bin_.wait(20) == 0
    assert not port_file.exists()
