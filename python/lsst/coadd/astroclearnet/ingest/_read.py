# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read one exposure as described: calibrated, sky-subtracted arrays."""

from __future__ import annotations

__all__ = ("Footprint", "PlainExposure", "read_footprint", "read_plain_exposure")

import dataclasses
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from astropy.wcs import WCS
from scipy.interpolate import RectBivariateSpline

from ..core._planes import Plane
from ._config import (
    Calibration,
    ConstantSky,
    DataQuality,
    Exposure,
    MedianSky,
    NoSky,
    PiffFile,
    PsfexFile,
    SplineSky,
    Weight,
)
from ._errors import IngestError, naming_exposure, naming_file
from ._hdu import find_hdu
from ._psf import PiffModel, read_piff, read_psfex, read_stamp
from ._wcs import read_wcs


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlainExposure:
    """One detector image, ready to become a `~lsst.images.VisitImage`."""

    image: np.ndarray
    """Flux in nJy per pixel, float32 ``(y, x)``; 0 and ``NO_DATA`` where it
    was not finite."""

    variance: np.ndarray
    """Variance in nJy^2, float32 ``(y, x)``; NaN where there is none."""

    flags: np.ndarray
    """Bits of `~..core.Plane`, uint32 ``(y, x)``."""

    wcs: WCS
    """Of the arrays (0-based pixels), ICRS."""

    psf: PiffModel

    njy_per_count: float
    """Factor that made `image` from the file's unit."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Footprint:
    """Where an exposure lies on the sky."""

    wcs: WCS
    shape: tuple[int, int]

    def corners(self) -> SkyCoord:
        """Return the sky at the outer corners of the image."""
        height, width = self.shape
        x, y = np.array([-0.5, width - 0.5] * 2), np.repeat([-0.5, height - 0.5], 2)
        return SkyCoord(*self.wcs.pixel_to_world_values(x, y), unit=u.deg)


def read_footprint(exposure: Exposure) -> Footprint:
    """Read where an exposure lies, and see that its files are there.

    Raises
    ------
    IngestError
        If a file is missing or the header of the image cannot be used.
    """
    with naming_exposure(exposure.label):
        for path in _files(exposure):
            if not path.is_file():
                raise IngestError(f"the file {path} does not exist.")
        image, header = _read_image(exposure.image.file, exposure.image.hdu)
        return Footprint(wcs=read_wcs(exposure.wcs, header, source=exposure.image.file), shape=image.shape)


def _files(exposure: Exposure) -> list[Path]:
    parts = (exposure.image, exposure.weight, exposure.data_quality, exposure.psf, exposure.wcs, exposure.sky)
    return [path for part in parts if (path := getattr(part, "file", None)) is not None]


def read_plain_exposure(exposure: Exposure) -> PlainExposure:
    """Read the files of one exposure.

    Parameters
    ----------
    exposure
        Its description, with complete paths.

    Returns
    -------
    `PlainExposure`
        Calibrated and sky-subtracted.

    Raises
    ------
    IngestError
        If a file cannot be used; the text names the data id and the file.
    """
    with naming_exposure(exposure.label):
        image, header = _read_image(exposure.image.file, exposure.image.hdu)
        variance = _read_variance(exposure.weight, image.shape)
        flags = _read_flags(exposure.data_quality, image.shape)
        good = np.isfinite(image) & np.isfinite(variance) & (flags == 0)
        scale = _njy_per_count(exposure.calibration, exposure.exposure_time)
        image = (image - _sky(exposure.sky, image, good=good)) * scale
        with np.errstate(over="ignore"):  # becomes infinite, and is left out
            image, variance = image.astype(np.float32), (variance * scale**2).astype(np.float32)
        # UNMASKED_NAN says why; by default no pixel is left out for it.
        flags[~np.isfinite(image)] |= np.uint32(Plane.NO_DATA | Plane.UNMASKED_NAN)
        flags[~np.isfinite(variance) & (flags == 0)] |= np.uint32(Plane.BAD)
        return PlainExposure(
            image=np.where(np.isfinite(image), image, np.float32(0)),
            variance=variance,
            flags=flags,
            wcs=read_wcs(exposure.wcs, header, source=exposure.image.file),
            psf=_read_psf(exposure, image.shape),
            njy_per_count=scale,
        )


def _read_image(
    path: Path, hdu: int | str | None, *, dtype: type | None = float
) -> tuple[np.ndarray, fits.Header]:
    """Return an image ``(y, x)``, as float64 or, with `None`, in the type of
    the file, and its header.
    """
    with naming_file(path), fits.open(path) as hdus:
        for one in hdus if hdu is None else [find_hdu(hdus, hdu, source=path)]:
            if one.is_image and one.data is not None and one.data.ndim == 2:
                return np.asarray(one.data, dtype=dtype), one.header.copy()
    where = "any HDU" if hdu is None else f"HDU {hdu}"
    raise IngestError(f"{path} has no 2-d image in {where}.")


def _check_shape(path: Path, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise IngestError(f"{path} has the shape {shape}, the image {wanted} (y, x).")


def _read_variance(weight: Weight, shape: tuple[int, ...]) -> np.ndarray:
    values, _ = _read_image(weight.file, weight.hdu)
    _check_shape(weight.file, values.shape, shape)
    usable = np.isfinite(values) & (values > 0)
    if not usable.any():
        raise IngestError(f"{weight.file}: no pixel has a positive {weight.kind.replace('_', ' ')}.")
    power = {"inverse_variance": -1, "variance": 1, "sigma": 2}[weight.kind]
    return np.where(usable, np.where(usable, values, 1.0) ** power, np.nan)


def _read_flags(quality: DataQuality | None, shape: tuple[int, ...]) -> np.ndarray:
    flags = np.zeros(shape, dtype=np.uint32)
    if quality is None:
        return flags
    codes = _read_codes(quality)
    _check_shape(quality.file, codes.shape, shape)
    if quality.codes is not None:
        marked = {code: codes == code for code in np.unique(codes).tolist() if code}
        planes, kind = quality.codes, "code"
    else:
        # Else the highest bit of a signed number would stand for all above it.
        codes = codes.astype(f"u{codes.dtype.itemsize}")
        used = int(np.bitwise_or.reduce(codes, axis=None))
        marked = {bit: codes >> bit & 1 != 0 for bit in range(used.bit_length()) if used >> bit & 1}
        planes, kind = quality.bits or {}, "bit"
    for number, where in marked.items():
        if number in quality.ignore:
            continue
        if number not in planes:
            raise IngestError(
                f"{quality.file}: {np.count_nonzero(where)} pixels have the {kind} {number}, which is "
                f"neither in {kind}s nor in ignore."
            )
        flags[where] |= np.uint32(Plane[planes[number]])
    return flags


def _read_codes(quality: DataQuality) -> np.ndarray:
    """Return the pixels of a mask as integers of the size of the file's."""
    codes, _ = _read_image(quality.file, quality.hdu, dtype=None)
    if codes.dtype.kind in "iu":
        return codes
    # Some programs write masks as floats; a weight is no mask, NaN no bit.
    odd = ~np.isfinite(codes) | (codes != np.rint(codes))
    if odd.any():
        raise IngestError(
            f"{quality.file} is no mask: {np.count_nonzero(odd)} pixels hold no integer but, for example, "
            f"{codes[odd][0]:g}."
        )
    return codes.astype(np.int64)


