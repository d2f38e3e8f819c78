"""`python -m brim_tools.bench`: what this machine does, with what it was measured against."""

from __future__ import annotations

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
def relay(
    readings: Annotated[int, typer.Option(min=80, help="Readings per row.")] = 50_000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """MQTT in, MQTT out: Brim, durable, beside the bare relay that keeps nothing, in one run on one broker.

    Example: python -m brim_tools.bench relay --json
    """
    import json

    from brim_tools.bench.relay import measure

    result = measure(readings)
    if as_json:
        print(json.dumps(result))
        return
    print(f"{result['bins']} bins, {result['outstanding']} outstanding, broker {result['broker']}")
    for row in result["rows"]:
        print(
            f"{row['relay']:32} {row['readings_per_second']:7} /s  {row['ratio_to_bare']:5.2f} of bare"
            f"  {row['cpu_s_per_100k']:5} CPU s/100k  lost {row['lost']}  ack p99 {row['ack_p99_ms']} ms"
        )
