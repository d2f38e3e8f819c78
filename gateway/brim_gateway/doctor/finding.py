"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from brim_gateway.model import clean_text


@dataclass(frozen=True, slots=True)
class Finding:
    """``verdict``: "ok", "note" (worth knowing, nothing to do now) or "mend"; ``do`` says what to do about it."""

    verdict: str
    what: str
    text: str
    do: str = ""

    def line(self) -> str:
        """``verdict  what: text -> do``."""
        return f"{self.verdict:5} {self.what}: {self.text}" + (f" -> {self.do}" if self.do else "")

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def ok(what: str, text: str) -> Finding:
    return Finding("ok", what, clean_text(text, 400))


def note(what: str, text: str, do: str = "") -> Finding:
    return Finding("note", what, clean_text(text, 400), clean_text(do, 400))


def mend(what: str, text: str, do: str) -> Finding:
    return Finding("mend", what, clean_text(text, 400), clean_text(do, 400))
