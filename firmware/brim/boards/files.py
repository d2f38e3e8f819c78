"""The two files of a bin. A new content is written beside the old one and takes its name only when it is whole."""

import os

COPY_BYTES = 256
ENOENT = 2


def read_text(path: str, limit: int) -> str:
    """Up to `limit` characters of a file, "{}" if there is none, "" if it cannot be read."""
    try:
        with open(path) as file:
            return str(file.read(limit))
    except OSError as error:
        return "{}" if error.args[0] == ENOENT else ""


def write_text(path: str, text: str) -> None:
    """All or nothing; OSError if it did not happen."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


class FlashFile:
    """The file of the outbox (see brim.core.hal.Flash)."""

    def __init__(self, path: str) -> None:
        self._path = path

    def size(self) -> int:
        try:
            return os.stat(self._path)[6]
        except OSError as error:
            # A file that cannot be read now is not a file that may be written anew.
            if error.args[0] != ENOENT:
                raise
            return 0

    def read(self, offset: int, size: int) -> bytes:
        with open(self._path, "rb") as file:
            file.seek(offset)
            return bytes(file.read(size))

    def append(self, data: bytes) -> None:
        with open(self._path, "ab") as file:
            file.write(data)

    def replace(self, head: bytes, keep_from: int, tail: bytes) -> None:
        new = self._path + ".new"
        with open(new, "wb") as file:
            file.write(head)
            if keep_from < self.size():
                with open(self._path, "rb") as old:
                    old.seek(keep_from)
                    data = old.read(COPY_BYTES)
                    while data:
                        file.write(data)
                        data = old.read(COPY_BYTES)
            file.write(tail)
        os.rename(new, self._path)
