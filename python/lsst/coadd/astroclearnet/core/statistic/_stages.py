# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stages of the fit of the Wiener model."""

from __future__ import annotations

__all__ = ("FILL_STRENGTH", "Stage", "plan_stages")

from typing import NamedTuple

import numpy as np

FILL_STRENGTH = 6e-6
"""Strength of the Wiener prior of what holes are filled with. With five times
as much stars are 2 to 4 % faint where the sharpest exposures are missing, with
less the last pixels beside the end of coverage are noisier than is written,
and the size of the cells shows."""


class Stage(NamedTuple):
    """A fit of the Wiener model."""

    strength: float
    """Of the prior."""

    steps: int
    """Most steps of the solver."""

    error: float
    """Of the model, relative to the noise, at which to stop before."""

    clips: bool
    """Whether to clip after it."""


_CLIPPING = (Stage(1e-3, 40, 0.05, True), Stage(1e-4, 40, 0.05, True), Stage(3e-5, 40, 0.05, True))
"""Of a stack that many exposures see everywhere. A strong prior at first keeps
artifacts from being fitted. Fewer stages would save a tenth of the time, but
which pixels are clipped would depend on the size of the cell; so it would if
models of few exposures, which need more steps, stopped earlier."""

_FILL_STEPS, _FILL_ERROR = 300, 0.02

_MANY = 22
"""Exposures from which on the error is that of the stages. Of fewer a hole
takes more of the light, and a filling that stopped early would depend on the
size of the cell."""

_LEAST_SEEN, _THIN = 0.01, 0.25
"""Part of the pixels that count as a place where few exposures see, and share
of the exposures below which they are few. There priors are the weaker, and
models as exact as for so few: they would leave stars in all exposures that
see them, which then are clipped, or filled with too little light."""


def plan_stages(good: np.ndarray, *, fill_strength: float) -> list[Stage]:
    """Say how the model of a stack is fitted.

    Parameters
    ----------
    good
        Whether a pixel can be used, ``(n, h, w)``.
    fill_strength
        Strength of the prior of what holes are filled with, where many
        exposures see everywhere.

    Returns
    -------
    `list` [`Stage`]
        In order; the last fills the holes.
    """
    n, least_depth = len(good), _find_least_depth(good)
    share = min(1.0, least_depth / (_THIN * n))
    exact = min(1.0, least_depth / _MANY) if n >= _MANY else (n / _MANY) ** 2.5
    filling = Stage(fill_strength, _FILL_STEPS, _FILL_ERROR, False)
    return [
        stage._replace(strength=stage.strength * share, error=stage.error * exact)
        for stage in (*_CLIPPING, filling)
    ]


def _find_least_depth(good: np.ndarray) -> int:
    """Return how many exposures see where fewest do."""
    depth = good.sum(0)
    return int(np.quantile(depth[depth > 0], _LEAST_SEEN, method="lower"))
