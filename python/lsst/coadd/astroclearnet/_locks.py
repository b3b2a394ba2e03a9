# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of which one process at a time is at work on something."""

from __future__ import annotations

__all__ = ("lock_file",)

import fcntl
from typing import IO


def lock_file(file: IO[str], *, busy: Exception) -> None:
    """Keep other processes out until a file is closed; the end of a process,
    too, closes it.

    Parameters
    ----------
    file
        Open for writing.
    busy
        Raised if another process keeps this one out.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    except OSError:
        pass  # Some file systems of clusters have no locks.
