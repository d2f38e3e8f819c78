"""Firmware source, made lean for the compiler: what a bin would keep in its heap for nothing is left out.

The name of a constant costs a bin some 30 bytes for as long as its module is loaded, and a part of them for ever: an
interned string, and an entry in the module's table. So integer constants are put in where they are used, across
modules, as a C compiler would, and their definitions and imports go. What stands under `if TYPE_CHECKING:` goes too.
Line numbers stay what they are, for tracebacks.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.BitOr: operator.or_, ast.BitAnd: operator.and_,
}  # fmt: skip
_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*\Z")
_FOR_MYPY = "TYPE_CHECKING"


def firmware_modules(package: Path) -> dict[str, str]:
    """The sources of the package `brim` by dotted name, without what only tools carry."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] != "flash":
            found[".".join(("brim", *(part for part in parts if part != "__init__")))] = path.read_text()
    return found


class Lean:
    """All modules of the firmware, by dotted name."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = dict(sources)
        self._trees = {name: ast.parse(text) for name, text in sources.items()}
        self._kept = {name for tree in self._trees.values() for name in _must_stay(tree)}
        self._constants: dict[str, dict[str, int]] = {}
        for name in sources:
            self._find(name)

    def text(self, module: str) -> str:
        """The source of `module`, lean, with as many lines as before."""
        lines = self._sources[module].split("\n")
        for first, start, last, end, new in sorted(self._edits(module), reverse=True):
            head, tail = lines[first - 1].encode()[:start].decode(), lines[last - 1].encode()[end:].decode()
            lines[first - 1 : last] = [head + new, *[""] * (last - first)]
            lines[last - 1] += tail
        return "\n".join(lines).replace(f"\nif {_FOR_MYPY}:\n", "\nif False:\n")

    def outside(self, text: str) -> str:
        """The source of a module that is no part of the firmware and imports from it, with the constants put in."""
        name = "outside"
        self._sources[name], self._trees[name], self._constants[name] = text, ast.parse(text), {}
        return self.text(name)

    def _find(self, module: str) -> dict[str, int]:
        """The constants that a module defines: assigned once, at its top, an integer."""
        if module in self._constants:
            return self._constants[module]
        found = self._constants[module] = {}
        known, times = self._imported(module), _assigned(self._trees[module])
        for node in self._trees[module].body:
            name = _target(node)
            if name is not None and times[name] == 1 and name not in self._kept and isinstance(node, ast.Assign):
                value = self._value(node.value, {**known, **found}, module)
                if value is not None:
                    found[name] = value
        return found

    def _imported(self, module: str) -> dict[str, int]:
        """Constants of other modules by their names here."""
        known: dict[str, int] = {}
        for node in ast.walk(self._trees[module]):
            if isinstance(node, ast.ImportFrom) and node.module in self._trees:
                constants = self._find(node.module)
                known |= {one.name: constants[one.name] for one in node.names if one.name in constants}
        return known

    def _of(self, module: str, local: str) -> Mapping[str, int]:
        """The constants of the module that is called `local` in `module`."""
        for node in ast.walk(self._trees[module]):
            if isinstance(node, ast.ImportFrom):
                for one in node.names:
                    if (one.asname or one.name) == local and f"{node.module}.{one.name}" in self._trees:
                        return self._find(f"{node.module}.{one.name}")
        return {}

    def _value(self, node: ast.expr, known: Mapping[str, int], module: str) -> int | None:
        if isinstance(node, ast.Constant):
            return node.value if type(node.value) is int else None
        if isinstance(node, ast.Name):
            return known.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return self._of(module, node.value.id).get(node.attr)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._value(node.operand, known, module)
            return None if value is None else -value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = self._value(node.left, known, module), self._value(node.right, known, module)
            return None if left is None or right is None else _OPERATORS[type(node.op)](left, right)
        return None

    def _edits(self, module: str) -> Iterator[tuple[int, int, int, int, str]]:
        """(first line, column in bytes, last line, column, what stands there instead)."""
        tree, known = self._trees[module], self._imported(module) | self._constants[module]
        todo: list[ast.AST] = [tree]
        while todo:
            node = todo.pop()
            new = self._instead(node, module, known)
            if new is None:
                todo += ast.iter_child_nodes(node)
            elif isinstance(node, ast.expr | ast.stmt):
                yield node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0, new

    def _instead(self, node: ast.AST, module: str, known: Mapping[str, int]) -> str | None:
        if isinstance(node, ast.Assign) and _target(node) in self._constants[module]:
            return ""
        if isinstance(node, ast.ImportFrom) and node.module in self._trees:
            left = [one for one in node.names if one.asname or one.name not in known]
            if len(left) == len(node.names):
                return None
            names = ", ".join(one.name + (f" as {one.asname}" if one.asname else "") for one in left)
            return f"from {node.module} import {names}" if left else "pass"
        value = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            value = known.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            value = self._of(module, node.value.id).get(node.attr)
        return None if value is None else f"({value})"


def _must_stay(tree: ast.Module) -> Iterator[str]:
    """Names that a module uses in a way that does not let a number stand in their place."""
    times = _assigned(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (one.name for one in node.names if one.asname is not None or times[one.name])
        elif isinstance(node, ast.JoinedStr):
            # Where a name within an f-string stands is not told exactly before Python 3.12.
            for part in ast.walk(node):
                if isinstance(part, ast.Name | ast.Attribute):
                    yield part.id if isinstance(part, ast.Name) else part.attr


def _assigned(tree: ast.Module) -> Counter[str]:
    """How often each name is bound, anywhere in the module, other than by an import."""
    names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
    return Counter(names + [n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)])


def _target(node: ast.AST) -> str | None:
    """The constant that a statement gives a value."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        name = node.targets[0].id
        return name if _CONSTANT.match(name) and name != _FOR_MYPY else None
    return None
