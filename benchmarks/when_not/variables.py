# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stars that not every exposure shows alike."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from lsst.coadd.astroclearnet.core import PatchFit

from ..engine.metrics import measure_fluxes
from ..simulated_patch import SimulatedPatch
from .skies import N_EXPOSURES, describe_mean, make_blank, make_grid, observe, sensitivities, tabulate_stars

_SEEDS = tuple(range(500, 540))

_COUNT, _SPACING = 7, 42
"""Stars along a side of the patch, and pixels between them."""

_SNR = (5.0, 10.0, 20.0, 40.0, 60.0, 100.0, 300.0, 1000.0)

_SCATTER, _FLARE, _FEW = 0.33, 3.0, 3
"""Scatter of magnitudes, brightness in one exposure relative to the others,
and number of exposures that show a source."""


def _constant(rng: np.random.Generator) -> np.ndarray:
    return np.ones(N_EXPOSURES)


def _flare(rng: np.random.Generator) -> np.ndarray:
    return np.where(np.arange(N_EXPOSURES) == rng.integers(N_EXPOSURES), _FLARE, 1.0)


def _scatter(rng: np.random.Generator) -> np.ndarray:
    fluxes = 10 ** (-0.4 * _SCATTER * rng.normal(size=N_EXPOSURES))
    return fluxes / fluxes.mean()


def _seldom(rng: np.random.Generator) -> np.ndarray:
    return np.isin(np.arange(N_EXPOSURES), rng.choice(N_EXPOSURES, _FEW, replace=False)).astype(float)


def _once(rng: np.random.Generator) -> np.ndarray:
    return (np.arange(N_EXPOSURES) == rng.integers(N_EXPOSURES)).astype(float)


_LIGHT_CURVES = {
    "constant": _constant,
    f"{_FLARE:g} times as bright in one exposure, above its flux in the others": _flare,
    f"magnitude scatters by {_SCATTER:g}, above its mean": _scatter,
    f"in {_FEW} of {N_EXPOSURES} exposures, above its mean in all": _seldom,
    "in one exposure, above its mean in all": _once,
}


def report(*, quick: bool) -> Iterator[str]:
    """Yield the lines of this section."""
    seeds = _SEEDS[:2] if quick else _SEEDS
    yield from ("## Sources that vary", "")
    text = (
        f"PSF fluxes in `acn_coadd` of isolated stars, one of each kind on each of {len(seeds)} skies; "
        "one that is removed has -100 %. S/N of the exposures that show the star; of the one that flares, "
        "without the flare."
    )
    yield from textwrap.wrap(text, 100)
    yield from ("", *_compare(seeds))


def _compare(seeds: Sequence[int]) -> Iterator[str]:
    """PSF fluxes in `acn_coadd` of stars that vary, one of each kind and S/N
    on each sky.
    """
    kinds = list(itertools.product(_LIGHT_CURVES, _SNR))
    found: dict[tuple[str, float], list[float]] = {kind: [] for kind in kinds}
    for seed in seeds:
        patch, wanted = _make_patch(seed, kinds)
        fit = patch.fit(cell_size=patch.size)
        fluxes = _measure(patch, fit)
        for kind, error in zip(kinds, fluxes / wanted - 1, strict=True):
            found[kind].append(error)
    yield "| star | " + " | ".join(f"S/N {snr:g}" for snr in _SNR) + " |"
    yield "|---" * (1 + len(_SNR)) + "|"
    for name in _LIGHT_CURVES:
        cells = [describe_mean(np.array(found[name, snr])) for snr in _SNR]
        yield f"| {name} | {' | '.join(cells)} |"


def _make_patch(seed: int, kinds: Sequence[tuple[str, float]]) -> tuple[SimulatedPatch, np.ndarray]:
    """Observe a star of each kind, and say what flux each should have."""
    rng = np.random.default_rng([seed, 21])
    blank = make_blank(_COUNT * _SPACING, seed)
    sensitivity = sensitivities(blank)
    places = rng.permutation(make_grid(_COUNT, _SPACING, rng))[: len(kinds)]
    curves, wanted = [], []
    for name, snr in kinds:
        curve = _LIGHT_CURVES[name](rng)
        flux = snr / np.sqrt(np.sum(sensitivity[curve > 0] ** 2))
        curves.append(flux * curve)
        wanted.append(flux if curve.all() else flux * curve.mean())
    catalogs = [tabulate_stars(places, fluxes) for fluxes in np.transpose(curves)]
    patch = observe(blank, tabulate_stars(places, wanted), catalogs, blank.truth.psfs)
    return patch, np.array(wanted)


def _measure(patch: SimulatedPatch, fit: PatchFit) -> np.ndarray:
    """Fluxes with the declared PSF, in nJy."""
    truth = patch.truth.image[patch.inner]
    return np.array(measure_fluxes(fit.coadd, truth, patch.sources, psf=fit.coadd_psf[0, 0])["psf"])
