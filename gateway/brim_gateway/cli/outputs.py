"""Outputs: what the city has not got yet, and why."""

from __future__ import annotations

from brim_gateway.cli.common import group

app = group("Outputs: what the city has not got yet, and why.")
