"""`brim demo`."""

from __future__ import annotations

from typing import Annotated, TextIO

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

_TABLE = (
    ("readings measured by the bins", "readings_measured"),
    ("readings held by the city", "readings_delivered"),
    ("lost", "lost"),
    ("duplicated (after the uid)", "duplicated"),
    ("altered on the way", "altered"),
    ("repeats on the wire", "repeats"),
    ("joins", "joins"),
    ("crashes of a bin's program", "crashes"),
    ("gateway killed", "gateway_kills"),
    ("backend cut off, s", "backend_outage_s"),
    ("nonces or counters used twice", "counter_reuse"),
    ("heap peak of a wake, bytes", "heap_peak_bytes"),
)
_MUST_BE_ZERO = ("lost", "duplicated", "altered", "counter_reuse", "crashes")


@app.command()
def demo(
    bins: Annotated[int, typer.Option(min=1, max=64, help="Virtual bins: LoRaWAN and Wi-Fi in turn.")] = 6,
    minutes: Annotated[float | None, typer.Option(min=0.1, max=1440, help="Stop after this long.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Run once, about a minute, and stop by itself.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The account as one JSON object on the last line of stdout.")
    ] = False,
    runtime: Annotated[
        str, typer.Option(help="auto, micropython, or cpython (the same firmware where no MicroPython wheel exists).")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Litter, loss and start times.")] = 1,
) -> None:
    """Virtual bins on real MicroPython, a real gateway and a real broker, in accelerated time.

    In the middle the city's backend is cut off for 10 s and the gateway is killed once; the account at the end says
    what was lost. Exit code 0 only if nothing was lost, doubled or altered. Ctrl-C ends a run early, with its account.

    Example: brim demo --once --bins 6
    """
    import json
    import os
    import signal
    import sys
    import tempfile
    from pathlib import Path

    from brim_tools.demo.run import Demo
    from brim_tools.virtual.interpreter import InterpreterMissing, choose_runtime

    if runtime not in ("auto", "micropython", "cpython"):
        typer.echo(f"brim demo: --runtime {runtime!r} is not auto, micropython or cpython", err=True)
        raise typer.Exit(2)

    def say(text: str, stream: TextIO) -> None:
        try:
            print(text, file=stream, flush=True)
        except BrokenPipeError:  # `| head` has seen enough: end now, quietly
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            show.stop()
            show.stop()

    with tempfile.TemporaryDirectory(prefix="brim-demo-") as folder:
        show = Demo(
            Path(folder),
            bins,
            seed,
            choose_runtime(runtime),
            lambda text: say(text, sys.stderr if as_json else sys.stdout),
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: show.stop())
        try:
            result = show.run(minutes * 60 if minutes else 36.0 if once else None)
        except (RuntimeError, InterpreterMissing, OSError) as error:
            typer.echo(f"brim demo: {error}", err=True)
            raise typer.Exit(1) from None
    if as_json:
        say(json.dumps(result), sys.stdout)
    else:
        rows = [f"  {text:32} {'-' if result[key] is None else result[key]:>8}" for text, key in _TABLE]
        title = f"\nThe account ({result['runtime']}, {result['bins']} bins, {result['seconds']} s)"
        say("\n".join([title, *rows]), sys.stdout)
    if not result["readings_measured"] or any(result[key] for key in _MUST_BE_ZERO):
        raise typer.Exit(1)
