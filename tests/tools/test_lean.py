"""What is compiled for a bin means what its source means, with fewer names."""

from __future__ import annotations

import ast
from pathlib import Path

import brim
from brim_tools.flash.lean import Lean, firmware_modules

A = """
LIMIT = 5
WIDE = LIMIT << 2 | 1
NEGATIVE = -LIMIT
TEXT = "five"
TWICE = 1
TWICE = 2
SPOKEN = 7

def least(): return LIMIT + NEGATIVE + TWICE
"""
B = """
from brim.a import LIMIT, TEXT, WIDE, least
from brim.a import NEGATIVE
from brim import a
from brim.a import (
    SPOKEN,
    TEXT as WORD,
)

def far(WIDE): return WIDE
def near(): return (LIMIT, a.WIDE, NEGATIVE, TEXT, WORD, a.TEXT, f"{SPOKEN}", LIMIT.bit_length())
"""


def run(sources: dict[str, str], module: str) -> dict[str, object]:
    """The module's names, where `brim` is what is given."""
    import sys
    import types

    made = {name: types.ModuleType(name) for name in ("brim", *sources)}
    kept = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        for name, text in sources.items():
            exec(compile(text, name, "exec"), made[name].__dict__)  # noqa: S102 - our own text above
            setattr(made["brim"], name.removeprefix("brim."), made[name])
    finally:
        for name, module_before in kept.items():
            if module_before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module_before
    return made[module].__dict__


def test_constants_are_put_in_where_they_are_used_and_everything_else_stays() -> None:
    sources = {"brim.a": A, "brim.b": B}
    lean = Lean(sources)
    made = {name: lean.text(name) for name in sources}
    assert [made[name].count("\n") for name in sources] == [A.count("\n"), B.count("\n")]
    before, after = run(sources, "brim.b"), run(made, "brim.b")
    assert before["near"]() == after["near"]() == (5, 21, -5, "five", "five", "five", "7", 3)  # type: ignore[operator]
    assert after["far"](9) == 9  # type: ignore[operator]
    assert run(made, "brim.a")["least"]() == 2  # type: ignore[operator]
    left = {node.id for node in ast.walk(ast.parse(made["brim.b"])) if isinstance(node, ast.Name)}
    assert not {"LIMIT", "NEGATIVE"} & left and {"SPOKEN", "TEXT"} <= left


def test_the_firmware_keeps_its_lines_and_loses_most_of_its_constants() -> None:
    sources = firmware_modules(Path(brim.__file__).parent)
    lean = Lean(sources)
    names = 0
    for name, text in sources.items():
        made = lean.text(name)
        assert made.count("\n") == text.count("\n"), name
        before, after = ast.parse(text), ast.parse(made)
        kept = {node.name for node in before.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert kept == {node.name for node in after.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}, name
        names += len(before.body) - len(after.body)
    assert names > 100
