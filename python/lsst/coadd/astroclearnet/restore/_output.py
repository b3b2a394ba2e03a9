# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The FITS file that ``acn restore`` makes."""

from __future__ import annotations

__all__ = ("check_output", "write_restored")

import io
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from .. import __version__
from ..core._options import LEAST_CELL_SIZE, LINEAR_METHODS, FitOptions
from ..flux_errors import NOISE_AREA, describe_noise
from ._input import RestoreError

if TYPE_CHECKING:
    from ..core.patch._tiles import PatchFit

_MASK = {
    "NO_DATA": "no exposure was used",
    "INTERPOLATED": "small hole, value of the latent",
    "CLIPPED": "an exposure was left out as an artifact",
    "ACN_UNTRUSTED": "do not use the latent here",
}
"""Planes of the mask, in the order of their bits, and what each means."""


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
    - ``VARIANCE``, ``LATENT_VARIANCE``: variance of ``COADD``, ``LATENT``;
      infinite where no exposure was used and the hole is too large to be
      filled, so that a weight of 1 / variance is 0 there.
    - ``PSF_FLUX_ERROR``: standard error of a flux measured on ``COADD`` about
      each pixel, with the PSF of its cell; infinite where ``VARIANCE`` is.
    - ``MASK``: bits; the header cards ``MP_*`` number them from 0.
      ``NO_DATA``: no exposure was used. ``INTERPOLATED``: nor here, but the
      hole is small and has the value of the latent. ``CLIPPED``: at least one
      exposure was left out as an artifact. ``ACN_UNTRUSTED``: the latent must
      not be used (few exposures, at odds with them, not converged, too sharp
      or too broad for their pixels; never set without a latent). Saturated
      pixels are not known: set ``good`` to `False` there and around.
    - ``NOISE``: one realization of the noise of ``COADD``. The header cards
      ``NOISE_AREA_5`` to ``NOISE_AREA_40`` of the first HDU tell its
      correlation, as the metadata of coadds do.
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
    _check_name(path, overwrite=overwrite)
    target = path.resolve()  # a link stays one
    # By way of memory: astropy hides the error of a disk that is full.
    content = io.BytesIO()
    _make_hdus(fit, options, source).writeto(content)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
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
        os.replace(temporary, target)
    except OSError as error:
        raise RestoreError(
            f"{path} cannot be written: {error.strerror or error}; nothing was changed."
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise `RestoreError` if ``path`` cannot become the output: that shall
    be known before the fit.
    """
    _check_name(path, overwrite=overwrite)
    try:
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise RestoreError(f"{path} cannot be written: {error.strerror or error}") from error


def _check_name(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise RestoreError(f"{path} is a directory; name a FITS file.")
    if path.exists() and not path.is_file():  # as /dev/null, which would be replaced
        raise RestoreError(f"{path} is no file; name a FITS file.")
    if path.exists() and not overwrite:
        raise RestoreError(f"{path} exists; give --overwrite to replace it.")
    if not path.parent.is_dir():
        raise RestoreError(f"The directory {path.parent} does not exist; make it first.")


def _make_hdus(fit: PatchFit, options: FitOptions, source: str) -> fits.HDUList:
    from astropy.stats import gaussian_fwhm_to_sigma

    from ..core.encoder._encoder import weights_digest

    is_linear = options.method in LINEAR_METHODS
    primary = fits.PrimaryHDU()
    header = primary.header
    header["METHOD"] = (options.method, "acn, mm, kaiser or mean")
    if options.method == "acn":
        header["RECIPE"] = (options.recipe, "recipe of the method")
        if options.recipe == "trained":
            header["WEIGHTS"] = (_as_text(options.weights or "shipped"), "file")
            header["WSHA256"] = weights_digest(options.weights)
    if not is_linear:
        header["TPSFTYPE"] = ("GAUSSIAN", "target PSF of LATENT and COADD")
        header["TPSFFWHM"] = (options.target_fwhm, "[pixel] FWHM of the target PSF")
        header["TPSFSIG"] = (options.target_fwhm * gaussian_fwhm_to_sigma, "[pixel] sigma of the target PSF")
    else:
        header["TPSFTYPE"] = ("NONE", "the coadd has the PSF of HDU PSF")
    header["HASLATNT"] = (not is_linear, "F: LATENT repeats COADD")
    header["SEED"] = (options.seed, "seed of everything random")
    header["DEVICE"] = (options.device, "device asked for")
    for name, area in describe_noise(fit).items():
        if name.startswith(NOISE_AREA):
            header[f"HIERARCH {name}"] = (area, "pixels that share a value of NOISE")
    header["N_EXP"] = (len(fit.exposures), "exposures used")
    header["SOURCE"] = (_as_text(source), "input file")
    header["PROGRAM"] = ("coadd_astroclearnet", "made by acn restore")
    header["VERSION"] = (__version__, "version of the program")
    cells = fit.coadd_psf.astype(np.float32)
    used = np.isfinite(cells).all(axis=(-2, -1))
    psf = cells[used].mean(axis=0, dtype=float)
    psf /= psf.sum()
    variance, latent_variance, psf_flux_variance = (
        np.where((fit.n_image == 0) & ~fit.filled, np.float32(np.inf), plane)
        for plane in (fit.coadd_variance, fit.latent_variance, fit.psf_flux_variance)
    )
    images = {
        "LATENT": fit.coadd if is_linear else fit.latent,
        "COADD": fit.coadd,
        "VARIANCE": variance,
        "LATENT_VARIANCE": variance if is_linear else latent_variance,
        "PSF_FLUX_ERROR": np.sqrt(psf_flux_variance),
        "MASK": _make_mask(fit, options),
        "NOISE": fit.noise,
        "N_IMAGE": fit.n_image.astype(np.int32),
        "PSF": psf.astype(np.float32),
        "PSF_CELLS": cells,
    }
    hdus = fits.HDUList([primary, *(fits.ImageHDU(array, name=name) for name, array in images.items())])
    for bit, (name, text) in enumerate(_MASK.items()):
        hdus["MASK"].header[f"HIERARCH MP_{name}"] = (bit, text)
    return hdus


def _make_mask(fit: PatchFit, options: FitOptions) -> np.ndarray:
    """Make the planes of `_MASK` of what the fit knows; whether a pixel was
    saturated it does not.
    """
    from ..core.patch._trust import TrustLimits, find_untrusted

    planes = {"NO_DATA": fit.n_image == 0, "INTERPOLATED": fit.filled, "CLIPPED": fit.n_rejected > 0}
    if options.method not in LINEAR_METHODS:
        height, width = fit.n_image.shape
        rows, columns, _ = fit.seeing.shape
        size = max(LEAST_CELL_SIZE, math.ceil(height / rows), math.ceil(width / columns))
        beyond = ((0, rows * size - height), (0, columns * size - width))
        # The end of the grid is no gap: the sky goes on there.
        n_image = np.pad(fit.n_image, beyond, mode="edge")
        reasons = find_untrusted(
            saturated=np.zeros(n_image.shape, bool),
            n_image=n_image,
            misfit=np.pad(fit.misfit, beyond),
            chi2=np.pad(fit.local_chi2, beyond),
            history=fit.history,
            seeing=fit.seeing,
            psf_change=fit.psf_change,
            cell_size=size,
            limits=TrustLimits(),
        )
        planes["ACN_UNTRUSTED"] = np.any(list(reasons.values()), axis=0)[:height, :width]
    mask = np.zeros(fit.n_image.shape, np.int32)
    for bit, name in enumerate(_MASK):
        if name in planes:
            mask |= planes[name].astype(np.int32) << bit
    return mask


def _as_text(name: str) -> str:
    """Return a text as a header takes it: printable ASCII, not too long."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name)[-60:]
