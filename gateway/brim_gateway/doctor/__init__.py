"""`brim gateway doctor`: looks at an installation, also a broken one, and says what to mend. Never changes anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from brim_gateway.config import Config, load
from brim_gateway.doctor import database, place, surroundings
from brim_gateway.doctor.finding import Finding, mend, ok
from brim_gateway.errors import ConfigInvalid

Check = Callable[[Config], Iterator[Finding]]


def examine(path: Path) -> Iterator[Finding]:
    """Every finding, as it is made. ``path`` is the configuration, which may be missing or wrong."""
    config: Config | None = None
    try:
        config = load(path, need_credentials=False)
    except ConfigInvalid as exc:
        do = f"mend that; then brim gateway check --config {path}"
        if not os.access(path, os.R_OK):
            do = "name with --config a file that is there and that you may read"
        for problem in exc.problems:
            yield mend("config", problem, do)
    else:
        yield ok("config", f"{path}: valid, site {config.site}")
    if config is None:
        # The folder is looked at all the same: what broke the file may have broken it too.
        guess = place.data_dir_of(path)
        config = Config(site="unknown", data_dir=guess, control_socket=guess / "control.sock", clock="trusted")
        checks: tuple[Check, ...] = (place.folder, place.disk, database.database)
    else:
        checks = (
            place.folder,
            place.disk,
            place.secrets,
            database.database,
            place.daemon,
            surroundings.clock,
            surroundings.certificates,
            surroundings.doors,
            surroundings.receive_buffer,
            surroundings.outputs,
        )
    for check in checks:
        try:
            yield from check(config)
        except Exception as exc:  # noqa: BLE001 - one check that fails must not hide the others
            name = check.__name__.replace("_", " ")
            yield mend(name, f"could not be looked at: {type(exc).__name__}: {exc}", "run doctor as root")