def _sky(
    sky: NoSky | ConstantSky | MedianSky | SplineSky, image: np.ndarray, *, good: np.ndarray
) -> np.ndarray | float:
    """Return what to subtract, in the unit of the image."""
    if isinstance(sky, ConstantSky):
        return sky.value
    if isinstance(sky, MedianSky):
        if not good.any():
            raise IngestError("no pixel is good, so that the sky cannot be measured.")
        return float(sigma_clipped_stats(image[good], sigma=3.0)[1])
    if isinstance(sky, SplineSky):
        with naming_file(sky.file):
            return _spline_sky(sky, image.shape)
    return 0.0


def _spline_sky(sky: SplineSky, shape: tuple[int, ...]) -> np.ndarray:
    """Evaluate the spline of legacypipe: values on a grid of the detector,
    and the place of this image on it.
    """
    with fits.open(sky.file) as hdus:
        table = find_hdu(hdus, sky.hdu, source=sky.file).data
        if "xgrid" not in getattr(table, "names", ()):  # an image has no names
            raise IngestError(
                f"{sky.file}: HDU {sky.hdu} is not a sky of legacypipe; it has no column xgrid."
            )
        row = table[0]
        x, y = (np.asarray(row[name], dtype=float) for name in ("xgrid", "ygrid"))
        values = np.asarray(row["gridvals"], dtype=float)
        x0, y0, order = int(row["x0"]), int(row["y0"]), int(row["order"])
    spline = RectBivariateSpline(y, x, values, kx=order, ky=order)
    return spline(np.arange(shape[0]) + y0, np.arange(shape[1]) + x0)


def _njy_per_count(calibration: Calibration, exposure_time: float) -> float:
    if calibration.njy_per_count is not None:
        return calibration.njy_per_count
    scale = (calibration.zero_point * u.ABmag).to_value(u.nJy)
    scale = scale / exposure_time if calibration.per_second else scale
    if not 0 < scale < np.inf:
        raise IngestError(f"the zero point {calibration.zero_point} is not a magnitude.")
    return float(scale)


def _read_psf(exposure: Exposure, shape: tuple[int, int]) -> PiffModel:
    psf = exposure.psf
    with naming_file(psf.file):
        if isinstance(psf, PsfexFile):
            return read_psfex(psf.file, hdu=1 if psf.hdu is None else psf.hdu)
        if isinstance(psf, PiffFile):
            return read_piff(psf.file, shape=shape, stamp_size=psf.stamp_size, chip=psf.chip)
        return read_stamp(psf.file, hdu=0 if psf.hdu is None else psf.hdu, sampling=psf.sampling)
