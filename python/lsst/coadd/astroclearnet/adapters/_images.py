# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of `lsst.images` to the form that the core uses."""

from __future__ import annotations

__all__ = ("VisitImagePsf", "exposure_from_visit_image")

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import astropy.units as u
import numpy as np

from lsst.images import Box, VisitImage
from lsst.images.psfs import PointSpreadFunction
from lsst.images.serialization import ArchiveReadError

from ..core._errors import InvalidExposureError
from ..core._exposure import InputExposure, PixelSkyMap, PsfModel
from ..core._planes import Plane
from ..core._warped_psf import normalise_kernel
from ._geometry import SkyProjectionMap
from ._masks import translate_planes

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class VisitImagePsf:
    """A PSF of `lsst.images` as a `~..core.PsfModel`."""

    psf: PointSpreadFunction

    def __call__(self, *, x: float, y: float) -> np.ndarray:
        """Return the kernel at a pixel position, inside the PSF's bounds."""
        bounds = self.psf.bounds.bbox
        return self.psf.compute_kernel_image(
            x=float(np.clip(x, bounds.x.min, bounds.x.max)), y=float(np.clip(y, bounds.y.min, bounds.y.max))
        ).array


def exposure_from_visit_image(visit_image: VisitImage, *, data_id: Mapping[str, Any]) -> InputExposure:
    """Adapt a `~lsst.images.VisitImage`.

    Parameters
    ----------
    visit_image
        A calibrated, sky-subtracted detector image, in nJy or in a unit that
        its ``photometric_scaling`` (which may vary over the frame) converts.
    data_id
        Values of ``visit`` and ``detector``.

    Returns
    -------
    `InputExposure`
        The image in nJy with canonical mask planes.

    Raises
    ------
    InvalidExposureError
        If PSF or calibration is missing or unusable; the text names the data
        id and what to do.
    """
    label = f"visit={data_id['visit']} detector={data_id['detector']}"
    try:
        calibrated = visit_image.convert_unit(u.nJy, copy="as-needed")
    except u.UnitConversionError as error:
        raise InvalidExposureError(
            f"The pixels of {label} are in {visit_image.unit} and cannot be converted to nJy: {error} "
            "Attach a photometric_scaling or leave the exposure out."
        ) from error
    try:
        psf = visit_image.psf
    except ArchiveReadError as error:
        raise InvalidExposureError(
            f"The PSF of {label} cannot be read: {error} Leave the exposure out."
        ) from error
    if not isinstance(psf, PointSpreadFunction):
        raise InvalidExposureError(f"{label} has no PSF; attach one or leave the exposure out.")
    mask = calibrated.mask
    return make_exposure(
        data_id=data_id,
        physical_filter=calibrated.physical_filter,
        image=calibrated.image.array,
        variance=calibrated.variance.array,
        flags=translate_planes(mask.schema.names, mask.get, shape=mask.bbox.shape),
        bbox=calibrated.bbox,
        psf=VisitImagePsf(psf),
        wcs=SkyProjectionMap(calibrated.sky_projection),
    )


def make_exposure(
    *,
    data_id: Mapping[str, Any],
    physical_filter: str,
    image: np.ndarray,
    variance: np.ndarray,
    flags: np.ndarray,
    bbox: Box,
    psf: PsfModel,
    wcs: PixelSkyMap,
) -> InputExposure:
    """Check pixels, PSF and WCS of an exposure, the same for every library.

    Parameters
    ----------
    data_id
        Values of ``visit`` and ``detector``.
    physical_filter
        Name of the physical filter.
    image, variance
        nJy and nJy^2 per pixel, ``(y, x)``.
    flags
        Bits of `Plane`, uint32 ``(y, x)``; changed in place: pixels that are
        not finite, or have no positive variance, get ``NO_DATA``.
    bbox
        Pixels of the arrays.
    psf, wcs
        Models in the pixels of ``bbox``.

    Raises
    ------
    InvalidExposureError
        If PSF or WCS cannot be evaluated at the centre of the frame.
    """
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(image)
        measured = np.isfinite(variance) & (variance > 0)
    new = ~(finite & measured) & ((flags & np.uint32(Plane.NO_DATA)) == 0)
    flags[new] |= np.uint32(Plane.NO_DATA)
    exposure = InputExposure(
        visit=int(data_id["visit"]),
        detector=int(data_id["detector"]),
        physical_filter=physical_filter,
        image=np.asarray(image, np.float32),
        variance=np.asarray(variance, np.float32),
        flags=flags,
        x0=int(bbox.x.start),
        y0=int(bbox.y.start),
        psf=psf,
        wcs=wcs,
    )
    if new.any():
        _LOG.info(
            "%s: %d pixels without a finite value and %d without a positive variance are left out.",
            exposure.label,
            np.count_nonzero(new & ~finite),
            np.count_nonzero(new & finite),
        )
    x, y = bbox.x.center, bbox.y.center
    normalise_kernel(psf(x=x, y=y), label=exposure.label)
    sky = wcs.pixel_to_sky(x=np.array([x]), y=np.array([y]))
    if not np.all(np.isfinite(sky)):
        raise InvalidExposureError(
            f"The WCS of {exposure.label} is not finite at its centre; refit it or leave the exposure out."
        )
    return exposure
