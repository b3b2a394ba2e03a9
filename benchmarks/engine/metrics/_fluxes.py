# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fluxes at known places, their errors and pulls."""

from __future__ import annotations

__all__ = (
    "DELIVERED_RADIUS",
    "aperture_sigma",
    "ideal_aperture_sigma",
    "independent_sigma",
    "look_up",
    "measure_fluxes",
    "pulls",
)

import astropy.table
import numpy as np
import scipy.fft
import sep
from photutils.aperture import CircularAperture

from lsst.coadd.astroclearnet.core.patch._correlation import measure_noise_correlation
from lsst.coadd.astroclearnet.flux_errors import aperture_flux_error, variance_between_sources
from lsst.coadd.astroclearnet.simulate import PIXEL_SCALE

DELIVERED_RADIUS = 1.0 / PIXEL_SCALE
"""Radius of the standard aperture, 1 arcsec, in pixels."""


def measure_fluxes(
    image: np.ndarray,
    truth_image: np.ndarray,
    sources: astropy.table.Table,
    *,
    psf: np.ndarray,
) -> astropy.table.Table:
    """Measure aperture and PSF fluxes of sources at their true places.

    The PSF flux is the least-squares amplitude of the PSF for uniform
    noise, ``sum P I / sum P^2`` (e.g. Stetson 1987). Both are taken in the
    same way in the truth, so that the ratio shows what the image lacks,
    for galaxies and beside neighbours too.

    Parameters
    ----------
    image
        Image ``(y, x)`` in nJy per pixel.
    truth_image
        Noiseless sky at the PSF of the image.
    sources
        Their ``x`` and ``y`` are used; NaN is given where the centre is not
        on the image.
    psf
        PSF of the image, ``(p, p)``, p odd, centred, sum 1.

    Returns
    -------
    `astropy.table.Table`
        One row a source: ``aperture``, ``aperture_truth``, ``psf``,
        ``psf_truth`` in nJy; ``aperture_error`` and ``psf_error``, ratios to
        the truth's minus 1. The median of these is the flux bias, their
        `Summary.scatter` the robust scatter.
    """
    x, y = np.array(sources["x"], dtype=float), np.array(sources["y"], dtype=float)
    height, width = image.shape
    on_image = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    weights, rows, columns = _psf_weights(psf, x=x[on_image], y=y[on_image])
    table = astropy.table.Table()
    for plane, suffix in ((image, ""), (truth_image, "_truth")):
        aperture, matched = np.full(len(x), np.nan), np.full(len(x), np.nan)
        plane = np.ascontiguousarray(plane, dtype=float)
        if on_image.any():
            places = x[on_image], y[on_image]
            aperture[on_image] = sep.sum_circle(plane, *places, DELIVERED_RADIUS, subpix=0)[0]
            matched[on_image] = np.sum(_stamps(plane, rows, columns, psf.shape[0]) * weights, axis=(1, 2))
        table[f"aperture{suffix}"] = aperture
        table[f"psf{suffix}"] = matched
    for name in ("aperture", "psf"):
        with np.errstate(divide="ignore", invalid="ignore"):
            table[f"{name}_error"] = table[name] / table[f"{name}_truth"] - 1.0
    return table


def ideal_aperture_sigma(
    fluxes: np.ndarray,
    *,
    unit: float,
    radius: float = DELIVERED_RADIUS,
    gain: float = np.inf,
    n_exposures: int = 1,
) -> np.ndarray:
    """Error of an aperture in an ideal inverse-variance mean coadd.

    Ideal: no pixel masked or clipped, no artifact, white noise. The scatter
    of ``(aperture - aperture_truth)`` over this is 1 for such a coadd.

    Parameters
    ----------
    fluxes
        True aperture fluxes in nJy, ``(n,)``.
    unit
        Noise of its pixels in nJy, `coadd_unit`.
    radius
        Radius of the aperture, in pixels.
    gain
        Electrons per nJy in each exposure; infinite for no photon noise.
    n_exposures
        How many exposures share the photon noise, with weights nearly equal.

    Returns
    -------
    `numpy.ndarray`
        Standard deviations in nJy, ``(n,)``.
    """
    offset = (np.arange(8) - 3.5) / 8
    x, y = (axis.ravel() for axis in np.meshgrid(offset, offset))
    weights = _aperture_weights(radius, x=x, y=y)
    # Less than the area: pixels on the rim count by the square of their share.
    sky = unit**2 * np.sum(weights**2) / len(weights)
    photons = np.maximum(fluxes, 0.0) / (gain * n_exposures)
    return np.sqrt(sky + photons)


