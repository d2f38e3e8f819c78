"""What the gateway promises of these figures, and whether this run held it. Pure.

Bounds of time and CPU are for an idle machine of two cores; what is lost is for every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Row = dict[str, Any]


def of(result: dict[str, Any]) -> list[Row]:
    """{promise, bound, measured, held} of every part that was measured."""
    return [row for part, rows in _PARTS.items() if part in result for row in rows(result[part])]


def lost(rows: list[Row]) -> bool:
    """Whether one of the promises that hold on every machine was broken."""
    return any(row["always"] and not row["held"] for row in rows)


def _most(promise: str, bound: float, measured: float, *, always: bool = False) -> Row:
    return _row(promise, f"<= {bound:g}", measured, measured <= bound, always)


def _least(promise: str, bound: float, measured: float) -> Row:
    return _row(promise, f">= {bound:g}", measured, measured >= bound, False)


def _row(promise: str, bound: str, measured: float, held: bool, always: bool) -> Row:
    return {"promise": promise, "bound": bound, "measured": measured, "held": held, "always": always}


def _speed(part: dict[str, Any]) -> Iterator[Row]:
    for row in part["rows"]:
        name = row["relay"]
        if not name.startswith("brim"):
            continue
        yield _least(f"{name}: readings/s", 10_000 if "3.1.1" in name else 8_000, row["readings_per_second"])
        yield _most(f"{name}: CPU s per 100,000", 11, row["cpu_s_per_100k"])
        yield _most(f"{name}: lost or altered", 0, row["lost"] + row["altered"], always=True)


def _paced(part: dict[str, Any]) -> Iterator[Row]:
    slow, quick = part["rows"][:2]
    yield _most("500/s, linger 20: p99 ms", 40, slow["p99_ms"])
    yield _most("500/s, linger 20: CPU s per 100,000", 20, slow["cpu_s_per_100k"])
    yield _most("500/s, linger 0: p50 ms", 2, quick["p50_ms"])
    yield _most("500/s, linger 0: p99 ms", 5, quick["p99_ms"])
    yield _most("500/s, linger 0: CPU s per 100,000", 50, quick["cpu_s_per_100k"])
    yield _most("500/s: lost", 0, slow["lost"] + quick["lost"], always=True)
    for row in part["writes"]:
        bound = 8_000 if row["rate"] == 200 else 2_500
        yield _most(f"{row['rate']}/s: bytes written per reading", bound, row["bytes_per_reading"])


def _drain(part: dict[str, Any]) -> Iterator[Row]:
    yield _least("backlog drained per second", 10_000, part["drained_per_second"])
    yield _most("first reading after the north is back, s", 1, part["back_to_first_reading_s"])
    yield _most("restart to the first acknowledgement, s", 1, part["restart_to_first_ack_s"])
    yield _most("a backlog adds MB", 10, part["rss_backlog_adds_mb"])
    yield _most("drain: lost", 0, part["lost"], always=True)


def _memory(part: dict[str, Any]) -> Iterator[Row]:
    yield _most("64 bins over TLS: MB at most", 96, part["rss_peak_mb"])
    yield _most("MB more per million readings", 1, part["slope_mb_per_million"])


def _outage(part: dict[str, Any]) -> Iterator[Row]:
    yield _most("outage with a SIGKILL in it: lost", 0, part["rows"][0]["lost"], always=True)


def _crashes(part: dict[str, Any]) -> Iterator[Row]:
    yield _most("crashes: acknowledged and lost in the journal", 0, part["lost_in_journal"], always=True)
    yield _most("crashes: acknowledged and lost in the north", 0, part["lost_in_north"], always=True)
    yield _most(
        "crashes: twice in the journal, or altered", 0, part["doubled_in_journal"] + part["altered"], always=True
    )
    yield _most("crashes: repeats on a connection", part["window"], part["most_repeats_of_a_connection"], always=True)
    yield _most("crashes: minutes", 30, round(part["seconds"] / 60, 1))


_PARTS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "speed": _speed,
    "paced": _paced,
    "drain": _drain,
    "memory": _memory,
    "outage": _outage,
    "crashes": _crashes,
}
