# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models, masks and aperture corrections of `lsst.afw` as the core has them.

Paths of upstream files are relative to ``python/lsst/`` of lsst/afw 714e0ed6d
and lsst/pex_exceptions 786e29f.
"""

from __future__ import annotations

__all__ = (
    "BoundedFieldValue",
    "ExposurePsf",
    "SkyWcsMap",
    "check_njy",
    "read_aperture_corrections",
    "read_unit",
    "translate_mask",
)

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core._errors import InvalidExposureError, UncalibratedExposureError
from ..core._exposure import ScalarField
from ._adapter import centre_kernel
from ._masks import PlaneTranslator

if TYPE_CHECKING:
    from lsst.afw.detection import Psf
    from lsst.afw.geom import SkyWcs
    from lsst.afw.image import ExposureF, Mask
    from lsst.afw.math import BoundedField


@dataclasses.dataclass(frozen=True, eq=False)
class SkyWcsMap:
    """A `lsst.afw.geom.SkyWcs` as a `~..core.PixelSkyMap`.

    ``pixelToSkyArray`` and ``skyToPixelArray`` (afw/geom/skyWcs.py:41-102)
    return flat arrays.
    """

    wcs: SkyWcs

    def pixel_to_sky(self, *, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return right ascension and declination, in degrees, of pixels."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        ra, dec = self.wcs.pixelToSkyArray(x.ravel(), y.ravel(), degrees=True)
        return ra.reshape(x.shape), dec.reshape(x.shape)

    def sky_to_pixel(self, *, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel x and y of ICRS positions, in degrees."""
        ra, dec = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
        x, y = self.wcs.skyToPixelArray(ra.ravel(), dec.ravel(), degrees=True)
        return x.reshape(ra.shape), y.reshape(ra.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class ExposurePsf:
    """A `lsst.afw.detection.Psf` as a `~..core.PsfModel`."""

    psf: Psf

    label: str
    """Data id for errors."""

    def __call__(self, *, x: float, y: float) -> np.ndarray:
        """Return the kernel at a pixel position.

        ``computeKernelImage(position)`` (afw/detection/_psf.cc:73-78) returns
        an image whose pixel (0, 0) holds the star; its box may differ from
        one position to the next and need not be symmetric (a coadd's PSF).

        Raises
        ------
        InvalidExposureError
            If the model has no value there. Those of afw raise subclasses of
            ``lsst.pex.exceptions.Exception`` (pex/exceptions/wrappers.py:54),
            as ``InvalidPsfError`` off the detectors of a coadd's PSF; those
            written in Python (Piff) raise what they like.
        """
        from lsst.geom import Point2D

        try:
            image = self.psf.computeKernelImage(Point2D(float(x), float(y)))
        except Exception as error:
            # Of several lines of a C++ traceback the last says what it is.
            text = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise InvalidExposureError(
                f"The PSF of {self.label} has no value at x={x:.0f} y={y:.0f} ({text}); "
                "refit it or leave the exposure out."
            ) from error
        # afw/image/_image/_image.cc:89-98: getX0, getY0, array.
        return centre_kernel(image.array, x0=image.getX0(), y0=image.getY0())


@dataclasses.dataclass(frozen=True, eq=False)
class BoundedFieldValue:
    """A `lsst.afw.math.BoundedField` as a `~..core.ScalarField`."""

    field: BoundedField

    def __call__(self, *, x: float, y: float) -> float:
        """Return ``evaluate(x, y)`` (afw/math/_boundedField.cc:96)."""
        return float(self.field.evaluate(float(x), float(y)))


def translate_mask(mask: Mask, *, planes: PlaneTranslator) -> np.ndarray:
    """Return the bits of `Plane` of a `lsst.afw.image.Mask`, ``(y, x)``.

    ``getMaskPlaneDict`` (afw/image/_image/_image.cc:247) gives plane names
    and their bit numbers.
    """
    bits, array = mask.getMaskPlaneDict(), mask.array
    return planes(bits, lambda name: (array >> bits[name]) & 1 != 0, shape=array.shape)


def read_unit(exposure_f: ExposureF) -> str:
    """Return the unit of the pixels, or that it is not said."""
    metadata = exposure_f.metadata
    return metadata["BUNIT"] if "BUNIT" in metadata else "not said (no BUNIT)"


def check_njy(exposure_f: ExposureF, *, label: str, advice: str) -> None:
    """Refuse pixels that are not in nJy.

    Parameters
    ----------
    exposure_f
        The exposure, or warp.
    label, advice
        What the error calls it, and what it says to do.

    Raises
    ------
    UncalibratedExposureError
        If they are not, or do not say so.
    """
    unit = read_unit(exposure_f)
    if unit != "nJy":
        raise UncalibratedExposureError(f"The unit of {label} is {unit}; {advice}.")


def read_aperture_corrections(ap_corr_map: Any) -> dict[str, ScalarField]:
    """Return the fields of an `lsst.afw.image.ApCorrMap`
    (``items``: afw/image/_apCorrMap/_apCorrMap.cc); none for `None`.
    """
    return (
        {} if ap_corr_map is None else {name: BoundedFieldValue(field) for name, field in ap_corr_map.items()}
    )
