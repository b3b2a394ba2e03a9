# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Coadds in plain FITS files."""

from __future__ import annotations

__all__ = ("FitsCoaddError", "find_common_scale", "view_from_fits")

import contextlib
import dataclasses
import warnings
import zlib
from collections.abc import Iterator, Sequence
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
_SAME_GRID = 0.1  # pixels
_GUESS = 4.0  # FWHM in pixels of the filter of the first detection


class FitsCoaddError(CoreError, ValueError):
    """A FITS file that cannot be compared; the text names it."""


def find_common_scale(paths: Sequence[Path]) -> float | None:
    """Check that images lie on the same pixels of the sky.

    Parameters
    ----------
    paths
        FITS files; those without world coordinates are left out.

    Returns
    -------
    `float` or `None`
        Arcsec per pixel; `None` if no file has world coordinates.

    Raises
    ------
    FitsCoaddError
        If corners lie more than 0.1 pixel apart.
    """
    first: tuple[Path, astropy.wcs.WCS, tuple[int, ...]] | None = None
    for path in paths:
        with _open(path) as hdus:
            image, header = _read_image(hdus, path)
        wcs = _read_wcs(header, path)
        if wcs is None:
            continue
        if first is None:
            first = path, wcs, image.shape
            continue
        height, width = first[2]
        x, y = np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1]], dtype=float)
        try:
            there = wcs.world_to_pixel(first[1].pixel_to_world(x, y))
            apart = float(np.max(np.hypot(there[0] - x, there[1] - y)))
        except astropy.wcs.NoConvergence:
            apart = np.inf
        if not apart < _SAME_GRID:
            raise FitsCoaddError(
                f"{path} is not on the pixels of {first[0]}: by their world coordinates its corners lie "
                f"{apart:.3g} pixels apart."
            )
    return None if first is None else float(np.mean(proj_plane_pixel_scales(first[1]))) * 3600


def view_from_fits(
    path: Path, *, name: str, psf: Path | None = None, pixel_scale: float | None = None
) -> CoaddView:
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
    pixel_scale
        Arcsec per pixel, as of `find_common_scale`; a pixel is taken as 1
        arcsec without it, and the configuration of the view says so.

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
        pixel_scale=1.0 if pixel_scale is None else pixel_scale,
        psf=lambda *, x, y: gaussian_kernel(_GUESS, 25),
        configuration="",
    )
    taken = [] if pixel_scale else ['a pixel taken as 1"']
    taken += [] if str(header.get("BUNIT", "")).strip() else ["no unit: taken as nJy"]
    view = _attach_psf(view, path, psf)
    return dataclasses.replace(view, configuration=", ".join([view.configuration, *taken]))


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


def _read_wcs(header: fits.Header, path: Path) -> astropy.wcs.WCS | None:
    """Return the world coordinates, if there are any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", astropy.wcs.FITSFixedWarning)
        try:
            wcs = astropy.wcs.WCS(header)
        except (astropy.wcs.WcsError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise FitsCoaddError(f"{path} has world coordinates that cannot be read: {reason}") from error
    return wcs.celestial if wcs.has_celestial else None


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
        raise FitsCoaddError(
            f"{path} has fewer than 3 round sources of S/N > 20: give its PSF with --psf-a or --psf-b."
        )
    # Stars are the sharpest of what is round; galaxies make the upper half.
    fwhm = float(np.percentile(widths, 25))
    kernel = gaussian_kernel(fwhm, 2 * int(np.ceil(3 * fwhm)) + 1)
    return dataclasses.replace(
        view, psf=lambda *, x, y: kernel, configuration=f"PSF measured: Gaussian of {fwhm:.2f} px"
    )
