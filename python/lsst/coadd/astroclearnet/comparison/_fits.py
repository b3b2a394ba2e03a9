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

from .._coadds import CoaddView, sample_gaussian
from ..core import CoreError
from ..core.warp._warped_psf import MOST_OFFSET, find_star
from ..flux_errors import NOISE_AREA
from ._detect import detect_sources
from ._photometry import adaptive_moments, half_width

_NO_DATA_PLANES = ("NO_DATA",)
_SATURATED_PLANES = ("SAT", "SATURATED")
_SAME_GRID = 0.1  # pixels
_GUESS = 4.0  # FWHM in pixels of the filter of the first detection

_COADDS = ("IMAGE", "COADD")
"""Names of images to be compared, the best first."""

_STAMPS = ("PSF", "IMAGE")
"""The same for PSFs."""

_VARIANCES = {"LATENT": "LATENT_VARIANCE"}
"""Names of variances by that of the image; ``VARIANCE`` for all others."""


class FitsCoaddError(CoreError, ValueError):
    """A FITS file that cannot be compared; the text names it."""


def find_common_scale(paths: Sequence[Path]) -> float | None:
    """Check that images can be compared: size, unit, pixels on the sky.

    Parameters
    ----------
    paths
        FITS files; those without world coordinates may lie anywhere.

    Returns
    -------
    `float` or `None`
        Arcsec per pixel; `None` if no file has world coordinates.

    Raises
    ------
    FitsCoaddError
        If sizes differ, a unit is none of flux density, or corners lie more
        than 0.1 pixel apart.
    """
    shape: tuple[int, ...] | None = None
    first: tuple[Path, astropy.wcs.WCS] | None = None
    for path in paths:
        with _open(path) as hdus:
            hdu = _find_image(hdus, path)
            size, header = hdu.data.shape, hdu.header
        _find_unit(header, path, "")
        shape = shape or size
        if size != shape:
            raise FitsCoaddError(
                f"{path} has {size[1]} x {size[0]} pixels, {paths[0]} {shape[1]} x {shape[0]}; "
                "they cannot be compared."
            )
        wcs = _read_wcs(header, path)
        if wcs is None:
            continue
        if first is None:
            first = path, wcs
            continue
        height, width = shape
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


def find_unit(paths: Sequence[Path]) -> str:
    """Return the unit of the first image that has one; empty if none has."""
    for path in paths:
        with _open(path) as hdus:
            if unit := str(_find_image(hdus, path).header.get("BUNIT", "")).strip():
                return unit
    return ""


def view_from_fits(
    path: Path,
    *,
    name: str,
    psf: Path | None = None,
    pixel_scale: float | None = None,
    unit: str = "nJy",
) -> CoaddView:
    """Look at a coadd in a FITS file.

    The image is the extension ``IMAGE``, else ``COADD`` (as ``acn restore``
    calls it), else the first with two axes; the variance ``VARIANCE``, or
    ``LATENT_VARIANCE`` of an image called ``LATENT``; the mask ``MASK`` with
    planes named by cards ``MP_*`` as afw writes them, or ``MSKN*`` and
    ``MSKM*`` as lsst.images does; the correlation of the noise the cards
    ``NOISE_AREA_*`` of ``acn restore``; the PSF ``PSF``, of which that of the
    middle cell is taken where there are cells. Without a variance the noise
    is taken from the pixels; without a PSF it is a Gaussian as wide as the
    sharpest quarter of what is round.

    Parameters
    ----------
    path
        The file.
    name
        Name of the plane in tables and pictures.
    psf
        FITS file with the PSF, an odd number of pixels on each side; goes
        before that in ``path``.
    pixel_scale
        Arcsec per pixel, as of `find_common_scale`; a pixel is taken as 1
        arcsec without it, and the configuration of the view says that there
        are no world coordinates.
    unit
        Of an image that does not tell its own; empty if no image has one:
        then fluxes are in counts.

    Raises
    ------
    FitsCoaddError
        If the file holds no image, or no star to measure the PSF on.
    """
    with _open(path) as hdus:
        hdu = _find_image(hdus, path)
        image, header = np.asarray(hdu.data, dtype=np.float32), hdu.header
        variance = _read_plane(hdus, _VARIANCES.get(hdu.name, "VARIANCE"), image.shape)
        bad, saturated = _read_mask(hdus, image.shape)
        kernel = _read_own_psf(hdus)
        told = {key.lower(): value for key, value in hdus[0].header.items()}
    scale = _find_unit(header, path, unit)
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
        psf=lambda *, x, y: sample_gaussian(_GUESS, 25),
        noise_area={key: value for key, value in told.items() if key.startswith(NOISE_AREA)},
        configuration="",
    )
    taken = [] if pixel_scale else ["no world coordinates: sizes in pixels"]
    if not str(header.get("BUNIT", "")).strip():
        taken.append(f"no unit: taken as {unit}" if unit else "no unit: fluxes in counts")
    view = _attach_psf(view, path, psf, kernel)
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


