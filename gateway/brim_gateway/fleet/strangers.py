"""Devices that were heard and are not registered: what an operator may adopt. Bounded; kept in memory only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from brim_gateway.model import clean_text, iso_utc

MOST = 256
Kind = Literal["dev", "dev_addr"]


@dataclass(slots=True)
class _Stranger:
    kind: Kind
    claim: str
    link: str
    first_us: int
    last_us: int
    count: int
    via: str
    why: str


class Strangers:
    """Nothing here is verified: a claim is what a frame or a user name says. ``clock_us`` is UTC."""

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._known: dict[tuple[Kind, str], _Stranger] = {}

    def note(self, kind: Kind, claim: str, *, link: str, via: str, why: str) -> None:
        """``claim``: 16 hex digits of a device (``dev``) or 8 of a LoRaWAN address (``dev_addr``); ``via``: the
        concentrator or network address that it came by. Texts from outside are made harmless here."""
        now_us = self._clock_us()
        claim = clean_text(claim, 32)
        found = self._known.get((kind, claim))
        if found is None:
            if len(self._known) >= MOST:
                self._make_room()
            found = self._known[kind, claim] = _Stranger(kind, claim, link, now_us, now_us, 0, "", "")
        found.last_us = now_us
        found.count += 1
        found.via, found.why, found.link = clean_text(via, 64), clean_text(why, 64), link

    def listing(self) -> list[dict[str, Any]]:
        """JSON-ready, the latest first."""
        return [
            {
                one.kind: one.claim,
                "link": one.link,
                "first": iso_utc(one.first_us),
                "last": iso_utc(one.last_us),
                "count": one.count,
                "via": one.via,
                "why": one.why,
            }
            for one in sorted(self._known.values(), key=lambda one: one.last_us, reverse=True)
        ]

    def forget(self, dev: str) -> None:
        """It was registered, or nobody wants to see it again until it is heard next. Unknown ones are fine."""
        self._known.pop(("dev", dev), None)
        self._known.pop(("dev_addr", dev), None)

    def _make_room(self) -> None:
        """A device that keeps asking outlives a flood of invented names: the rarest goes, of those the oldest."""
        rarest = min(self._known, key=lambda key: (self._known[key].count, self._known[key].last_us))
        del self._known[rarest]
