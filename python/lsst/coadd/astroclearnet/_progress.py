# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines that tell how far long work is."""

from __future__ import annotations

__all__ = ("StepCounter", "find_step")

import re
import time
from collections.abc import Callable

_STEP = re.compile(r"(?<![\w./])(\d+)/(\d+)(?![\w./])")


class StepCounter:
    """Reports steps, with the time that they took and may still take.

    Parameters
    ----------
    total
        Number of steps.
    report
        Takes each line.
    """

    def __init__(self, total: int, report: Callable[[str], None]):
        self._total, self._report = total, report
        self._done, self._started = 0, time.monotonic()

    def __call__(self, text: str) -> None:
        """Report that one more step is done, and what it was."""
        self._done += 1
        elapsed = time.monotonic() - self._started
        left = elapsed / self._done * (self._total - self._done)
        self._report(f"{self._done}/{self._total} {text}, {elapsed:.0f} s, about {max(left, 0):.0f} s left")


def find_step(line: str) -> tuple[int, int] | None:
    """Read from a line of progress how far the work is.

    Parameters
    ----------
    line
        The first ``k/n`` in it are the steps that are done, and all of
        them: as `StepCounter`, the fit and the training write it.

    Returns
    -------
    `tuple` or `None`
        Steps done, and all; `None` if the line tells no step.
    """
    found = _STEP.search(line)
    if not found or not 0 <= int(found[1]) <= int(found[2]) or not int(found[2]):
        return None
    return int(found[1]), int(found[2])
