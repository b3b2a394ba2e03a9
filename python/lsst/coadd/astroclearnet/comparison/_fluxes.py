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
    axis_ratio: np.ndarray,
    trunc: np.ndarray,
    fwhm: float,
    radius: float,
) -> np.ndarray:
    """Say what apertures hold of sources of a catalogue.

    Sersic profiles, convolved with a Gaussian PSF.

    Parameters
    ----------
    flux
        True fluxes ``(n,)``.
    half_light_radius
        In pixels ``(n,)``, before the shear that makes the ellipse; 0 for a
        point source.
    sersic_n
        Index ``(n,)``; as the others below not used for point sources.
    axis_ratio
        Minor to major axis ``(n,)``.
    trunc
        Radius in pixels where the profile ends ``(n,)``, before the shear; 0
        where it has no end.
    fwhm
        FWHM of the PSF, in pixels.
    radius
        Radius of the apertures, in pixels.

    Returns
    -------
    `numpy.ndarray`
        Aperture fluxes ``(n,)`` in the unit of ``flux``.
    """
    point = _share(None, fwhm, radius)
    shares = np.full(len(flux), point)
    for i in np.flatnonzero(half_light_radius > 0.05):
        galaxy = _make_profile(half_light_radius[i], sersic_n[i], axis_ratio[i], trunc[i])
        shares[i] = _share(galaxy, fwhm, radius)
    return flux * shares


def _make_profile(size: float, index: float, axis_ratio: float, trunc: float) -> galsim.GSObject:
    """Make a galaxy of flux 1."""
    # Half of the light lies within the half-light radius only if there is
    # room outside.
    end = float(trunc) if trunc > 1.5 * size else 0.0
    profile = galsim.Sersic(n=float(np.clip(index, 0.5, 6.0)), half_light_radius=float(size), trunc=end)
    return profile.shear(q=float(np.clip(axis_ratio, 0.1, 1.0)), beta=0 * galsim.degrees)


def _share(galaxy: galsim.GSObject | None, fwhm: float, radius: float) -> float:
    """Return what part of a profile, or of a point, lies in an aperture."""
    # An aperture takes the light of a pixel as evenly spread over it.
    parts = [galsim.Gaussian(fwhm=fwhm), galsim.Pixel(1.0)]
    profile = galsim.Convolve(parts if galaxy is None else [*parts, galaxy])
    side = 2 * int(np.ceil(radius / _STEP)) + 3
    image = profile.drawImage(nx=side, ny=side, scale=_STEP, method="no_pixel", dtype=float).array
    offset = (np.arange(side) - side // 2) * _STEP
    inside = np.hypot(offset[:, None], offset[None]) <= radius
    return float(image[inside].sum())
