"""How the store is, for those who ask."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class StoreHealth:
    """For /health and /metrics. Times are monotonic seconds. ``cursors``: as they are on disk."""

    commits: int = 0
    readings_new: int = 0
    readings_repeated: int = 0
    failed_commits: int = 0
    last_commit_s: float = 0.0
    busy_since: float | None = None
    last_fault: str | None = None
    newest_id: int = 0
    cursors: dict[str, int] = field(default_factory=dict)
