"""The account of a demo: what the bins measured, what the city holds, every counter seen on the air. Pure."""

from __future__ import annotations

from typing import Any

from brim_tools.virtual.ether import Transmission

_JOIN_REQUEST = 0x00
_DATA_TYPES = (0x40, 0x60, 0x80, 0xA0)  # un/confirmed, up/down (LoRaWAN 1.0.4, section 4.2.1)


# (bin, status, distance in mm or None): what a reading says, at either end
Says = tuple[str, str, int | None]


class Account:
    """`measured` comes from the bins' own log lines, `delivered` from the city's subscription: two ends, no middle."""

    def __init__(self) -> None:
        self.measured: dict[str, Says] = {}
        self.delivered: dict[str, Says] = {}
        self.messages = 0
        self.contradicted = 0
        self.joins = 0

    def line(self, bin_name: str, dev: str, line: str) -> str | None:
        """Take in a line that a bin printed; the uid of a reading it tells of."""
        words = line.split()
        if words[:1] == ["reading"] and len(words) >= 4:
            uid = f"{dev}:{words[1]}"
            self.measured[uid] = (bin_name, words[2], None if words[3] == "-" else int(words[3]))
            return uid
        if words[:2] == ["join", "ok"]:
            self.joins += 1
        return None

    def message(self, topic: str, payload: dict[str, Any]) -> str | None:
        """Take in a message of the city's broker; the uid if it is a reading that was not there before."""
        if not topic.endswith("/reading"):
            return None
        uid = str(payload.get("uid"))
        says = (str(payload.get("bin")), str(payload.get("status")), payload.get("distance_mm"))
        self.messages += 1
        if uid in self.delivered:
            self.contradicted += self.delivered[uid] != says
            return None
        self.delivered[uid] = says
        return uid

    def missing(self, bin_name: str | None = None) -> set[str]:
        """Readings that were measured and that the city does not hold (of one bin, or of all)."""
        return {u for u, says in self.measured.items() if u not in self.delivered and bin_name in (None, says[0])}

    @property
    def repeats(self) -> int:
        """Messages beyond the first with the same uid: the city sees them and drops them."""
        return self.messages - len(self.delivered)

    @property
    def duplicated(self) -> int:
        """After the uid: readings that came under a second name (no bin measured it), or twice with other content."""
        return len(self.delivered.keys() - self.measured.keys()) + self.contradicted

    @property
    def altered(self) -> int:
        """Readings that the city holds with another bin, status or distance than the bin itself told."""
        return sum(self.delivered.get(uid, says) != says for uid, says in self.measured.items())


class CounterWatch:
    """Listens on the air for a DevNonce or a frame counter that is used for two different frames."""

    def __init__(self) -> None:
        self.reused = 0
        self._seen: dict[tuple[Any, ...], bytes] = {}

    def on_transmission(self, transmission: Transmission) -> None:
        phy = transmission.payload
        if len(phy) < 12:
            return
        kind = phy[0] & 0xE0
        if kind == _JOIN_REQUEST and not transmission.iq_inverted:
            # DevEUI and DevNonce; a second frame with them is a reuse even if it is the same frame.
            key: tuple[Any, ...] = ("nonce", phy[9:17], phy[17:19])
            self.reused += key in self._seen
            self._seen[key] = phy
        elif kind in _DATA_TYPES:
            # DevAddr is new with every join; NbTrans and a refused RX1 repeat the same bytes, which is no reuse.
            key = ("data", kind in (0x60, 0xA0), phy[1:5], phy[6:8])
            self.reused += self._seen.setdefault(key, phy) != phy
