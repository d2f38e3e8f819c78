"""The numbers that a device has used, against a set: whatever the order, through commits, rollbacks, starts."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from brim_gateway.store import numbers
from brim_gateway.store.database import Database
from brim_gateway.store.numbers import Numbers, held_seqs
from hypothesis import given, settings
from hypothesis import strategies as st

DEVICES = ("f0b3d57ed0051f2a", "0000000000000001")
SEQS = st.one_of(st.integers(1, 200), st.integers(2**32 - 70, 2**32 - 1), st.sampled_from([63, 64, 127, 128, 2**31]))
TAKE = st.tuples(st.sampled_from(DEVICES), st.sampled_from([0, 1, 2, 2**31 - 1]), SEQS)
STEP = st.one_of(TAKE, TAKE, TAKE, st.sampled_from(["commit", "rollback", "restart"]))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=80), st.booleans())
def test_each_number_is_taken_once_and_only_by_what_was_committed(steps: list[object], forgetful: bool) -> None:
    with (
        TemporaryDirectory() as folder,
        closing(Database(Path(folder) / "n.db")) as database,
        pytest.MonkeyPatch.context() as patch,
    ):
        if forgetful:
            patch.setattr(numbers, "MOST_DEVICES", 1)
        connection = database.connection
        taken: set[tuple[str, int, int]] = set()
        open_: set[tuple[str, int, int]] = set()
        table = Numbers(connection)
        connection.execute("BEGIN")
        for step in [*steps, "commit"]:
            if isinstance(step, tuple):
                dev, epoch, seq = step
                assert table.take(dev, epoch, seq) == (step not in taken | open_)
                open_.add(step)
                assert table.highest(dev, epoch) == max(s for d, e, s in taken | open_ if (d, e) == (dev, epoch))
                continue
            if step == "commit":
                table.write()
                connection.execute("COMMIT")
                table.committed()
                taken |= open_
            else:
                connection.execute("ROLLBACK")
                table.rolled_back()
            open_.clear()
            if step == "restart":
                table = Numbers(connection)
            connection.execute("BEGIN")
        for dev in DEVICES:
            for epoch in (0, 1, 2, 2**31 - 1):
                kept = sorted(s for d, e, s in taken if (d, e) == (dev, epoch))
                assert [
                    seq
                    for low in (0, 2**31 - 100, 2**32 - 100)
                    for seq in held_seqs(connection, dev, epoch, low, low + 300)
                ] == kept
        connection.execute("ROLLBACK")
