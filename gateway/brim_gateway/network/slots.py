"""Uplinks that may still be answered."""

from __future__ import annotations

from collections import deque

from brim_gateway.network.dedup import FORGET_US, REPEATS_US, Slot


class Slots:
    """By their bytes, as long as copies come; and the last of each device, as long as it may repeat it."""

    def __init__(self) -> None:
        self._by_dev: dict[str, Slot] = {}
        self._by_phy: dict[bytes, Slot] = {}
        self._ages: deque[Slot] = deque()

    def add(self, slot: Slot) -> Slot:
        """A new uplink: what came before it from the same device can no longer be answered."""
        self._by_dev[slot.dev] = self._by_phy[slot.phy] = slot
        self._ages.append(slot)
        return slot

    def of(self, dev: str, now_us: int) -> Slot | None:
        """The last uplink of a device that may still be repeated."""
        slot = self._by_dev.get(dev)
        return slot if slot is not None and 0 <= now_us - slot.heard_us < REPEATS_US else None

    def with_phy(self, phy: bytes) -> Slot | None:
        """The last uplink of these bytes."""
        return self._by_phy.get(phy)

    def drop(self, dev: str) -> None:
        """Forget all uplinks of a device."""
        self._by_dev.pop(dev, None)
        self._by_phy = {phy: slot for phy, slot in self._by_phy.items() if slot.dev != dev}

    def clock_stepped(self, by_us: int) -> None:
        """The clock by which these were heard was set."""
        for slot in {id(slot): slot for slot in (*self._ages, *self._by_dev.values())}.values():
            slot.heard_us += by_us

    def forget(self, now_us: int) -> None:
        """What no copy comes of any more."""
        ages = self._ages
        while ages and not 0 <= now_us - ages[0].heard_us < FORGET_US:
            old = ages.popleft()
            if self._by_phy.get(old.phy) is old:
                del self._by_phy[old.phy]
