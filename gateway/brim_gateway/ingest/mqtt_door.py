"""Who may come in next. Pure: knows guests and counts, no sockets and no time.

A guest waits, then has a place; first it is in its TLS handshake, then it shows who it is, then it is proven. Places
and handshakes are few, so a source address that has proven nothing gets only a part of them: all bins may come from one
address, and so may a flood. Sources take turns. Waiting costs a file descriptor and nothing else.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

WAITING_MOST = 512
UNPROVEN_MOST = 16
"""Of one source at a time: more than one password thread and eight handshakes can serve within a second."""


@dataclass(eq=False, slots=True)
class Guest:
    """One connection. ``source``: the address that it shares limits with."""

    source: str
    shaking: bool = True
    proven: bool = False


G = TypeVar("G", bound=Guest)


def source_of(address: str) -> str:
    """The address itself; of IPv6 the /64, which is one household or one host."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


class Door(Generic[G]):
    """``arrive``, then ``next`` until None; ``shaken``, ``prove`` and ``leave`` as a guest goes on."""

    def __init__(self, places: int, handshakes: int) -> None:
        self._places = places
        self._handshakes = handshakes
        # A quarter of each is out of one source's reach, so that another one always finds room.
        self._handshakes_each = handshakes - handshakes // 4
        self._unproven_each = min(UNPROVEN_MOST, places - places // 4)
        self._waiting: dict[str, deque[G]] = {}
        self._inside: set[G] = set()
        self._shaking: Counter[str] = Counter()
        self._unproven: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Guests without a place."""
        return sum(map(len, self._waiting.values()))

    def arrive(self, guest: G) -> G | None:
        """Let ``guest`` wait. Where too many wait, the answer is who must go: the last of the most crowded source."""
        self._waiting.setdefault(guest.source, deque()).append(guest)
        if self.waiting <= WAITING_MOST:
            return None
        crowded = max(self._waiting, key=lambda source: len(self._waiting[source]))
        last = self._waiting[crowded].pop()
        if not self._waiting[crowded]:
            del self._waiting[crowded]
        return last

    def next(self) -> G | None:
        """The guest that now has a place and a handshake, or None; its source is the last to have another turn."""
        if len(self._inside) >= self._places or self._shaking.total() >= self._handshakes:
            return None
        for source, guests in self._waiting.items():
            if self._shaking[source] < self._handshakes_each and self._unproven[source] < self._unproven_each:
                guest = guests.popleft()
                del self._waiting[source]
                if guests:
                    self._waiting[source] = guests
                self._inside.add(guest)
                self._shaking[source] += 1
                self._unproven[source] += 1
                return guest
        return None

    def send_home(self) -> list[G]:
        """Everybody who waits, and nobody waits any more."""
        guests = [guest for queue in self._waiting.values() for guest in queue]
        self._waiting.clear()
        return guests

    def shaken(self, guest: G) -> None:
        """Its handshake is over."""
        if guest.shaking and guest in self._inside:
            guest.shaking = False
            _less(self._shaking, guest.source)

    def prove(self, guest: G) -> None:
        """It has shown who it is and counts against its source no more."""
        self.shaken(guest)
        if not guest.proven and guest in self._inside:
            guest.proven = True
            _less(self._unproven, guest.source)

    def leave(self, guest: G) -> None:
        """It is gone, wherever it was. Twice is once."""
        self.prove(guest)
        self._inside.discard(guest)


def _less(counter: Counter[str], source: str) -> None:
    counter[source] -= 1
    if not counter[source]:
        del counter[source]
