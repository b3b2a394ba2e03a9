# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stars in crowded fields, fitted together."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.ndimage
import scipy.sparse

from lsst.coadd.astroclearnet.simulate import PIXEL_SCALE

from ..simulated_patch import HALO, SimulatedPatch, simulate_patch
from .skies import N_EXPOSURES, PLAIN, describe_mean, make_blank, sensitivities, tabulate_stars

_SEEDS, _SIDE = tuple(range(600, 608)), 300

_DENSITY, _SLOPE, _RANGE = 300, 0.25, (3.0, 1000.0)
"""Stars per square arcminute above the least S/N of `_BINS`, dex by which
their counts rise in a magnitude, and S/N of the faintest and the brightest."""

_BINS = ((10.0, 20.0), (20.0, 40.0), (40.0, 100.0), (100.0, 1000.0))

_EDGE = 10
"""Pixels along the edge where stars are fitted, but not judged."""

_PLANES = {
    "`acn_coadd`, 2.5 px": {},
    "`acn_coadd`, 3.5 px": {"target_fwhm": 3.5},
    "`deepCoadd` (`method=mean`)": {"method": "mean"},
}


def report(*, quick: bool) -> Iterator[str]:
    """Yield the lines of this section."""
    seeds = _SEEDS[:2] if quick else _SEEDS
    yield from ("## Crowded fields", "")
    text = (
        f"Stars at random places, {_DENSITY} per square arcminute above S/N {_BINS[0][0]:g}; counts rise "
        f"by {_SLOPE:g} dex a magnitude, down to S/N {_RANGE[0]:g}. {len(seeds)} skies of {_SIDE} px. Fluxes "
        "with the declared PSF above the true ones, all fitted together at their true places; means weighted "
        "with the errors of that fit."
    )
    yield from textwrap.wrap(text, 100)
    yield from ("", *_compare(seeds))


def _compare(seeds: Sequence[int]) -> Iterator[str]:
    patches = [_make_patch(seed) for seed in seeds]
    yield "| plane | stars | " + " | ".join(f"S/N {low:g} to {high:g}" for low, high in _BINS) + " |"
    yield "|---" * (2 + len(_BINS)) + "|"
    for name, options in _PLANES.items():
        rows = []
        for patch in patches:
            fit = patch.fit(cell_size=patch.size, **options)
            rows.append(_fit_together(patch, fit.coadd, fit.coadd_psf[0, 0]))
        snr, flux, weight = np.concatenate(rows).T
        cells = []
        for low, high in _BINS:
            chosen = (snr > low) & (snr <= high)
            cells.append(describe_mean(flux[chosen] - 1, weight[chosen]))
        yield f"| {name} | {np.sum(snr > _BINS[0][0])} | {' | '.join(cells)} |"


def _make_patch(seed: int) -> SimulatedPatch:
    """Observe stars whose counts are a power law of their flux."""
    rng = np.random.default_rng([seed, 23])
    side = _SIDE + 2 * HALO
    faintest, brightest = _RANGE
    power = 2.5 * _SLOPE
    density = _DENSITY * (_BINS[0][0] / faintest) ** power
    number = rng.poisson(density * (side * PIXEL_SCALE / 60) ** 2)
    cut = 1 - (brightest / faintest) ** -power
    snr = faintest * (1 - cut * rng.uniform(size=number)) ** (-1 / power)
    flux = snr / np.sqrt(np.sum(sensitivities(make_blank(_SIDE, seed)) ** 2))
    catalog = tabulate_stars(rng.uniform(-0.5, side - 0.5, (number, 2)), flux)
    return simulate_patch(size=_SIDE, n_exposures=N_EXPOSURES, seed=seed, catalog=catalog, **PLAIN)


def _fit_together(patch: SimulatedPatch, image: np.ndarray, psf: np.ndarray) -> np.ndarray:
    """Fit the PSF to all stars together, pixels weighted alike.

    Returns
    -------
    `numpy.ndarray`
        S/N of each star for the optimal filter and without neighbours, its
        flux over the true one, and the inverse square of the error that the
        fit would have on white noise, ``(k, 3)``.
    """
    catalog = patch.truth.catalog
    x, y = np.array(catalog["x"]) - HALO, np.array(catalog["y"]) - HALO
    near = (np.abs(np.array([x, y]) - patch.size / 2) < patch.size / 2 + psf.shape[0] / 2).all(0)
    columns = []
    for star_x, star_y in zip(x[near], y[near], strict=True):
        columns.append(scipy.sparse.csc_array(_place(psf, star_x, star_y, patch.size).reshape(-1, 1)))
    design = scipy.sparse.hstack(columns, format="csc")
    seen = np.asarray(design.sum(0)).ravel() > 0.5
    design, flux = design[:, seen], np.array(catalog["flux"])[near][seen]
    inverse = np.linalg.inv((design.T @ design).toarray())
    found = inverse @ (design.T @ image.ravel())
    snr = flux * np.sqrt(np.sum(sensitivities(patch) ** 2))
    edge = np.minimum(np.array([x, y]), patch.size - 1 - np.array([x, y])).min(0)[near][seen]
    return np.column_stack([snr, found / flux, flux**2 / np.diag(inverse)])[edge > _EDGE]


def _place(psf: np.ndarray, x: float, y: float, side: int) -> np.ndarray:
    """Put a PSF at a place of an empty image, part of it beyond the edge."""
    row, column, half = round(y), round(x), psf.shape[0] // 2
    shifted = scipy.ndimage.fourier_shift(np.fft.fft2(psf), (y - row, x - column))
    # A margin as wide as the stamp takes what is beyond the edge.
    margin = 2 * half + 1
    image = np.zeros((side + 2 * margin,) * 2)
    rows, columns = (slice(start + half + 1, start + half + 1 + margin) for start in (row, column))
    image[rows, columns] = np.fft.ifft2(shifted).real
    return image[margin : margin + side, margin : margin + side]
