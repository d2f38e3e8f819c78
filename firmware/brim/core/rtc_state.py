"""What outlives deep sleep: packed into RTC memory with magic, version, length and CRC-32; anything else is garbage."""

import binascii
import struct

from brim.core.settings import defaults, pack, unpack
from brim.wire.reading import STATUSES

MAGIC = 0x4272
VERSION = 2
HEAD = ">HBH"
HEAD_BYTES = 5
CRC_BYTES = 4
# epoch seq | clock base, link state taken at | last status, has distance, distance, events, at | dropped | retry
# | flash generation, skip, count, held | wakes
BODY = ">HHIIBBHHIHBBHHII"
BODY_BYTES = struct.calcsize(BODY)
MAX_BYTES = 2048
MAX_LINK_BYTES = 300
NO_STATUS = 0xFF


class Last:
    """What the last reading said; status None before the first reading of a boot."""

    __slots__ = ("at_s", "distance_mm", "events", "status")

    def __init__(
        self, status: "str | None" = None, distance_mm: "int | None" = None, events: int = 0, at_s: int = 0
    ) -> None:
        self.status = status
        self.distance_mm = distance_mm
        self.events = events
        self.at_s = at_s


# level before near same same_mm jumps jump_mm lowest looks celsius
MEMORY = ">HHBBHBHHBb"
MEMORY_BYTES = struct.calcsize(MEMORY)
NO_C = -128


class Memory:
    """What the judging of distances remembers (core.history, core.events). `level_mm`: the distance believed, 0 for
    none yet; `before_mm`: the one before it. `near`, `same` and `jumps` count what was seen in a row. `lowest`: the
    least fill since the last emptying, permille. `looks`: quick looks in a row. `unsure`: look again
    soon; of this wake only."""

    __slots__ = (
        "before_mm",
        "celsius",
        "jump_mm",
        "jumps",
        "level_mm",
        "looks",
        "lowest",
        "near",
        "same",
        "same_mm",
        "unsure",
    )

    def __init__(self) -> None:
        self.unsure = False
        self.unpack(bytes(MEMORY_BYTES - 1) + b"\x80")

    def pack(self) -> bytes:
        """MEMORY_BYTES."""
        celsius = NO_C if self.celsius is None else max(-127, min(127, self.celsius))
        return struct.pack(
            MEMORY,
            self.level_mm,
            self.before_mm,
            self.near,
            self.same,
            self.same_mm,
            self.jumps,
            self.jump_mm,
            self.lowest,
            self.looks,
            celsius,
        )

    def unpack(self, data: bytes) -> None:
        """The inverse of `pack`."""
        values = struct.unpack(MEMORY, data)
        self.level_mm, self.before_mm, self.near, self.same = values[:4]
        self.same_mm, self.jumps, self.jump_mm, self.lowest, self.looks = values[4:9]
        self.celsius = None if values[9] == NO_C else values[9]


class RtcState:
    """`fresh`: nothing usable was found. `base_s` is added to the clock, so that time never runs backwards over a boot.
    `retry`: something waits to be sent even if nothing new comes. `ring` and the flash_ fields belong to the outbox,
    `link` to the link, which left it at `link_at_s`."""

    def __init__(self) -> None:
        self.fresh = True
        self.epoch = 0
        self.seq = 0
        self.base_s = 0
        self.link_at_s = 0
        self.last = Last()
        self.memory = Memory()
        self.dropped = 0
        self.retry = False
        self.flash_generation = 0
        self.flash_skip = 0
        self.flash_count = 0
        self.flash_held = 0
        self.wakes = 0
        self.settings = defaults()
        self.link = b""
        self.ring = b""
        # Made while there is room: beside the code of a link the heap has no whole kilobyte left.
        self._packed = bytearray(MAX_BYTES)

    def pack(self) -> memoryview:
        """The bytes for RTC memory, good until the next call. A link state that is too long is left out: the link
        then starts from its store."""
        last = self.last
        link = self.link if len(self.link) <= MAX_LINK_BYTES else b""
        packed = memoryview(self._packed)
        struct.pack_into(
            BODY,
            packed,
            HEAD_BYTES,
            self.epoch,
            self.seq,
            self.base_s,
            self.link_at_s & 0xFFFFFFFF,
            NO_STATUS if last.status is None else STATUSES.index(last.status),
            0 if last.distance_mm is None else 1,
            last.distance_mm or 0,
            last.events,
            last.at_s & 0xFFFFFFFF,
            min(self.dropped, 0xFFFF),
            1 if self.retry else 0,
            self.flash_generation,
            self.flash_skip,
            self.flash_count,
            self.flash_held,
            self.wakes & 0xFFFFFFFF,
        )
        end = HEAD_BYTES + BODY_BYTES
        for part in (pack(self.settings), self.memory.pack(), link, self.ring):
            struct.pack_into(">H", packed, end, len(part))
            packed[end + 2 : end + 2 + len(part)] = part
            end += 2 + len(part)
        struct.pack_into(HEAD, packed, 0, MAGIC, VERSION, end - HEAD_BYTES)
        struct.pack_into(">I", packed, end, binascii.crc32(packed[:end]) & 0xFFFFFFFF)
        return packed[: end + CRC_BYTES]


def _parts(data: bytes, at: int) -> "list[bytes]":
    parts = []
    for _ in range(4):
        if at + 2 > len(data):
            return []
        size = struct.unpack_from(">H", data, at)[0]
        at += 2
        parts.append(data[at : at + size])
        at += size
    return parts if at == len(data) else []


def load(data: bytes) -> RtcState:
    """The state in RTC memory, or a fresh one; never raises."""
    state = RtcState()
    data = bytes(data)
    if not HEAD_BYTES + BODY_BYTES + CRC_BYTES <= len(data) <= MAX_BYTES:
        return state
    magic, version, length = struct.unpack_from(HEAD, data, 0)
    end = HEAD_BYTES + length
    if magic != MAGIC or version != VERSION or length < BODY_BYTES or end + CRC_BYTES > len(data):
        return state
    if struct.unpack_from(">I", data, end)[0] != binascii.crc32(data[:end]) & 0xFFFFFFFF:
        return state
    body = struct.unpack_from(BODY, data, HEAD_BYTES)
    parts = _parts(data[:end], HEAD_BYTES + BODY_BYTES)
    settings = unpack(parts[0]) if parts else None
    if settings is None or len(parts[1]) != MEMORY_BYTES or (body[4] != NO_STATUS and body[4] >= len(STATUSES)):
        return state
    state.epoch, state.seq, state.base_s, state.link_at_s = body[:4]
    if body[4] != NO_STATUS:
        state.last = Last(STATUSES[body[4]], body[6] if body[5] else None, body[7], body[8])
    state.dropped = body[9]
    state.retry = bool(body[10])
    state.flash_generation, state.flash_skip, state.flash_count, state.flash_held, state.wakes = body[11:]
    state.memory.unpack(parts[1])
    state.settings, state.link, state.ring = settings, parts[2], parts[3]
    state.fresh = False
    return state
