# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""PSFs that change within a cell."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
import sep

from lsst.coadd.astroclearnet.core import PatchFit
from lsst.coadd.astroclearnet.core.patch._trust import TrustLimits, find_untrusted
from lsst.coadd.astroclearnet.simulate import PIXEL_SCALE

from ..engine.metrics import measure_fluxes
from ..simulated_patch import SimulatedPatch
from .skies import N_EXPOSURES, describe_mean, make_blank, make_grid, observe, sensitivities, tabulate_stars

_SEEDS = tuple(range(640, 646))

_COUNT, _SPACING, _SNR = 5, 40, 300.0
"""Stars along a side of the patch, pixels between them, and their S/N."""

_CHANGES, _CELLS = (0.02, 0.1, 0.3), (200, 50)
"""Relative changes of the width of PSFs within 100 pixels, and cells."""

_NEAR, _AWAY = 0.1, 0.4
"""Distances from the middle, along the change and in sides of the patch,
within and beyond which noise is looked at."""

_WIDE = 2.4
"""Radius of the wide aperture, in arcsec."""


def report(*, quick: bool) -> Iterator[str]:
    """Yield the lines of this section."""
    seeds = _SEEDS[:2] if quick else _SEEDS
    yield from ("## PSFs that change within a cell", "")
    text = (
        f"Isolated stars of S/N {_SNR:g} on {len(seeds)} skies of {_COUNT * _SPACING} px: fluxes in "
        "`acn_coadd` above the true ones. The PSFs become wider towards one side of the patch, or those "
        "of each exposure towards a side of its own. Last column: pixels that would be `ACN_UNTRUSTED`."
    )
    yield from textwrap.wrap(text, 100)
    yield from ("", *_compare(seeds), "")
    observations = 4 if quick else 24
    text = (
        f"Noise of `acn_coadd` on an empty sky, {observations} observations: scatter of pixels over their "
        f"sigma in cells of {_CELLS[0]} px whose PSFs become wider towards one side, beyond "
        f"{_AWAY * _COUNT * _SPACING:g} px from the middle on the sharp and on the broad side, and within "
        f"{_NEAR * _COUNT * _SPACING:g} px of it."
    )
    yield from textwrap.wrap(text, 100)
    yield from ("", *_compare_noise(observations))


def _compare(seeds: Sequence[int]) -> Iterator[str]:
    titles = ("change in 100 px", "towards", "cells", "PSF flux", "least, largest", "in 1 arcsec")
    yield f"| {' | '.join(titles)} | in {_WIDE:g} arcsec | untrusted |"
    yield "|---" * (2 + len(titles)) + "|"
    for change, together, cell in itertools.product(_CHANGES, (True, False), _CELLS):
        found, untrusted = [], []
        for seed in seeds:
            patch = _make_patch(change, together, seed)
            fit = patch.fit(cell_size=cell)
            found.append(_measure(patch, fit))
            untrusted.append(_is_untrusted(fit, cell).mean())
        psf, standard, wide = np.concatenate(found, axis=1)
        cells = (
            f"{100 * change:.0f} %",
            "one side" if together else "all sides",
            f"{cell} px",
            describe_mean(psf),
            f"{100 * psf.min():+.0f}, {100 * psf.max():+.0f} %",
            describe_mean(standard),
            describe_mean(wide),
            f"{100 * np.mean(untrusted):.1f} %",
        )
        yield f"| {' | '.join(cells)} |"


def _compare_noise(observations: int) -> Iterator[str]:
    yield "| change in 100 px | sharp | middle | broad |"
    yield "|---|---|---|---|"
    seed, side = _SEEDS[0], _COUNT * _SPACING
    for change in _CHANGES:
        psfs = _make_patch(change, True, seed).truth.psfs
        images, variances = [], []
        for k in range(observations):
            blank = make_blank(side, seed, noise_seed=k)
            fit = dataclasses.replace(blank, truth=dataclasses.replace(blank.truth, psfs=psfs)).fit(
                cell_size=_CELLS[0]
            )
            images.append(fit.coadd)
            variances.append(fit.coadd_variance)
        ratio = np.var(images, axis=0, ddof=1) / np.mean(variances, axis=0)
        towards = psfs[0].gradient[0] / np.hypot(*psfs[0].gradient[0])
        place = np.tensordot(towards, np.indices(ratio.shape)[::-1] - (side - 1) / 2, axes=1)
        where = place < -_AWAY * side, np.abs(place) < _NEAR * side, place > _AWAY * side
        cells = [f"{ratio[chosen].mean() ** 0.5:.2f}" for chosen in where]
        yield f"| {100 * change:.0f} % | {' | '.join(cells)} |"


def _make_patch(change: float, together: bool, seed: int) -> SimulatedPatch:
    """Make exposures whose PSFs grow towards one side, or each towards a side
    of its own, and are right at the centre of the patch.
    """
    rng = np.random.default_rng([seed, 22])
    blank = make_blank(_COUNT * _SPACING, seed)
    angles = (
        np.full(N_EXPOSURES, rng.uniform(0, 2 * np.pi))
        if together
        else rng.uniform(0, 2 * np.pi, N_EXPOSURES)
    )
    gradients = np.zeros((N_EXPOSURES, 3, 2))
    gradients[:, 0] = np.log1p(change) / 100 * np.column_stack([np.cos(angles), np.sin(angles)])
    psfs = [
        dataclasses.replace(psf, gradient=gradient)
        for psf, gradient in zip(blank.truth.psfs, gradients, strict=True)
    ]
    places = make_grid(_COUNT, _SPACING, rng)
    flux = _SNR / np.sqrt(np.sum(sensitivities(blank) ** 2))
    catalog = tabulate_stars(places, np.full(len(places), flux))
    return observe(blank, catalog, [catalog] * N_EXPOSURES, psfs)


def _measure(patch: SimulatedPatch, fit: PatchFit) -> np.ndarray:
    """Fluxes with the PSF and in two apertures over those of the truth, less
    1, ``(3, k)``.
    """
    truth, sources = patch.truth.image[patch.inner], patch.sources
    table = measure_fluxes(fit.coadd, truth, sources, psf=fit.coadd_psf[0, 0])
    places = np.array(sources["x"]), np.array(sources["y"])
    wide = [
        sep.sum_circle(np.ascontiguousarray(image, dtype=float), *places, _WIDE / PIXEL_SCALE, subpix=0)[0]
        for image in (fit.coadd, truth)
    ]
    return np.array([table["psf_error"], table["aperture_error"], wide[0] / wide[1] - 1])


def _is_untrusted(fit: PatchFit, cell_size: int) -> np.ndarray:
    """Tell what would be `ACN_UNTRUSTED`, bool ``(y, x)``."""
    reasons = find_untrusted(
        saturated=np.zeros(fit.coadd.shape, bool),
        n_image=fit.n_image,
        misfit=fit.misfit,
        chi2=fit.local_chi2,
        history=fit.history,
        seeing=fit.seeing,
        psf_change=fit.psf_change,
        cell_size=cell_size,
        limits=TrustLimits(),
    )
    return np.any(list(reasons.values()), axis=0)
