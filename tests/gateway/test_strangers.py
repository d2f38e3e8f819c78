"""Devices that were heard and are not registered."""

from __future__ import annotations

import json
from typing import Literal

from brim_gateway.fleet.strangers import MOST, Strangers

from tests.gateway.listening import PASSWORD, Listening, RawBin
from tests.gateway.support import wait_until


class Time:
    def __init__(self) -> None:
        self.us = 1_790_000_000_000_000

    def __call__(self) -> int:
        self.us += 1_000_000
        return self.us


def note(strangers: Strangers, claim: str, kind: Literal["dev", "dev_addr"] = "dev") -> None:
    strangers.note(kind, claim, link="lorawan", via="aa555a0000000101", why="not registered")


def test_a_stranger_is_listed_once_with_its_first_and_last_time() -> None:
    strangers = Strangers(Time())
    note(strangers, "70b3d57ed0059999")
    note(strangers, "26011f88", "dev_addr")
    note(strangers, "70b3d57ed0059999")
    newest, other = strangers.listing()
    assert newest == {
        "dev": "70b3d57ed0059999",
        "link": "lorawan",
        "first": "2026-09-21T14:13:21Z",
        "last": "2026-09-21T14:13:23Z",
        "count": 2,
        "via": "aa555a0000000101",
        "why": "not registered",
    }
    assert other["dev_addr"] == "26011f88" and "dev" not in other
    json.dumps(strangers.listing())


def test_one_that_keeps_asking_outlives_a_flood_of_invented_names() -> None:
    strangers = Strangers(Time())
    for _ in range(2):
        note(strangers, "70b3d57ed0059999")
    for number in range(5 * MOST):
        note(strangers, f"{number:016x}")
    assert len(strangers.listing()) == MOST
    assert any(one["dev"] == "70b3d57ed0059999" for one in strangers.listing())


def test_an_adopted_one_is_forgotten_and_unknown_ones_are_fine() -> None:
    strangers = Strangers(Time())
    note(strangers, "70b3d57ed0059999")
    strangers.forget("70b3d57ed0059999")
    strangers.forget("70b3d57ed0059999")
    assert strangers.listing() == []


def test_words_from_outside_are_made_harmless() -> None:
    strangers = Strangers(Time())
    strangers.note("dev", "x\n" * 500, link="wifi", via="\x1b[31m", why="?")
    (one,) = strangers.listing()
    assert "\n" not in one["dev"] and len(one["dev"]) <= 33 and "\x1b" not in one["via"]


def test_the_listener_notes_a_user_that_could_be_a_bin_and_no_other() -> None:
    strangers = Strangers(Time())
    with Listening(strangers=strangers, known=frozenset(("02000000000000aa",))) as listening:
        for user in ("02000000000000ff", "root"):
            bin_ = RawBin(listening.port, user, password=PASSWORD)
            assert bin_.hear(4) == b"\x20\x02\x00\x04"
            bin_.sock.close()
        with RawBin(listening.port):
            pass
        wait_until(lambda: listening.listener.counters["refused"] == 2, "both refused")
    assert [(one["dev"], one["link"], one["via"]) for one in strangers.listing()] == [
        ("02000000000000ff", "wifi", "127.0.0.1")
    ]
