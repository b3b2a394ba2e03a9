# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""PSF models of files as Piff models, which ``VisitImage`` can store."""

from __future__ import annotations

__all__ = ("PiffModel", "read_piff", "read_psfex", "read_stamp")

import dataclasses
import math
import pickle
from pathlib import Path

import galsim
import numpy as np
import piff
from astropy.io import fits

from ._errors import IngestError
from ._hdu import find_hdu

_PIFF_DEGREE = 4  # of the polynomials that stand for a Piff file
_PIFF_POSITIONS = 9  # on each side of the grid they are fitted to
_PIFF_TOLERANCE = 0.02  # of the peak


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PiffModel:
    """A Piff model in the pixels of an exposure's array."""

    psf: piff.PSF
    """Evaluated at 0-based pixels: ``psf.draw(x, y, center=True)``."""

    stamp_size: int
    """Side of the kernels to draw, odd, in pixels."""


def read_psfex(path: Path, *, hdu: int | str = 1) -> PiffModel:
    """Turn a PSFEx model into a Piff model without fitting anything.

    PSFEx gives a stamp for each term of a polynomial in the (1-based) pixel
    position (Bertin 2011, ADASS XX, 435). A Piff ``PixelGrid`` whose values
    are a ``BasisPolynomial`` of the position is the same function; only the
    polynomial must be expanded about pixel 0 without scaling. The interpolant
    between samples is the one of ``galsim.des.DES_PSFEx``, Lanczos 3. Flux is
    1 at each position: a PSFEx sum other than 1 is not a property of the PSF.

    Parameters
    ----------
    path
        FITS file of PSFEx.
    hdu
        The table of the model.

    Returns
    -------
    `PiffModel`
        The same PSF.

    Raises
    ------
    IngestError
        If the file is not a PSFEx model that depends on position only.
    """
    with fits.open(path) as hdus:
        found = find_hdu(hdus, hdu, source=path)
        header, table = found.header, found.data
        # An image has no names.
        if "PSF_MASK" not in (name.upper() for name in getattr(table, "names", ())):
            raise IngestError(f"{path}: HDU {hdu} is not a PSFEx model; it has no column PSF_MASK.")
        stamps = np.asarray(table["PSF_MASK"][0], dtype=float)
    if stamps.ndim == 2:  # no polynomial
        stamps = stamps[np.newaxis]
    names = list(header["POLNAME*"].values())
    degree = header.get("POLDEG1", 0) if names else 0
    if len(names) not in (0, 2) or header.get("POLNGRP", 1) > 1:
        raise IngestError(
            f"{path}: the PSF must be a polynomial in x and y; it depends on {', '.join(names)}."
        )
    if stamps.shape != ((degree + 1) * (degree + 2) // 2, stamps.shape[1], stamps.shape[1]):
        raise IngestError(
            f"{path}: stamps of shape {stamps.shape} do not fit a polynomial of degree {degree}."
        )
    zero = [header.get(f"POLZERO{i}", 1.0) - 1.0 for i in (1, 2)]  # PSFEx counts pixels from 1
    scale = [header.get(f"POLSCAL{i}", 1.0) for i in (1, 2)]
    terms = [(i, j) for j in range(degree + 1) for i in range(degree + 1 - j)]
    coefficients = _expand(dict(zip(terms, stamps, strict=True)), zero=zero, scale=scale, degree=degree)
    return _pixel_grid(coefficients, sampling=float(header["PSF_SAMP"]), source=path)


def _expand(
    terms: dict[tuple[int, int], np.ndarray], *, zero: list[float], scale: list[float], degree: int
) -> np.ndarray:
    """Expand a polynomial in ((x - zero) / scale) in plain powers of x, y.

    Returns the stamps ``(degree + 1, degree + 1, h, w)``, indexed by the
    powers of x and y.
    """
    size = next(iter(terms.values())).shape
    result = np.zeros((degree + 1, degree + 1, *size))
    powers = [
        [
            np.polynomial.Polynomial((-zero[axis] / scale[axis], 1 / scale[axis])) ** k
            for k in range(degree + 1)
        ]
        for axis in (0, 1)
    ]
    for (i, j), stamp in terms.items():
        factor = np.multiply.outer(powers[0][i].coef, powers[1][j].coef)
        result[: i + 1, : j + 1] += factor[:, :, np.newaxis, np.newaxis] * stamp
    return result


def _pixel_grid(coefficients: np.ndarray, *, sampling: float, source: Path) -> PiffModel:
    """Make a Piff model of stamps that are polynomials of the position."""
    degree, size = coefficients.shape[0] - 1, coefficients.shape[2]
    if coefficients.shape[2] != coefficients.shape[3] or not size % 2:
        raise IngestError(
            f"{source}: PSF stamps must be square with an odd side; got {coefficients.shape[2:]}."
        )
    total = coefficients[0, 0].sum()
    if not math.isfinite(coefficients.sum()) or not total > 0:
        raise IngestError(f"{source}: the PSF holds NaN or infinite values, or its sum is not positive.")
    interpolation = piff.BasisPolynomial(order=degree)
    # Piff orders the terms as outer(u^i, v^j)[i + j <= order].
    i, j = np.indices((degree + 1, degree + 1))
    used = coefficients[i + j <= degree]
    interpolation.q = used.reshape(len(used), -1).T / total
    interpolation.set_num(None)
    model = piff.PixelGrid(scale=sampling, size=size, interp="Lanczos(3)", centered=False)
    psf = piff.SimplePSF(model, interpolation)
    psf.set_num(None)
    _finish(psf)
    stamp_size = int(math.floor((size - 1) / 2 * sampling)) * 2 + 1
    return PiffModel(psf=psf, stamp_size=stamp_size)


def _finish(psf: piff.PSF) -> None:
    """Set what Piff's own fit or reading would have set, in pixel units."""
    psf.wcs = {0: galsim.PixelScale(1.0)}
    psf.pointing = None
    psf.stars = []


def read_stamp(path: Path, *, hdu: int | str = 0, sampling: float = 1.0) -> PiffModel:
    """Make a PSF, the same everywhere, of a stamp.

    Parameters
    ----------
    path
        FITS image of a star, centred on its central pixel.
    hdu
        The image.
    sampling
        Side of a pixel of the stamp, in pixels of the exposure.

    Returns
    -------
    `PiffModel`
        The stamp, normalised.
    """
    with fits.open(path) as hdus:
        found = find_hdu(hdus, hdu, source=path)
        if not found.is_image or found.data is None or found.data.ndim != 2:
            raise IngestError(f"{path}: HDU {hdu} is not an image of a PSF.")
        stamp = np.asarray(found.data, dtype=float)
    return _pixel_grid(stamp[np.newaxis, np.newaxis], sampling=sampling, source=path)


def read_piff(path: Path, *, shape: tuple[int, int], stamp_size: int, chip: int | None = None) -> PiffModel:
    """Read a Piff file and turn it into a model in pixels.

    A repository can only store Piff models in pixel coordinates, while most
    files hold one in sky coordinates with the WCS of its own image. So the
    kernels of a grid of positions are drawn and each of their pixels is made
    a polynomial of the position.

    Parameters
    ----------
    path
        FITS file of Piff; its positions count pixels from 1, as FITS does.
    shape
        Rows and columns of the exposure.
    stamp_size
        Side of the kernels, odd, in pixels.
    chip
        Number of the chip in the file; `None` if it has one only.

    Returns
    -------
    `PiffModel`
        The same PSF, to 2 per cent of its peak or better.

    Raises
    ------
    IngestError
        If the file is not such a model, or varies too fast.
    """
    with fits.open(path) as hdus:
        if "PSF" not in hdus:
            raise IngestError(f"{path} is not a Piff model; it has no HDU named psf.")
    try:
        psf = piff.read(str(path))
    except (OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise IngestError(f"{path} cannot be read as a Piff model: {error}") from error
    if others := set(psf.interp_property_names) - {"x", "y", "u", "v"}:
        raise IngestError(f"{path}: the PSF depends on {', '.join(sorted(others))}, which is not supported.")
    if chip is None and len(psf.wcs) > 1:
        raise IngestError(f"{path} holds the chips {', '.join(map(str, psf.wcs))}; give `chip`.")
    if chip is not None and chip not in psf.wcs:
        raise IngestError(f"{path} holds no chip {chip}; it holds {', '.join(map(str, psf.wcs))}.")
    x, y = (
        grid.ravel()
        for grid in np.meshgrid(*(np.linspace(0, side - 1, _PIFF_POSITIONS) for side in shape[::-1]))
    )
    stamps = np.array(
        [
            psf.draw(x=xi + 1, y=yi + 1, chipnum=chip, stamp_size=stamp_size, center=True).array
            for xi, yi in zip(x, y, strict=True)
        ],
        dtype=float,
    )
    return _pixel_grid(_fit_polynomial(stamps, x=x, y=y, shape=shape, source=path), sampling=1.0, source=path)


def _fit_polynomial(
    stamps: np.ndarray, *, x: np.ndarray, y: np.ndarray, shape: tuple[int, int], source: Path
) -> np.ndarray:
    """Fit a polynomial of the position to each pixel of stamps.

    Returns the stamps ``(degree + 1, degree + 1, h, w)``, indexed by the
    powers of x and y.
    """
    scale = [float(shape[1]), float(shape[0])]
    terms = [(i, j) for j in range(_PIFF_DEGREE + 1) for i in range(_PIFF_DEGREE + 1 - j)]
    design = np.array([(x / scale[0]) ** i * (y / scale[1]) ** j for i, j in terms]).T
    fitted, *_ = np.linalg.lstsq(design, stamps.reshape(len(stamps), -1))
    worst = np.abs(design @ fitted - stamps.reshape(len(stamps), -1)).max() / stamps.max()
    if worst > _PIFF_TOLERANCE:
        raise IngestError(
            f"{source}: the PSF is no polynomial of degree {_PIFF_DEGREE} over the image: it is off by "
            f"{worst:.1%} of its peak. Cut the exposure into smaller images."
        )
    by_term = dict(zip(terms, fitted.reshape(len(terms), *stamps.shape[1:]), strict=True))
    return _expand(by_term, zero=[0.0, 0.0], scale=scale, degree=_PIFF_DEGREE)
