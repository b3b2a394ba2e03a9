# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Simulated patches that are fitted in cells, each with PSFs of its own."""

from __future__ import annotations

__all__ = ("HALO", "SimulatedPatch", "simulate_patch")

import dataclasses

import numpy as np

from lsst.coadd.astroclearnet.core import CellStack, FitOptions, PatchFit, fit_patch
from lsst.coadd.astroclearnet.simulate import StackTruth, simulate_stack

from .engine.scenes import HALO


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedPatch:
    """Exposures of a patch and its halo, and the sky behind them."""

    stack: CellStack
    truth: StackTruth

    @property
    def size(self) -> int:
        """Side of the patch, in pixels."""
        return self.stack.image.shape[1] - 2 * HALO

    @property
    def inner(self) -> tuple[slice, slice]:
        """The patch in arrays with halo."""
        return np.s_[HALO : HALO + self.size, HALO : HALO + self.size]

    @property
    def sources(self):
        """Catalogue of the sources in the patch, in its pixels."""
        catalog = self.truth.catalog.copy()
        catalog["x"] -= HALO
        catalog["y"] -= HALO
        inside = [(catalog[axis] > 0) & (catalog[axis] < self.size - 1) for axis in "xy"]
        return catalog[inside[0] & inside[1]]

    @property
    def coadd_sigma(self) -> float:
        """Noise of the sky in the mean of all exposures, in nJy per pixel."""
        return float(np.sum(1 / self.truth.sky_sigma**2) ** -0.5)

    def fit(self, **options) -> PatchFit:
        """Fit the patch in cells; each has the PSFs of its centre, and their
        change around it.
        """
        chosen = FitOptions(**({"n_threads": 1} | options))
        return fit_patch(self._cut, height=self.size, width=self.size, options=chosen)

    def _cut(self, tile, halo) -> CellStack | None:
        start = HALO - halo
        x0, y0 = tile.x0 + start, tile.y0 + start
        part = np.s_[:, y0 : y0 + tile.height + 2 * halo, x0 : x0 + tile.width + 2 * halo]
        seen = np.flatnonzero(self.stack.good[part].any((1, 2)))
        if not len(seen):
            return None
        centre = {"x": HALO + tile.x0 + (tile.width - 1) / 2, "y": HALO + tile.y0 + (tile.height - 1) / 2}
        gradient = self.truth.find_gradient(**centre, x0=x0, y0=y0)
        return CellStack(
            image=self.stack.image[part][seen],
            variance=self.stack.variance[part][seen],
            good=self.stack.good[part][seen],
            psf=self.truth.kernels(**centre)[seen],
            labels=tuple(self.stack.labels[k] for k in seen),
            psf_gradient=None if gradient is None else gradient.take(seen),
        )


def simulate_patch(*, size: int = 200, **settings) -> SimulatedPatch:
    """Simulate a patch; settings are those of `simulate_stack`."""
    stack, truth = simulate_stack(size=size + 2 * HALO, **settings)
    return SimulatedPatch(stack=stack, truth=truth)
