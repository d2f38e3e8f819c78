"""What one submission to the store holds, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from brim_gateway.model import Reading

if TYPE_CHECKING:
    from brim_gateway.network.device import DeviceRow


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What an authenticated device sent and no decoder reads. ``payload`` is cut to 1,024 bytes."""

    dev: str
    source: str
    received_us: int
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """Written whole or not at all."""

    readings: tuple[Reading, ...] = ()
    devices: tuple[DeviceRow, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()


@dataclass(slots=True)
class Committed:
    """What the commit made of it: ``new`` says for each reading, in order, whether it was not there before."""

    new: list[bool] = field(default_factory=list)
