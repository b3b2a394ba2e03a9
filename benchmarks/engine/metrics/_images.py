# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole images against the truth."""

from __future__ import annotations

__all__ = (
    "BlankField",
    "SkyStatistics",
    "blank_area",
    "blank_field",
    "detection_filter",
    "psnr",
    "relative_rms",
    "sky_statistics",
    "ssim",
)

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.signal import oaconvolve

from lsst.coadd.astroclearnet._coadds import sample_gaussian
from lsst.coadd.astroclearnet.simulate import PIXEL_SCALE

_FILTER_FWHM = 4.0
_BLANK_BORDER = int(2 * _FILTER_FWHM)
"""Pixels at the edges where `blank_field` does not search."""

_BLOCK = 32
"""Side in pixels of the blocks whose means tell the error of a mean: noise
is not correlated over such distances, gradients of the sky are."""


def detection_filter() -> np.ndarray:
    """Return the kernel with which images are smoothed before peaks are
    looked for: a Gaussian about as broad as the PSF of a coadd.
    """
    return sample_gaussian(_FILTER_FWHM, 2 * int(3 * _FILTER_FWHM) + 1)


def psnr(image: np.ndarray, truth_image: np.ndarray, unit: float) -> float:
    """Peak signal to noise of asinh-scaled images.

    ``20 log10(range(t) / rms(i - t))`` with ``i, t = asinh(image / unit)``:
    PSNR as usual in image restoration, on a scale on which faint sources
    count as bright ones do (Lupton, Gunn & Szalay 1999).

    Parameters
    ----------
    image, truth_image
        Images ``(y, x)`` in one unit of flux.
    unit
        Where the scale turns from linear to logarithmic: `coadd_unit`.

    Returns
    -------
    `float`
        PSNR in dB; infinite for equal images.
    """
    a, b = (np.arcsinh(np.asarray(plane, dtype=float) / unit) for plane in (image, truth_image))
    mean_square = np.mean((a - b) ** 2)
    return float(10 * np.log10(np.ptp(b) ** 2 / mean_square)) if mean_square > 0 else np.inf


def ssim(image: np.ndarray, truth_image: np.ndarray, unit: float) -> float:
    """Structural similarity of asinh-scaled images.

    Wang, Bovik, Sheikh & Simoncelli (2004), equations 13 and 17: Gaussian
    window of 11 pixels and 1.5 px sigma, K1 = 0.01, K2 = 0.03, dynamic range
    that of the scaled truth.

    Parameters
    ----------
    image, truth_image, unit
        As for `psnr`.

    Returns
    -------
    `float`
        Mean over the pixels, without 5 at the edges; 1 for equal images.
    """
    a, b = (np.arcsinh(np.asarray(plane, dtype=float) / unit) for plane in (image, truth_image))
    peak = np.ptp(b)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2

    def local(plane: np.ndarray) -> np.ndarray:
        return gaussian_filter(plane, 1.5, radius=5)[5:-5, 5:-5]

    mean_a, mean_b = local(a), local(b)
    variance_a, variance_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(likeness / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))))


