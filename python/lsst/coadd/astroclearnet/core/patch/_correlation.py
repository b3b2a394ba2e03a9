# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the noise of one pixel goes with that of others."""

from __future__ import annotations

__all__ = ("NoiseCorrelation", "measure_noise_correlation")

import dataclasses

import numpy as np
import scipy.fft

_FAR = 8
"""Lag in pixels, along x and y, up to which the correlation is summed."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class NoiseCorrelation:
    """Correlation of the noise of an image."""

    table: np.ndarray
    """Correlation coefficients ``(17, 17)``, rows by lag in y and columns by
    lag in x from -8 to 8 pixels; 1 in the middle."""

    def at(self, *, x: int, y: int) -> float:
        """Return the coefficient at a lag."""
        return float(self.table[_FAR + y, _FAR + x])

    def area(self, side: int) -> float:
        """Return the number of pixels that share one independent value.

        Parameters
        ----------
        side
            Side of a square, in pixels: the variance of the sum of its pixels
            is this times the sum of their variances.
        """
        lags = np.arange(-_FAR, _FAR + 1)
        share = np.maximum(1 - np.abs(lags) / side, 0)
        return float(share @ self.table @ share)


def measure_noise_correlation(noise: np.ndarray, variance: np.ndarray, good: np.ndarray) -> NoiseCorrelation:
    """Measure the correlation from a realization of the noise.

    Parameters
    ----------
    noise
        The realization, ``(y, x)``.
    variance
        Its variance, so that all pixels count alike.
    good
        Pixels with data.

    Returns
    -------
    `NoiseCorrelation`
        Averaged over the whole image; across the borders of cells the noise
        is drawn anew, which lowers it by less than lag / cell size.
    """
    scaled = np.where(good, noise / np.sqrt(np.where(good, variance, 1.0)), 0.0)
    shape = [scipy.fft.next_fast_len(size + _FAR, real=True) for size in noise.shape]

    def correlate(image: np.ndarray) -> np.ndarray:
        spectrum = scipy.fft.rfft2(image, s=shape)
        sums = scipy.fft.irfft2(np.abs(spectrum) ** 2, s=shape)
        lags = np.arange(-_FAR, _FAR + 1)
        return sums[np.ix_(lags, lags)]

    pairs = correlate(good.astype(float))
    means = correlate(scaled.astype(float)) / np.maximum(pairs, 1.0)
    middle = means[_FAR, _FAR]
    return NoiseCorrelation(table=means / middle if middle > 0 else np.full_like(means, np.nan))
