"""Where a key stands in a TOML file: `tomllib` does not say, and an error without its line helps nobody. Pure."""

from __future__ import annotations

import re

_TABLE = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+|\"[^\"]*\")\s*(?:\.\s*[A-Za-z0-9_.-]+\s*)?=")


def line_numbers(text: str) -> dict[str, int]:
    """Line (from 1) by dotted path: ``udp.listen``, ``output[1].url``, and the tables themselves."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        table = _TABLE.match(line)
        if table:
            name = table[2].strip("\"' ")
            if table[1] == "[[":
                index = counts.get(name, 0)
                counts[name] = index + 1
                name = f"{name}[{index}]"
            prefix = name + "."
            lines.setdefault(name, number)
            continue
        key = _KEY.match(line)
        if key:
            lines.setdefault(prefix + key[1].strip('"'), number)
    return lines
