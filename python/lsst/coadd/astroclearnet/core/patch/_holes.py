# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Places that no input sees: small holes, and gaps in the coverage."""

from __future__ import annotations

__all__ = ("find_small_holes",)

import numpy as np
import scipy.ndimage

_DEPTH = 6
"""Distance in pixels from the nearest pixel with data up to which a hole is
small, as far as the wings of a star tell of its core."""


def find_small_holes(unseen: np.ndarray) -> np.ndarray:
    """Find the holes of which no pixel is far from data.

    Parameters
    ----------
    unseen
        Where there are no data, bool ``(y, x)``. What ends at the border of
        the array goes on beyond it: a strip along the border is no hole.

    Returns
    -------
    `numpy.ndarray`
        The pixels of small holes, bool ``(y, x)``.
    """
    if not unseen.any():
        return unseen
    border = 2 * _DEPTH
    wide = np.pad(unseen, border, mode="edge")
    holes, count = scipy.ndimage.label(wide, structure=np.ones((3, 3)))
    depth = scipy.ndimage.distance_transform_edt(wide)
    is_small = scipy.ndimage.maximum(depth, holes, index=np.arange(count + 1)) <= _DEPTH
    return unseen & is_small[holes[border:-border, border:-border]]
