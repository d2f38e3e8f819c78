"""What each concentrator is about to send: it has one transmitter, and its forwarder refuses what collides."""

from __future__ import annotations

# The forwarder wants 30 ms before a transmission and some margin around it (packet_forwarder, jitqueue.c).
GUARD_US = 35_000
_TICKS = 1 << 32
_HALF = 1 << 31


class Agenda:
    """Bookings in the concentrator's own 32-bit microseconds."""

    def __init__(self) -> None:
        # gateway: {key: (start, end, over at)}; the last in the server's time, to be forgotten by.
        self._booked: dict[str, dict[int, tuple[int, int, int]]] = {}
        self._next = 1

    def free(self, gateway: str, tmst_us: int, airtime_us: int, now_us: int) -> bool:
        """Can a transmission begin at `tmst_us`?"""
        booked = self._booked.get(gateway)
        if not booked:
            return True
        for key in [key for key, (_, _, over_us) in booked.items() if over_us < now_us]:
            del booked[key]
        for start_us, length_us, _ in booked.values():
            # How long after the booked one this one begins, the short way round.
            after_us = (tmst_us - start_us + _HALF) % _TICKS - _HALF
            if -airtime_us - GUARD_US < after_us < length_us + GUARD_US:
                return False
        return True

    def book(self, gateway: str, tmst_us: int, airtime_us: int, over_us: int) -> int:
        """Returns a key for `cancel`."""
        key = self._next
        self._next += 1
        self._booked.setdefault(gateway, {})[key] = (tmst_us, airtime_us, over_us)
        return key

    def clock_stepped(self, by_us: int) -> None:
        """The server's clock was set."""
        for booked in self._booked.values():
            for key, (start_us, length_us, over_us) in booked.items():
                booked[key] = (start_us, length_us, over_us + by_us)

    def cancel(self, gateway: str, key: int) -> None:
        """Give the time back; what is over already is fine."""
        self._booked.get(gateway, {}).pop(key, None)
