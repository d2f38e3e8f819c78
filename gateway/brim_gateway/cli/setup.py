"""Before the first start: init, check, schema, service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brim_gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, errors, print_json, read_config

app = typer.Typer()


@app.command()
def init(
    config: ConfigOption = DEFAULT_CONFIG,
    site: Annotated[str, typer.Option(help="Name of this cabinet; part of every topic.")] = "cabinet-001",
    data_dir: Annotated[str, typer.Option(help="Where the database and the certificates go.")] = "data",
    tls_name: Annotated[
        list[str] | None,
        typer.Option(help="Host name or address by which Wi-Fi bins reach us; repeatable."),
    ] = None,
    wifi: Annotated[str | None, typer.Option(help="HOST:PORT to let Wi-Fi bins in at once, e.g. 0.0.0.0:8883.")] = None,
    output_url: Annotated[str | None, typer.Option(help="The city's broker, e.g. mqtts://broker.example.org.")] = None,
    output_user: Annotated[str | None, typer.Option(help="User name at that broker.")] = None,
    output_password_file: Annotated[
        str | None,
        typer.Option(help="File (0600) with the password, or credential:NAME; if it is not there, it is asked for."),
    ] = None,
) -> None:
    """Write a configuration that runs as it is, and the site's own certificates.

    Example: brim gateway init --site cabinet-017 --output-url mqtts://broker.example.org
    """
    with errors():
        from dataclasses import replace

        from brim_gateway.setup_files import Wanted, check_wanted, password_file, write_setup

        wanted = Wanted(site, data_dir, tuple(tls_name or ()), output_url, output_user, output_password_file, wifi)
        if output_password_file and not password_file(config, output_password_file).exists():
            check_wanted(config, wanted, password_to_come=True)
            password = typer.prompt("password at the broker", hide_input=True, confirmation_prompt=True)
            wanted = replace(wanted, output_password=password)
        for path in write_setup(config, wanted):
            typer.echo(f"wrote {path}")
        typer.echo(f"next: brim gateway check --config {config} && brim gateway run --config {config}")


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Name every mistake in a configuration at once, each with its line.

    Example: brim gateway check --config brim.toml
    """
    from brim_gateway.errors import ConfigInvalid

    try:
        loaded = read_config(config)
    except ConfigInvalid as exc:
        if as_json:
            print_json({"valid": False, "problems": exc.problems})
        for line in [] if as_json else exc.problems:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        print_json({"valid": True, "problems": []})
    else:
        typer.echo(f"{config}: valid. Site {loaded.site}, {len(loaded.outputs)} output(s).")


@app.command()
def schema(
    table: Annotated[bool, typer.Option("--table", help="The README's table of keys instead.")] = False,
) -> None:
    """Print the JSON Schema (draft 2020-12) of the configuration, for editors and tools.

    Example: brim gateway schema > brim.schema.json
    """
    import json

    from brim_gateway import config_words

    typer.echo(config_words.markdown() if table else json.dumps(config_words.schema(), indent=2), nl=not table)


@app.command()
def service(
    config: ConfigOption = DEFAULT_CONFIG,
    program: Annotated[Path | None, typer.Option(help="The brim program; found by itself if left out.")] = None,
) -> None:
    """Print the systemd unit with the paths filled in.

    Example: brim gateway service --config /etc/brim/brim.toml | sudo tee /etc/systemd/system/brim-gateway.service
    """
    with errors():
        from brim_gateway.systemd import unit_text

        typer.echo(unit_text(config.absolute(), read_config(config), program), nl=False)