def independent_sigma(variance: np.ndarray, sources: astropy.table.Table, *, psf: np.ndarray) -> np.ndarray:
    """Error of PSF fluxes if pixels erred independently.

    It is what catalogues make of a variance plane: base_PsfFlux sums
    ``w^2 V`` (lsst/meas_base PsfFlux.cc), with the weights w of
    `measure_fluxes`.

    Parameters
    ----------
    variance
        Variance plane in nJy^2, ``(y, x)``.
    sources
        Their ``x`` and ``y`` are used.
    psf
        PSF of the image, ``(p, p)``.

    Returns
    -------
    `numpy.ndarray`
        Standard deviation in nJy, ``(n,)``; NaN where the centre is not on
        the image.
    """
    x, y = np.array(sources["x"], dtype=float), np.array(sources["y"], dtype=float)
    height, width = variance.shape
    on_image = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    weights, rows, columns = _psf_weights(psf, x=x[on_image], y=y[on_image])
    result = np.full(len(x), np.nan)
    stamps = _stamps(np.asarray(variance, dtype=float), rows, columns, psf.shape[0])
    result[on_image] = np.sqrt(np.sum(stamps * weights**2, axis=(1, 2)))
    return result


def aperture_sigma(
    variance: np.ndarray, noise: np.ndarray, good: np.ndarray, sources: astropy.table.Table
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of aperture fluxes by the written variance.

    Parameters
    ----------
    variance
        Variance plane in nJy^2, ``(y, x)``.
    noise
        Realization of its noise in nJy, ``(y, x)``.
    good
        Pixels with data, ``(y, x)``.
    sources
        Their ``x`` and ``y`` are used.

    Returns
    -------
    correlated, independent : `numpy.ndarray`
        Standard deviations in nJy, ``(n,)``, of the fluxes of
        `measure_fluxes`: with the correlation of the noise of the sky, as
        the catalogues of acn-measure.yaml have it, and as if pixels erred
        independently. NaN where the centre is not on the image.
    """
    x, y = np.array(sources["x"], dtype=float), np.array(sources["y"], dtype=float)
    summed = sep.sum_circle(np.ascontiguousarray(variance, dtype=float), x, y, DELIVERED_RADIUS, subpix=0)[0]
    sky = look_up(variance_between_sources(variance, good), sources)
    independent = np.where(np.isfinite(sky), np.sqrt(summed), np.nan)
    side = round(np.sqrt(np.pi) * DELIVERED_RADIUS)
    area = measure_noise_correlation(noise, variance, good).area(side)
    correlated = aperture_flux_error(independent, radius=DELIVERED_RADIUS, sky_variance=sky, area=area)
    return correlated, independent


def look_up(plane: np.ndarray, sources: astropy.table.Table) -> np.ndarray:
    """Return the pixel of a plane ``(y, x)`` nearest to each source, NaN where
    that is not on it.
    """
    rows, columns = (np.rint(np.array(sources[axis], dtype=float)).astype(int) for axis in ("y", "x"))
    height, width = plane.shape
    inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
    values = np.full(len(sources), np.nan)
    values[inside] = plane[rows[inside], columns[inside]]
    return values


def pulls(flux: np.ndarray, true_flux: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return ``(flux - true_flux) / sigma``, NaN where sigma is not positive.

    With true errors their `summarize` has median 0 and scatter 1.
    """
    sigma = np.asarray(sigma, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sigma > 0, (np.asarray(flux) - np.asarray(true_flux)) / sigma, np.nan)


def _psf_weights(
    psf: np.ndarray, *, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights ``(n, p, p)`` of a PSF flux, and rows and columns of their
    centres.
    """
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    size = psf.shape[0]
    padded = np.pad(psf.astype(float), 8)
    fy, fx = np.fft.fftfreq(len(padded))[:, None], np.fft.rfftfreq(len(padded))
    dx, dy = (x - columns)[:, None, None], (y - rows)[:, None, None]
    phase = np.exp(-2j * np.pi * (fx * dx + fy * dy))
    moved = scipy.fft.irfft2(scipy.fft.rfft2(padded) * phase, s=padded.shape)
    moved = moved[:, 8 : 8 + size, 8 : 8 + size]
    return moved / np.sum(moved**2, axis=(1, 2), keepdims=True), rows, columns


def _aperture_weights(radius: float, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights ``(n, p, p)`` of an aperture flux."""
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    half = int(np.ceil(radius + 1))
    size = 2 * half + 1
    discs = CircularAperture(np.column_stack([x - columns + half, y - rows + half]), r=radius)
    weights = [mask.to_image((size, size)) for mask in discs.to_mask(method="exact")]
    return np.stack(weights)


def _stamps(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """Cut ``(n, size, size)`` about pixels; 0 beyond the edges."""
    half = size // 2
    padded = np.pad(image, half)
    views = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    return views[rows, columns]
