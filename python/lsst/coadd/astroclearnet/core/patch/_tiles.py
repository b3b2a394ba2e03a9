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

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from .._batches import try_smaller_batches
from .._device import select_device
from .._errors import FitError
from .._options import LINEAR_METHODS, FitOptions
from .._stack import CellFit, CellStack, HistoryRow
from ..methods._fit import CellFitter, make_fitter
from ..methods._step_line import describe_time
from ..statistic._statistic import leave_out_weightless
from ._canvas import Canvas, ExposureSummary, PatchFit, Tile

_MAX_TRAINING_CELLS = 6


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
    on_fitted_cell: Callable[[Tile, CellStack], None] = lambda tile, stack: None,
    on_failed_cell: Callable[[Tile, Exception], None] | None = None,
) -> PatchFit:
    """Fit every cell of a patch and stitch the results.

    Parameters
    ----------
    get_stack
        ``get_stack(tile, halo)`` returns the exposures on the tile grown by
        the halo on all sides (``height + 2 * halo`` rows), or `None` where
        there are no data. What only the halo holds makes no cell.
    height, width
        Size of the patch, a multiple of ``options.cell_size``.
    options
        How to fit.
    report
        Takes a line of progress.
    on_fitted_cell
        Is told the exposures that the fit of a cell used, once a cell.
    on_failed_cell
        Is told what went wrong in a cell, in its stack or in its fit. The
        cell is then missing from the result; may raise instead. `None`
        raises at the first.

    Returns
    -------
    `PatchFit`
        The stitched planes and what was found for each exposure.

    Raises
    ------
    FitError
        If no cell has data, or a fit gives values that are not finite.
    Exception
        Whatever goes wrong in a cell, without ``on_failed_cell``.
    ValueError
        If the cells do not divide the patch.
    """
    tiles = make_tiles(height=height, width=width, size=options.cell_size)
    fitter = make_fitter(options)
    started = time.monotonic()
    history, faults = _prepare(fitter, tiles, get_stack, options, report)
    canvas = Canvas(height, width, halo=options.halo, mixes=options.method not in LINEAR_METHODS)
    # Closed at once when something is raised: threads of torch are set back.
    with contextlib.closing(_fit_cells(fitter, tiles, get_stack, options, faults)) as cells:
        for count, (tile, stack, fit) in enumerate(cells, start=1):
            if isinstance(fit, Exception):
                if on_failed_cell is None:
                    raise fit
                on_failed_cell(tile, fit)
                continue
            if stack is None or fit is None:
                report(f"cell {count}/{len(tiles)} ({tile.i}, {tile.j}): no data")
                continue
            canvas.add(tile, stack, fit)
            on_fitted_cell(tile, stack)
            history += [{"cell_i": tile.i, "cell_j": tile.j, **row} for row in fit.history]
            report(
                f"cell {count}/{len(tiles)} ({tile.i}, {tile.j}): {len(stack.labels)} exposures, "
                f"chi2 {np.mean(fit.diagnosis.chi2):.3f}, "
                f"{describe_time(done=count, steps=len(tiles), started=started)}"
            )
    return canvas.finish(tuple(history), grid=(height // options.cell_size, width // options.cell_size))


def _fit_cells(
    fitter: CellFitter,
    tiles: Sequence[Tile],
    get_stack: Callable[[Tile, int], CellStack | None],
    options: FitOptions,
    faults: Mapping[Tile, Exception],
) -> Generator[tuple[Tile, CellStack | None, CellFit | Exception | None]]:
    """Fit cells side by side, one thread each, and yield them in order, or
    what went wrong in their place; of some, that is known before.

    The images of a cell are too small for several threads to share. The
    threads of torch are 1 meanwhile, so that results do not depend on how
    many there are; stacks are cut here, one after the other.
    """

    def fit_once(tile: Tile, stack: CellStack) -> CellFit:
        return fitter.fit(stack, np.random.default_rng([options.seed, tile.i, tile.j]))

    def fit(tile: Tile, stack: CellStack) -> CellFit | Exception:
        try:
            found = try_smaller_batches(lambda: fit_once(tile, stack), n=len(stack.labels))
        except MemoryError:
            raise
        except Exception as error:
            return error
        if np.isfinite(found.coadd).all() and np.isfinite(found.latent).all():
            return found
        return FitError(f"The fit of cell ({tile.i}, {tile.j}) is not finite.", i=tile.i, j=tile.j)

    workers = torch.get_num_threads() if select_device(options).type == "cpu" else 1
    waiting: deque[tuple[Tile, CellStack | None, Future[CellFit | Exception] | Exception | None]] = deque()
    with _one_thread():
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            for tile in tiles:
                stack = faults[tile] if tile in faults else _cut_cell(get_stack, tile, options.halo)
                if isinstance(stack, Exception):
                    waiting.append((tile, None, stack))
                else:
                    waiting.append((tile, stack, None if stack is None else pool.submit(fit, tile, stack)))
                if len(waiting) > workers:
                    yield _wait(*waiting.popleft())
            for cell in waiting:
                yield _wait(*cell)
        finally:
            pool.shutdown(cancel_futures=True)


def _wait(
    tile: Tile, stack: CellStack | None, fit: Future[CellFit | Exception] | Exception | None
) -> tuple[Tile, CellStack | None, CellFit | Exception | None]:
    """Return the same with the result of a fit that may still run."""
    return tile, stack, fit.result() if isinstance(fit, Future) else fit


def _cut_cell(
    get_stack: Callable[[Tile, int], CellStack | None], tile: Tile, halo: int
) -> CellStack | Exception | None:
    """Return the exposures on a cell, or what went wrong with them; `None` if
    no pixel of it, without its halo, is seen.
    """
    try:
        stack = get_stack(tile, halo)
        if stack is None:
            return None
        stack = leave_out_weightless(stack)
        inner = np.s_[:, halo : halo + tile.height, halo : halo + tile.width]
        return _in_fixed_order(stack) if stack.good[inner].any() else None
    except MemoryError:
        raise
    except Exception as error:
        return error


def _in_fixed_order(stack: CellStack) -> CellStack:
    """Sort the exposures, so that rounding does not depend on their order."""
    order = np.argsort(stack.labels)
    if (order == np.arange(len(order))).all():
        return stack
    return stack.take(order)


def _prepare(
    fitter: CellFitter,
    tiles: Sequence[Tile],
    get_stack: Callable[[Tile, int], CellStack | None],
    options: FitOptions,
    report: Callable[[str], None],
) -> tuple[list[HistoryRow], dict[Tile, Exception]]:
    """Let the fitter learn on a few cells with data, spread over the patch;
    return what went wrong in some of them, too.

    A cell that fails here must fail at its turn as well: whoever makes the
    stacks may have noted a part of it by now.
    """
    faults: dict[Tile, Exception] = {}
    stacks: list[CellStack] = []
    if not fitter.learns:
        return [], faults
    for tile in _spread(tiles):
        stack = _cut_cell(get_stack, tile, options.halo)
        if isinstance(stack, Exception):
            faults[tile] = stack
        elif stack is not None:
            stacks.append(stack)
        if len(stacks) == _MAX_TRAINING_CELLS:
            break
    if not stacks:
        return [], faults
    report(f"training on {len(stacks)} of {len(tiles)} cells")
    with _one_thread():
        n = max(len(stack.labels) for stack in stacks)
        rows = try_smaller_batches(lambda: fitter.prepare(stacks, report), n=n)
    return [{"cell_i": -1, "cell_j": -1, **row} for row in rows], faults


def _spread(tiles: Sequence[Tile]) -> Iterator[Tile]:
    """Yield the tiles so that the first are spread over the patch, and over
    any part of it: each is the one that is farthest from those before it.

    The end of the patch is a mirror to that: the first are not its corners.
    """
    places = np.array([(tile.i, tile.j) for tile in tiles])
    distance = 2.0 * (1 + np.minimum(places, places.max(axis=0) - places).min(axis=1))
    for _ in tiles:
        k = int(distance.argmax())
        yield tiles[k]
        distance = np.minimum(distance, np.hypot(*(places - places[k]).T))
        distance[k] = -1.0


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile: what several share is rounded in
    another way, and training makes that grow.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
