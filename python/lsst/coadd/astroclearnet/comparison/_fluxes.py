# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fluxes, positions and their ratios in bins of S/N."""

from __future__ import annotations

__all__ = ("bin_medians", "expected_fluxes", "label_bin")

from collections.abc import Sequence

import galsim
import numpy as np

from ._rows import Row, make_row, measure_median

_STEP = 0.2  # pixel of the drawings of profiles, in pixels of the patch


def label_bin(low: float, high: float) -> str:
    """Name a bin of S/N."""
    return f"snr_{low:g}_{high:g}" if np.isfinite(high) else f"snr_{low:g}"


def bin_medians(
    name: str, plane: str, values: np.ndarray, snr: np.ndarray, bins: Sequence[tuple[float, float]]
) -> list[Row]:
    """Make one row a bin of S/N: the median with its error.

    Parameters
    ----------
    name
        One of the definitions of rows.
    plane
        Which coadd.
    values
        One a source, ``(n,)``; NaN is left out.
    snr
        S/N of the sources, ``(n,)``.
    bins
        Lower and upper edge of each.
    """
    rows = []
    for low, high in bins:
        value, error, n = measure_median(values[(snr >= low) & (snr < high)])
        rows.append(make_row(name, plane, value, error, n=n, suffix=label_bin(low, high)))
    return rows


def expected_fluxes(
    flux: np.ndarray,
    half_light_radius: np.ndarray,
    sersic_n: np.ndarray,
    *,
    fwhm: float,
    radius: float,
) -> np.ndarray:
    """Say what apertures hold of sources of a catalogue.

    Round Sersic profiles, convolved with a Gaussian PSF.

    Parameters
    ----------
    flux
        True fluxes ``(n,)``.
    half_light_radius
        In pixels ``(n,)``; 0 for a point source.
    sersic_n
        Index ``(n,)``; not used for point sources.
    fwhm
        FWHM of the PSF, in pixels.
    radius
        Radius of the apertures, in pixels.

    Returns
    -------
    `numpy.ndarray`
        Aperture fluxes ``(n,)`` in the unit of ``flux``.
    """
    known: dict[tuple[float, float], float] = {}
    shares = np.ones(len(flux))
    for i, (size, index) in enumerate(zip(half_light_radius, sersic_n, strict=True)):
        # One drawing serves all profiles that are within 2 % of each other.
        key = (round(float(np.log(size)), 1), round(float(index), 1)) if size > 0.05 else (-np.inf, 0.0)
        if key not in known:
            known[key] = _share(float(size) if size > 0.05 else 0.0, float(index), fwhm, radius)
        shares[i] = known[key]
    return flux * shares


def _share(size: float, index: float, fwhm: float, radius: float) -> float:
    """Return what part of a profile lies in an aperture."""
    profile: galsim.GSObject = galsim.Gaussian(fwhm=fwhm)
    if size > 0:
        sersic = galsim.Sersic(n=float(np.clip(index, 0.5, 6.0)), half_light_radius=size)
        profile = galsim.Convolve(profile, sersic)
    side = 2 * int(np.ceil(radius / _STEP)) + 3
    image = profile.drawImage(nx=side, ny=side, scale=_STEP, method="no_pixel", dtype=float).array
    offset = (np.arange(side) - side // 2) * _STEP
    inside = np.hypot(offset[:, None], offset[None]) <= radius
    return float(image[inside].sum())
