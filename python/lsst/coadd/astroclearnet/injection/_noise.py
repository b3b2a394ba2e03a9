# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Photon noise of light that is added to an exposure."""

from __future__ import annotations

__all__ = ("add_photon_noise", "estimate_gain")

import math

import numpy as np

from ..core import InputExposure, Plane

_UNUSABLE = (
    Plane.NO_DATA
    | Plane.BAD
    | Plane.SATURATED
    | Plane.SUSPECT
    | Plane.COSMIC_RAY
    | Plane.INTERPOLATED
    | Plane.CROSSTALK
    | Plane.STREAK
)

_BRIGHT = 10.0
"""Times the noise from which on a pixel tells the photon noise."""

_ENOUGH = 20
"""Number of such pixels that is needed."""


def estimate_gain(exposure: InputExposure) -> float:
    """Infer electrons per nJy from how the variance grows with the flux.

    Parameters
    ----------
    exposure
        A sky-subtracted exposure whose variance includes the photon noise of
        its sources.

    Returns
    -------
    `float`
        Electrons per nJy; NaN where the variance does not tell, because it
        is that of the sky alone or because nothing is bright.

    Notes
    -----
    lsst/source_injection 8da8778 inject_engine.py:442 fits a line to all
    pixels. Here it goes through the median of the sky and the sum of the
    bright pixels, which noise in the flux does not flatten.
    """
    image, variance = (np.asarray(a, dtype=float) for a in (exposure.image, exposure.variance))
    good = np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    good &= (exposure.flags & np.uint32(_UNUSABLE)) == 0
    if not good.any():
        return math.nan
    sky = float(np.median(variance[good]))
    bright = good & (image > _BRIGHT * math.sqrt(sky))
    if np.count_nonzero(bright) < _ENOUGH:
        return math.nan
    excess, flux = float(np.sum(variance[bright] - sky)), float(np.sum(image[bright]))
    # A plane that holds the variance of the sky gives a slope near zero.
    return flux / excess if excess > 0.01 * sky * np.count_nonzero(bright) else math.nan


def add_photon_noise(light: np.ndarray, *, gain: float, rng: np.random.Generator) -> np.ndarray:
    """Draw what arrives of a light.

    Parameters
    ----------
    light
        Expected flux in nJy, ``(y, x)``.
    gain
        Electrons per nJy.
    rng
        Source of chance.

    Returns
    -------
    `numpy.ndarray`
        Flux in nJy, ``(y, x)``; where `light` is negative, as the ringing of
        an interpolated PSF can be, it is returned as it is.
    """
    electrons = rng.poisson(np.maximum(light, 0) * gain)
    return np.where(light > 0, electrons / gain, light)