def relative_rms(image: np.ndarray, truth_image: np.ndarray, region: np.ndarray | None = None) -> float:
    """Rms of the error relative to that of the truth.

    ``sqrt(sum (I - T)^2 / sum T^2)`` over a region, bool ``(y, x)``, or the
    whole image.
    """
    chosen = np.s_[:] if region is None else region
    true = np.asarray(truth_image, dtype=float)[chosen]
    error = np.asarray(image, dtype=float)[chosen] - true
    return float(np.sqrt(np.sum(error**2) / np.sum(true**2)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkyStatistics:
    """Noise and level of the sky."""

    rms: float
    """Standard deviation of the pixels, in nJy."""

    mean: float
    """Mean of the pixels in nJy: a pedestal."""

    mean_error: float
    """Standard error of `mean`, from means of blocks of 32 pixels."""

    n: int
    """How many pixels."""


def sky_statistics(image: np.ndarray, truth_image: np.ndarray, unit: float) -> SkyStatistics:
    """Measure the sky where there is next to no light: 0.02 ``unit``.

    Parameters
    ----------
    image
        Image ``(y, x)`` in nJy per pixel.
    truth_image
        Noiseless sky at the PSF of the image; it is subtracted.
    unit
        Noise of a pixel of an ideal mean coadd, in nJy.

    Returns
    -------
    `SkyStatistics`
        NaN with fewer than 100 pixels.
    """
    sky = truth_image < 0.02 * unit
    error = np.asarray(image, dtype=float) - truth_image
    n = int(sky.sum())
    if n < 100:
        return SkyStatistics(rms=np.nan, mean=np.nan, mean_error=np.nan, n=n)
    values = error[sky]
    return SkyStatistics(
        rms=float(values.std()), mean=float(values.mean()), mean_error=_mean_error(error, sky), n=n
    )


def _mean_error(image: np.ndarray, region: np.ndarray) -> float:
    """Standard error of the mean over a region, from blocks of it."""
    rows, columns = np.nonzero(region)
    width = image.shape[1] // _BLOCK + 1
    block = rows // _BLOCK * width + columns // _BLOCK
    deviations = image[region] - image[region].mean()
    sums, counts = np.bincount(block, deviations), np.bincount(block)
    used = counts > 0
    n = int(used.sum())
    # Independent block sums: the error of a ratio estimator (Cochran 1977).
    return float(np.sqrt(np.sum(sums[used] ** 2) * n / max(n - 1, 1)) / counts.sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlankField:
    """What was made of noise."""

    n_peaks: int
    """Local maxima above 5 sigma."""

    per_10_arcmin2: float
    """Their number on 10 square arcmin."""

    highest: float
    """Largest flux, in sigma."""

    mean: float
    """Mean of the pixels in ``unit``."""

    mean_error: float
    """Its standard error."""

    rms: float
    """Standard deviation of the pixels in ``unit``."""


def blank_area(shape: tuple[int, int]) -> float:
    """Return the area that `blank_field` searches, in square arcminutes.

    Parameters
    ----------
    shape
        Of the image, in pixels.
    """
    height, width = (max(side - 2 * _BLANK_BORDER, 0) for side in shape)
    return height * width * (PIXEL_SCALE / 60) ** 2


def blank_field(image: np.ndarray, unit: float, *, psf: np.ndarray) -> BlankField:
    """Look for sources where there are none.

    The image is smoothed by a Gaussian f, as `find_peaks` does it, and its
    median taken away: a pedestal is no source. What a star of the PSF of the
    image would have at such a peak turns it into a flux. Sigma is the error
    of the flux of a star in an ideal mean coadd whose PSF is f,
    ``unit / sqrt(sum f^2)``: a false source is one that would be believed,
    had a coadd a star of its flux.

    Parameters
    ----------
    image
        Image ``(y, x)`` in nJy per pixel, of noise only.
    unit
        Noise of a pixel of an ideal mean coadd, in nJy.
    psf
        PSF of the image, ``(p, p)``, p odd, centred, sum 1.

    Returns
    -------
    `BlankField`
        Peaks and pixels; a border of twice the filter is left out.
    """
    kernel = detection_filter()
    middle = psf.shape[0] // 2
    response = float(oaconvolve(psf.astype(float), kernel, mode="same")[middle, middle])
    sigma = unit / np.sqrt(np.sum(kernel**2)) * response
    image = np.asarray(image, dtype=float)
    inner = np.s_[_BLANK_BORDER:-_BLANK_BORDER, _BLANK_BORDER:-_BLANK_BORDER]
    smooth = oaconvolve(image - np.median(image), kernel, mode="same")
    top = (smooth == maximum_filter(smooth, 3))[inner] & (smooth[inner] > 5.0 * sigma)
    area = blank_area(image.shape)
    whole = np.ones(image.shape, dtype=bool)
    return BlankField(
        n_peaks=int(top.sum()),
        per_10_arcmin2=float(top.sum() * 10 / area),
        highest=float(smooth[inner].max() / sigma),
        mean=float(image.mean() / unit),
        mean_error=_mean_error(image, whole) / unit,
        rms=float(image.std() / unit),
    )
