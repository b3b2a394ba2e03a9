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
import io
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from . import __version__
from ._grid_stack import GridStack, RestoreError, read_grid_stack
from .core._options import LEAST_CELL_SIZE, LINEAR_METHODS, FitOptions

if TYPE_CHECKING:
    from .core._stack import CellStack
    from .core._tiles import PatchFit, Tile


def fit_grid_stack(
    stack: GridStack, options: FitOptions, *, report: Callable[[str], None] = lambda line: None
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

    Returns
    -------
    `PatchFit`
        Arrays of the size of the grid.
    """
    from .core._tiles import fit_patch
    from .core._trust import TrustLimits, describe_seeing

    _, height, width = stack.good.shape
    n_y, n_x = math.ceil(height / options.cell_size), math.ceil(width / options.cell_size)
    size = max(math.ceil(height / n_y), math.ceil(width / n_x), LEAST_CELL_SIZE)
    options = dataclasses.replace(options, cell_size=size)

    def get_stack(tile: Tile, halo: int) -> CellStack | None:
        return stack.cut(
            x0=tile.x0 - halo, y0=tile.y0 - halo, height=tile.height + 2 * halo, width=tile.width + 2 * halo
        )

    padded = math.ceil(height / size) * size, math.ceil(width / size) * size
    fit = fit_patch(get_stack, height=padded[0], width=padded[1], options=options, report=report)
    if options.method not in LINEAR_METHODS and (trouble := describe_seeing(fit.seeing, TrustLimits())):
        report(trouble)
    planes = (
        "latent",
        "coadd",
        "latent_variance",
        "coadd_variance",
        "noise",
        "n_image",
        "n_rejected",
        "filled",
        "misfit",
        "local_chi2",
    )
    return dataclasses.replace(fit, **{name: getattr(fit, name)[:height, :width] for name in planes})


def write_restored(
    fit: PatchFit,
    path: str | os.PathLike[str],
    *,
    options: FitOptions,
    source: str = "",
    overwrite: bool = False,
) -> None:
    """Write a result as FITS, whole or not at all.

    HDUs, all in the flux unit of the input:

    - ``LATENT``: non-negative latent image at the target PSF. Methods
      ``kaiser`` and ``mean`` make none: it repeats ``COADD``, and the header
      says ``HASLATNT = F``.
    - ``COADD``: latent plus matched residual (or the linear coadd).
    - ``VARIANCE``, ``LATENT_VARIANCE``: variance of ``COADD``, ``LATENT``.
    - ``N_IMAGE``: good exposures per pixel, clipped ones not counted.
    - ``PSF``: PSF of ``COADD`` (and ``LATENT``), mean over the cells,
      ``(p, p)``, sum 1.
    - ``PSF_CELLS``: the same for each cell, ``(cell_y, cell_x, p, p)``; NaN
      where a cell has no data.

    Parameters
    ----------
    fit
        What to write.
    path
        The FITS file.
    options
        The options of the fit, for the header.
    source
        Name of the input, for the header.
    overwrite
        Replace an existing file. It stays untouched until the new one is
        complete.

    Raises
    ------
    RestoreError
        If the file exists or cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    # By way of memory: astropy hides the error of a disk that is full.
    content = io.BytesIO()
    _make_hdus(fit, options, source).writeto(content)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise RestoreError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for the owner only; give the usual rights.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise RestoreError(
            f"{path} cannot be written: {error.strerror or error}; nothing was changed."
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise `RestoreError` if ``path`` cannot become the output."""
    if path.is_dir():
        raise RestoreError(f"{path} is a directory; name a FITS file.")
    if path.exists() and not overwrite:
        raise RestoreError(f"{path} exists; give --overwrite to replace it.")
    if not path.parent.is_dir():
        raise RestoreError(f"The directory {path.parent} does not exist; make it first.")


def _make_hdus(fit: PatchFit, options: FitOptions, source: str) -> fits.HDUList:
    from astropy.stats import gaussian_fwhm_to_sigma

    is_linear = options.method in LINEAR_METHODS
    primary = fits.PrimaryHDU()
    header = primary.header
    header["METHOD"] = (options.method, "acn, mm, kaiser or mean")
    if options.method == "acn":
        header["RECIPE"] = (options.recipe, "recipe of the method")
    if not is_linear:
        header["TPSFTYPE"] = ("GAUSSIAN", "target PSF of LATENT and COADD")
        header["TPSFFWHM"] = (options.target_fwhm, "[pixel] FWHM of the target PSF")
        header["TPSFSIG"] = (options.target_fwhm * gaussian_fwhm_to_sigma, "[pixel] sigma of the target PSF")
    else:
        header["TPSFTYPE"] = ("NONE", "the coadd has the PSF of HDU PSF")
    header["HASLATNT"] = (not is_linear, "F: LATENT repeats COADD")
    header["SEED"] = (options.seed, "seed of everything random")
    header["DEVICE"] = (options.device, "device asked for")
    header["N_EXP"] = (len(fit.exposures), "exposures used")
    header["SOURCE"] = (source[-60:], "input file")
    header["PROGRAM"] = ("coadd_astroclearnet", "made by acn restore")
    header["VERSION"] = (__version__, "version of the program")
    cells = fit.coadd_psf.astype(np.float32)
    used = np.isfinite(cells).all(axis=(-2, -1))
    psf = cells[used].mean(axis=0, dtype=float)
    psf /= psf.sum()
    images = {
        "LATENT": fit.coadd if is_linear else fit.latent,
        "COADD": fit.coadd,
        "VARIANCE": fit.coadd_variance,
        "LATENT_VARIANCE": fit.coadd_variance if is_linear else fit.latent_variance,
        "N_IMAGE": fit.n_image.astype(np.int32),
        "PSF": psf.astype(np.float32),
        "PSF_CELLS": cells,
    }
    return fits.HDUList([primary, *(fits.ImageHDU(array, name=name) for name, array in images.items())])


def restore(
    stack_path: str | os.PathLike[str],
    output_path: str | os.PathLike[str],
    *,
    options: FitOptions | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
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
    report(f"{n} exposures of {height} x {width} px")
    for t in np.flatnonzero(~stack.good.any(axis=(1, 2))):
        report(f"exposure {t} has no good pixel; it is left out")
    fit = fit_grid_stack(stack, options, report=report)
    write_restored(fit, output_path, options=options, source=Path(stack_path).name, overwrite=overwrite)
    return fit
