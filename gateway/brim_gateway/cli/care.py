"""Care of a gateway: backup, restore, doctor."""

from __future__ import annotations

import typer

app = typer.Typer()
