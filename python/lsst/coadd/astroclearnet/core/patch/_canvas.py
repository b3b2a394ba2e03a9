# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stitch the results of cells to those of a patch."""

from __future__ import annotations

__all__ = ("Canvas", "ExposureSummary", "PatchFit", "Tile")

import dataclasses

import numpy as np

from .._errors import FitError
from .._stack import CellFit, CellStack, HistoryRow
from ..cell._diagnose import summarize
from ._holes import find_small_holes

_BAND = 8
"""Pixels on each side of a border in which two cells are mixed."""

_MIXED = {
    "latent": "used",
    "coadd": "used",
    "noise": "squared",
    "fill": "plain",
    "latent_variance": "plain",
    "coadd_variance": "plain",
    "psf_flux_variance": "plain",
}
"""Planes that are mixed, and the sum of weights by which each is divided."""

_CUT = ("misfit", "local_chi2")

type _CellRow = tuple[tuple[float, int, int, float, float], np.ndarray, np.ndarray]
# Weight, good and clipped pixels, chi2, noise scale; values and errors of the
# diagnosis.


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
    noise_scale: float
    """Mean of what its variances were multiplied by; 1 if not measured."""
    flux_scale: float
    """Flux relative to the decoded latent; NaN if there is no signal."""
    flux_scale_error: float
    sky: float
    """Sky above that of the decoded latent, in nJy per pixel."""
    sky_error: float
    shift_x: float
    """Position of the sources relative to the decoded latent's, in pixels;
    NaN if there is no signal."""
    shift_x_error: float
    shift_y: float
    shift_y_error: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PatchFit:
    """Stitched result; arrays are ``(y, x)`` of the patch, no halo."""

    latent: np.ndarray
    """Latent image at the target PSF."""
    coadd: np.ndarray
    """Latent plus the residual at the same PSF, or the linear coadd."""
    latent_variance: np.ndarray
    """Variance of each pixel of the latent."""
    coadd_variance: np.ndarray
    """Variance of each pixel of the coadd."""
    psf_flux_variance: np.ndarray
    """Variance of a flux measured with the PSF of the coadd about each
    pixel."""
    noise: np.ndarray
    """One realization of the noise of the coadd."""
    n_image: np.ndarray
    """Unmasked, unclipped inputs per pixel, uint16."""
    n_rejected: np.ndarray
    """Inputs clipped per pixel, uint16."""
    filled: np.ndarray
    """Where no input was used and both images have the value of the latent,
    for the hole is small, bool."""
    misfit: np.ndarray
    """What the exposures say is missing from the latent, in units of error."""
    local_chi2: np.ndarray
    """Reduced chi2 of the exposures about the latent in a small window."""
    latent_psf: np.ndarray
    """Kernels ``(cell_y, cell_x, p, p)``; NaN where a cell is missing."""
    coadd_psf: np.ndarray
    """The same of the coadd."""
    seeing: np.ndarray
    """FWHM in pixels of the PSF of all exposures together, ``(cell_y, cell_x,
    2)``, the two numbers of `CellFit.seeing`; NaN where a cell is missing."""
    psf_change: np.ndarray
    """Change of that PSF from the middle of a cell to its corner, relative to
    it, ``(cell_y, cell_x)``; NaN where a cell is missing."""
    missing: frozenset[tuple[int, int]]
    """Cells ``(i, j)`` without a result."""
    exposures: tuple[ExposureSummary, ...]
    """What was found for each exposure."""
    history: tuple[HistoryRow, ...]
    """Loss and chi2 by cell, stage and step."""


