# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures that say they have far less noise than they show."""

from __future__ import annotations

__all__ = ("MIN_MODES", "find_understated_noise", "find_width")

from collections.abc import Iterator

import numpy as np
import scipy.ndimage

from .._stack import CellStack

_CENTRAL = (15.866, 84.134)
"""Percentiles of a normal distribution one sigma below and above its mean."""

MIN_MODES = 40.0
"""Independent samples below which an exposure says nothing."""

_FAR_OFF = 1.8
"""Noise power relative to what is said, as pixels show it, from which on the
residuals of a model cannot tell it: too much of the noise is clipped."""

_DARK, _DARK_MEDIAN = 1.0, 3.0
"""Where the median of the others is below one of these, in sigma of an
exposure and of that median, the sky is dark. With less than three the noise
of the median decides on the places, and too little of it is found there."""

_APART = 3
"""Pixels between those that are compared within an exposure: more than the
noise of resampled images is correlated."""


def find_understated_noise(stack: CellStack, sky_variance: np.ndarray) -> np.ndarray:
    """Find exposures whose variances are far too small.

    Such an exposure would rule the coadd, and its noise be clipped as
    artifacts. Noise shows in the exposure itself, to second differences
    between pixels, and on the dark sky against the median of the others, which
    knows the sources: both must tell.

    Parameters
    ----------
    stack
        The exposures.
    sky_variance
        What their variances say of the sky, ``(n,)``.

    Returns
    -------
    `numpy.ndarray`
        Factors ``(n,)``, float32, for their variances: 1 where they are not
        far off.
    """
    n = len(stack.image)
    factors = np.ones(n, dtype=np.float32)
    if n < 3:
        return factors
    images = np.where(stack.good, stack.image, np.nan)[:, ::8]
    relative = images / np.sqrt(np.where(stack.good, stack.variance, 1.0)[:, ::8])
    step = _APART
    curved = (2 * relative[..., step:-step] - relative[..., : -2 * step] - relative[..., 2 * step :]) / 6**0.5
    alone = np.array([find_width(one) ** 2 for one in curved])
    suspects = np.flatnonzero(alone > _FAR_OFF)
    for t, median in zip(suspects, _medians_of_others(images, suspects), strict=True):
        others = np.arange(n) != t
        # Variance of the median of normal deviates of these widths, right to
        # 3 % for three of them.
        of_median = 0.5 * np.pi * (n - 1) ** 2 / (n - 0.43) / (sky_variance[others] ** -0.5).sum() ** 2
        # On sources, and beside them, exposures differ by their seeing.
        dark = np.abs(median) < _find_dark_limit(median, sky_variance[t], of_median)
        dark = scipy.ndimage.binary_erosion(dark, np.ones((1, 3)))
        beside = (find_width((images[t] - median)[dark]) ** 2 - of_median) / sky_variance[t]
        if beside > _FAR_OFF:
            factors[t] = min(alone[t], beside)
    return factors


def _find_dark_limit(median: np.ndarray, sky_variance: float, of_median: float) -> float:
    """Return how bright a median of exposures may be on the dark sky.

    If they all say too little of their noise, its own is what it is below 0,
    for sources only add light.
    """
    seen = median[np.isfinite(median)]
    below = max(0.0, -float(np.percentile(seen, _CENTRAL[0]))) if len(seen) else 0.0
    return max(_DARK * float(sky_variance) ** 0.5, _DARK_MEDIAN * max(below, float(of_median) ** 0.5))


def _medians_of_others(images: np.ndarray, which: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the medians, along the first axis and without NaN, of all images
    but one, for each of `which`; NaN where there is none. All are sorted
    once: in a crowded field every exposure of a deep stack is asked for.
    """
    if not len(which):
        return
    ranked = np.sort(images, axis=0)
    count = np.isfinite(images).sum(0)
    for t in which:
        one = images[t]
        left = count - np.isfinite(one)
        total = np.zeros_like(one)
        for rank in (np.maximum(left - 1, 0) // 2, left // 2):
            value, following = (np.take_along_axis(ranked, rank[None] + k, 0)[0] for k in (0, 1))
            # From its own place on the others are one place further.
            total += np.where(value >= one, following, value)
        yield np.where(left > 0, 0.5 * total, np.nan)


def find_width(values: np.ndarray) -> float:
    """Half the width of the central 68 %, without NaN; 0 for too few."""
    values = values[np.isfinite(values)]
    if len(values) < MIN_MODES:
        return 0.0
    low, high = np.percentile(values, _CENTRAL)
    return 0.5 * (high - low)
