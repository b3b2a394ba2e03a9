# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are written as a whole or not at all."""

from __future__ import annotations

__all__ = ("write_whole",)

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; what is there is replaced only by a whole one.

    Parameters
    ----------
    path
        The file. What is no plain file, as /dev/stdout, is written to.
    content
        What it shall hold.

    Raises
    ------
    OSError
        If it cannot be written, as on a full disk; it names the file.
    """
    target = path.resolve()  # a link stays one
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(content)
        else:
            _replace(target, content)
    except OSError as error:  # it names none, or one that nobody knows
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _replace(target: Path, content: bytes) -> None:
    """Write beside a file, then put it in its place."""
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a loss of power must not find the name alone
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
