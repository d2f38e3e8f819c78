"""What stands on the status page: a bounded part of the bins, the outputs, who is unknown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from brim_gateway.fleet.commands import bin_view
from brim_gateway.model import BinRecord, BinState

BINS_A_PAGE = 500
STRANGERS_MOST = 50


def context(
    status: Mapping[str, Any],
    records: Mapping[str, BinRecord],
    states: Iterable[BinState],
    strangers: Sequence[Mapping[str, Any]],
    number: int,
) -> dict[str, Any]:
    """For the template; ``number``: which page of the bins, from 1, taken into range."""
    state_of = {state.bin: state for state in states}
    names = sorted(records)
    pages = max(1, -(-len(names) // BINS_A_PAGE))
    number = min(max(1, number), pages)
    shown = names[(number - 1) * BINS_A_PAGE : number * BINS_A_PAGE]
    known = {record.dev for record in records.values()} if strangers else set()
    unknown = [one for one in strangers if one.get("dev") not in known]
    return {
        "status": status,
        "bins": [bin_view(records[name], state_of.get(name)) for name in shown],
        "bins_count": len(names),
        "number": number,
        "pages": pages,
        "strangers": unknown[:STRANGERS_MOST],
        "strangers_count": len(unknown),
    }
