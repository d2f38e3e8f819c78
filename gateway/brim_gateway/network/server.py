"""The network server: receptions in, readings and downlinks out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from brim_gateway.network.device import DeviceRow
from brim_gateway.network.reception import Downlink, Reception, UplinkResult


class NetworkServer:
    """LoRaWAN 1.0.4 for the devices of one site. All times are UTC microseconds given by the caller."""

    def __init__(
        self,
        devices: Iterable[DeviceRow] = (),
        *,
        random_bytes: Callable[[int], bytes],
        net_id: int = 0,
        trust_concentrator_clock: bool = False,
    ) -> None: ...

    def put_device(self, row: DeviceRow) -> None:
        """Add or replace a device."""

    def remove_device(self, dev: str) -> None:
        """Forget a device; unknown ones are fine."""

    def device(self, dev: str) -> DeviceRow | None:
        """The row as it stands now."""
        raise NotImplementedError

    def on_pull(self, gateway: str, now_us: int) -> None:
        """A PULL_DATA came: this concentrator can be sent downlinks for the next 90 s."""

    def on_uplink(self, reception: Reception, now_us: int) -> UplinkResult:
        """Verify, de-duplicate, decrypt. Never raises, whatever the bytes."""
        raise NotImplementedError

    def queue(self, dev: str, f_port: int, payload: bytes, now_us: int, expires_us: int) -> bool:
        """Keep a payload for the next uplink of `dev`. False: unknown device, too long, or the queue is full."""
        raise NotImplementedError

    def answer(self, dev: str, now_us: int) -> Downlink | None:
        """What is due to `dev` after its last uplink, or None. Call it once the copy window (200 ms) is over."""
        raise NotImplementedError

    def on_tx_ack(self, downlink: Downlink, error: str | None, now_us: int) -> Downlink | None:
        """The forwarder's verdict; a refused RX1 gives the same frame for RX2."""
        raise NotImplementedError
