# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Things on an exposure that are not on the sky."""

from __future__ import annotations

__all__ = ("draw_cosmic_rays", "draw_streak")

import numpy as np
from scipy.ndimage import gaussian_filter


def draw_cosmic_rays(
    rng: np.random.Generator, *, height: int, width: int, number: int, sigma: float
) -> np.ndarray:
    """Draw tracks of charged particles.

    Parameters
    ----------
    rng
        Random numbers.
    height, width
        Shape of the image.
    number
        How many tracks.
    sigma
        Noise of a pixel of the sky; a hit pixel holds 20 to 500 times as much.

    Returns
    -------
    `numpy.ndarray`
        The tracks ``(y, x)``, in the unit of `sigma`.
    """
    tracks = np.zeros((height, width))
    for _ in range(number):
        length = 1.0 + rng.exponential(6.0)
        angle = rng.uniform(0, np.pi)
        steps = np.arange(0, length, 0.25)
        xs = np.round(rng.uniform(0, width) + steps * np.cos(angle)).astype(int)
        ys = np.round(rng.uniform(0, height) + steps * np.sin(angle)).astype(int)
        inside = (xs >= 0) & (xs < width) & (ys >= 0) & (ys < height)
        pixels = np.unique(np.stack([ys[inside], xs[inside]]), axis=1)
        energy = 20.0 * sigma * 10.0 ** rng.uniform(0, 1.4)
        tracks[*pixels] += energy * rng.uniform(0.5, 1.5, pixels.shape[1])
    # A little of the charge diffuses to the neighbours.
    return gaussian_filter(tracks, 0.3)


def draw_streak(
    rng: np.random.Generator, *, height: int, width: int, fwhm: float, brightness: float
) -> np.ndarray:
    """Draw the trail of a satellite across the whole image.

    Parameters
    ----------
    rng
        Random numbers.
    height, width
        Shape of the image.
    fwhm
        FWHM across the trail, in pixels.
    brightness
        Value on its ridge.

    Returns
    -------
    `numpy.ndarray`
        The trail ``(y, x)``, in the unit of `brightness`.
    """
    angle = rng.uniform(0.15, np.pi / 2 - 0.15) * rng.choice([-1, 1])
    x, y = rng.uniform(0.3, 0.7, 2) * (width, height)
    rows, columns = np.mgrid[:height, :width]
    distance = (columns - x) * np.sin(angle) - (rows - y) * np.cos(angle)
    return brightness * np.exp(-4 * np.log(2) * (distance / fwhm) ** 2)
