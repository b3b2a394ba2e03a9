# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make `lsst.images.VisitImage` objects without the full LSST stack."""

from __future__ import annotations

__all__ = ("DetectorInfo", "VISIT_PLANES", "make_detector", "make_visit_image")

import dataclasses
from collections.abc import Mapping
from typing import Any

import astropy.units as u
import astropy.wcs
import numpy as np

from lsst.images import (
    Box,
    DetectorFrame,
    Image,
    Mask,
    MaskPlane,
    MaskSchema,
    SkyProjection,
    VisitImage,
    get_legacy_visit_image_mask_planes,
)

# There is no public way to make a Detector without the full stack.
from lsst.images._transforms import _ast as ast
from lsst.images.cameras import Detector, _detector
from lsst.images.cameras._camera_frame_set import CameraFrameSet
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import PointSpreadFunction

VISIT_PLANES: Mapping[str, str] = {
    plane.name: plane.description for plane in get_legacy_visit_image_mask_planes().values()
} | {"STREAK": "An extended streak, probably a satellite, affected this pixel."}
"""Description of each mask plane of a visit image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorInfo:
    """Place of a detector in its camera."""

    id: int
    """Number, as in a data id."""

    name: str
    """Full name, e.g. ``1_12``."""

    width: int
    """Columns of the whole detector."""

    height: int
    """Rows of the whole detector."""

    offset_x: float = 0.0
    """Focal-plane x of its centre, in pixels."""

    offset_y: float = 0.0
    """Focal-plane y of its centre, in pixels."""

    yaw: float = 0.0
    """Rotation in the focal plane, in degrees."""

    pixel_size: float = 0.015
    """Size of a pixel, in mm."""

    plate_scale: float = 5.43e-5
    """Field angle per length in the focal plane, in rad/mm: 0.168 arcsec a
    pixel of 15 um by default."""

    @property
    def bbox(self) -> Box:
        """All its pixels (`lsst.images.Box`)."""
        return Box.factory[0 : self.height, 0 : self.width]


def make_detector(info: DetectorInfo, *, instrument: str, visit: int) -> Detector:
    """Make the detector of a visit image.

    Parameters
    ----------
    info
        The detector.
    instrument
        Name of the instrument.
    visit
        Number of the visit.

    Returns
    -------
    `lsst.images.cameras.Detector`
        Without amplifiers; its frames know its place in the focal plane.
    """
    box, size = info.bbox, info.pixel_size
    center = np.array([(info.width - 1) / 2, (info.height - 1) / 2])
    place = np.array([info.offset_x, info.offset_y])
    turn = np.deg2rad(info.yaw)
    # Not the transpose of the rotation: astshim, which is used where it is
    # installed, takes no array in Fortran's order.
    inverse = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    # Focal plane (mm) to pixels: scale, shift, rotate back, shift.
    to_pixels = ast.CmpMap(
        ast.CmpMap(ast.ZoomMap(2, 1 / size), ast.ShiftMap(-place), True),
        ast.CmpMap(ast.MatrixMap(inverse), ast.ShiftMap(center), True),
        True,
    )
    frames = ast.FrameSet(ast.Frame(2, "Ident=FOCAL_PLANE, Unit(1)=mm, Unit(2)=mm"))
    field_angle = ast.Frame(2, "Ident=FIELD_ANGLE, Unit(1)=rad, Unit(2)=rad")
    frames.addFrame(1, ast.ZoomMap(2, info.plate_scale), field_angle)
    limits = f"Bottom(1)={box.x.start}, Top(1)={box.x.stop}, Bottom(2)={box.y.start}, Top(2)={box.y.stop}"
    frames.addFrame(1, to_pixels, ast.Frame(2, f"Ident=DETECTOR_{info.id:03d}, {limits}"))
    attributes = _detector.DetectorAttributes(
        name=info.name,
        id=info.id,
        type=_detector.DetectorType.SCIENCE,
        serial=str(info.id),
        bbox=box,
        pixel_size=size,
        physical_type="",
        orientation=_detector.Orientation(
            focal_plane_x=place[0] * size,
            focal_plane_y=place[1] * size,
            focal_plane_z=0.0,
            pixel_reference_x=center[0],
            pixel_reference_y=center[1],
            yaw=info.yaw * u.deg,
        ),
    )
    return Detector(attributes, [], CameraFrameSet(instrument, frames), visit=visit)


def make_visit_image(
    image: np.ndarray,
    variance: np.ndarray,
    planes: Mapping[str, np.ndarray],
    *,
    x0: int = 0,
    y0: int = 0,
    unit: u.UnitBase = u.nJy,
    calibration: np.ndarray | float | None = None,
    wcs: astropy.wcs.WCS,
    psf: PointSpreadFunction,
    detector: DetectorInfo,
    instrument: str,
    visit: int,
    physical_filter: str,
    band: str,
    observation: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> VisitImage:
    """Make a visit image from arrays.

    Parameters
    ----------
    image
        Pixels in `unit`, ``(y, x)``.
    variance
        Variance of the pixels, in `unit` squared, ``(y, x)``.
    planes
        Marked pixels of each mask plane, bool ``(y, x)``; the names are those
        of `VISIT_PLANES`.
    x0, y0
        Pixel of column 0 and row 0 of the arrays, in the pixels of the whole
        detector.
    unit
        Unit of the image.
    calibration
        nJy per `unit`: a number, or coefficients of a Chebyshev polynomial
        over the image, ``[order y, order x]``. `None` with an image in nJy.
    wcs
        FITS WCS of the whole detector: its pixel (1, 1) is pixel (0, 0).
    psf
        The PSF, in the pixels of the whole detector.
    detector
        The detector.
    instrument, visit, physical_filter, band
        As in a data id.
    observation
        Further fields of `astro_metadata_translator.ObservationInfo`.
    metadata
        Anything else worth keeping.

    Returns
    -------
    `lsst.images.VisitImage`
        The image with its own mask schema, WCS, PSF, detector.

    Raises
    ------
    ValueError
        If shapes disagree or a mask plane is not known.
    """
    from astro_metadata_translator import makeObservationInfo

    unknown = sorted(set(planes) - set(VISIT_PLANES))
    if unknown:
        raise ValueError(f"Unknown mask planes {', '.join(unknown)}; known: {', '.join(VISIT_PLANES)}.")
    shapes = {array.shape for array in (image, variance, *planes.values())}
    if len(shapes) != 1:
        raise ValueError(f"Image, variance and mask planes must have one shape; got {sorted(shapes)}.")
    bbox = Box.factory[y0 : y0 + image.shape[0], x0 : x0 + image.shape[1]]
    frame = DetectorFrame(instrument=instrument, visit=visit, detector=detector.id, bbox=detector.bbox)
    mask = Mask(0, schema=_mask_schema(), bbox=bbox)
    for name, marked in planes.items():
        mask.set(name, np.asarray(marked, dtype=bool))
    scaling = None
    if calibration is not None:
        coefficients = np.atleast_2d(np.asarray(calibration, dtype=float)).copy()
        scaling = ChebyshevField(bbox, coefficients, unit=u.nJy / unit)
    result = VisitImage(
        Image(np.asarray(image, dtype=np.float32), bbox=bbox, unit=unit),
        mask=mask,
        variance=Image(np.asarray(variance, dtype=np.float32), bbox=bbox, unit=unit**2),
        sky_projection=SkyProjection.from_fits_wcs(wcs, frame),
        obs_info=makeObservationInfo(
            instrument=instrument,
            visit_id=visit,
            exposure_id=visit,
            detector_num=detector.id,
            detector_unique_name=detector.name,
            physical_filter=physical_filter,
            **(observation or {}),
        ),
        photometric_scaling=scaling,
        psf=psf,
        detector=make_detector(detector, instrument=instrument, visit=visit),
        band=band,
    )
    result.metadata.update(metadata or {})
    return result


def _mask_schema() -> MaskSchema:
    return MaskSchema([MaskPlane(name, description) for name, description in VISIT_PLANES.items()])
