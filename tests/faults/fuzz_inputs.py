"""Inputs: what is valid, and a little wrong. All from one seeded random source."""

from __future__ import annotations

import random
from collections.abc import Sequence

_NUMBERS = (b"0", b"-1", b"1e400", b"18446744073709551616", b"9" * 400, b"NaN", b"null", b"true", b'""', b"[]", b"{}")


class Mutator:
    """``one()`` is one input made of ``seeds``: cut, doubled, spliced, with bits and bytes and words changed."""

    def __init__(self, source: random.Random, seeds: Sequence[bytes], words: Sequence[bytes] = (), most: int = 4096):
        self._random = source
        self._seeds = list(seeds)
        self._words = [*words, *_NUMBERS, b"\x00", b"\xff" * 4, b"\x80\x80\x80\x80\x01", b"\xf0\x9f\x98\x80", b"[" * 64]
        self._most = most
        self._ways = (self._bit, self._byte, self._cut, self._word, self._double, self._splice, self._drop)

    def one(self) -> bytes:
        source = self._random
        if source.random() < 0.02:
            return source.randbytes(source.randrange(64))
        data = bytearray(source.choice(self._seeds))
        for _ in range(1 + int(source.expovariate(0.7))):
            self._ways[int(source.random() * 7)](data)
        return bytes(data[: self._most])

    def _at(self, data: bytearray) -> int:
        return int(self._random.random() * (len(data) + 1))

    def _bit(self, data: bytearray) -> None:
        if data:
            data[self._at(data) % len(data)] ^= 1 << int(self._random.random() * 8)

    def _byte(self, data: bytearray) -> None:
        if data:
            data[self._at(data) % len(data)] = int(self._random.random() * 256)

    def _cut(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _drop(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + 1 + int(self._random.random() * 8)]

    def _word(self, data: bytearray) -> None:
        at = self._at(data)
        word = self._random.choice(self._words)
        data[at : at + (len(word) if self._random.random() < 0.5 else 0)] = word

    def _double(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = data[at : at + 1 + int(self._random.random() * 64)]

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._seeds)
        data[self._at(data) :] = other[int(self._random.random() * (len(other) + 1)) :]
