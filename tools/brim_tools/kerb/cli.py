"""`brim bin ...`: the field technician's commands. Exit codes: 0 done, 1 it failed, 2 wrong use."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from brim_tools.kerb.session import NoAnswer, Refused, Session

app = typer.Typer(
    no_args_is_help=True,
    help="Speak to a bin over its cable: a serial port, a pseudo-terminal or socket://HOST:PORT.",
)

Port = Annotated[str, typer.Option("--port", "-p", help="COM3, /dev/ttyUSB0, a pty, or socket://HOST:PORT")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object a line, for scripts")]
Wait = Annotated[float, typer.Option("--wait", min=0.5, max=600, help="seconds to wait for a sleeping bin")]

UPLINK_S = 60.0
MEASURE_S = 20.0


def _fail(message: str) -> typer.Exit:
    typer.echo(f"brim bin: {message}", err=True)
    return typer.Exit(1)


@contextmanager
def _session(port: str, wait_s: float) -> Iterator[tuple[Session, dict[str, Any]]]:
    """A session with an awake bin and its `who`; every failure becomes one line and exit code 1."""
    from brim_tools.kerb.line import PortError, open_line

    try:
        line = open_line(port)
        try:
            session = Session(line)
            yield session, session.wake(wait_s)
        finally:
            line.close()
    except (PortError, NoAnswer) as error:
        raise _fail(str(error)) from None
    except Refused as refused:
        raise _fail(f"the bin refuses: {refused}") from None


def _show(fields: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], str] | None = None) -> None:
    if as_json:
        typer.echo(json.dumps(fields))
    elif text:
        typer.echo(text(fields))
    else:
        for name, value in fields.items():
            typer.echo(f"{name:<12} {'-' if value is None else value}")


@app.command(epilog="Example: brim bin ports")
def ports(as_json: AsJson = False) -> None:
    """List the serial ports and what they look like."""
    from brim_tools.kerb.line import PortError, list_ports
    from brim_tools.kerb.text import clean_fields

    try:
        found = [clean_fields(port) for port in list_ports()]
    except PortError as error:
        raise _fail(str(error)) from None
    for port in found:
        _show(port, as_json, lambda row: f"{row['port']:<16} {row['looks_like'] or 'unknown'} {row['usb'] or ''}")
    if not found:
        raise _fail("no serial port: plug the bin in with a cable that carries data, press its button, try again")


@app.command(epilog="Example: brim bin who --port /dev/ttyUSB0")
def who(port: Port, as_json: AsJson = False, wait: Wait = 10.0) -> None:
    """Say which bin this is, its firmware, and how many readings it still holds."""
    with _session(port, wait) as (_, fields):
        _show(fields, as_json)


def _live_text(fields: dict[str, Any]) -> str:
    distance = fields.get("distance_mm")
    if not isinstance(distance, int):
        return f"   - mm  {fields.get('status')}  ({fields.get('echoes')} valid echoes)"
    bar = "#" * max(0, min(40, distance // 50))
    return f"{distance:>5} mm  ±{fields.get('spread_mm')}  {fields.get('echoes')} echoes  {bar}"


@app.command(epilog="Example: brim bin live --port COM3 --count 20")
def live(
    port: Port,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="measurements")] = 10,
    as_json: AsJson = False,
    wait: Wait = 10.0,
) -> None:
    """Show the distance as it is measured now."""
    with _session(port, wait) as (session, _):
        for fields in session.ask("live", (str(count),), MEASURE_S):
            _show(fields, as_json, _live_text)


@app.command(epilog="Example: brim bin calibrate --port COM3            (the bin is empty and its lid is closed)")
def calibrate(
    port: Port,
    full: Annotated[
        bool, typer.Option("--full", help="set the distance of the full bin, not of the empty one")
    ] = False,
    as_json: AsJson = False,
    wait: Wait = 10.0,
) -> None:
    """Take the distance measured now as that of the empty bin."""
    with _session(port, wait) as (session, _):
        for fields in session.ask("calibrate", ("full" if full else "empty",), MEASURE_S):
            _show(fields, as_json)


def _uplink_text(fields: dict[str, Any]) -> str:
    if fields.get("held"):
        end = "sent, and the gateway holds it"
    elif fields.get("sent"):
        end = "sent; the gateway has not answered (over LoRaWAN it does so rarely): look for it on the status page"
    else:
        end = f"NOT sent: {fields.get('fault') or 'no reason given'}"
    return f"reading {fields.get('reading')} {end} ({fields.get('ms')} ms)"


@app.command("test-uplink", epilog="Example: brim bin test-uplink --port socket://127.0.0.1:7000")
def test_uplink(port: Port, as_json: AsJson = False, wait: Wait = 10.0) -> None:
    """Measure, make a real reading and send it over the bin's own link."""
    sent = False
    with _session(port, wait) as (session, _):
        for fields in session.ask("test-uplink", (), UPLINK_S):
            sent = fields.get("sent") is True
            _show(fields, as_json, _uplink_text)
    if not sent:
        raise typer.Exit(1)


