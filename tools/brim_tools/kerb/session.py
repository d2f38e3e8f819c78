"""Requests to a bin and its answers, over any line. The bin's log lines in between are left aside."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from brim.wire.console_line import MAX_LINE_BYTES, decode_answer, encode_request
from brim.wire.errors import WireError

from brim_tools.kerb.line import Line
from brim_tools.kerb.text import clean, clean_fields

KNOCK_S = 1.0
ANSWER_S = 10.0
MAX_PENDING_BYTES = 64 * 1024


class NoAnswer(Exception):
    """The bin said nothing (in time)."""


class Refused(Exception):
    """The bin said no: `code` and `hint`, both clean."""

    def __init__(self, code: str, hint: str) -> None:
        super().__init__(f"{hint} ({code})")
        self.code = code
        self.hint = hint


class Session:
    """`clock()` in seconds, monotonic."""

    def __init__(self, line: Line, clock: Callable[[], float] = time.monotonic) -> None:
        self._line = line
        self._clock = clock
        self._number = 0
        self._pending = b""

    def wake(self, wait_s: float) -> dict[str, Any]:
        """Knock until the bin answers `who`; its answer. NoAnswer after wait_s."""
        deadline = self._clock() + wait_s
        while True:
            left_s = deadline - self._clock()
            if left_s <= 0:
                raise NoAnswer(
                    f"no answer in {wait_s:g} s: press the bin's button (it sleeps, or mpremote left it at its prompt)"
                )
            try:
                for fields in self.ask("who", timeout_s=min(KNOCK_S, left_s)):
                    return fields
            except NoAnswer:
                continue

    def ask(self, verb: str, args: tuple[str, ...] = (), timeout_s: float = ANSWER_S) -> Iterator[dict[str, Any]]:
        """The answers to one request, the last one without "left" or with 0; each within timeout_s of the one before.

        Refused, NoAnswer, or PortError from the line.
        """
        self._number = self._number % 9999 + 1
        ident = str(self._number)
        # The first line end closes whatever half line lies in the bin's buffer.
        self._line.write(b"\n" + encode_request(ident, verb, args).encode() + b"\n")
        while True:
            ok, code, fields = self._answer(ident, self._clock() + timeout_s)
            if not ok:
                raise Refused(clean(code, 20), clean(str(fields.get("hint", ""))))
            left = fields.pop("left", 0)
            yield clean_fields(fields)
            if not isinstance(left, int) or left <= 0:
                return

    def _answer(self, ident: str, deadline: float) -> tuple[bool, str, dict[str, Any]]:
        while True:
            while b"\n" in self._pending:
                raw, self._pending = self._pending.split(b"\n", 1)
                # What the bin printed without a line end may stand before an answer.
                for start in (b"=" + ident.encode() + b" ", b"!" + ident.encode() + b" "):
                    at = raw.find(start)
                    if at < 0 or len(raw) - at > MAX_LINE_BYTES + 2:
                        continue
                    try:
                        found, ok, code, fields = decode_answer(raw[at:])
                    except WireError:
                        continue
                    if found == ident:
                        return ok, code, fields
            if self._clock() >= deadline:
                raise NoAnswer("the bin stopped answering: is it still awake and plugged in?")
            self._pending += self._line.read()
            if len(self._pending) > MAX_PENDING_BYTES:
                self._pending = self._pending[-MAX_LINE_BYTES:]
