# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of fluxes where the noise of pixels is correlated."""

from __future__ import annotations

__all__ = (
    "NOISE_AREA",
    "aperture_flux_error",
    "describe_noise",
    "noise_area",
    "sky_scatter",
    "variance_between_sources",
)

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage
import sep

from .core.patch._correlation import measure_noise_correlation

if TYPE_CHECKING:
    from .core import PatchFit

_LAGS = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (3, 0), (0, 3), (5, 0), (0, 5))
"""Lags x, y in pixels at which the correlation of the noise is told."""

_SIDES = (5, 10, 20, 40)
"""Sides of the squares for whose sums it is told, in pixels."""

NOISE_AREA = "noise_area_"
"""What the names of the areas begin with; the side in pixels ends them."""

_SOURCE, _DIRECTIONS = 21, 8
"""Length in pixels that a faint source does not have in each of so many
directions; a strip that few exposures have seen does, along itself."""


def variance_between_sources(variance: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the variance without what sources add to it.

    What a faint source adds, much in a coadd that is sharper than its
    exposures, says how well it is known, not whether it is there.

    Parameters
    ----------
    variance
        Variance of each pixel, ``(y, x)``.
    good
        Pixels with data, ``(y, x)``; at least one.

    Returns
    -------
    `numpy.ndarray`
        ``(y, x)``. Sources larger than 21 pixels stay.
    """
    variance = np.where(good, variance, np.median(variance[good]))
    along = np.arange(-(_SOURCE // 2), _SOURCE // 2 + 1)
    found = np.zeros_like(variance)
    for angle in np.arange(_DIRECTIONS) * (np.pi / _DIRECTIONS):
        line = np.zeros((_SOURCE, _SOURCE), bool)
        y, x = (np.rint(along * part(angle)).astype(int) + _SOURCE // 2 for part in (np.sin, np.cos))
        line[y, x] = True
        np.maximum(found, scipy.ndimage.grey_opening(variance, footprint=line), out=found)
    return found


def sky_scatter(image: np.ndarray, bad: np.ndarray) -> float:
    """Measure the scatter of the pixels between sources, as `sep` does: by
    clipping in meshes.

    Parameters
    ----------
    image
        Pixels, ``(y, x)``.
    bad
        Pixels to leave out, bool ``(y, x)``.

    Returns
    -------
    `float`
        In the unit of the image; 0 where nearly all pixels are equal.
    """
    return float(sep.Background(np.ascontiguousarray(image, dtype=np.float32), mask=bad).globalrms)


def describe_noise(fit: PatchFit) -> dict[str, float]:
    """Describe the correlation of the noise of the coadd, for its metadata.

    Returns
    -------
    `dict`
        ``noise_correlation_X_Y``, the coefficient at a lag of X and Y pixels,
        and ``noise_area_S``, the pixels that share one independent value: the
        noise of the sum over a square of S pixels is ``sqrt(noise_area_S)``
        times what the variance plane alone says. Empty if there is no noise
        to measure.
    """
    found = measure_noise_correlation(fit.noise, fit.coadd_variance, fit.n_image > 0)
    lags = {f"noise_correlation_{x}_{y}": found.at(x=x, y=y) for x, y in _LAGS}
    numbers = lags | {f"{NOISE_AREA}{side}": found.area(side) for side in _SIDES}
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def noise_area(metadata: Mapping[str, Any], side: float | np.ndarray) -> np.ndarray:
    """Return the number of pixels that share one independent value of noise.

    Parameters
    ----------
    metadata
        That of a coadd, as `describe_noise` makes it.
    side
        Side of a square, in pixels; one, or ``(k,)``.

    Returns
    -------
    `numpy.ndarray`
        As `side`. Interpolated in the inverse of the side, in which the share
        that the border has is linear; NaN if the metadata tells nothing.
    """
    known = {
        float(key.removeprefix(NOISE_AREA)): value
        for key, value in metadata.items()
        if key.startswith(NOISE_AREA)
    }
    if not known:
        return np.full(np.shape(side), np.nan)
    sides = np.array(sorted(known, reverse=True))
    return np.asarray(np.interp(1 / np.asarray(side), 1 / sides, [known[side] for side in sides]))


def aperture_flux_error(
    error: np.ndarray, *, radius: float | np.ndarray, sky_variance: np.ndarray, area: float | np.ndarray
) -> np.ndarray:
    """Return the errors of fluxes in apertures.

    The noise of the sky is correlated, what sources add to the variance is
    taken for independent: by measurement (``benchmarks/EXPERIMENTS.md``).

    Parameters
    ----------
    error
        Errors of independent pixels, the root of the sum of their variances,
        ``(k,)``.
    radius
        Radius of the apertures in pixels, of ellipses the root of the product
        of their half axes; one, or ``(k,)``.
    sky_variance
        `variance_between_sources` at the places of the apertures, ``(k,)``,
        in the squared unit of `error`.
    area
        `noise_area` of a square as large as the aperture, of side
        ``sqrt(pi) radius``; one, or ``(k,)``.

    Returns
    -------
    `numpy.ndarray`
        ``(k,)``.
    """
    return np.sqrt(error**2 + np.maximum(area - 1.0, 0.0) * np.pi * radius**2 * sky_variance)
