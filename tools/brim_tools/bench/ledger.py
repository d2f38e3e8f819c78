"""What became of every reading, in memory that the benchmark's processes share.

A reading is (bin, seq): both count densely, so a column is a plain array with the index ``bin * each + seq``. Times are
``time.perf_counter()``: one clock for all processes of a Linux machine.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_COLUMNS = {
    "sent": "d",  # first published
    "acked": "d",  # PUBACK came
    "came": "d",  # first arrival in the north
    "arrivals": "B",  # how often it arrived there, 255 at most
    "handed": "B",  # how often it passed the proxy on its way there
    "kept": "B",  # how often the journal held it at the last look
}
MOST = 255


def dev_of(bin_number: int) -> str:
    """The device of the ``bin_number``-th bin."""
    return f"0200000000{bin_number:06x}"


def bin_of(dev: bytes | str) -> int:
    """The number in ``dev_of``'s device."""
    return int(dev[-6:], 16)


class Ledger:
    """``bins`` bins of up to ``each`` readings; seq begins at 1. The first to open a folder makes the files."""

    def __init__(self, folder: Path, bins: int, each: int) -> None:
        self.folder, self.bins, self.each = folder, bins, each
        self._maps: list[mmap.mmap] = []
        for name, code in _COLUMNS.items():
            path, size = folder / f"ledger-{name}", bins * each * (8 if code == "d" else 1)
            with path.open("a+b") as file:
                if path.stat().st_size < size:
                    file.truncate(size)  # sparse: what is not used takes no memory
                shared = mmap.mmap(file.fileno(), size)
            self._maps.append(shared)
            setattr(self, name, memoryview(shared).cast("d" if code == "d" else "B"))

    sent: Any  # memoryviews of doubles
    acked: Any
    came: Any
    arrivals: memoryview
    handed: memoryview
    kept: memoryview

    def job(self) -> dict[str, object]:
        """What another process needs to open the same ledger."""
        return {"folder": str(self.folder), "bins": self.bins, "each": self.each}

    @classmethod
    def of(cls, job: dict[str, object]) -> Ledger:
        return cls(Path(str(job["folder"])), int(str(job["bins"])), int(str(job["each"])))

    def indices(self, first_seq: int, last_seqs: list[int]) -> Iterator[int]:
        """Of every bin the readings ``first_seq`` to its own last."""
        for number, last in enumerate(last_seqs):
            start = number * self.each
            yield from range(start + first_seq, start + last + 1)

    def close(self) -> None:
        for name in _COLUMNS:
            getattr(self, name).release()
        for shared in self._maps:
            shared.close()
