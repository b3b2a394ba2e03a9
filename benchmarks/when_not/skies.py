# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures that the sections have in common."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import astropy.table
import numpy as np

from lsst.coadd.astroclearnet.simulate import PsfField, draw_signal

from ..engine.skies import empty_catalog, tabulate
from ..simulated_patch import HALO, SimulatedPatch, simulate_patch

N_EXPOSURES = 16
"""Of every sky."""

PLAIN = {"streak": False, "masked_trail": False, "bad_columns": 0}
PLAIN |= {"cosmic_rays": 0, "unmasked_cosmic_rays": 0, "stamp_size": 61}
"""Exposures without artifacts, which would add an effect of their own."""


def make_grid(count: int, spacing: int, rng: np.random.Generator) -> np.ndarray:
    """Return x, y of ``count**2`` places in arrays with halo, not quite on
    the middle of pixels.
    """
    steps = HALO + spacing * (np.arange(count) + 0.5)
    places = np.array(list(itertools.product(steps, repeat=2)))
    return places + rng.uniform(-0.5, 0.5, places.shape)


def tabulate_stars(places: np.ndarray, fluxes: Sequence[float]) -> astropy.table.Table:
    """Make a catalogue of the stars that are not dark."""
    rows = [{"x": x, "y": y, "flux": flux} for (x, y), flux in zip(places, fluxes, strict=True) if flux > 0]
    return tabulate(rows) if rows else empty_catalog()


def make_blank(side: int, seed: int, *, noise_seed: int | None = None) -> SimulatedPatch:
    """Observe an empty sky; `noise_seed` is that of `simulate_stack`."""
    settings = {"n_exposures": N_EXPOSURES, "seed": seed, "noise_seed": noise_seed}
    return simulate_patch(size=side, catalog=empty_catalog(), **settings, **PLAIN)


def observe(
    blank: SimulatedPatch,
    catalog: astropy.table.Table,
    catalogs: Sequence[astropy.table.Table],
    psfs: Sequence[PsfField],
) -> SimulatedPatch:
    """Observe a sky that each exposure shows in its own way.

    Parameters
    ----------
    blank
        The same exposures of an empty sky.
    catalog
        Sources of the truth.
    catalogs
        Sources that each exposure shows.
    psfs
        PSF of each exposure.
    """
    truth = blank.truth
    signal = [
        draw_signal(seen, truth.config, psf=psf, offset=np.zeros(2), faintest=0.1 * sigma)
        for seen, psf, sigma in zip(catalogs, psfs, truth.sky_sigma, strict=True)
    ]
    seed = truth.config.seed
    patch = simulate_patch(
        size=blank.size, n_exposures=N_EXPOSURES, seed=seed, catalog=catalog, signal=np.array(signal), **PLAIN
    )
    return dataclasses.replace(patch, truth=dataclasses.replace(patch.truth, psfs=tuple(psfs)))


def sensitivities(patch: SimulatedPatch) -> np.ndarray:
    """S/N that the optimal filter has in each exposure for a flux of 1."""
    middle = HALO + patch.size / 2
    power = (patch.truth.kernels(x=middle, y=middle) ** 2).sum((1, 2))
    return np.sqrt(power) / patch.truth.sky_sigma


def describe_mean(values: np.ndarray, weights: np.ndarray | None = None) -> str:
    """Write the mean of relative deviations and its error, in per cent."""
    n = len(values)
    weights = np.ones(n) if weights is None else weights
    mean = np.average(values, weights=weights)
    error = np.sqrt(n / (n - 1) * np.sum((weights * (values - mean)) ** 2)) / weights.sum()
    return f"{100 * mean:+.1f} ± {100 * error:.1f} %"