def _test_text(fields: dict[str, Any]) -> str:
    return f"{'ok  ' if fields.get('ok') is True else 'FAIL'} {fields.get('test'):<14} {fields.get('info')}"


@app.command(epilog="Example: brim bin diagnose --port /dev/ttyUSB0 --json")
def diagnose(port: Port, as_json: AsJson = False, wait: Wait = 10.0) -> None:
    """Run every self-test of the bin; exit code 1 if one fails."""
    good = True
    with _session(port, wait) as (session, _):
        for fields in session.ask("diagnose", (), MEASURE_S):
            good = good and fields.get("ok") is True
            _show(fields, as_json, _test_text)
    if not good:
        raise typer.Exit(1)


@app.command(
    epilog="Example: brim bin virtual --port-file /tmp/bin.port   then: brim bin who --port $(head -1 /tmp/bin.port)"
)
def virtual(
    port_file: Annotated[
        Path, typer.Option("--port-file", help="written when the bin answers: its pty, then its socket://")
    ],
    tcp: Annotated[
        int | None, typer.Option("--tcp", min=0, max=65535, help="also on 127.0.0.1:PORT; 0 takes a free one")
    ] = None,
    distance_mm: Annotated[int, typer.Option("--distance-mm", min=0, max=7500, help="what its ranger sees")] = 800,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="keys file of `brim gateway bins add`: a provisioned bin")
    ] = None,
    bin_name: Annotated[
        str | None, typer.Option("--bin", help="which bin of the keys file (the first otherwise)")
    ] = None,
    gateway: Annotated[
        str | None, typer.Option("--gateway", help="HOST:PORT of the gateway's UDP: a concentrator beside the bin")
    ] = None,
    mqtt: Annotated[
        str | None, typer.Option("--mqtt", help="HOST:PORT of the gateway's listener, for a Wi-Fi bin")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="the gateway's site-ca.pem, for a Wi-Fi bin")] = None,
    sleep_speed: Annotated[
        float, typer.Option("--sleep-speed", min=1, max=10000, help="how much faster it sleeps")
    ] = 1.0,
) -> None:
    """Run a bin without hardware: the real firmware on MicroPython behind a serial line, until Ctrl-C."""
    from brim_tools.virtual.bench_bin import Bench, WrongUse, run
    from brim_tools.virtual.interpreter import InterpreterMissing

    try:
        run(Bench(port_file, tcp, distance_mm, keys, bin_name, _address(gateway), _address(mqtt), ca, sleep_speed))
    except WrongUse as error:
        typer.echo(f"brim bin: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        what = f"{error.filename}: " if error.filename else f"port {tcp}: " if tcp else ""
        raise _fail(what + (error.strerror or str(error))) from None
    except InterpreterMissing as error:
        raise _fail(str(error)) from None


def _address(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        typer.echo(f"brim bin: {text[:60]!r} is not HOST:PORT", err=True)
        raise typer.Exit(2)
    return host, int(port)
