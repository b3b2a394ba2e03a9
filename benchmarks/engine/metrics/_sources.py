# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sources of a scene with what the measurements need to know of them."""

from __future__ import annotations

__all__ = ("coadd_unit", "reconvolve", "select_sources", "truth_at_psf")

import functools

import astropy.table
import numpy as np
import scipy.fft
from scipy.ndimage import uniform_filter

from lsst.coadd.astroclearnet._coadds import sample_gaussian
from lsst.coadd.astroclearnet.comparison._photometry import Sources, select_isolated
from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.simulate import StackTruth, source_profile

_GRID = 128
"""Side of the grid for integrals over spatial frequency, in pixels."""

_DISTANCE = 14.0
"""Radius in pixels within which an isolated source has no neighbour of more
than 2 % of its flux."""

_BORDER = 12.0
"""Least distance in pixels of a source from the centre of a pixel at the
edge."""

_SMALL = 0.35
"""Half-light radius in arcsec below which a galaxy is a small one."""

_SHARP_FWHM = 2.0
"""FWHM in pixels of the sky that is brought to other PSFs: the narrowest
whose sampling loses nothing that they could show."""


def coadd_unit(sky_sigma: np.ndarray) -> float:
    """Noise of a pixel in an ideal inverse-variance mean coadd.

    Parameters
    ----------
    sky_sigma
        Noise of the sky in each exposure, ``(n,)``.

    Returns
    -------
    `float`
        ``(sum_t 1 / sigma_t^2)^(-1/2)``, in the unit of ``sky_sigma``.
    """
    return float(np.sum(np.asarray(sky_sigma, dtype=float) ** -2.0) ** -0.5)


def select_sources(truth: StackTruth, stack: CellStack, *, halo: int) -> astropy.table.Table:
    """List the sources of a scene with S/N, kind and surroundings.

    S/N is that of the optimal filter for a source of known profile and
    place in all exposures together, against the noise of the sky (e.g.
    Zackay & Ofek 2017): ``SNR^2 = sum_k |G_k|^2 den_k`` with
    ``den = sum_t |K_t|^2 / sigma_t^2`` for transfer functions K_t of the
    PSFs and G of the source. It is multiplied by the square root of the
    share of the exposures' weight that is not masked near the source.

    Parameters
    ----------
    truth
        The sky; its catalogue can be any with the columns of `make_catalog`.
    stack
        The exposures, halo included.
    halo
        Border that images to be measured lack, in pixels.

    Returns
    -------
    `astropy.table.Table`
        All rows of the catalogue with ``x``, ``y`` in pixels of the images
        without halo, and ``kind`` (``star``, ``small``, ``large``), ``snr``,
        ``inside``, ``isolated`` and ``usable`` (both, and not saturated).
    """
    table = truth.catalog.copy()
    table["x"] -= float(halo)
    table["y"] -= float(halo)
    x, y, flux = (np.array(table[name], dtype=float) for name in ("x", "y", "flux"))
    star = np.array(table["type"]) == "star"
    faint = np.array(table["half_light_radius"]) < _SMALL
    table["kind"] = np.where(star, "star", np.where(faint, "small", "large"))
    scale = truth.config.pixel_scale
    coverage = _coverage(stack, truth.sky_sigma, x=x + halo, y=y + halo)
    table["snr"] = _optimal_snr(table, star, stack, truth.sky_sigma, scale) * coverage**0.5
    height, width = (length - 2 * halo for length in stack.image.shape[1:])
    right, top = width - 1 - _BORDER, height - 1 - _BORDER
    table["inside"] = (x >= _BORDER) & (y >= _BORDER) & (x <= right) & (y <= top)
    places = Sources(x=x, y=y, sky=np.zeros((0, 0), dtype=bool))
    table["isolated"] = select_isolated(places, flux, distance=_DISTANCE)
    table["usable"] = table["inside"] & table["isolated"] & ~table["saturated"]
    return table


def _power(stack: CellStack, sky_sigma: np.ndarray) -> np.ndarray:
    """Noise-weighted power of the PSFs, on a square of frequencies."""
    transfer = scipy.fft.fft2(stack.psf.astype(float), s=(_GRID, _GRID))
    return np.tensordot(np.asarray(sky_sigma, dtype=float) ** -2.0, np.abs(transfer) ** 2, axes=1)


def _optimal_snr(
    table: astropy.table.Table, star: np.ndarray, stack: CellStack, sky_sigma: np.ndarray, pixel_scale: float
) -> np.ndarray:
    power = np.fft.fftshift(_power(stack, sky_sigma))
    snr = np.array(table["flux"]) * np.mean(power) ** 0.5
    step = 2 * np.pi / (_GRID * pixel_scale)
    for row in np.flatnonzero(~star):
        transfer = source_profile(table[row]).drawKImage(nx=_GRID, ny=_GRID, scale=step).array
        snr[row] = np.mean(np.abs(transfer) ** 2 * power) ** 0.5
    return snr


def _coverage(stack: CellStack, sky_sigma: np.ndarray, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of the weight that is not masked, over 5 pixels about a place."""
    weight = np.asarray(sky_sigma, dtype=float) ** -2.0
    share = uniform_filter(np.tensordot(weight / weight.sum(), stack.good, axes=1), 5)
    height, width = share.shape
    rows = np.clip(np.rint(y).astype(int), 0, height - 1)
    columns = np.clip(np.rint(x).astype(int), 0, width - 1)
    return np.maximum(share[rows, columns], 0.0)


def truth_at_psf(truth: StackTruth, kernel: np.ndarray, *, halo: int = 0) -> np.ndarray:
    """Draw the true sky at a sampled PSF, e.g. that of a mean coadd.

    Parameters
    ----------
    truth
        The sky.
    kernel
        PSF with the pixel response, ``(p, p)``, p odd, centred.
    halo
        Border to cut away, in pixels.

    Returns
    -------
    `numpy.ndarray`
        Noiseless sky in nJy per pixel, float64 ``(y, x)``.
    """
    image = reconvolve(_sharp_sky(truth), fwhm=_SHARP_FWHM, kernel=kernel)
    height, width = image.shape
    return image[halo : height - halo, halo : width - halo]


@functools.lru_cache(maxsize=2)
def _sharp_sky(truth: StackTruth) -> np.ndarray:
    """Draw the sky once for all cells and peers."""
    return truth.draw(target_fwhm=_SHARP_FWHM)


def reconvolve(image: np.ndarray, *, fwhm: float, kernel: np.ndarray) -> np.ndarray:
    """Bring a noiseless image from a Gaussian PSF to another one.

    Parameters
    ----------
    image
        Image ``(y, x)``.
    fwhm
        FWHM of its Gaussian PSF, in pixels.
    kernel
        The PSF to bring it to, ``(p, p)``, p odd, centred; broader.

    Returns
    -------
    `numpy.ndarray`
        Image at the PSF ``kernel``, float64 ``(y, x)``. Nothing is known
        beyond the edges: their light is missing within the kernel's radius.
    """
    shape = [scipy.fft.next_fast_len(n + kernel.shape[0] - 1, real=True) for n in image.shape]
    # Both kernels are centred in stamps of one size, so the shifts cancel.
    narrow = scipy.fft.rfft2(sample_gaussian(fwhm, kernel.shape[0]), s=shape)
    ratio = scipy.fft.rfft2(kernel.astype(float), s=shape) * narrow.conj() / (np.abs(narrow) ** 2 + 1e-7)
    full = scipy.fft.irfft2(scipy.fft.rfft2(image.astype(float), s=shape) * ratio, s=shape)
    return full[: image.shape[0], : image.shape[1]]
