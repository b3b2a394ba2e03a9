# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cut a patch into cells, fit them, stitch the results."""

from __future__ import annotations

__all__ = ("ExposureSummary", "PatchFit", "Tile", "fit_patch", "make_tiles")

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ._device import select_device
from ._diagnose import summarize
from ._errors import FitError
from ._fit import CellFitter, make_fitter
from ._options import FitOptions
from ._stack import CellFit, CellStack, HistoryRow

_MAX_TRAINING_CELLS = 6

type _CellRow = tuple[tuple[float, int, int, float], np.ndarray, np.ndarray]
# Weight, good and clipped pixels, chi2; values and errors of the diagnosis.


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
    coadd: np.ndarray
    latent_variance: np.ndarray
    coadd_variance: np.ndarray
    noise: np.ndarray
    n_image: np.ndarray
    """Unmasked, unclipped inputs per pixel, uint16."""
    n_rejected: np.ndarray
    """Inputs clipped per pixel, uint16."""
    misfit: np.ndarray
    """What the exposures say is missing from the latent, in units of error."""
    local_chi2: np.ndarray
    """Reduced chi2 of the exposures about the latent in a small window."""
    latent_psf: np.ndarray
    """Kernels ``(cell_y, cell_x, p, p)``; NaN where a cell is missing."""
    coadd_psf: np.ndarray
    missing: frozenset[tuple[int, int]]
    """Cells ``(i, j)`` without data."""
    exposures: tuple[ExposureSummary, ...]
    history: tuple[HistoryRow, ...]


