"""Outputs: list, test, letters, retry, forget."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from brim_gateway.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    errors,
    group,
    perform,
    print_json,
    read_config,
)

app = group("Outputs: what the city has not got yet, and why.")
OutputArgument = Annotated[str, typer.Argument(metavar="NAME", help="The output's name in the configuration.")]


@app.command("list")
def outputs_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Every output that the database knows, also those that no configuration names any more.

    Example: brim gateway outputs list
    """
    with errors():
        found = perform(config, "outputs.list")
        if as_json:
            print_json(found)
            return
        for one in found:
            typer.echo(f"{one['name']:24} {one['waiting']:>9} waiting  {_about(one)}")
        known = {one["name"] for one in found}
        to_come = [one.name for one in read_config(config).outputs if one.name not in known]
        for name in to_come:
            typer.echo(f"{name:24} {'-':>9} waiting  begins when the gateway next starts or reloads")
        if not known and not to_come:
            typer.echo("no output: readings are kept here only; add [[output]] to the configuration")


def _about(one: dict[str, Any]) -> str:
    words = []
    if "connected" in one:
        words.append(f"MQTT {one['protocol']}" if one["connected"] else "NOT CONNECTED")
    if one.get("dead_letters"):
        words.append(f"{one['dead_letters']} dead letters")
    if one.get("dropped_unsent"):
        words.append(f"{one['dropped_unsent']} LOST to keep_max_mb")
    if one.get("held_until"):
        words.append(f"not in the configuration: held until {one['held_until']}, or `outputs forget`")
    if one.get("last_fault"):
        words.append(f"last fault: {one['last_fault']}")
    return ", ".join(words) or "-"


@app.command("test")
def outputs_test(name: OutputArgument, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Connect as this output does, publish to two test topics, read back. Exit code 1: something must be mended.

    MQTT 3.1.1 cannot show a refusal: only what comes back proves that the broker took it.

    Example: brim gateway outputs test city
    """
    with errors():
        from brim_gateway.errors import RegistryError
        from brim_gateway.probe import probe

        loaded = read_config(config)
        wanted = {one.name: one for one in loaded.outputs}
        if name not in wanted:
            known = ", ".join(wanted) or "none"
            raise RegistryError([f"{name[:64]!r}: no such output; the configuration names {known}"])
        steps = []
        for step in probe(wanted[name], loaded.site):
            steps.append(step)
            if not as_json:
                typer.echo(f"{step.verdict:5} {step.what}: {step.text}")
    failed = any(step.verdict == "mend" for step in steps)
    if as_json:
        print_json({"output": name, "ok": not failed, "steps": [step.as_dict() for step in steps]})
    if failed:
        raise typer.Exit(1)


@app.command("letters")
def outputs_letters(
    name: OutputArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option(help="So many of the newest.", min=1, max=1_000)] = 20,
    as_json: JsonOption = False,
) -> None:
    """Messages that the broker refused for good, newest first, each with its reason.

    Example: brim gateway outputs letters city --limit 5
    """
    with errors():
        found = perform(config, "outputs.letters", output=name, limit=limit)
        if as_json:
            print_json(found)
            return
        for one in found:
            gone = "" if one["still_kept"] else " (its reading is no longer kept)"
            typer.echo(f"{one['at']} {one['topic']}: {one['reason']}{gone}")
        if not found:
            typer.echo("no dead letters")


@app.command("retry")
def outputs_retry(name: OutputArgument, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Send the dead letters of an output again, for when the broker's rules were mended.

    Example: brim gateway outputs retry city
    """
    with errors():
        done = perform(config, "outputs.retry", output=name)
        if as_json:
            print_json(done)
        elif not done.get("connected", True):
            typer.echo(f"{name}: not connected; nothing was tried")
        else:
            typer.echo(f"{name}: {done['tried']} tried again; `brim gateway outputs letters {name}` shows what is left")
    if not done.get("connected", True):
        raise typer.Exit(1)


@app.command("forget")
def outputs_forget(name: OutputArgument, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Give up what is held for an output that the configuration names no more. It is held for 7 days otherwise.

    Example: brim gateway outputs forget old-city
    """
    with errors():
        done = perform(config, "outputs.forget", output=name)
        if as_json:
            print_json(done)
        else:
            typer.echo(f"{done['output']} forgotten; {done['released']} readings are held for it no longer")
