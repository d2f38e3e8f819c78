"""NOR flash and NVS: what survives a power cut, and what does not."""

from __future__ import annotations

BLOCK_BYTES = 4096


class PowerCut(Exception):
    """The supply went away in the middle of an operation."""


class NorFlash:
    """Erase sets a block to ones, a write only clears bits. `cut_after` operations more and the power is gone."""

    def __init__(self, blocks: int = 64, image: bytes | None = None) -> None:
        self.blocks = blocks
        self.data = bytearray(image if image is not None else b"\xff" * (blocks * BLOCK_BYTES))
        self.cut_after: int | None = None
        self.operations = 0

    def _last_breath(self) -> bool:
        self.operations += 1
        if self.cut_after is None:
            return False
        self.cut_after -= 1
        return self.cut_after < 0

    def read(self, at: int, count: int) -> bytes:
        return bytes(self.data[at : at + count])

    def write(self, at: int, data: bytes) -> None:
        torn = self._last_breath()
        for i, value in enumerate(data[: len(data) // 2] if torn else data):
            self.data[at + i] &= value
        if torn:
            raise PowerCut

    def erase(self, block: int) -> None:
        if self._last_breath():
            half = block * BLOCK_BYTES + BLOCK_BYTES // 2
            self.data[block * BLOCK_BYTES : half] = b"\xff" * (BLOCK_BYTES // 2)
            raise PowerCut
        self.data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = b"\xff" * BLOCK_BYTES


class Nvs:
    """`esp32.NVS`: a set is volatile until commit; a cut leaves the old value or the new one."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, int, str], bytes] = {}
        self._pending: dict[tuple[str, int, str], bytes | None] = {}
        self.commits = 0

    def get(self, space: str, kind: int, key: str) -> bytes | None:
        name = (space, kind, key)
        return self._pending[name] if name in self._pending else self.stored.get(name)

    def put(self, space: str, kind: int, key: str, value: bytes) -> None:
        self._pending[space, kind, key] = value

    def erase(self, space: str, key: str) -> bool:
        found = False
        for kind in (0, 1):
            if self.get(space, kind, key) is not None:
                self._pending[space, kind, key] = None
                found = True
        return found

    def commit(self, space: str) -> None:
        self.commits += 1
        for name in [n for n in self._pending if n[0] == space]:
            value = self._pending.pop(name)
            if value is None:
                self.stored.pop(name, None)
            else:
                self.stored[name] = value

    def lose_power(self) -> None:
        self._pending.clear()

    def provision(self, space: str, key: str, value: bytes) -> None:
        """Write a blob as the provisioning tool does."""
        self.stored[space, 1, key] = value
