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
    "Moments",
    "Sources",
    "adaptive_moments",
    "aperture_fluxes",
    "broadest_fwhm",
    "centroids",
    "half_width",
    "homogenize",
    "adaptive_fwhm",
    "middle_psf",
    "select_isolated",
    "sky_aperture_rms",
)

import dataclasses
import itertools
from collections.abc import Sequence

import galsim.hsm
import numpy as np
import scipy.ndimage
import scipy.spatial
import sep
from astropy.stats import gaussian_fwhm_to_sigma, gaussian_sigma_to_fwhm
from photutils.psf_matching import make_wiener_kernel
from scipy.signal import oaconvolve

from .._coadds import CoaddView, sample_gaussian

_KERNEL_SIZE = 61
_APERTURE_MARGIN = 6.0
"""Border in pixels around an aperture that must be good, too: what a bad pixel
has spoiled when the image was smoothed."""
_LATTICE = (0.15, 0.5, 0.85)  # where PSFs are looked up, along each side


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """Positions at which every plane is measured."""

    x: np.ndarray
    """Patch pixel x, float ``(n,)``."""

    y: np.ndarray
    """Patch pixel y, float ``(n,)``."""

    sky: np.ndarray
    """Pixels free of sources in the plane of detection, bool ``(y, x)``."""

    footprint: np.ndarray | None = None
    """Pixels of the sources that were detected, bool ``(y, x)``."""


def half_width(values: np.ndarray) -> float:
    """Return half the interval that holds the central 68.27 %."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan")
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
    target = sample_gaussian(fwhm, _KERNEL_SIZE)
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


def aperture_fluxes(image: np.ndarray, sources: Sources, *, radius: float, view: CoaddView) -> np.ndarray:
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
    touched, _, _ = sep.sum_circle(unusable, x, y, radius + _APERTURE_MARGIN)
    height, width = image.shape
    inside = (x >= radius) & (y >= radius) & (x < width - radius) & (y < height - radius)
    return np.where(inside & (touched == 0), flux, np.nan)


def centroids(
    image: np.ndarray, sources: Sources, *, fwhm: float, view: CoaddView
) -> tuple[np.ndarray, np.ndarray]:
    """Find windowed centroids near known positions.

    Parameters
    ----------
    image
        Image in nJy, on the pixels of ``view``, at a Gaussian PSF.
    sources
        Where to look.
    fwhm
        FWHM of the PSF, in pixels; the window is as wide.
    view
        Gives origin and bad pixels.

    Returns
    -------
    x, y
        Patch pixels ``(n,)``; NaN where the fit left its place.
    """
    if not len(sources.x):
        return np.zeros(0), np.zeros(0)
    clean = np.ascontiguousarray(np.where(np.isfinite(image), image, 0), dtype=np.float32)
    x, y = sources.x - view.x0, sources.y - view.y0
    found_x, found_y, flag = sep.winpos(clean, x, y, fwhm * gaussian_fwhm_to_sigma)
    lost = (flag != 0) | (np.hypot(found_x - x, found_y - y) > fwhm)
    found_x, found_y = (np.where(lost, np.nan, values) for values in (found_x, found_y))
    return found_x + view.x0, found_y + view.y0


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
    return half_width(fluxes) if len(fluxes) >= 10 else float("nan")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Adaptive moments of a stamp (Hirata & Seljak 2003, as in galsim)."""

    fwhm: float
    """FWHM in pixels of the Gaussian with these moments."""

    e1: float
    """Ellipticity along x, ``(a^2 - b^2) / (a^2 + b^2)``."""

    e2: float
    """The same along the diagonal."""

    dx: float
    """Centroid from the central pixel along x, in pixels."""

    dy: float
    """The same along y."""


def adaptive_moments(stamp: np.ndarray) -> Moments | None:
    """Measure the shape of an object.

    Parameters
    ----------
    stamp
        Object near the centre ``(p, p)``, p odd.

    Returns
    -------
    `Moments` or `None`
        `None` if the moments do not converge.
    """
    image = galsim.Image(np.ascontiguousarray(stamp, dtype=float))
    moments = galsim.hsm.FindAdaptiveMom(image, guess_sig=3.5 * gaussian_fwhm_to_sigma, strict=False)
    if moments.moments_status != 0:
        return None
    centre = image.true_center
    return Moments(
        fwhm=float(moments.moments_sigma * gaussian_sigma_to_fwhm),
        e1=float(moments.observed_e1),
        e2=float(moments.observed_e2),
        dx=float(moments.moments_centroid.x - centre.x),
        dy=float(moments.moments_centroid.y - centre.y),
    )


def adaptive_fwhm(kernel: np.ndarray | None) -> float:
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
    if kernel is None:
        return float("nan")
    moments = adaptive_moments(kernel)
    if moments is not None:
        return moments.fwhm
    # The weight of the moments must not be narrower than a pixel.
    profile = galsim.InterpolatedImage(galsim.Image(np.asarray(kernel, dtype=float), scale=1.0))
    size = 4 * kernel.shape[0] + 1
    moments = adaptive_moments(profile.drawImage(nx=size, ny=size, scale=0.25, method="no_pixel").array)
    return float("nan") if moments is None else moments.fwhm / 4.0


def middle_psf(view: CoaddView) -> np.ndarray | None:
    """Return the PSF ``(p, p)`` where a plane has data, as near to their
    middle as there is one; `None` if there is none.
    """
    found = _find_psfs(view, (0.5,)) or _find_psfs(view, _LATTICE)
    return found[0] if found else None


def broadest_fwhm(view: CoaddView) -> float:
    """Return the FWHM of the broadest PSF on a lattice of places with data, in
    pixels; NaN if none can be measured.
    """
    widths = [adaptive_fwhm(kernel) for kernel in _find_psfs(view, _LATTICE)]
    return max((width for width in widths if np.isfinite(width)), default=float("nan"))


def _find_psfs(view: CoaddView, shares: Sequence[float]) -> list[np.ndarray]:
    """Return the PSFs at the pixels with data that are nearest to a lattice
    over these: a patch at the edge of a field may have data in a corner only.
    """
    step = max(1, min(view.bad.shape) // 200)  # as fine as it need be
    rows, columns = (step * index for index in np.nonzero(~view.bad[::step, ::step]))
    if not len(rows):
        rows, columns = np.nonzero(~view.bad)
    found = []
    for share_y, share_x in itertools.product(shares, repeat=2) if len(rows) else ():
        row = rows.min() + share_y * np.ptp(rows)
        column = columns.min() + share_x * np.ptp(columns)
        nearest = int(np.argmin((rows - row) ** 2 + (columns - column) ** 2))
        kernel = view.psf(x=view.x0 + int(columns[nearest]), y=view.y0 + int(rows[nearest]))
        if kernel is not None:
            found.append(kernel)
    return found
