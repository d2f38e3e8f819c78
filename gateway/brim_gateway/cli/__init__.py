"""`brim gateway …`: the daemon and its registry, for the person who operates it.

Exit codes: 0 done, 1 it failed, 2 wrong use (also: the configuration or the bins given are not valid).
"""

from __future__ import annotations

import typer

from brim_gateway.cli import bins, care, command, daemon, decode, keys, outputs, setup

app = typer.Typer(
    name="gateway",
    help="The gateway daemon in the street cabinet, and its registry of bins.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for group in (setup, daemon, care, decode):
    app.registered_commands += group.app.registered_commands
app.add_typer(bins.app, name="bins")
app.add_typer(keys.app, name="keys")
app.add_typer(outputs.app, name="outputs")
app.add_typer(command.app, name="command")


def main() -> None:
    """For `python -m brim_gateway.cli`."""
    app(prog_name="brim gateway")