def make_tiles(*, height: int, width: int, size: int) -> list[Tile]:
    """Cut a patch into equal square cells.

    Raises
    ------
    ValueError
        If ``size`` does not divide both sides.
    """
    if height % size or width % size:
        raise ValueError(f"Cells of {size} px do not divide a patch of {width} x {height} px.")
    return [
        Tile(i=i, j=j, y0=i * size, x0=j * size, height=size, width=size)
        for i in range(height // size)
        for j in range(width // size)
    ]


def fit_patch(
    get_stack: Callable[[Tile, int], CellStack | None],
    *,
    height: int,
    width: int,
    options: FitOptions,
    report: Callable[[str], None] = lambda line: None,
) -> PatchFit:
    """Fit every cell of a patch and stitch the results.

    Parameters
    ----------
    get_stack
        ``get_stack(tile, halo)`` returns the exposures on the tile grown by
        the halo on all sides (``height + 2 * halo`` rows), or `None` where
        there are no data.
    height, width
        Size of the patch, a multiple of ``options.cell_size``.
    options
        How to fit.
    report
        Takes a line of progress.

    Returns
    -------
    `PatchFit`
        The stitched planes and what was found for each exposure.

    Raises
    ------
    FitError
        If no cell has data, or a fit gives values that are not finite.
    ValueError
        If the cells do not divide the patch.
    """
    tiles = make_tiles(height=height, width=width, size=options.cell_size)
    fitter = make_fitter(options)
    started = time.monotonic()
    history = _prepare(fitter, tiles, get_stack, options, report)
    canvas = _Canvas(height, width)
    for count, (tile, stack, fit) in enumerate(_fit_cells(fitter, tiles, get_stack, options), start=1):
        if stack is None or fit is None:
            report(f"cell {count}/{len(tiles)} ({tile.i}, {tile.j}): no data")
            continue
        if not (np.isfinite(fit.coadd).all() and np.isfinite(fit.latent).all()):
            raise FitError(f"The fit of cell ({tile.i}, {tile.j}) is not finite.", i=tile.i, j=tile.j)
        canvas.add(tile, stack, fit, options.halo)
        history += [{"cell_i": tile.i, "cell_j": tile.j, **row} for row in fit.history]
        elapsed = time.monotonic() - started
        left = elapsed / count * (len(tiles) - count)
        report(
            f"cell {count}/{len(tiles)} ({tile.i}, {tile.j}): {len(stack.labels)} exposures, "
            f"chi2 {np.mean(fit.diagnosis.chi2):.3f}, {elapsed:.0f} s, about {left:.0f} s left"
        )
    return canvas.finish(tuple(history), grid=(height // options.cell_size, width // options.cell_size))


def _fit_cells(
    fitter: CellFitter,
    tiles: Sequence[Tile],
    get_stack: Callable[[Tile, int], CellStack | None],
    options: FitOptions,
) -> Iterator[tuple[Tile, CellStack | None, CellFit | None]]:
    """Fit cells side by side, one thread each, and yield them in order.

    The images of a cell are too small for several threads to share. The
    threads of torch are 1 meanwhile, so that results do not depend on how
    many there are; stacks are cut here, one after the other.
    """

    def fit(tile: Tile, stack: CellStack) -> CellFit:
        return fitter.fit(stack, np.random.default_rng([options.seed, tile.i, tile.j]))

    threads = torch.get_num_threads()
    workers = threads if select_device(options).type == "cpu" else 1
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[tuple[Tile, CellStack | None, Future[CellFit] | None]] = deque()
    try:
        for tile in tiles:
            stack = get_stack(tile, options.halo)
            stack = None if stack is None else _in_fixed_order(stack)
            waiting.append((tile, stack, None if stack is None else pool.submit(fit, tile, stack)))
            if len(waiting) > workers:
                first = waiting.popleft()
                yield first[0], first[1], first[2] and first[2].result()
        for tile, stack, future in waiting:
            yield tile, stack, future and future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _in_fixed_order(stack: CellStack) -> CellStack:
    """Sort the exposures, so that rounding does not depend on their order."""
    order = np.argsort(stack.labels)
    if (order == np.arange(len(order))).all():
        return stack
    return dataclasses.replace(
        stack,
        image=stack.image[order],
        variance=stack.variance[order],
        good=stack.good[order],
        psf=stack.psf[order],
        labels=tuple(stack.labels[k] for k in order),
    )


def _prepare(
    fitter: CellFitter,
    tiles: Sequence[Tile],
    get_stack: Callable[[Tile, int], CellStack | None],
    options: FitOptions,
    report: Callable[[str], None],
) -> list[HistoryRow]:
    """Let the fitter learn on a few cells, spread over the patch."""
    if not fitter.learns:
        return []
    chosen = [tiles[k] for k in np.unique(np.linspace(0, len(tiles) - 1, _MAX_TRAINING_CELLS).astype(int))]
    stacks = [stack for tile in chosen if (stack := get_stack(tile, options.halo)) is not None]
    if not stacks:
        return []
    report(f"training on {len(stacks)} of {len(tiles)} cells")
    rows = fitter.prepare([_in_fixed_order(stack) for stack in stacks], report)
    return [{"cell_i": -1, "cell_j": -1, **row} for row in rows]


class _Canvas:
    """Arrays of the whole patch while its cells come in."""

    _PLANES = ("latent", "coadd", "latent_variance", "coadd_variance", "noise", "misfit", "local_chi2")

    def __init__(self, height: int, width: int):
        self._planes = {name: np.zeros((height, width), dtype=np.float32) for name in self._PLANES}
        self._n_image = np.zeros((height, width), dtype=np.uint16)
        self._n_rejected = np.zeros((height, width), dtype=np.uint16)
        self._psfs: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._rows: dict[str, list[_CellRow]] = {}

    def add(self, tile: Tile, stack: CellStack, fit: CellFit, halo: int) -> None:
        """Put the inner part of a fitted cell in its place."""
        inner = np.s_[halo : halo + tile.height, halo : halo + tile.width]
        place = np.s_[tile.y0 : tile.y0 + tile.height, tile.x0 : tile.x0 + tile.width]
        for name, plane in self._planes.items():
            plane[place] = getattr(fit, name)[inner]
        good, rejected = stack.good[:, *inner], fit.rejected[:, *inner]
        self._n_image[place] = (good & ~rejected).sum(0)
        self._n_rejected[place] = rejected.sum(0)
        self._psfs[tile.i, tile.j] = (fit.latent_psf, fit.coadd_psf)
        for k, label in enumerate(stack.labels):
            if n_good := int(good[k].sum()):
                found = fit.diagnosis
                row = (fit.weight[k], n_good, int(rejected[k].sum()), found.chi2[k])
                self._rows.setdefault(label, []).append((row, found.values[k], found.errors[k]))

    def finish(self, history, *, grid: tuple[int, int]) -> PatchFit:
        """Assemble the result."""
        if not self._psfs:
            raise FitError("No cell of the patch has a good pixel.")
        cells = {(i, j) for i in range(grid[0]) for j in range(grid[1])}
        return PatchFit(
            **self._planes,
            n_image=self._n_image,
            n_rejected=self._n_rejected,
            latent_psf=self._gather_psfs(grid, 0),
            coadd_psf=self._gather_psfs(grid, 1),
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


def _summarize(label: str, rows: list[_CellRow]) -> ExposureSummary:
    """Combine what the cells found for one exposure."""
    weight, n_good, n_rejected, chi2 = np.array([row for row, _, _ in rows], dtype=float).T
    return ExposureSummary(
        label=label,
        weight=float(np.average(weight, weights=n_good)),
        n_pixels=int(n_good.sum()),
        n_rejected=int(n_rejected.sum()),
        chi2=float(np.average(chi2, weights=n_good)),
        **summarize([(values, errors) for _, values, errors in rows]),
    )
