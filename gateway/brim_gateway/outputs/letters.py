"""Dead letters made into messages once more."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import msgspec

from brim_gateway.model import BinState
from brim_gateway.outputs.messages import Message, row_messages
from brim_gateway.store import journal


def remade(
    connection: sqlite3.Connection,
    found: list[tuple[int, int, int]],
    site: str,
    believed: Mapping[str, BinState],
    now_us: int,
) -> tuple[list[tuple[int, Message]], list[int]]:
    """((letter id, message) of each letter in ``found``, ids of those that cannot be made any more).

    A state is retained at the broker, so in its place goes what is ``believed`` of the bin now: it never goes back.
    """
    made, gone = [], []
    for letter_id, journal_id, number in found:
        row = journal.read_row(connection, journal_id)
        messages: list[Message] = []
        if row is not None:
            if row.state is not None:
                row = msgspec.structs.replace(row, state=believed.get(row.state.bin, row.state))
            try:
                messages = list(row_messages(site, row, True, now_us))
            except (ValueError, OverflowError, OSError):  # as little as the first time
                messages = []
        if number < len(messages):
            made.append((letter_id, messages[number]))
        else:
            gone.append(letter_id)
    return made, gone
