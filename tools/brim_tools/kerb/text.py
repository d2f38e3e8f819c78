"""Text and values from a bin, made harmless before they reach a terminal, a log or another program."""

from typing import Any

MAX_TEXT = 120
MAX_ITEMS = 40


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Printable characters only ("?" for the rest), at most `limit` of them."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:limit])
    return shown if len(text) <= limit else shown[:-1] + "…"


def clean_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The same for an answer: numbers, booleans and None stay, everything else becomes clean text."""
    cleaned: dict[str, Any] = {}
    for name, value in list(fields.items())[:MAX_ITEMS]:
        plain = value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63)
        cleaned[clean(name, 40)] = value if plain else clean(str(value))
    return cleaned
