"""`python -m brim_tools.bench`: what this machine does, with what it was measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Benchmarks of Brim's parts."""


@app.command()
def wakes(
    days: Annotated[float, typer.Option(help="Model days per row; a bin wakes 96 times a day.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Wakes per second and core in virtual time: bare interpreter starts, measuring only, with an uplink each.

    Example: python -m brim_tools.bench wakes --json
    """
    import json

    from brim_tools.bench.wakes import measure

    result = measure(days)
    if as_json:
        print(json.dumps(result))
        return
    for row in result["rows"]:
        calls = row["calls_per_wake"]
        print(f"{row['what']:34} {row['wakes']:6} wakes {row['per_second']:8.1f} /s {calls:7.1f} calls a wake")
    print(f"measured on one core; {result['runtime']}")


@app.command()
def sensing(
    traces: Annotated[Path, typer.Argument(help="Folder with the two traces: tests/data/traces of a checkout.")],
    bins: Annotated[int, typer.Option(min=1)] = 200,
    days: Annotated[int, typer.Option(min=1)] = 60,
    measurements: Annotated[int, typer.Option(min=500, help="Per fault.")] = 200_000,
    seed: Annotated[int, typer.Option()] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Labelled bin-days and faults through the firmware's judgement: emptied, full, and the error of each number.

    Example: python -m brim_tools.bench sensing tests/data/traces
    """
    import json

    from brim_tools.bench.sensing import measure

    found = measure(traces, bins, days, measurements, seed)
    if as_json:
        print(json.dumps(found))
        return
    days_found = found["emptyings"]
    print(f"{days_found['bin_days']} bin-days, {days_found['emptied_days']} with an emptying (modelled; seed {seed})")
    print(f"  emptied: accuracy {days_found['accuracy_pct']} %, recall {days_found['recall_pct']} %")
    print(f"  a number is off by {days_found['p95_error_mm']} mm at most (p95), with 30 % of echoes wrong or missing")
    print(f"  full before it was three quarters full: {days_found['false_full']}")
    print(f"  {days_found['measurements']} measurements: {_shares(days_found['statuses'])}")
    for name, one in found["faults"].items():
        print(f"{name:14} false full {one['false_full']}; {_shares(one['statuses'])}")


def _shares(statuses: dict[str, int]) -> str:
    total = sum(statuses.values())
    ranked = sorted(statuses.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * count / total:.1f} %" for name, count in ranked)


@app.command()
def rejoin(
    bins: Annotated[int, typer.Option(min=1, max=100_000, help="Bins on one concentrator.")] = 5_000,
    seed: Annotated[int, typer.Option(help="What places and fading are drawn from.")] = 1,
    scene: Annotated[str, typer.Option(help="sf12 or mixed; both without it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a scene.")] = False,
) -> None:
    """A city joins at once, in virtual time: until when all bins are in, and how full each sub-band was.

    Exit code 1 where a bin did not join or a duty cycle was exceeded.

    Example: python -m brim_tools.bench rejoin --bins 500
    """
    import json
    import sys

    from brim_tools.bench.rejoin import SCENES, measure, readable

    if scene and scene not in SCENES:
        raise typer.BadParameter(f"no scene {scene}; there are {', '.join(SCENES)}")
    good = True
    for name in [scene] if scene else list(SCENES):
        result = measure(bins, seed, name, sys.stderr.isatty())
        good = good and result["legal"] and result["joined"] == bins
        print(json.dumps(result) if as_json else readable(result))
    if not good:
        raise typer.Exit(1)


@app.command()
def relay(
    only: Annotated[
        str, typer.Option(help="Of speed,paced,drain,memory,outage,crashes, with commas; all without it.")
    ] = "",
    readings: Annotated[int, typer.Option(min=800, help="Readings per row of speed.")] = 50_000,
    seconds: Annotated[float, typer.Option(min=2, help="Seconds per row of paced.")] = 20.0,
    backlog: Annotated[int, typer.Option(min=1_000, help="Readings in the backlog of drain.")] = 330_000,
    memory_readings: Annotated[int, typer.Option(min=6_400, help="Readings over which memory is flat.")] = 1_000_000,
    away_s: Annotated[float, typer.Option("--away", min=2, help="Seconds that the north is away in outage.")] = 20.0,
    seed: Annotated[int, typer.Option(help="What the history of crashes is drawn from.")] = 1,
    crashes: Annotated[int, typer.Option(min=1, help="Crashes in the history.")] = 200,
    protocol: Annotated[str, typer.Option(help="MQTT of the output outside of speed: 5 or 3.1.1.")] = "5",
    lying_disk: Annotated[
        bool, typer.Option("--lying-disk", help="fsync does nothing: the history must then find losses.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """The gateway beside other relays: speed, latency, drain, memory, an outage; a history of crashes loses nothing.

    Exit code 1 where a reading was lost, or repeated more often than promised. Times are figures, not verdicts.

    Example: python -m brim_tools.bench relay --only crashes --crashes 20 --json
    """
    import json

    from brim_tools.bench import relay as bench
    from brim_tools.bench import report

    parts = tuple(part.strip() for part in only.split(",") if part.strip()) or tuple(bench.PARTS)
    if unknown := set(parts) - set(bench.PARTS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(bench.PARTS)}")
    if protocol not in ("5", "3.1.1"):
        raise typer.BadParameter("--protocol is 5 or 3.1.1")
    bench.end_cleanly()
    try:
        result = bench.measure(
            parts,
            bench.Wanted(readings, seconds, backlog, memory_readings, away_s, seed, crashes, protocol, lying_disk),
        )
    except (RuntimeError, OSError) as fault:
        typer.echo(f"bench relay: {fault}", err=True)
        raise SystemExit(1) from None
    print(json.dumps(result) if as_json else "\n".join(report.lines(result)))
    if bench.broken(result):
        raise SystemExit(1)


@app.command()
def uplinks(
    count: Annotated[int, typer.Option("--uplinks", min=100, help="Uplinks in the closed loop.")] = 100_000,
    bins: Annotated[int, typer.Option(min=1, max=20_000, help="Registered bins.")] = 5_000,
    per_datagram: Annotated[int, typer.Option(min=1, max=8, help="Uplinks that a forwarder packs together.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of the paced part, where downlinks are timed.")] = 20.0,
    linger_ms: Annotated[int, typer.Option(min=0, max=1_000, help="Of the gateway's configuration.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the bins' keys.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Signed LoRaWAN uplinks over UDP into the daemon, until each is committed and acknowledged; and the downlinks.

    Exit code 1 where an uplink was dropped. Times are figures, not verdicts.

    Example: python -m brim_tools.bench uplinks --per-datagram 8
    """
    import json

    from brim_tools.bench import uplinks as bench

    try:
        result = bench.measure(count, bins, per_datagram, seconds, seed, linger_ms)
    except (RuntimeError, OSError) as fault:
        typer.echo(f"bench uplinks: {fault}", err=True)
        raise SystemExit(1) from None
    print(json.dumps(result) if as_json else "\n".join(bench.lines(result)))
    if result["dropped"]:
        raise SystemExit(1)
