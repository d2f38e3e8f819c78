"""The table of truth for others to read: JSON Schema for editors and tools, a table for the README. Pure."""

from __future__ import annotations

from typing import Any

from brim_gateway.config_kinds import KINDS
from brim_gateway.config_table import KEYS, REQUIRED, SECTIONS, TOP, Key, keys_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the configuration. What one key says about another is not in it: `check` knows."""
    whole: dict[str, Any] = {"$schema": DRAFT, "$id": "urn:brim:schema:gateway-config-1", "title": "Brim gateway"}
    whole |= _object(TOP)
    for section in SECTIONS[1:]:
        inner = _object(section.name) | {"description": section.meaning}
        whole["properties"][section.name] = {"type": "array", "items": inner} if section.many else inner
    return whole


def _object(section: str) -> dict[str, Any]:
    keys = keys_of(section)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [key.name for key in keys if key.default is REQUIRED],
        "properties": {key.name: _property(key) for key in keys},
    }


def _property(key: Key) -> dict[str, Any]:
    made = KINDS[key.kind].schema(key.bounds) | {"description": key.meaning.replace("`", "")}
    return made if key.default in (None, REQUIRED) else made | {"default": key.default}


def markdown() -> str:
    """The README's table of keys."""
    rows = ["| key | default | may be | means |", "|---|---|---|---|"]
    for key in KEYS:
        many = {section.name: section.many for section in SECTIONS}[key.section]
        where = "" if key.section == TOP else f"[[{key.section}]] " if many else f"[{key.section}] "
        rows.append(f"| `{where}{key.name}` | {_default(key)} | {_bounds(key)} | {key.meaning} |")
    return "\n".join(rows) + "\n"


def _default(key: Key) -> str:
    if key.default is REQUIRED:
        return "required"
    if key.default is None or key.default == []:
        return "-"
    return str(key.default).lower() if isinstance(key.default, bool) else f"`{key.default}`"


def _bounds(key: Key) -> str:
    if key.kind == "number":
        return f"{key.bounds[0]} to {key.bounds[1]}"
    if key.kind == "choice":
        return ", ".join(f"`{one}`" for one in key.bounds)
    return "true, false" if key.kind == "flag" else key.kind
