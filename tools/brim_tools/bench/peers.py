"""Peers that are measured where they are installed: ThingsBoard's gateway and Node-RED."""

from __future__ import annotations

from brim_tools.bench.relays import Candidate


def installed_peers() -> list[Candidate]:
    return [Candidate(name, None, note="not installed") for name in ("Node-RED 4", "ThingsBoard gateway")]
