# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Light that is smooth and faint."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import galsim
import numpy as np

from lsst.coadd.astroclearnet.simulate import PIXEL_SCALE

from ..engine.metrics import truth_at_psf
from ..engine.skies import tabulate
from ..simulated_patch import HALO, SimulatedPatch, simulate_patch
from .skies import N_EXPOSURES, PLAIN, make_blank

_SEEDS, _SIDE = tuple(range(620, 636)), 200

_PEAKS, _WIDTHS = (0.3, 0.5, 1.0, 3.0), (20, 60)
"""Peaks in sigma of a pixel of the mean coadd, and FWHM in pixels."""

_PLANES = ("acn_latent", "acn_coadd", "deepCoadd")


def report(*, quick: bool) -> Iterator[str]:
    """Yield the lines of this section."""
    seeds = _SEEDS[:2] if quick else _SEEDS
    yield from ("## Smooth light", "")
    text = (
        f"A round Gaussian alone on the sky, {len(seeds)} skies: its light within half of its FWHM from the "
        "centre over the true one, by its peak in units of the noise of a pixel of `deepCoadd`."
    )
    yield from textwrap.wrap(text, 100)
    yield from ("", *_compare(seeds))


def _compare(seeds: Sequence[int]) -> Iterator[str]:
    yield "| FWHM | plane | " + " | ".join(f"{peak:g} sigma" for peak in _PEAKS) + " |"
    yield "|---" * (2 + len(_PEAKS)) + "|"
    for width in _WIDTHS:
        shares = np.array([[_observe(peak, width, seed) for seed in seeds] for peak in _PEAKS])
        for plane, found in zip(_PLANES, 100 * np.moveaxis(shares, 2, 0), strict=True):
            cells = [f"{one.mean():.0f} ± {one.std(ddof=1) / len(one) ** 0.5:.0f} %" for one in found]
            yield f"| {width} px | `{plane}` | {' | '.join(cells)} |"


def _observe(peak: float, width: float, seed: int) -> list[float]:
    """Share of the light of a blob in each of `_PLANES`."""
    patch = _make_patch(peak, width, seed)
    fit, mean = patch.fit(cell_size=_SIDE), patch.fit(cell_size=_SIDE, method="mean")
    y, x = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2
    inside = np.hypot(x, y) < width / 2
    images = ((fit.latent, fit.latent_psf), (fit.coadd, fit.coadd_psf), (mean.coadd, mean.coadd_psf))
    return [
        float(image[inside].sum() / truth_at_psf(patch.truth, psf[0, 0], halo=HALO)[inside].sum())
        for image, psf in images
    ]


def _make_patch(peak: float, width: float, seed: int) -> SimulatedPatch:
    """Observe a blob in the middle of the patch."""
    blob = galsim.Gaussian(fwhm=width * PIXEL_SCALE)
    level = peak * make_blank(_SIDE, seed).coadd_sigma
    flux = level / blob.xValue(0, 0) / PIXEL_SCALE**2
    middle = HALO + (_SIDE - 1) / 2
    catalog = tabulate([{"x": middle, "y": middle, "flux": flux, "type": "galaxy"}])
    catalog["profile"] = np.array([blob], dtype=object)
    return simulate_patch(size=_SIDE, n_exposures=N_EXPOSURES, seed=seed, catalog=catalog, **PLAIN)
