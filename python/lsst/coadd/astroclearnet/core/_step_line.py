# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The line of progress of a training on the exposures of a patch."""

from __future__ import annotations

__all__ = ("describe_step",)

import time

from ._stack import HistoryRow


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
    left = (time.monotonic() - started) / max(done, 1) * (steps - done)
    return (
        f"step {done}/{steps}: loss {row['loss']:.4f}, held out {row['held_out_loss']:.4f}, "
        f"chi2 {row['chi2']:.3f}, about {left:.0f} s left"
    )
