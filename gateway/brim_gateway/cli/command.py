"""Commands to bins: send, list, drop."""

from __future__ import annotations

from typing import Annotated

import typer

from brim_gateway.cli.common import (
    DEFAULT_CONFIG,
    BinArgument,
    ConfigOption,
    JsonOption,
    errors,
    group,
    perform,
    print_json,
)

app = group("Commands to bins: a downlink payload, kept until it is sent or expires.")


@app.command("send")
def command_send(
    name: BinArgument,
    payload: Annotated[str, typer.Argument(metavar="HEX", help="The payload, in hexadecimal digits.")],
    config: ConfigOption = DEFAULT_CONFIG,
    port: Annotated[int, typer.Option(help="LoRaWAN FPort; 2 carries Brim's commands.")] = 2,
    expires_h: Annotated[int, typer.Option(help="Given up after so many hours.")] = 168,
    as_json: JsonOption = False,
) -> None:
    """Keep a downlink for a bin. It goes out when the bin next speaks (LoRaWAN) or is connected (Wi-Fi).

    Example: brim gateway command send SE-0180-04711 0a01 --port 2
    """
    with errors():
        kept = perform(config, "command.send", bin=name, payload=payload, port=port, expires_s=expires_h * 3_600)
        if as_json:
            print_json(kept)
        else:
            typer.echo(f"command {kept['id']} for {kept['bin']} is kept until {kept['expires']} or until it is sent")


@app.command("list")
def command_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Commands that wait.

    Example: brim gateway command list
    """
    with errors():
        found = perform(config, "command.list")
        if as_json:
            print_json(found)
            return
        for one in found:
            typer.echo(f"{one['id']:>6} {one['bin'] or one['dev']:24} port {one['port']:<3} {one['payload']}"
                       f"  until {one['expires']}")  # fmt: skip
        if not found:
            typer.echo("no command waits")


@app.command("drop")
def command_drop(
    number: Annotated[int, typer.Argument(metavar="ID", help="Its number in `command list`.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take a command back that was not sent yet.

    Example: brim gateway command drop 17
    """
    with errors():
        done = perform(config, "command.drop", id=number)
        if as_json:
            print_json(done)
        else:
            typer.echo(f"command {done['id']} dropped")
