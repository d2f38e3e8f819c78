"""Whose the files in the data folder are."""

from __future__ import annotations

import os
from pathlib import Path


def give_to_owner(folder: Path) -> None:
    """After root has put files into ``folder``: its owner gets them, or the daemon could not open them."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink():
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
