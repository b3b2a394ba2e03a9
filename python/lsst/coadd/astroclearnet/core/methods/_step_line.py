# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The line of progress of a training on the exposures of a patch."""

from __future__ import annotations

__all__ = ("describe_step", "describe_time")

import time

from .._stack import HistoryRow


def describe_time(*, done: int, steps: int, started: float) -> str:
    """Say how long steps took, and how long the others may take.

    Parameters
    ----------
    done, steps
        Steps done, and all.
    started
        `time.monotonic` before the first.
    """
    elapsed = time.monotonic() - started
    return f"{elapsed:.0f} s, about {_time_left(elapsed, done, steps):.0f} s left"


def describe_step(row: HistoryRow, *, done: int, steps: int, started: float) -> str:
    """Say how far a training is.

    Parameters
    ----------
    row
        What the fit history says of the step.
    done, steps
        Steps done, and all.
    started
        `time.monotonic` at the first.
    """
    left = _time_left(time.monotonic() - started, done, steps)
    return (
        f"step {done}/{steps}: loss {row['loss']:.4f}, held out {row['held_out_loss']:.4f}, "
        f"chi2 {row['chi2']:.3f}, about {left:.0f} s left"
    )


def _time_left(elapsed: float, done: int, steps: int) -> float:
    return elapsed / max(done, 1) * max(steps - done, 0)