class Canvas:
    """Arrays of a whole patch while its cells come in.

    Parameters
    ----------
    height, width
        Size of the patch, in pixels.
    halo
        Border of the cells that are put on it, in pixels.
    mixes
        Whether cells are mixed where they meet. All have the same PSF then;
        a linear coadd has another one in each.

    Notes
    -----
    Two cells differ a little, because they clip and fill alone. From one to
    the other their weights change in proportion to the distance from the
    border, over a few pixels of the halos, so that no step is left. What both
    make of the same exposures has the same noise: the variance is mixed like
    the image. The realizations of the noise are independent of each other;
    their mix is scaled to its variance.
    """

    def __init__(self, height: int, width: int, *, halo: int, mixes: bool):
        self._planes = {name: np.zeros((height, width), dtype=np.float32) for name in (*_MIXED, *_CUT)}
        self._sums = {kind: np.zeros((height, width), dtype=np.float32) for kind in _MIXED.values()}
        self._n_image = np.zeros((height, width), dtype=np.uint16)
        self._n_rejected = np.zeros((height, width), dtype=np.uint16)
        self._psfs: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._seeing: dict[tuple[int, int], tuple[float, float]] = {}
        self._psf_change: dict[tuple[int, int], float] = {}
        self._rows: dict[str, list[_CellRow]] = {}
        self._halo = halo
        self._band = min(_BAND, halo // 4) if mixes else 0

    def add(self, tile: Tile, stack: CellStack, fit: CellFit) -> None:
        """Put a fitted cell in its place."""
        halo = self._halo
        inner = np.s_[halo : halo + tile.height, halo : halo + tile.width]
        place = np.s_[tile.y0 : tile.y0 + tile.height, tile.x0 : tile.x0 + tile.width]
        for name in _CUT:
            self._planes[name][place] = getattr(fit, name)[inner]
        self._mix(tile, stack, fit)
        good, rejected = stack.good[:, *inner], fit.rejected[:, *inner]
        self._n_image[place] = (good & ~rejected).sum(0)
        self._n_rejected[place] = rejected.sum(0)
        self._psfs[tile.i, tile.j] = (fit.latent_psf, fit.coadd_psf)
        self._seeing[tile.i, tile.j] = fit.seeing
        self._psf_change[tile.i, tile.j] = _measure_psf_change(stack, fit.weight, tile)
        for k, label in enumerate(stack.labels):
            if n_good := int(good[k].sum()):
                found = fit.diagnosis
                row = (fit.weight[k], n_good, int(rejected[k].sum()), found.chi2[k], fit.noise_scale[k])
                self._rows.setdefault(label, []).append((row, found.values[k], found.errors[k]))

    def _mix(self, tile: Tile, stack: CellStack, fit: CellFit) -> None:
        """Add a cell and a band around it, by weight."""
        here, there, ramps = [], [], []
        for start, size, length in zip(
            (tile.y0, tile.x0), (tile.height, tile.width), self._n_image.shape, strict=True
        ):
            low, high = max(start - self._band, 0), min(start + size + self._band, length)
            there.append(slice(low, high))
            here.append(slice(self._halo + low - start, self._halo + high - start))
            ramps.append(_ramp(np.arange(low, high) - start, size, self._band))
        cut, place = tuple(here), tuple(there)
        weight = np.outer(*ramps)
        # Where a cell has used nothing it has nothing to say.
        used = weight * (stack.good[:, *cut] & ~fit.rejected[:, *cut]).any(0)
        for kind, sum_ in self._sums.items():
            sum_[place] += {"plain": weight, "used": used, "squared": used**2}[kind]
        for name, kind in _MIXED.items():
            self._planes[name][place] += (weight if kind == "plain" else used) * getattr(fit, name)[cut]

    def finish(self, history: tuple[HistoryRow, ...], *, grid: tuple[int, int]) -> PatchFit:
        """Assemble the result.

        Parameters
        ----------
        history
            Rows of all cells.
        grid
            Rows and columns of cells.

        Raises
        ------
        FitError
            If no cell has a result.
        """
        if not self._psfs:
            raise FitError("No cell of the patch has a good pixel.")
        cells = {(i, j) for i in range(grid[0]) for j in range(grid[1])}
        np.sqrt(self._sums["squared"], out=self._sums["squared"])
        for name, kind in _MIXED.items():
            self._planes[name] /= np.where(self._sums[kind] > 0, self._sums[kind], 1)
            if kind != "plain":
                self._planes[name][self._n_image == 0] = 0
        seeing, psf_change = np.full((*grid, 2), np.nan), np.full(grid, np.nan)
        for cell, fwhm in self._seeing.items():
            seeing[cell], psf_change[cell] = fwhm, self._psf_change[cell]
        fill = self._planes.pop("fill")
        filled = find_small_holes(self._n_image == 0) & (fill != 0)
        for name in ("latent", "coadd"):
            np.copyto(self._planes[name], fill, where=filled)
        return PatchFit(
            **self._planes,
            n_image=self._n_image,
            filled=filled,
            n_rejected=self._n_rejected,
            latent_psf=self._gather_psfs(grid, 0),
            coadd_psf=self._gather_psfs(grid, 1),
            seeing=seeing,
            psf_change=psf_change,
            missing=frozenset(cells - self._psfs.keys()),
            exposures=tuple(_summarize(label, rows) for label, rows in sorted(self._rows.items())),
            history=history,
        )

    def _gather_psfs(self, grid: tuple[int, int], which: int) -> np.ndarray:
        size = max(pair[which].shape[0] for pair in self._psfs.values())
        kernels = np.full((*grid, size, size), np.nan, dtype=np.float32)
        for cell, pair in self._psfs.items():
            kernels[cell] = np.pad(pair[which], (size - pair[which].shape[0]) // 2)
        return kernels


def _measure_psf_change(stack: CellStack, weight: np.ndarray, tile: Tile) -> float:
    """Return how much the mean PSF of a stack changes to the corners of a
    cell, relative to it: the norm of the larger of both changes.
    """
    if stack.psf_gradient is None:
        return 0.0
    psf, gradient = (np.tensordot(weight, values, 1) for values in (stack.psf, stack.psf_gradient.per_pixel))
    by_x, by_y = gradient[0] * tile.width / 2, gradient[1] * tile.height / 2
    return float(max(np.linalg.norm(by_x + by_y), np.linalg.norm(by_x - by_y)) / np.linalg.norm(psf))


def _ramp(position: np.ndarray, size: int, band: int) -> np.ndarray:
    """Return the weight of pixels of a cell: 1 inside, falling to 0 over a
    band around its borders, and 1 together with the neighbour's.

    Parameters
    ----------
    position
        Pixels, counted from the first of the cell.
    size
        Pixels of the cell.
    band
        Pixels on each side of a border.
    """
    depth = np.minimum(position + 0.5, size - 0.5 - position)
    return np.clip(0.5 + depth / (2 * band), 0, 1).astype(np.float32) if band else np.float32(depth > 0)


def _summarize(label: str, rows: list[_CellRow]) -> ExposureSummary:
    """Combine what the cells found for one exposure."""
    weight, n_good, n_rejected, chi2, scale = np.array([row for row, _, _ in rows], dtype=float).T
    return ExposureSummary(
        label=label,
        weight=float(np.average(weight, weights=n_good)),
        n_pixels=int(n_good.sum()),
        n_rejected=int(n_rejected.sum()),
        chi2=float(np.average(chi2, weights=n_good)),
        noise_scale=float(np.average(scale, weights=n_good)),
        **summarize([(values, errors) for _, values, errors in rows]),
    )
