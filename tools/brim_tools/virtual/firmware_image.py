"""The firmware as it is shipped: main.py and boot.py as source, everything else compiled to .mpy.

Beside it, in `chip/`, the stand-ins for the ESP32's own modules, compiled too: on the chip they are C and leave the
heap alone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

import brim

from brim_tools.flash import compiler, lean
from brim_tools.flash.compiler import compile_firmware, compile_mpy
from brim_tools.virtual import chip_calls
from brim_tools.virtual.chip_calls import Op

CHIP_DIR = Path(__file__).parent / "chip"


def firmware_source() -> tuple[Path, Path]:
    """(folder of the package `brim`, folder of main.py and boot.py), in a checkout or in an installed wheel."""
    package = Path(brim.__file__).parent
    for folder in (package / "flash", package.parent):
        if (folder / "main.py").exists():
            return package, folder
    raise FileNotFoundError("the firmware's main.py is missing beside the package brim")


def source_files(package: Path) -> list[Path]:
    return sorted(p for p in package.rglob("*.py") if "flash" not in p.relative_to(package).parts[:1])


def _user_cache() -> Path:
    """The user's cache folder; where that cannot be written, one that lives as long as this program."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brim"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            return cache
    except OSError:
        pass
    return Path(_scratch_cache().name)


@functools.cache
def _scratch_cache() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="brim-firmware-")


def build_image(cache: Path | None = None, *, compiled: bool = True) -> Path:
    """Compile the firmware into a folder named after its content; returns the folder. Made once, then reused."""
    package, boot = firmware_source()
    sources = source_files(package)
    digest = hashlib.sha256(b"mpy" if compiled else b"py")
    chip_sources = sorted(CHIP_DIR.glob("*.py"))
    for path in [
        *sources,
        *chip_sources,
        Path(chip_calls.__file__),
        boot / "main.py",
        boot / "boot.py",
        Path(__file__),
        Path(compiler.__file__),
        Path(lean.__file__),
    ]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    cache = cache or _user_cache()
    target = cache / f"firmware-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        image = Path(scratch) / "image"
        if compiled:
            compile_firmware(package, image)
        else:
            for path in sources:
                (out := image / "brim" / path.relative_to(package)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, out)
        for path in chip_sources if compiled else ():
            (image / "chip").mkdir(exist_ok=True)
            text = re.sub(r"\b_host\.([A-Z0-9_]+)\b", lambda name: str(int(Op[name[1]])), path.read_text())
            compile_mpy(text, image / "chip" / f"{path.stem}.mpy", path.name)
        for name in ("main.py", "boot.py"):
            shutil.copy(boot / name, image / name)
        try:
            image.rename(target)
        except OSError:
            if not target.exists():  # another process may have been quicker
                raise
    return target
