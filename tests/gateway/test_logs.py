"""Log lines: one each, harmless, and never more than a disk can bear."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest
from brim_gateway import logs


class Written:
    """A logger of its own with the handler that `set_up` makes, a clock that stands, and what came out."""

    def __init__(self, form: str) -> None:
        self.now = 0.0
        self.out = io.StringIO()
        logs.set_up(form)
        (self.handler,) = logging.getLogger().handlers
        assert isinstance(self.handler, logging.StreamHandler)
        self.handler.setStream(self.out)
        self.handler.filters[:] = [logs.LineLimit(lambda: self.now)]
        self.log = logging.getLogger("brim.test")

    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def written() -> Iterator[Callable[[str], Written]]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.held_back.clear()
    yield Written
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = True


def test_a_strangers_text_stays_on_its_line_in_both_forms(written: Callable[[str], Written]) -> None:
    for form in ("plain", "json"):
        kept = written(form)
        kept.log.warning("user %s refused", 'a\n2026-01-01 error brim: all is well\x1b[2J"}')
        (line,) = kept.lines()
        assert "\x1b" not in line
    entry = json.loads(line)
    assert (entry["level"], entry["from"]) == ("warning", "brim.test") and entry["text"].startswith("user a")


def test_a_flood_is_held_and_the_next_line_says_how_many_there_were(written: Callable[[str], Written]) -> None:
    kept = written("json")
    for number in range(logs.BURST_LINES + 70):
        kept.log.warning("line %d", number)
    assert len(kept.lines()) == logs.BURST_LINES
    kept.now += 1.0
    kept.log.info("after")
    assert "[70 lines before this one held back] after" in kept.lines()[-1]
    assert logs.held_back == {"warning": 70}
    kept.log.info("and after")
    assert "held back" not in kept.lines()[-1]


def test_an_error_of_ours_comes_through_while_others_make_noise_and_is_counted_where_even_it_is_held(
    written: Callable[[str], Written],
) -> None:
    kept = written("plain")
    for number in range(logs.BURST_LINES + 500):
        kept.log.warning("noise %d", number)
    kept.log.error("the disk is full")
    assert kept.lines()[-1].endswith("the disk is full")
    for number in range(logs.ERROR_BURST_LINES + 10):
        kept.log.error("fault %d", number)
    assert logs.held_back["error"] == 11
    kept.now += 3_600
    kept.log.error("quiet again")
    assert "[11 lines before this one held back] quiet again" in kept.lines()[-1]


def test_a_clock_that_goes_backwards_neither_opens_nor_shuts_the_log(written: Callable[[str], Written]) -> None:
    kept = written("plain")
    for _ in range(logs.BURST_LINES):
        kept.log.info("x")
    kept.now -= 1_000
    kept.log.info("held")
    kept.now += 1
    kept.log.info("passes")
    assert len(kept.lines()) == logs.BURST_LINES + 1
