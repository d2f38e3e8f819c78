"""Commands to bins: a downlink payload, kept until it is sent or expired."""

from __future__ import annotations

from brim_gateway.cli.common import group

app = group("Commands to bins: a downlink payload, kept until it is sent or expired.")
