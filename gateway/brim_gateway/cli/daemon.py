"""The daemon itself: run, status, play."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from brim_gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, errors, perform, print_json, wrong_use

app = typer.Typer()

_GC_THRESHOLDS = (50_000, 20, 1_000)
"""Of Python's search for circles: at its own (700, 10, 10) it took a third of the time of a gateway under full load,
which makes hardly any circles."""


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM. One line "ready …" on standard output tells its addresses.

    Example: brim gateway run --config brim.toml
    """
    with errors():
        import asyncio
        import gc

        from brim_gateway.config import load
        from brim_gateway.logs import set_up
        from brim_gateway.serve import serve

        loaded = load(config)
        set_up(loaded.log_format)
        gc.set_threshold(*_GC_THRESHOLDS)
        asyncio.run(serve(loaded, config))


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """What the gateway is doing. Exit code 1 where no daemon runs or it is not healthy.

    Example: brim gateway status --json
    """
    with errors():
        now = perform(config, "status")
        if as_json:
            print_json(now)
        else:
            _print_status(now)
    if not now.get("healthy"):
        raise typer.Exit(1)


def _print_status(now: dict[str, Any]) -> None:
    running = now["running"]
    health = (
        "no daemon runs" if not running else f"{'healthy' if now['healthy'] else 'NOT HEALTHY'} since {now['since']}"
    )
    typer.echo(f"{now['site']}: {health}")
    journal = now["journal"]
    typer.echo(f"bins {now['bins']}, readings taken so far {journal['rows']}")
    if journal.get("fault"):
        typer.echo(f"COMMITS FAIL: {journal['fault']}; nothing is acknowledged meanwhile")
    if journal.get("dropped_unsent"):
        lost = f"{journal['dropped_unsent']} readings went since the start because keep_max_mb forced it"
        typer.echo(f"LOST FOR AN OUTPUT: {lost}")
    clock = now.get("clock")
    if clock and not clock["trusted"]:
        typer.echo(f"clock not trusted: {clock.get('why', '')}")
    for reason, count in sorted(now.get("refused", {}).items()):
        typer.echo(f"refused, {reason}: {count}")
    if now.get("strangers"):
        typer.echo(f"unknown devices heard: {_count(now['strangers'])}; see `brim gateway bins unknown`")
    for output in now["outputs"]:
        link = "" if not running else ", connected" if output["connected"] else ", NOT CONNECTED"
        dead = f", {output['dead_letters']} dead letters" if output.get("dead_letters") else ""
        fault = f" (last fault: {output['last_fault']})" if output.get("last_fault") else ""
        typer.echo(f"output {output['name']}: {output['waiting']} waiting{link}{dead}{fault}")


def _count(found: Any) -> int:
    return len(found) if isinstance(found, list | dict) else int(found)


@app.command()
def play(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Recorded receptions, one row a frame.")],
    to: Annotated[str, typer.Option(help="HOST:PORT of a running gateway's UDP socket.")] = "127.0.0.1:1700",
    as_json: JsonOption = False,
) -> None:
    """Play recorded LoRaWAN receptions into a running gateway, as a packet forwarder would send them.

    For the recorded time to be the event time, that gateway needs trust_time = true under [udp].

    Example: brim gateway play dtu_2016_lorawan_frames.csv --to 127.0.0.1:1700
    """
    from brim_gateway.play import RecordingInvalid
    from brim_gateway.play import play as play_recording

    host, _, port = to.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise wrong_use('--to: must be HOST:PORT, e.g. "127.0.0.1:1700"')
    with errors():
        try:
            account = play_recording(file, host.strip("[]"), int(port))
        except RecordingInvalid as exc:
            raise wrong_use(str(exc)) from None
        if as_json:
            print_json(account.as_dict())
        else:
            typer.echo(
                f"{account.acknowledged} frames acknowledged in {account.seconds} s"
                f" ({account.without_frame} rows without a frame left out, {account.resent} sent again)"
            )
