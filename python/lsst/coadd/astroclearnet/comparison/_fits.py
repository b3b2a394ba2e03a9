# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Coadds in plain FITS files."""

from __future__ import annotations

__all__ = ("FitsCoaddError", "view_from_fits")

import contextlib
import dataclasses
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import astropy.units as u
import astropy.wcs
import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs.utils import proj_plane_pixel_scales

from .._coadds import CoaddView, gaussian_kernel
from .._photometry import adaptive_moments, half_width
from ..core import CoreError
from ._detect import detect_sources

_NO_DATA_PLANES = ("MP_NO_DATA",)
_SATURATED_PLANES = ("MP_SAT", "MP_SATURATED")
_GUESS = 4.0  # FWHM in pixels of the filter of the first detection


class FitsCoaddError(CoreError, ValueError):
    """A FITS file that cannot be compared; the text names it."""


def view_from_fits(path: Path, *, name: str, psf: Path | None = None) -> CoaddView:
    """Look at a coadd in a FITS file.

    The image is the first extension with two axes (``IMAGE`` if there is one
    of that name), the variance one of the name ``VARIANCE``, the mask one of
    the name ``MASK`` with planes named by cards ``MP_*`` as afw writes them.
    Without a variance the noise is taken from the pixels; without a PSF it is
    a Gaussian as wide as the median of the stars.

    Parameters
    ----------
    path
        The file.
    name
        Name of the plane in tables and pictures.
    psf
        FITS file with the PSF, an odd number of pixels on each side.

    Raises
    ------
    FitsCoaddError
        If the file holds no image, or no star to measure the PSF on.
    """
    with _open(path) as hdus:
        image, header = _read_image(hdus, path)
        variance = _read_plane(hdus, "VARIANCE", image.shape)
        bad, saturated = _read_mask(hdus, image.shape)
    scale = _find_unit(header, path)
    image = image * scale
    bad |= ~np.isfinite(image)
    if bad.all():
        raise FitsCoaddError(f"{path} holds no pixel that could be used.")
    if variance is None:
        variance = np.full(image.shape, half_width(image[~bad]) ** 2, dtype=np.float32)
    else:
        variance = variance * scale**2
    view = CoaddView(
        name=name,
        image=np.where(bad, 0, image).astype(np.float32),
        variance=np.where(np.isfinite(variance), variance, 0).astype(np.float32),
        bad=bad,
        saturated=saturated,
        x0=0,
        y0=0,
        pixel_scale=_find_scale(header, path),
        psf=lambda *, x, y: gaussian_kernel(_GUESS, 25),
        configuration="",
    )
    return _attach_psf(view, path, psf)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[fits.HDUList]:
    """Open a file; what is wrong with it is said in a line that names it."""
    try:
        with warnings.catch_warnings():
            # Of a file that ends too early, which is an error below.
            warnings.simplefilter("ignore", AstropyUserWarning)
            with fits.open(path, memmap=False) as hdus:
                yield hdus
    except FitsCoaddError:
        raise
    except (OSError, ValueError, TypeError, EOFError, zlib.error, fits.VerifyError) as error:
        if getattr(error, "strerror", None):
            raise
        # What astropy advises after the first sentence is for programmers.
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise FitsCoaddError(f"{path} cannot be read as FITS: {reason}") from error


def _read_image(hdus: fits.HDUList, path: Path) -> tuple[np.ndarray, fits.Header]:
    """Find the image."""
    flat = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None and hdu.data.ndim == 2]
    named = [hdu for hdu in flat if hdu.name == "IMAGE"]
    if not flat:
        raise FitsCoaddError(f"{path} holds no image with two axes.")
    hdu = (named or flat)[0]
    return np.asarray(hdu.data, dtype=np.float32), hdu.header


def _read_plane(hdus: fits.HDUList, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the data of a named extension of the right size."""
    for hdu in hdus:
        if hdu.name == name and hdu.is_image and hdu.data is not None and hdu.data.shape == shape:
            return np.asarray(hdu.data)
    return None


def _read_mask(hdus: fits.HDUList, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels without data and saturated ones."""
    data = _read_plane(hdus, "MASK", shape)
    nothing = np.zeros(shape, dtype=bool)
    if data is None or data.dtype.kind not in "iu":
        return nothing, nothing.copy()
    header = hdus["MASK"].header
    planes = []
    for names in (_NO_DATA_PLANES, _SATURATED_PLANES):
        bits = sum(1 << int(header[name]) for name in names if name in header)
        planes.append((data.astype(np.int64) & bits) != 0)
    return planes[0], planes[1]


def _find_unit(header: fits.Header, path: Path) -> float:
    """Return what turns pixels into nJy; 1 if there is no unit."""
    text = str(header.get("BUNIT", "")).strip()
    if not text:
        return 1.0
    try:
        return float(u.Unit(text).to(u.nJy))
    except (ValueError, u.UnitConversionError):
        raise FitsCoaddError(f"{path} has BUNIT = {text!r}, which cannot be converted to nJy.") from None


def _find_scale(header: fits.Header, path: Path) -> float:
    """Return arcseconds per pixel; 1 without world coordinates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", astropy.wcs.FITSFixedWarning)
        try:
            wcs = astropy.wcs.WCS(header)
        except (astropy.wcs.WcsError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise FitsCoaddError(f"{path} has world coordinates that cannot be read: {reason}") from error
    if not wcs.has_celestial:
        return 1.0
    return float(np.mean(proj_plane_pixel_scales(wcs.celestial))) * 3600


def _attach_psf(view: CoaddView, path: Path, psf: Path | None) -> CoaddView:
    """Give a view the PSF of a file, or one measured on its stars."""
    if psf is not None:
        with _open(psf) as hdus:
            kernel, _ = _read_image(hdus, psf)
        if kernel.shape[0] % 2 == 0 or kernel.shape[0] != kernel.shape[1] or not kernel.sum() > 0:
            raise FitsCoaddError(f"{psf} holds no PSF: a square of an odd number of pixels, sum > 0.")
        stamp = kernel.astype(float)
        return dataclasses.replace(view, psf=lambda *, x, y: stamp, configuration=f"PSF {psf.name}")
    widths = []
    found = detect_sources(view, threshold=20.0)
    for x, y in zip(found.x, found.y, strict=True):
        pixels = view.stamp(x=x, y=y, half=12)
        moments = None if pixels is None else adaptive_moments(pixels)
        if moments is not None and np.hypot(moments.e1, moments.e2) < 0.2:
            widths.append(moments.fwhm)
    if len(widths) < 3:
        raise FitsCoaddError(f"{path} has fewer than 3 round sources of S/N > 20: give its PSF with --psf.")
    # Stars are the sharpest of what is round; galaxies make the upper half.
    fwhm = float(np.percentile(widths, 25))
    kernel = gaussian_kernel(fwhm, 2 * int(np.ceil(3 * fwhm)) + 1)
    return dataclasses.replace(
        view, psf=lambda *, x, y: kernel, configuration=f"PSF measured: Gaussian of {fwhm:.2f} px"
    )
