"""The result of `bench relay` as a person reads it. Pure."""

from __future__ import annotations

import textwrap
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
            yield f"  ({result[part]['took_s']} s)"
    yield from _promises(result["promises"])


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
    kinds = ", ".join(f"{kind}: {count}" for kind, count in part["kinds"].items())
    yield from textwrap.wrap(kinds, 110, initial_indent="  ", subsequent_indent="  ")
    for line in part["not_run"]:
        yield f"  {line}"
    for loss in part["lost_at"]:
        yield f"  lost at crash {loss['crash']}: {loss['readings']} readings, the first {loss['first']}"


def _paced(part: dict[str, Any]) -> Iterator[str]:
    yield f"paced: {part['rate']} readings/s for {part['seconds']:.0f} s, from the making of a reading to the north"
    yield f"  {'relay':36} {'p50 ms':>8} {'p99 ms':>8} {'CPU s/100k':>11} {'lost':>6} {'ack p50 ms':>11} {'p99':>7}"
    for row in part["rows"]:
        yield (
            f"  {row['relay']:36} {row['p50_ms']:>8} {row['p99_ms']:>8} {row['cpu_s_per_100k']:>11}"
            f" {row['lost']:>6} {row['ack_p50_ms']:>11} {row['ack_p99_ms']:>7}"
        )
    for row in part["writes"]:
        yield (
            f"  written to the disk at {row['rate']}/s, linger_ms = {row['linger_ms']}:"
            f" {row['bytes_per_reading']} bytes a reading ({row['counted_by']})"
        )


def _drain(part: dict[str, Any]) -> Iterator[str]:
    yield f"drain: {part['backlog']} readings held while the north is away, {part['live_rate']}/s go on"
    yield (
        f"  taken in at {part['taken_in_per_second']}/s; memory {part['rss_before_mb']} MB before,"
        f" {part['rss_backlog_adds_mb']} MB more with the backlog,"
        f" {part['rss_peak_in_drain_mb']} MB at most in the drain"
    )
    yield (
        f"  restarted on it (SIGKILL): ready after {part['restart_to_ready_s']} s,"
        f" first acknowledgement after {part['restart_to_first_ack_s']} s"
    )
    yield (
        f"  north back: first reading after {part['back_to_first_reading_s']} s,"
        f" {part['drained_per_second']} readings of the backlog a second;"
        f" live readings acknowledged within {part['live_ack_p99_ms']} ms (p99)"
    )
    yield f"  lost {part['lost']}, repeats {part['repeats']}"


def _memory(part: dict[str, Any]) -> Iterator[str]:
    yield f"memory: {part['bins']} bins over TLS, {part['readings']} readings, /health and /metrics read each second"
    yield (
        f"  {part['rss_connected_mb']} MB connected, {part['rss_peak_mb']} MB at most,"
        f" slope {part['slope_mb_per_million']} MB per million readings"
    )


def _outage(part: dict[str, Any]) -> Iterator[str]:
    away = f"{part['away_s']:.0f} s at {part['rate']}/s"
    yield f"outage: the north is away for {away}; SIGKILL in the middle, started 1 s later"
    yield f"  {'relay':36} {'acknowledged':>13} {'lost':>7} {'%':>6} {'repeats':>8}"
    for row in part["rows"]:
        if "lost" not in row:
            yield f"  {row['relay']:36} {row['note']}"
            continue
        yield (
            f"  {row['relay']:36} {row['acknowledged']:>13} {row['lost']:>7} {row['lost_percent']:>6}"
            f" {row['repeats']:>8}"
        )


def _promises(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield ""
    yield "promised"
    for row in rows:
        mark = "held" if row["held"] else "NOT HELD"
        yield f"  {row['promise']:60} {row['bound']:>12} {row['measured']:>12}  {mark}"


_SHOW = {"speed": _speed, "paced": _paced, "drain": _drain, "memory": _memory, "outage": _outage, "crashes": _crashes}
