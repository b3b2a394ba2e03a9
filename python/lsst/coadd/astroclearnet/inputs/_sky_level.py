# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the sky of an exposure was subtracted."""

from __future__ import annotations

__all__ = ("describe_sky",)

import numpy as np

_MOST_SKY = 5.0
"""Median of an exposure, in units of the noise of a pixel, above which it is
hardly that of sources."""


def describe_sky(name: str, *, image: np.ndarray, variance: np.ndarray, good: np.ndarray) -> str:
    """Say that the sky of an exposure is still there; empty if it is not.

    Parameters
    ----------
    name
        Of the exposure, for the text.
    image, variance
        Its pixels, in one unit.
    good
        Those to be used, bool of the same shape.
    """
    if not good.any():
        return ""
    level = float(np.median(image[good])) / float(np.median(variance[good])) ** 0.5
    if abs(level) <= _MOST_SKY:
        return ""
    return f"the sky of {name} is {level:+.0f} sigma of the noise of a pixel, not 0: subtract it first"
