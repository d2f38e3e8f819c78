"""Between a bin's radio, which lives in the bin's own time, and the ether, which all bins share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from brim_tools.virtual.ether import Ether, Listener, Transmission
from brim_tools.virtual.world import World

# From an uplink to the end of RX2 of a join (6 s) and a little more, a paced bin keeps to real time.
_AIR_TAIL_US = 7_000_000


class Aerial:
    """The `Antenna` of a radio model. `now_us` is the bin's own time; `changed` is called when the air has moved."""

    def __init__(
        self, world: World, ether: Ether | None, now_us: Callable[[], int], changed: Callable[[], None]
    ) -> None:
        self._world, self._ether = world, ether
        self.now_us = now_us
        self._changed = changed
        self._offset_us = 0  # ether time less the bin's time
        self._until_us = -1

    def on_air(self) -> bool:
        """Whether the bin must keep pace with the ether now."""
        return self.now_us() <= self._until_us

    def leave_air(self) -> None:
        self._until_us = -1

    def ether_us(self, model_us: int) -> int:
        return model_us + self._offset_us

    def model_us(self, ether_us: int) -> int:
        return ether_us - self._offset_us

    def transmit(self, transmission: Transmission) -> None:
        if self._world.paced:
            # Computing and measuring took no wall time: the uplink goes on the air now, and stays in real time.
            self._offset_us = self._world.now_us - transmission.start_us
        self._until_us = transmission.end_us + _AIR_TAIL_US
        if self._ether is not None:
            start_us, end_us = self.ether_us(transmission.start_us), self.ether_us(transmission.end_us)
            self._ether.transmit(replace(transmission, start_us=start_us, end_us=end_us))

    def listen(self, listener: Listener) -> None:
        listener.open_us = self.ether_us(listener.open_us)
        listener.lock_by_us = self.ether_us(listener.lock_by_us)
        deliver = listener.received

        def received(transmission: Transmission, rssi_dbm: float, snr_db: float) -> None:
            deliver(transmission, rssi_dbm, snr_db)
            self._changed()

        listener.received = received
        if self._ether is not None:
            self._ether.listen(listener)

    def stop_listening(self, listener: Listener) -> None:
        if self._ether is not None:
            self._ether.stop_listening(listener)

    def alarm(self, at_us: int, callback: Callable[[], None]) -> None:
        """Call back at the bin's time `at_us`."""

        def fire() -> None:
            callback()
            self._changed()

        self._world.at(self.ether_us(at_us), fire)