def _find_image(hdus: fits.HDUList, path: Path, names: Sequence[str] = _COADDS) -> fits.ImageHDU:
    """Find the image: by name, the first name first, else the first."""
    flat = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None and hdu.data.ndim == 2]
    if not flat:
        raise FitsCoaddError(f"{path} holds no image with two axes.")
    return min(flat, key=lambda hdu: names.index(hdu.name) if hdu.name in names else len(names))


def _read_plane(hdus: fits.HDUList, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the data of a named extension of the right size."""
    for hdu in hdus:
        if hdu.name == name and hdu.is_image and hdu.data is not None and hdu.data.shape == shape:
            return np.asarray(hdu.data)
    return None


def _read_own_psf(hdus: fits.HDUList) -> np.ndarray | None:
    """Return the PSF that lies beside the image, if there is a usable one."""
    for hdu in hdus:
        if hdu.name == "PSF" and hdu.is_image and hdu.data is not None:
            kernels = np.asarray(hdu.data, dtype=float)
            if kernels.ndim == 4:  # cell_y, cell_x, y, x, as lsst.images writes it
                kernels = kernels[kernels.shape[0] // 2, kernels.shape[1] // 2]
            if _is_psf(kernels):
                return kernels
    return None


def _is_psf(kernel: np.ndarray) -> bool:
    """Say whether an array is a PSF with the star on its central pixel."""
    is_square = kernel.ndim == 2 and kernel.shape[0] == kernel.shape[1]
    total = float(kernel.sum(dtype=float))
    if not (is_square and kernel.shape[0] % 2 == 1 and np.isfinite(total) and total > 0):
        return False
    return float(np.hypot(*find_star(kernel))) <= MOST_OFFSET


def _read_mask(hdus: fits.HDUList, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels without data and saturated ones."""
    data = _read_plane(hdus, "MASK", shape)
    nothing = np.zeros(shape, dtype=bool)
    if data is None or data.dtype.kind not in "iu":
        return nothing, nothing.copy()
    known = _read_planes(hdus["MASK"].header)
    planes = []
    for names in (_NO_DATA_PLANES, _SATURATED_PLANES):
        bits = sum(known.get(name, 0) for name in names)
        planes.append((data.astype(np.int64) & bits) != 0)
    return planes[0], planes[1]


def _read_planes(header: fits.Header) -> dict[str, int]:
    """Return the bits of the planes of a mask, by their names."""
    bits = {card[3:]: 1 << int(header[card]) for card in header if card.startswith("MP_")}
    for card in header:
        if card.startswith("MSKN") and f"MSKM{card[4:]}" in header:
            bits[str(header[card]).strip()] = int(header[f"MSKM{card[4:]}"])
    return bits


def _find_unit(header: fits.Header, path: Path, default: str) -> float:
    """Return what turns pixels into nJy; 1 if there is no unit at all."""
    text = str(header.get("BUNIT", "")).strip() or default
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


def _attach_psf(view: CoaddView, path: Path, psf: Path | None, own: np.ndarray | None) -> CoaddView:
    """Give a view the PSF of a file, or the one that lies beside the image,
    or one measured on its stars.
    """
    if psf is not None:
        with _open(psf) as hdus:
            stamp = np.asarray(_find_image(hdus, psf, _STAMPS).data, dtype=float)
        if not _is_psf(stamp):
            raise FitsCoaddError(
                f"{psf} holds no PSF: a square of an odd number of pixels, sum > 0, star in the middle."
            )
        return dataclasses.replace(view, psf=lambda *, x, y: stamp, configuration=f"PSF {psf.name}")
    if own is not None:
        return dataclasses.replace(view, psf=lambda *, x, y: own, configuration="PSF of the file")
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
    kernel = sample_gaussian(fwhm, 2 * int(np.ceil(3 * fwhm)) + 1)
    return dataclasses.replace(
        view, psf=lambda *, x, y: kernel, configuration=f"PSF measured: Gaussian of {fwhm:.2f} px"
    )
