"""What a concentrator heard, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from brim_gateway.network.device import DeviceRow


@dataclass(slots=True)
class Reception:
    """One LoRa frame as one concentrator heard it. `tmst_us`: its 32-bit counter; `time_us`: its UTC clock, if any."""

    phy: bytes
    freq_hz: int
    sf: int
    bw_hz: int
    rssi_dbm: float
    snr_db: float
    tmst_us: int
    gateway: str
    time_us: int | None = None


Kind = Literal["data", "join", "copy", "refused"]


@dataclass(slots=True)
class UplinkResult:
    """What one reception means.

    data: a new frame of `dev`; `payload` is decrypted; `f_port` None or 0 means that it carries no application data.
    join: a join-request was accepted; `answer` will give the accept. copy: the frame is already known (another
    concentrator, a repeat). refused: `reason` says why in a few fixed words, safe to log.

    `updates` must be committed, in the same transaction as the reading, before anything else is done with the result.
    `session` numbers the sessions of a device (0 where it was given at registration) and never decreases: with `f_cnt`,
    32 bit, it identifies a frame of a device whose counter is "strict". `volatile` says that the counter identifies
    nothing and the reading needs a journal number. `heard_us` is the time of the event by the clock that the server
    was told to trust, UTC microseconds. `answer_due` asks for a call of `answer(dev)` after the copy window.
    """

    kind: Kind
    dev: str | None = None
    reason: str | None = None
    session: int | None = None
    f_cnt: int | None = None
    f_port: int | None = None
    payload: bytes = b""
    reception: Reception | None = None
    updates: tuple[DeviceRow, ...] = ()
    volatile: bool = False
    confirmed: bool = False
    answer_due: bool = False
    heard_us: int = 0


@dataclass(frozen=True, slots=True)
class Downlink:
    """A frame for the packet forwarder of `gateway`. Commit `updates` before sending `txpk`; `key` is for TX_ACK."""

    dev: str
    gateway: str
    txpk: dict[str, Any] = field(repr=False)
    updates: tuple[DeviceRow, ...]
    key: int
    window: int = 1
    airtime_us: int = 0
    carries_payload: bool = False
