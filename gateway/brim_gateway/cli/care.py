"""Care of a gateway: backup, restore, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brim_gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, errors, print_json, read_config

app = typer.Typer()


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="New file (0600) for the copy.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Copy the database, checked, in one step. A running daemon goes on working. The copy holds keys: keep it safe.

    Example: brim gateway backup /mnt/usb/cabinet-017.db
    """
    with errors():
        from brim_gateway.store.backup import backup as make_backup

        done = make_backup(read_config(config).database, target)
        if as_json:
            print_json(done)
        else:
            typer.echo(f"{done['file']}: {done['bytes']} bytes, {done['bins']} bins, readings to {done['readings_to']}")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `brim gateway backup` made.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the place of the database; what stands there is kept beside it. No daemon may run.

    Counters that bins have used since the backup are raised, so that none is used twice.

    Example: brim gateway restore /mnt/usb/cabinet-017.db
    """
    with errors():
        import time

        from brim_gateway.ownership import give_to_owner
        from brim_gateway.store.backup import restore as put_back

        loaded = read_config(config)
        done = put_back(loaded.database, source, time.time_ns() // 1_000)
        give_to_owner(loaded.data_dir)
        if as_json:
            print_json(done)
            return
        typer.echo(f"{done['file']}: {done['bins']} bins, readings to {done['readings_to']}")
        if done.get("kept"):
            typer.echo(f"what stood there: {done['kept']}")


@app.command()
def doctor(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Look at the whole installation and say what to mend. Changes nothing. Exit code 1 where something must be mended.

    Example: brim gateway doctor --config /etc/brim/brim.toml
    """
    from brim_gateway.doctor import examine

    findings = []
    for finding in examine(config):
        findings.append(finding)
        if not as_json:
            typer.echo(finding.line())
    sick = sum(finding.verdict == "mend" for finding in findings)
    if as_json:
        print_json({"ok": not sick, "findings": [finding.as_dict() for finding in findings]})
    else:
        typer.echo(f"{sick} to mend" if sick else "nothing to mend")
    if sick:
        raise typer.Exit(1)
