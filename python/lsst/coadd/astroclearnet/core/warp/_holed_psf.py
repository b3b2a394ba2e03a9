# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""PSFs that have no value at some positions."""

from __future__ import annotations

__all__ = ("HoledPsf", "find_kernel", "sample_positions")

import dataclasses

import numpy as np

from .._errors import InvalidExposureError
from .._exposure import PsfModel
from ._warped_psf import normalise_kernel

_LATTICE = 16  # pixels between positions at which a PSF is tried
_TRIALS = 24  # positions that are tried before giving up


def find_kernel(psf: PsfModel, positions: np.ndarray, *, x: float, y: float, label: str) -> np.ndarray:
    """Return the kernel of a PSF at a position, or near it where it has none.

    Parameters
    ----------
    psf
        The model.
    positions
        Pixels ``(n, 2)`` at which the model is tried, x and y, a few pixels
        apart.
    x, y
        Position that is wanted. Where the model has no value, the nearest of
        `positions` that has one takes its place; off all of them, the model
        is not asked.
    label
        Data id for the error.

    Returns
    -------
    `numpy.ndarray`
        Square kernel ``(p, p)``, float64, sum 1.

    Raises
    ------
    InvalidExposureError
        If the model yields no proper kernel at any of them; the text is that
        of the first.
    """
    distance = np.hypot(positions[:, 0] - x, positions[:, 1] - y)
    # Ever farther, because a model may lack values in a whole corner.
    ranks = np.unique(np.geomspace(1, len(distance), _TRIALS).astype(int) - 1)
    trials = positions[np.argsort(distance, kind="stable")[ranks]]
    if distance.min() <= _LATTICE:
        trials = np.concatenate([[(x, y)], trials])
    fault = None
    for trial_x, trial_y in trials:
        try:
            return normalise_kernel(psf(x=float(trial_x), y=float(trial_y)), label=label)
        except InvalidExposureError as error:
            fault = fault or error
    raise fault or AssertionError("There is at least one position.")


def sample_positions(covered: np.ndarray, *, x0: int, y0: int) -> np.ndarray:
    """Return x and y of pixels on a lattice, or of all if it misses them.

    Parameters
    ----------
    covered
        Pixels that may be returned, bool ``(y, x)``; there is one at least.
    x0, y0
        Pixel of element [0, 0].
    """
    for step in (_LATTICE, 1):
        y, x = np.nonzero(covered[::step, ::step])
        if x.size:
            break
    return step * np.stack([x, y], axis=1) + (x0, y0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HoledPsf:
    """PSF of an exposure on its grid, also where it does not cover it."""

    label: str
    psf: PsfModel

    positions: np.ndarray
    """Pixels ``(n, 2)`` of the exposure, x and y, a few pixels apart."""

    def __call__(self, *, x: float, y: float) -> np.ndarray:
        """Return the PSF at a pixel of the grid, float32; `find_kernel` says
        what where the model has no value, as off its detector, and what is
        raised.
        """
        return find_kernel(self.psf, self.positions, x=x, y=y, label=self.label).astype(np.float32)
