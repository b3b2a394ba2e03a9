# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tells a demo repository from any other folder, and a complete one from
one in the making.
"""

from __future__ import annotations

__all__ = ("MARKER", "clear", "locked", "read_marker", "write_marker")

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._locks import lock_file
from ..repository import RepositoryError

MARKER = "acn_demo.json"
"""File in a demo repository that tells how it was made and whether it is
complete; a folder without it is never touched."""


def read_marker(root: Path) -> dict[str, Any] | None:
    """Return ``complete`` and ``config`` of the repository that is there.

    Returns
    -------
    `dict` or `None`
        `None` where nothing is.

    Raises
    ------
    RepositoryError
        If something else is there.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    marker = root / MARKER
    if not marker.is_file():
        raise RepositoryError(
            f"{root} exists and is not a demo repository; nothing was changed. Give another folder."
        )
    try:
        found = json.loads(marker.read_text())
        return {"complete": bool(found["complete"]), "config": found["config"]}
    except (ValueError, KeyError, TypeError):
        # An interrupted write of the marker itself.
        return {"complete": False, "config": None}


def write_marker(root: Path, config: Mapping[str, Any], *, complete: bool) -> None:
    """Write down what a repository is made from, and whether it is done."""
    content = {"config": dict(config), "complete": complete}
    (root / MARKER).write_text(json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other processes from taking for an interrupted repository what
    this one is at work on; the end of a process, too, unlocks.

    Raises
    ------
    RepositoryError
        If another process is at work.
    """
    with (root / MARKER).open("a") as file:
        lock_file(
            file,
            busy=RepositoryError(
                f"Another process is making {root}; nothing was changed. Wait, or give another folder."
            ),
        )
        yield


def clear(root: Path) -> None:
    """Remove a repository, but not its marker: an interrupted removal can be
    taken up again.
    """
    for path in root.iterdir():
        if path.name != MARKER:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
