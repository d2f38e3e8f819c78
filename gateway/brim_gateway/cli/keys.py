"""Keys of bins: show, replace, certificate."""

from __future__ import annotations

from pathlib import Path
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
    print_view,
)
from brim_gateway.cli.common import keys_file as keys_file_of

app = group("Keys of bins: shown is only whether they are set.")


@app.command("show")
def keysprint_view(
    name: Annotated[str, typer.Argument(metavar="BIN")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Which keys of a bin are set.

    Example: brim gateway keys show SE-0180-04711
    """
    with errors():
        found = perform(config, "bins.show", bin=name)
        print_view({"bin": found["bin"], "dev": found["dev"], "keys": found["keys"]}, as_json)


@app.command("replace")
def keys_replace(
    name: BinArgument,
    keys_file: Annotated[Path, typer.Option("--keys-file", help="New file (0600) for the new keys.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make new keys for a bin; the old ones end at once.

    Example: brim gateway keys replace SE-0180-04711 --keys-file 04711.json
    """
    with errors(), keys_file_of(keys_file) as keys:
        done = perform(config, "keys.replace", bin=name)
        keys += done.pop("keys")
        if as_json:
            print_json(done)
        else:
            typer.echo(f"new keys of {done['bin']}: {keys_file} (0600)")
