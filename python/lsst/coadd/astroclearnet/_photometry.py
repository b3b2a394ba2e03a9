# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measurements on coadds that take the same sources in every plane."""

from __future__ import annotations

__all__ = (
    "Sources",
    "aperture_fluxes",
    "detect_sources",
    "find_stars",
    "homogenize",
    "kernel_fwhm",
    "select_isolated",
    "sky_aperture_rms",
    "star_fwhm",
)

import dataclasses
from collections.abc import Callable

import galsim.hsm
import numpy as np
import scipy.ndimage
import scipy.spatial
import sep
from photutils.psf_matching import make_wiener_kernel
from scipy.signal import oaconvolve

from ._coadds import CoaddView, gaussian_kernel

_FWHM_PER_SIGMA = 2.354820045
_KERNEL_SIZE = 61


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """Positions at which every plane is measured."""

    x: np.ndarray
    """Patch pixel x, float ``(n,)``."""

    y: np.ndarray
    """Patch pixel y, float ``(n,)``."""

    sky: np.ndarray
    """Pixels free of sources in the plane of detection, bool ``(y, x)``."""


def detect_sources(view: CoaddView, *, threshold: float) -> Sources:
    """Detect sources with `sep`, matched to the plane's own noise.

    Parameters
    ----------
    view
        Plane to detect in.
    threshold
        Detection threshold after the matched filter, in sigma.

    Returns
    -------
    `Sources`
        Positions, and the pixels left after everything above 1.5 sigma and
        its surroundings has been cut away.
    """
    image = np.ascontiguousarray(view.image, dtype=np.float32)
    good = ~view.bad & (view.variance > 0)
    if not good.any():
        return Sources(x=np.zeros(0), y=np.zeros(0), sky=good)
    error = np.sqrt(np.where(good, view.variance, np.inf)).astype(np.float32)
    error[~good] = np.median(error[good])
    # Resampled noise is correlated and its variance not always right: take
    # the level of the noise from the pixels, its shape from the variance.
    error *= _half_width(image[good] / error[good])
    found = _extract(image, threshold, error, ~good)
    _, wide = sep.extract(image, 1.5, err=error, mask=~good, segmentation_map=True, minarea=5)
    sources = scipy.ndimage.binary_dilation(wide > 0, iterations=6)
    return Sources(x=found["x"] + view.x0, y=found["y"] + view.y0, sky=good & ~sources)


