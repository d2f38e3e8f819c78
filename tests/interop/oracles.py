"""Implementations of LoRaWAN that nobody of Brim wrote: names, the versions that are here, how to ask them."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LORA_PACKET = HERE.parent / "strangers" / "node_modules" / "lora-packet"


@dataclass(frozen=True, slots=True)
class Oracle:
    """One implementation. ``found`` is its version, "" where it is not installed."""

    name: str
    found: str
    origin: str
    checks: str


def _python(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _node(folder: Path) -> str:
    try:
        return str(json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"])
    except OSError:
        return ""


def oracles() -> list[Oracle]:
    """All of them, with the versions that are installed now."""
    return [
        Oracle(
            "pamoja-gateway",
            _python("pamoja-gateway"),
            "PyPI, MIT, Rust: a network server and a Class A end device",
            "whole sessions against our device and against our server",
        ),
        Oracle(
            "liblora",
            _python("liblora"),
            "PyPI, BSD, Semtech's Basic MAC in Python",
            "data frames both ways, joins, key derivation, every MAC command, time on air",
        ),
        Oracle(
            "lora-packet",
            _node(LORA_PACKET),
            "npm, MIT, JavaScript",
            "decodes and verifies our frames; we decode and verify its frames",
        ),
    ]


def liblora(name: str) -> Any:
    """A module of liblora. Its docstrings have stray backslashes, which are no business of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def ask_lora_packet(questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One answer a question, all in one process; see lora_packet.mjs. Raises RuntimeError where it cannot run."""
    node = shutil.which("node")
    if node is None or not LORA_PACKET.is_dir():
        raise RuntimeError("node and tests/strangers/node_modules are needed: npm ci --prefix tests/strangers")
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    done = subprocess.run(
        [node, HERE / "lora_packet.mjs", LORA_PACKET], input=lines, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"lora_packet.mjs: {done.stderr.strip()[-500:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]
