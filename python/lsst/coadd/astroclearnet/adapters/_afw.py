# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of `lsst.afw` to the form that the core uses.

Nothing of afw is imported before an exposure is adapted. The calls were
checked against lsst/afw 714e0ed6d, lsst/drp_tasks dc28b94 and
lsst/pex_exceptions 786e29f; paths below are relative to ``python/lsst/`` of
those repositories.
"""

from __future__ import annotations

__all__ = ("ExposurePsf", "SkyWcsMap", "exposure_from_exposure_f")

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lsst.images import Box

from ..core._errors import InvalidExposureError
from ..core._exposure import InputExposure
from ._images import make_exposure
from ._masks import translate_planes

if TYPE_CHECKING:
    from lsst.afw.detection import Psf
    from lsst.afw.geom import SkyWcs
    from lsst.afw.image import ExposureF, PhotoCalib
    from lsst.afw.table import ExposureRecord


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
            If the model has no value there. All exceptions of afw derive from
            ``lsst.pex.exceptions.Exception`` (pex/exceptions/wrappers.py:60).
        """
        import lsst.pex.exceptions
        from lsst.geom import Point2D

        try:
            image = self.psf.computeKernelImage(Point2D(float(x), float(y)))
        except lsst.pex.exceptions.Exception as error:
            text = str(error).strip().splitlines()[-1]
            raise InvalidExposureError(
                f"The PSF of {self.label} has no value at x={x:.0f} y={y:.0f} ({text}); "
                "refit it or leave the exposure out."
            ) from error
        # afw/image/_image/_image.cc:89-98: getX0, getY0, array.
        return _centre(image.array, x0=image.getX0(), y0=image.getY0())


def exposure_from_exposure_f(
    exposure_f: ExposureF,
    *,
    data_id: Mapping[str, Any],
    visit_summary_row: ExposureRecord | None = None,
) -> InputExposure:
    """Adapt a `~lsst.afw.image.ExposureF`.

    Parameters
    ----------
    exposure_f
        A sky-subtracted detector image whose photometric calibration converts
        its pixels to nJy.
    data_id
        Values of ``visit`` and ``detector``.
    visit_summary_row
        Row of the ``finalVisitSummary`` for this detector. If it is given,
        its PSF, WCS and photometric calibration take the place of those of
        the exposure, as in ``_apply_all_calibrations``
        (drp/tasks/make_direct_warp.py:748-868).

    Returns
    -------
    `InputExposure`
        The image in nJy with canonical mask planes.

    Raises
    ------
    InvalidExposureError
        If PSF, WCS or calibration is missing or unusable; the text names the
        data id and what to do.

    Notes
    -----
    Getters of the exposure: afw/image/_exposure/_exposure.cc:93-128 and
    afw/image/_exposure/_exposureContinued.py:76-98; of the row:
    afw/table/_exposure.cc:84-93.
    """
    label = f"visit={data_id['visit']} detector={data_id['detector']}"
    source = exposure_f if visit_summary_row is None else visit_summary_row
    where = "the exposure" if visit_summary_row is None else "its row of the visit summary"
    parts = {
        "PSF": source.getPsf(),
        "WCS": source.getWcs(),
        "photometric calibration": source.getPhotoCalib(),
    }
    for name, part in parts.items():
        if part is None:
            raise InvalidExposureError(f"{label} has no {name} in {where}; leave the exposure out.")
    masked_image = _calibrate(exposure_f, parts["photometric calibration"], label=label)
    array = exposure_f.mask.array
    # afw/image/_image/_image.cc:247: plane names and their bit numbers.
    bits = exposure_f.mask.getMaskPlaneDict()
    return make_exposure(
        data_id=data_id,
        physical_filter=_physical_filter(exposure_f) or str(data_id.get("physical_filter", "")),
        image=masked_image.image.array,
        variance=masked_image.variance.array,
        flags=translate_planes(bits, lambda name: (array >> bits[name]) & 1 != 0, shape=array.shape),
        bbox=Box.from_shape(array.shape, start=(exposure_f.getY0(), exposure_f.getX0())),
        psf=ExposurePsf(parts["PSF"], label),
        wcs=SkyWcsMap(parts["WCS"]),
    )


def _calibrate(exposure_f: ExposureF, photo_calib: PhotoCalib, *, label: str) -> Any:
    """Return a copy of the masked image in nJy.

    ``calibrateImage`` (afw/image/_photoCalibContinued.py:114-137) applies a
    calibration that varies over the frame, too; the check for a finite zero
    point is that of drp/tasks/make_direct_warp.py:819.
    """
    zero_point = photo_calib.getInstFluxAtZeroMagnitude()
    if not (np.isfinite(zero_point) and zero_point > 0):
        raise InvalidExposureError(
            f"The photometric calibration of {label} is not finite; calibrate it or leave the exposure out."
        )
    return photo_calib.calibrateImage(exposure_f.maskedImage)


def _physical_filter(exposure_f: ExposureF) -> str:
    """Return the name of the filter; a coadd may have a band only.

    afw/image/_filterLabel.cc:101-102; asking for a label that is not there
    raises.
    """
    filter_label = exposure_f.getFilter()
    return filter_label.physicalLabel if filter_label and filter_label.hasPhysicalLabel() else ""


def _centre(array: np.ndarray, *, x0: int, y0: int) -> np.ndarray:
    """Pad a kernel so that pixel (0, 0) is its central pixel."""
    height, width = array.shape
    radius = max(-x0, -y0, x0 + width - 1, y0 + height - 1)
    centred = np.zeros((2 * radius + 1, 2 * radius + 1), array.dtype)
    centred[radius + y0 : radius + y0 + height, radius + x0 : radius + x0 + width] = array
    return centred
