"""Walks config_table over a TOML document: every value read, every mistake noted with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brim_gateway.config_kinds import KINDS, Place, Wrong
from brim_gateway.config_table import REQUIRED, SECTIONS, TOP, Key, keys_of


@dataclass(slots=True)
class Problems:
    """Mistakes, each with the line where it stands. ``lines`` is line by dotted path (config_lines)."""

    path: Path
    lines: Mapping[str, int]
    found: list[tuple[int, str]] = field(default_factory=list)

    def note(self, prefix: str, key: str, text: str) -> None:
        """``prefix`` names the table ("", "udp.", "output[1]."); ``key`` may be empty for the table itself."""
        line = self.lines.get(prefix + key) or self.lines.get(prefix.rstrip("."), 1)
        name = (prefix + key).rstrip(".")
        self.found.append((line, f"{self.path}:{line}: {name}: {text}"))

    def texts(self) -> list[str]:
        """In the order of the file."""
        return [text for _, text in sorted(self.found)]


class Table:
    """One table of the file: ``values`` by key name, the default where the file says nothing or something wrong."""

    def __init__(self, raw: Any, prefix: str, keys: Iterable[Key], problems: Problems, place: Place) -> None:
        self.prefix = prefix
        self.said: frozenset[str] = frozenset(raw) if isinstance(raw, dict) else frozenset()
        self.bad: set[str] = set()
        self.values: dict[str, Any] = {}
        self._problems = problems
        if not isinstance(raw, dict):
            self.problem("", "must be a table")
        for key in keys:
            self.values[key.name] = self._value(key, raw if isinstance(raw, dict) else {}, place)

    def problem(self, key: str, text: str) -> None:
        self.bad.add(key)
        self._problems.note(self.prefix, key, text)

    def _value(self, key: Key, raw: Mapping[str, Any], place: Place) -> Any:
        given = raw.get(key.name)
        if given is None:
            if key.default is REQUIRED:
                self.problem(key.name, "is missing")
                return None
            given = key.default
            if given is None:
                return None
        try:
            return KINDS[key.kind].read(given, key.bounds, place)
        except Wrong as exc:
            self.problem(key.name, str(exc))
            return None if key.default in (None, REQUIRED) else KINDS[key.kind].read(key.default, key.bounds, place)


def read(raw: Mapping[str, Any], problems: Problems, place: Place) -> dict[str, list[Table]]:
    """The tables of a document by section, those that are there. Problems are noted, never raised."""
    tables: dict[str, list[Table]] = {TOP: [Table(raw, "", keys_of(TOP), problems, place)]}
    _refuse_unknown(raw, "", [section.name for section in SECTIONS if section.name] + _names(TOP), problems)
    for section in SECTIONS[1:]:
        found = tables[section.name] = []
        if section.name not in raw:
            continue
        inner = raw[section.name]
        if section.many and not isinstance(inner, list):
            problems.note("", section.name, f"write [[{section.name}]], with two brackets")
            continue
        for index, one in enumerate(inner if section.many else [inner]):
            prefix = f"{section.name}[{index}]." if section.many else f"{section.name}."
            found.append(Table(one, prefix, keys_of(section.name), problems, place))
            if isinstance(one, dict):
                _refuse_unknown(one, prefix, _names(section.name), problems)
    return tables


def _names(section: str) -> list[str]:
    return [key.name for key in keys_of(section)]


def _refuse_unknown(raw: Mapping[str, Any], prefix: str, known: list[str], problems: Problems) -> None:
    """A key that nobody asked for is a typing error somebody would search for long."""
    for name in raw:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, 1)
        elsewhere = [section.name for section in SECTIONS for key in keys_of(section.name) if key.name == name]
        if near:
            hint = f"did you mean {near[0]}?"
        elif elsewhere:
            hint = "it belongs " + " or ".join(f"under [{where}]" if where else "at the top" for where in elsewhere)
        else:
            hint = f"known here: {', '.join(sorted(known))}"
        problems.note(prefix, name, f"unknown; {hint}")
