"""`tests/device` runs on CPython under pytest; here the same files run on MicroPython, as source and as .mpy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from brim_tools.flash.lean import Lean, firmware_modules
from brim_tools.virtual.firmware_image import build_image

ROOT = Path(__file__).resolve().parents[2]
SUITE = sorted((ROOT / "tests" / "device").glob("test_*.py"))
RUNNER = """
import sys
module = __import__({name!r})
ran = 0
for name in sorted(dir(module)):
    if name.startswith("test_"):
        getattr(module, name)()
        ran += 1
print("ran", ran)
"""


@pytest.fixture(scope="module")
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(firmware, folder with tests/device): as they lie here, or as it is compiled for a bin; its constants are in the
    tests then."""
    if request.param == "py":
        return ROOT / "firmware", ROOT
    lean, root = Lean(firmware_modules(ROOT / "firmware" / "brim")), tmp_path_factory.mktemp("root")
    (root / "tests" / "device").mkdir(parents=True)
    (root / "tests" / "data").symlink_to(ROOT / "tests" / "data")
    for path in SUITE[0].parent.glob("*.py"):
        (root / "tests" / "device" / path.name).write_text(lean.outside(path.read_text()))
    return build_image(tmp_path_factory.mktemp("image")), root


@pytest.mark.parametrize("folders", ["py", "mpy"], indirect=True)
@pytest.mark.parametrize("path", SUITE, ids=lambda p: p.stem)
def test_device_suite(path: Path, folders: tuple[Path, Path]) -> None:
    expected = len(re.findall(r"^def test_", path.read_text(), re.MULTILINE))
    arguments = "['micropython', '-X', 'heapsize=2M', '-c', sys.argv[1]]"
    start = f"import sys, micropython_module as m; sys.exit(m.run_main({arguments}))"
    done = subprocess.run(
        [sys.executable, "-c", start, RUNNER.format(name=path.stem)],
        env={**os.environ, "MICROPYPATH": f"{folders[0]}:{folders[1]}:{folders[1] / 'tests' / 'device'}:.frozen"},
        cwd=folders[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1:] == [f"ran {expected}"] and expected > 0, done.stdout + done.stderr
