"""The result of `bench relay` as a person reads it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Every part that was measured."""
    yield f"{result['date']}, {result['cores']} cores, Linux {result['kernel']}, Python {result['python']}"
    yield f"SQLite {result['sqlite']}; the north: {result['north']}; disk of its own: {result['disk']}"
    for part, show in _SHOW.items():
        if part in result:
            yield ""
            yield from show(result[part])
            yield f"({result[part]['took_s']} s)"


def _speed(part: dict[str, Any]) -> Iterator[str]:
    yield f"speed: closed loop, {part['outstanding']} outstanding"
    yield (
        f"  {'relay':36} {'/s':>7} {'of bare':>8} {'CPU s/100k':>11} {'peak MB':>8}"
        f" {'lost':>6} {'repeats':>8} {'ack p50 ms':>11} {'p99':>7}"
    )
    for row in part["rows"]:
        if "readings_per_second" not in row:
            yield f"  {row['relay']:36} {row['note']}"
            continue
        yield (
            f"  {row['relay']:36} {row['readings_per_second']:>7} {row.get('ratio_to_bare', ''):>8}"
            f" {row['cpu_s_per_100k']:>11} {row['peak_rss_mb']:>8} {row['lost']:>6} {row['repeats']:>8}"
            f" {row['ack_p50_ms']:>11} {row['ack_p99_ms']:>7}"
        )


def _crashes(part: dict[str, Any]) -> Iterator[str]:
    yield (
        f"crashes: {part['crashes']} in {part['seconds']} s on one database, seed {part['seed']},"
        f" MQTT {part['protocol']}: {'held' if part['held'] else 'NOT HELD'}"
    )
    yield f"  acknowledged {part['acknowledged']}; lost in the journal {part['lost_in_journal']},"
    yield f"  lost in the north {part['lost_in_north']}, twice in the journal {part['doubled_in_journal']},"
    yield f"  altered {part['altered']}; integrity {part['integrity']}{part['unsettled'] and '; ' + part['unsettled']}"
    yield (
        f"  repeats in the north {part['repeats_in_north']} over {part['connections']} connections;"
        f" at most {part['most_repeats_of_a_connection']} on one (window {part['window']},"
        f" {part['connections_over_window']} over it)"
    )
    restart = part["restart_to_ready_s"]
    yield f"  restart to ready: median {restart['median']} s, most {restart['most']} s"
    yield "  " + ", ".join(f"{kind}: {count}" for kind, count in part["kinds"].items())
    for line in part["not_run"]:
        yield f"  {line}"
    for loss in part["lost_at"]:
        yield f"  lost at crash {loss['crash']}: {loss['readings']} readings, the first {loss['first']}"


_SHOW = {"speed": _speed, "crashes": _crashes}
