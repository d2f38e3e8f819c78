"""Which numbers of each device the journal has had: exact and for ever, one bit a number.

What the open transaction has taken is kept apart until ``committed()``; ``rolled_back()`` forgets it.
"""

from __future__ import annotations

import sqlite3

BLOCK_BITS = 6
_LOW = (1 << BLOCK_BITS) - 1
_SIGNED = 1 << 64
MOST_DEVICES = 50_000
"""Of the newest blocks so many stay in memory."""

Block = tuple[int, int, int]
"""(epoch, seq >> BLOCK_BITS, bits)."""

_OLDER = "SELECT held FROM older_numbers WHERE dev = ? AND epoch = ? AND block = ?"
_PUT_OLDER = (
    "INSERT INTO older_numbers (dev, epoch, block, held) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (dev, epoch, block) DO UPDATE SET held = held | excluded.held"
)
_PUT_NEWEST = "INSERT OR REPLACE INTO newest_numbers (dev, epoch, block, held) VALUES (?, ?, ?, ?)"


def dev_number(dev: str) -> int:
    """16 hex digits as SQLite's signed 64-bit integer."""
    return _signed(int(dev, 16))


def _signed(number: int) -> int:
    return number - _SIGNED if number >> 63 else number


class Numbers:
    """``take`` a number once. Used by the writer's thread alone."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._newest: dict[int, Block] = {}
        self._open: dict[int, Block] = {}

    def take(self, dev: str, epoch: int, seq: int) -> bool:
        """True the first time. ``seq`` ≥ 0; the caller bounds it."""
        number = dev_number(dev)
        block, bit = seq >> BLOCK_BITS, 1 << (seq & _LOW)
        newest = self._open.get(number) or self._newest.get(number) or self._read_newest(number)
        if newest is None or (epoch, block) > newest[:2]:
            if newest is not None:
                self._connection.execute(_PUT_OLDER, (number, newest[0], newest[1], _signed(newest[2])))
            newest = (epoch, block, self._older(number, epoch, block))
            self._open[number] = newest
        if (epoch, block) == newest[:2]:
            if newest[2] & bit:
                return False
            self._open[number] = (epoch, block, newest[2] | bit)
            return True
        if self._older(number, epoch, block) & bit:
            return False
        self._connection.execute(_PUT_OLDER, (number, epoch, block, _signed(bit)))
        return True

    def highest(self, dev: str, epoch: int) -> int:
        """The highest number taken in ``epoch``, 0 if none."""
        number = dev_number(dev)
        newest = self._open.get(number) or self._newest.get(number) or self._read_newest(number)
        if newest is not None and newest[0] == epoch:
            block, held = newest[1:]
        else:
            row = self._connection.execute(
                "SELECT block, held FROM older_numbers WHERE dev = ? AND epoch = ? ORDER BY block DESC LIMIT 1",
                (number, epoch),
            ).fetchone()
            if row is None:
                return 0
            block, held = row[0], row[1] % _SIGNED
        return int((block << BLOCK_BITS) + max(held.bit_length() - 1, 0))

    def write(self) -> None:
        """Bring the open transaction's blocks into the file."""
        self._connection.executemany(_PUT_NEWEST, [(dev, *one[:2], _signed(one[2])) for dev, one in self._open.items()])

    def committed(self) -> None:
        """What was written stays."""
        self._newest |= self._open
        self._open.clear()
        if len(self._newest) > MOST_DEVICES:
            self._newest.clear()

    def rolled_back(self) -> None:
        """What was taken since the last commit was not."""
        self._open.clear()

    def _read_newest(self, number: int) -> Block | None:
        row = self._connection.execute(
            "SELECT epoch, block, held FROM newest_numbers WHERE dev = ?", (number,)
        ).fetchone()
        if row is None:
            return None
        block = (row[0], row[1], row[2] % _SIGNED)
        self._newest[number] = block
        return block

    def _older(self, number: int, epoch: int, block: int) -> int:
        row = self._connection.execute(_OLDER, (number, epoch, block)).fetchone()
        return row[0] % _SIGNED if row is not None else 0


def held_seqs(connection: sqlite3.Connection, dev: str, epoch: int, low: int, high: int) -> list[int]:
    """The numbers in [low, high] of ``epoch`` that are committed, ascending. For any connection."""
    number, first, last = dev_number(dev), low >> BLOCK_BITS, high >> BLOCK_BITS
    blocks: dict[int, int] = {}
    for table in ("older_numbers", "newest_numbers"):
        for block, held in connection.execute(
            f"SELECT block, held FROM {table} WHERE dev = ? AND epoch = ? AND block BETWEEN ? AND ?",  # noqa: S608
            (number, epoch, first, last),
        ):
            blocks[block] = blocks.get(block, 0) | held % _SIGNED
    return [
        seq
        for block in sorted(blocks)
        for seq in range(max(low, block << BLOCK_BITS), min(high, (block << BLOCK_BITS) + _LOW) + 1)
        if blocks[block] >> (seq & _LOW) & 1
    ]
