"""Seeded frames for the codec tests: fields at random, with the edges of every one of them well represented."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from brim.lorawan import frames
from brim_gateway.network.session import EcbCipher

EDGES = (0, 1, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
M_TYPES = {
    frames.DATA_UP: "UnconfirmedDataUp",
    frames.DATA_DOWN: "UnconfirmedDataDown",
    frames.CONFIRMED_UP: "ConfirmedDataUp",
    frames.CONFIRMED_DOWN: "ConfirmedDataDown",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One data frame. ``dev_addr`` most significant byte first; ``f_port`` None: absent."""

    m_type: int
    nwk_s_key: bytes
    app_s_key: bytes
    dev_addr: bytes
    f_ctrl: int
    f_cnt: int
    f_opts: bytes
    f_port: int | None
    payload: bytes

    def ours(self) -> bytes:
        """The frame as Brim writes it."""
        return frames.build_data(
            self.m_type,
            EcbCipher(self.nwk_s_key),
            EcbCipher(self.app_s_key),
            self.dev_addr[::-1],
            self.f_ctrl,
            self.f_cnt,
            self.f_opts,
            self.f_port,
            self.payload,
        )

    def keys(self) -> dict[str, Any]:
        """For explain and for lora_packet.mjs."""
        return {"nwk_s_key": self.nwk_s_key.hex(), "app_s_key": self.app_s_key.hex(), "f_cnt": self.f_cnt}


def data_cases(count: int, seed: int) -> list[Case]:
    """The same seed, the same frames."""
    source = random.Random(seed)
    return [_case(source) for _ in range(count)]


def _case(source: random.Random) -> Case:
    m_type = source.choice(list(M_TYPES))
    f_port = source.choice((None, 0, 1, 223, source.randrange(1, 224)))
    length = 0 if f_port is None else source.choice((0, 1, 15, 16, 17, 51, source.randrange(223)))
    f_opts = b"" if f_port == 0 else source.randbytes(source.choice((0, 0, 1, 15, source.randrange(16))))
    flags = (frames.ADR, frames.ACK, *((frames.F_PENDING,) if m_type & 1 else (frames.ADR_ACK_REQ,)))
    return Case(
        m_type,
        source.randbytes(16),
        source.randbytes(16),
        source.randbytes(4),
        sum(flag for flag in flags if source.random() < 0.5),
        source.choice((*EDGES, source.randrange(1 << 32))),
        f_opts,
        f_port,
        source.randbytes(length),
    )
