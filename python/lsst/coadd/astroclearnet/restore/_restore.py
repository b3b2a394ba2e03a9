# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore a stack that is already on one pixel grid: ``.npz`` to FITS.

The doorway for people without LSST software: it needs numpy, astropy and
the core, and neither a Butler nor `lsst.images`.
"""

from __future__ import annotations

__all__ = ("RestoreError", "fit_grid_stack", "restore", "write_restored")

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core._errors import FitError
from ..core._options import LEAST_HALO, LINEAR_METHODS, FitOptions
from ..inputs._sky_level import describe_sky
from ._input import GridStack, RestoreError, divide_grid, read_grid_stack
from ._output import check_output, write_restored

if TYPE_CHECKING:
    from ..core._stack import CellStack
    from ..core.patch._tiles import PatchFit, Tile


_PLANES = (
    "latent",
    "coadd",
    "latent_variance",
    "coadd_variance",
    "psf_flux_variance",
    "noise",
    "n_image",
    "n_rejected",
    "filled",
    "misfit",
    "local_chi2",
)
"""Fields of `PatchFit` that have the size of the patch."""


def _say_nothing(line: str) -> None:
    pass


def fit_grid_stack(
    stack: GridStack,
    options: FitOptions,
    *,
    report: Callable[[str], None] = _say_nothing,
    warn: Callable[[str], None] | None = None,
) -> PatchFit:
    """Fit a stack of any size.

    Parameters
    ----------
    stack
        The exposures.
    options
        How to fit. ``cell_size`` is an upper limit: the cells are made equal,
        so that they cover the grid with the least padding.
    report
        Called with a line of text for each step.
    warn
        Called with a line for each thing that may be wrong with the result;
        by default ``report``.

    Returns
    -------
    `PatchFit`
        Arrays of the size of the grid. A cell whose fit fails is left without
        data.

    Raises
    ------
    Exception
        What went wrong in the first cell, if no fit succeeds.
    """
    from ..core.patch._tiles import fit_patch
    from ..core.patch._trust import TrustLimits, describe_psfs

    warn = warn or report
    _, height, width = stack.good.shape
    size = divide_grid((height, width), options.cell_size)
    options = dataclasses.replace(options, cell_size=size)
    failures: list[Exception] = []

    def get_stack(tile: Tile, halo: int) -> CellStack | None:
        return stack.cut(
            x0=tile.x0 - halo, y0=tile.y0 - halo, height=tile.height + 2 * halo, width=tile.width + 2 * halo
        )

    def on_failed_cell(tile: Tile, error: Exception) -> None:
        failures.append(error)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        warn(f"the fit of cell ({tile.i}, {tile.j}) failed; it is left without data. {text}")

    padded = math.ceil(height / size) * size, math.ceil(width / size) * size
    try:
        fit = fit_patch(
            get_stack,
            height=padded[0],
            width=padded[1],
            options=options,
            report=report,
            on_failed_cell=on_failed_cell,
        )
    except FitError:
        if failures:  # it says only that nothing is left
            raise failures[0] from None
        raise
    if options.method not in LINEAR_METHODS:
        for trouble in describe_psfs(fit.seeing, fit.psf_change, TrustLimits()):
            warn(trouble)
    return dataclasses.replace(fit, **{name: getattr(fit, name)[:height, :width] for name in _PLANES})


def _find_oddities(stack: GridStack, options: FitOptions) -> Iterator[str]:
    """Yield a line for each thing in the input that will do harm."""
    seen = stack.good.any(axis=(1, 2))
    for t in np.flatnonzero(~seen):
        yield f"exposure {t} has no good pixel; it is left out"
    if seen.sum() == 1:
        yield "there is one exposure only: no artifact can be told from a source"
    for t in np.flatnonzero(seen):
        if trouble := describe_sky(
            f"exposure {t}", image=stack.image[t], variance=stack.variance[t], good=stack.good[t]
        ):
            yield trouble
    _, height, width = stack.good.shape
    has_seams = divide_grid((height, width), options.cell_size) < max(height, width)
    least = math.ceil(LEAST_HALO * options.target_fwhm)
    if has_seams and options.method not in LINEAR_METHODS and options.halo < least:
        yield (
            f"the halo is {options.halo} pixels, less than {LEAST_HALO:g} times the target FWHM "
            f"({options.target_fwhm:g} pixels): cells will show at their seams; give --halo {least}"
        )


def restore(
    stack_path: str | os.PathLike[str],
    output_path: str | os.PathLike[str],
    *,
    options: FitOptions | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = _say_nothing,
    warn: Callable[[str], None] | None = None,
) -> PatchFit:
    """Read a stack, fit it and write the result; see `write_restored`.

    Parameters
    ----------
    stack_path
        The ``.npz`` file; see `read_grid_stack`.
    output_path
        The FITS file to make.
    options
        How to fit; the defaults if `None`.
    overwrite
        Replace an existing output.
    report
        Called with a line of text for each step.
    warn
        Called with a line for each thing that may be wrong with the input or
        the result; by default ``report``.

    Returns
    -------
    `PatchFit`
        What was written.

    Raises
    ------
    RestoreError
        If the input cannot be used or the output not be written. The output
        is looked at first, so that no fit is made in vain.
    """
    options = options or FitOptions()
    check_output(Path(output_path), overwrite=overwrite)
    stack = read_grid_stack(stack_path)
    n, height, width = stack.good.shape
    report(f"{n} exposure{'s' * (n > 1)} of {height} x {width} px")
    for trouble in _find_oddities(stack, options):
        (warn or report)(trouble)
    fit = fit_grid_stack(stack, options, report=report, warn=warn)
    write_restored(fit, output_path, options=options, source=Path(stack_path).name, overwrite=overwrite)
    return fit