def _extract(image: np.ndarray, threshold: float, error: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Run `sep` with a wide matched filter, in a crowded field too.

    Its cleaning is off: it takes faint galaxies beside bright stars away.
    """
    kernel = gaussian_kernel(3.5, 7).astype(np.float32)
    sep.set_extract_pixstack(max(300000, image.size // 2))
    options = dict(filter_kernel=kernel, minarea=5, deblend_cont=0.001, clean=False)
    return sep.extract(image, threshold, err=error, mask=mask, **options)


def _half_width(values: np.ndarray) -> float:
    """Return half the interval that holds the central 68.27 %."""
    low, high = np.percentile(values, (15.865, 84.135))
    return max(float(high - low) / 2, np.finfo(np.float32).tiny)


def homogenize(view: CoaddView, *, fwhm: float, step: int = 200) -> np.ndarray:
    """Bring a plane to a Gaussian PSF, block by block.

    Parameters
    ----------
    view
        Plane, with its PSF.
    fwhm
        FWHM of the Gaussian, in pixels; broader than the plane's PSF.
    step
        Side of the blocks with one kernel, in pixels.

    Returns
    -------
    `numpy.ndarray`
        Image in nJy, float32 ``(y, x)``; NaN where there is no PSF.
    """
    x0, y0, width, height = view.box
    result = np.full((height, width), np.nan, dtype=np.float32)
    margin = _KERNEL_SIZE // 2
    padded = np.pad(view.image, margin)
    target = gaussian_kernel(fwhm, _KERNEL_SIZE)
    for y in range(0, height, step):
        for x in range(0, width, step):
            h, w = min(step, height - y), min(step, width - x)
            kernel = view.psf(x=x0 + x + w // 2, y=y0 + y + h // 2)
            if kernel is None:
                continue
            match = make_wiener_kernel(_fit_stamp(kernel), target, regularization=1e-5)
            block = padded[y : y + h + 2 * margin, x : x + w + 2 * margin]
            result[y : y + h, x : x + w] = oaconvolve(block, match / match.sum(), mode="valid")
    return result


def _fit_stamp(kernel: np.ndarray) -> np.ndarray:
    """Crop or pad a PSF to the common size and to sum 1."""
    excess = max(0, (kernel.shape[0] - _KERNEL_SIZE) // 2)
    kernel = kernel[excess : kernel.shape[0] - excess, excess : kernel.shape[1] - excess]
    kernel = np.pad(kernel, (_KERNEL_SIZE - kernel.shape[0]) // 2)
    return kernel / kernel.sum()


def aperture_fluxes(
    image: np.ndarray, sources: Sources, *, radius: float, view: CoaddView, margin: float = 6.0
) -> np.ndarray:
    """Sum circular apertures.

    Parameters
    ----------
    image
        Image in nJy, on the pixels of ``view``.
    sources
        Positions.
    radius
        Radius of the apertures, in pixels.
    view
        Gives origin and bad pixels.
    margin
        Border in pixels around an aperture that must be good, too: what a
        bad pixel has spoiled when the image was smoothed.

    Returns
    -------
    `numpy.ndarray`
        Fluxes in nJy ``(n,)``; NaN where a pixel is bad, or saturated, or
        beyond the edge.
    """
    unusable = (view.bad | view.saturated | ~np.isfinite(image)).astype(np.float32)
    clean = np.ascontiguousarray(np.where(np.isfinite(image), image, 0), dtype=np.float32)
    x, y = sources.x - view.x0, sources.y - view.y0
    if not len(x):
        return np.zeros(0)
    flux, _, _ = sep.sum_circle(clean, x, y, radius)
    touched, _, _ = sep.sum_circle(unusable, x, y, radius + margin)
    height, width = image.shape
    inside = (x >= radius) & (y >= radius) & (x < width - radius) & (y < height - radius)
    return np.where(inside & (touched == 0), flux, np.nan)


def sky_aperture_rms(image: np.ndarray, sources: Sources, *, radius: float, view: CoaddView) -> float:
    """Measure the scatter of apertures on empty sky.

    Parameters
    ----------
    image, radius, view
        As for `aperture_fluxes`.
    sources
        Gives the pixels free of sources.

    Returns
    -------
    `float`
        Robust rms in nJy; NaN with fewer than 10 empty places.
    """
    step = int(np.ceil(2 * radius))
    y, x = np.mgrid[step : image.shape[0] - step : step, step : image.shape[1] - step : step]
    blank = sources.sky[y, x].ravel()
    places = Sources(x=x.ravel()[blank] + view.x0, y=y.ravel()[blank] + view.y0, sky=sources.sky)
    fluxes = aperture_fluxes(image, places, radius=radius, view=view)
    fluxes = fluxes[np.isfinite(fluxes)]
    return _half_width(fluxes) if len(fluxes) >= 10 else float("nan")


def select_isolated(sources: Sources, flux: np.ndarray, *, distance: float) -> np.ndarray:
    """Find the sources that no neighbour disturbs.

    Parameters
    ----------
    sources
        Positions.
    flux
        Flux of each, in any unit.
    distance
        Radius in pixels within which no neighbour may have more than 2 % of
        the source's own flux.

    Returns
    -------
    `numpy.ndarray`
        Isolated sources, bool ``(n,)``.
    """
    isolated = np.isfinite(flux) & (flux > 0)
    if len(flux) < 2:
        return isolated
    tree = scipy.spatial.KDTree(np.column_stack([sources.x, sources.y]))
    known = np.nan_to_num(flux)
    for i, j in tree.query_pairs(distance):
        isolated[i] &= known[j] < 0.02 * known[i]
        isolated[j] &= known[i] < 0.02 * known[j]
    return isolated


def _adaptive_fwhm(stamp: np.ndarray, guess: float) -> float:
    """Measure the width of a centred object; NaN when it has none."""
    image = galsim.Image(np.ascontiguousarray(stamp, dtype=float))
    moments = galsim.hsm.FindAdaptiveMom(image, guess_sig=guess / _FWHM_PER_SIGMA, strict=False)
    if moments.moments_status != 0:
        return float("nan")
    return float(moments.moments_sigma * _FWHM_PER_SIGMA)


def kernel_fwhm(kernel: np.ndarray | None) -> float:
    """Measure a PSF as the stars are measured.

    Parameters
    ----------
    kernel
        PSF ``(p, p)``, or `None`.

    Returns
    -------
    `float`
        FWHM in pixels of the Gaussian with the kernel's adaptive moments;
        NaN without a kernel.
    """
    return float("nan") if kernel is None else _adaptive_fwhm(kernel, 3.5)


def star_fwhm(view: CoaddView, *, x: float, y: float) -> float:
    """Measure one star.

    Parameters
    ----------
    view
        Plane.
    x, y
        Position in patch pixels.

    Returns
    -------
    `float`
        FWHM in pixels of the Gaussian with the star's adaptive moments
        (Hirata & Seljak 2003, as in `galsim.hsm`); NaN if the stamp is
        not complete or the moments do not converge.
    """
    half = 12
    column, row = round(x) - view.x0, round(y) - view.y0
    height, width = view.image.shape
    if not (half <= column < width - half and half <= row < height - half):
        return float("nan")
    stamp = (slice(row - half, row + half + 1), slice(column - half, column + half + 1))
    if view.bad[stamp].any() or view.saturated[stamp].any():
        return float("nan")
    return _adaptive_fwhm(view.image[stamp], 3.5)


def find_stars(view: CoaddView, sources: Sources, candidates: np.ndarray) -> np.ndarray:
    """Find the point sources by their width against the plane's PSF.

    Parameters
    ----------
    view
        Plane with a trustworthy PSF.
    sources
        Positions.
    candidates
        Bright and isolated sources, bool ``(n,)``.

    Returns
    -------
    `numpy.ndarray`
        Stars, bool ``(n,)``: width within 4 % of the PSF's.
    """
    psf_fwhm = _memoize_psf(view)
    stars = np.zeros(len(sources.x), dtype=bool)
    for i in np.flatnonzero(candidates):
        ratio = star_fwhm(view, x=sources.x[i], y=sources.y[i]) / psf_fwhm(sources.x[i], sources.y[i])
        stars[i] = abs(ratio - 1) < 0.04
    return stars


def _memoize_psf(view: CoaddView) -> Callable[[float, float], float]:
    """Measure the PSF of a plane once for each 50 px block."""
    known: dict[tuple[int, int], float] = {}

    def fwhm(x: float, y: float) -> float:
        key = (int(x) // 50, int(y) // 50)
        if key not in known:
            known[key] = kernel_fwhm(view.psf(x=x, y=y))
        return known[key]

    return fwhm
