# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cut a patch into cells, fit them one after the other, stitch the results."""

from __future__ import annotations

__all__ = ("ExposureSummary", "PatchFit", "Tile", "fit_patch", "make_tiles")

import dataclasses
from collections.abc import Callable

import numpy as np

from ._options import FitOptions
from ._stack import CellStack


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """Inner part of one cell, in array indices of the patch."""

    i: int
    """Row of the cell in the grid of cells."""

    j: int
    """Column of the cell in the grid of cells."""

    y0: int
    x0: int
    height: int
    width: int


@dataclasses.dataclass(kw_only=True)
class ExposureSummary:
    """What the fit found for one exposure, over all cells."""

    label: str
    weight: float
    """Mean of ``1 / sky variance`` over its cells."""
    n_pixels: int
    """Good pixels used."""
    n_rejected: int
    """Good pixels clipped as artifacts."""
    chi2: float
    """Reduced chi2 against the decoded latent."""
    flux_scale: float
    """Flux relative to the decoded latent; NaN if there is no signal."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PatchFit:
    """Stitched result; arrays are ``(y, x)`` of the patch, no halo."""

    latent: np.ndarray
    coadd: np.ndarray
    latent_variance: np.ndarray
    coadd_variance: np.ndarray
    noise: np.ndarray
    n_image: np.ndarray
    """Unmasked, unclipped inputs per pixel, uint16."""
    n_rejected: np.ndarray
    """Inputs clipped per pixel, uint16."""
    latent_psf: np.ndarray
    """Kernels ``(cell_y, cell_x, p, p)``; NaN where a cell is missing."""
    coadd_psf: np.ndarray
    missing: frozenset[tuple[int, int]]
    """Cells ``(i, j)`` without data."""
    exposures: tuple[ExposureSummary, ...]
    history: tuple[dict[str, float | int | str], ...]


def make_tiles(*, height: int, width: int, size: int) -> list[Tile]:
    """Cut a patch into equal cells (``size`` must divide both sides)."""
    raise NotImplementedError


def fit_patch(
    get_stack: Callable[[Tile, int], CellStack | None],
    *,
    height: int,
    width: int,
    options: FitOptions,
    report: Callable[[str], None] = lambda line: None,
) -> PatchFit:
    """Fit every cell of a patch.

    ``get_stack(tile, halo)`` returns the exposures on the tile grown by the
    halo on all sides (shape ``height + 2 halo``), or `None` without data.
    """
    raise NotImplementedError
