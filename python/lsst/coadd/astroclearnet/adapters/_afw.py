# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of `lsst.afw` to the form that the core uses.

Nothing of afw is imported before an exposure is adapted. The calls were
checked against lsst/afw 714e0ed6d, lsst/drp_tasks dc28b94, lsst/pipe_tasks
5b638a48, lsst/obs_base 00893bd1 and lsst/pex_exceptions 786e29f; paths below
are relative to ``python/lsst/`` of those repositories.
"""

from __future__ import annotations

__all__ = (
    "SUMMARY_PARTS",
    "ExposureFAdapter",
    "exposure_from_exposure_f",
)

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from lsst.images import Box

from ..core._errors import InvalidExposureError, SkippedExposureError, UncalibratedExposureError
from ..core._exposure import InputExposure, PixelSkyMap
from ..core._planes import Plane
from ..core.warp._register import WarpedExposure
from ._adapter import NO_EXTRAS, ArtifactMask, FaultyDetector, InputExtras, InputSummary, label_of, read_image
from ._afw_models import (
    ExposurePsf,
    SkyWcsMap,
    check_njy,
    read_aperture_corrections,
    read_unit,
    translate_mask,
)
from ._afw_summary import summarize_exposure_f, summarize_row, summarize_warp_inputs
from ._background import calibrate_level, change_exposure_f_background
from ._make_exposure import make_exposure
from ._masks import PlaneTranslator
from ._warps import cut_warp

if TYPE_CHECKING:
    from lsst.afw.geom import Polygon
    from lsst.afw.image import ExposureF, Mask, PhotoCalib
    from lsst.afw.table import ExposureRecord

SUMMARY_PARTS = ("psf", "wcs", "photo_calib", "ap_corr")
"""What a row of a visit summary can replace."""

_PHOTO_CALIB = "photometric calibration"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExposureFAdapter:
    """Adapter of `lsst.afw` (`~._adapter.ImageAdapter`)."""

    replace: frozenset[str] = frozenset(SUMMARY_PARTS)
    """Members of `SUMMARY_PARTS` that the row of a visit summary replaces,
    where there is one."""

    warp_kernel: str = "lanczos3"
    """Interpolation with which warps were made."""

    calibrate_backgrounds: bool = False
    """Whether backgrounds are in counts and images in nJy already, as those
    of ``visit_image`` are (drp/tasks/reprocess_visit_image.py:123-130)."""

    planes: PlaneTranslator = dataclasses.field(default_factory=PlaneTranslator)
    """Translates masks."""

    def adapt(
        self, image: Any, *, data_id: Mapping[str, Any], extras: InputExtras = NO_EXTRAS
    ) -> InputExposure:
        """Convert an `~lsst.afw.image.ExposureF`; `exposure_from_exposure_f`
        says how.
        """
        row, label, photo_calib = extras.visit_summary_row, label_of(data_id), None
        revert, apply = read_image(extras.background_revert), read_image(extras.background_apply)
        # Without a background (or with an empty list) it is not needed, and a
        # row that lacks it is no reason to lose the detector.
        exposure_f = read_image(image)
        if self.calibrate_backgrounds and row is not None and (revert or apply):
            advice = "calibrate_backgrounds is for images in nJy: unset it"
            check_njy(exposure_f, label=label, advice=advice)
            photo_calib = _part_of_row(row, "photo_calib", name=_PHOTO_CALIB, label=label)
        exposure_f = change_exposure_f_background(
            exposure_f,
            revert=revert,
            apply=apply,
            ratio=read_image(extras.background_ratio),
            label=label,
            photo_calib=photo_calib,
        )
        return exposure_from_exposure_f(
            exposure_f,
            data_id=data_id,
            visit_summary_row=row,
            replace=self.replace,
            planes=self.planes,
        )

    def adapt_warp(
        self, warp: Any, *, data_id: Mapping[str, Any], wcs: PixelSkyMap, box: Box, bad: Plane
    ) -> list[WarpedExposure | FaultyDetector]:
        """Cut an `~lsst.afw.image.ExposureF` on the grid of the tract;
        `cut_warp` says how.
        """
        return cut_warp(
            warp,
            data_id=data_id,
            wcs=wcs,
            box=box,
            bad=bad,
            kernel=self.warp_kernel,
            planes=self.planes,
        )

    def summarize(
        self,
        image: Any,
        *,
        data_id: Mapping[str, Any],
        extras: InputExtras = NO_EXTRAS,
        names: Iterable[str] = (),
    ) -> InputSummary:
        """Return statistics of the row of the visit summary or, without one,
        of the image's own ``summaryStats``.
        """
        row, label = extras.visit_summary_row, label_of(data_id)
        if row is not None:
            return summarize_row(row, names, label=label)
        return summarize_exposure_f(image, names, label=label)

    def summarize_warp(self, warp: Any, *, data_id: Mapping[str, Any]) -> InputSummary:
        """Return the mean FWHM of the PSFs of the detectors in a warp."""
        return summarize_warp_inputs(warp, label=f"visit={data_id['visit']}")

    def find_band(self, image: Any) -> str | None:
        """Return the band of the filter label
        (afw/image/_filterLabel.cc:97-100).
        """
        filter_label = image.getFilter() if hasattr(image, "getFilter") else None
        return filter_label.bandLabel if filter_label and filter_label.hasBandLabel() else None

    def read_artifacts(self, mask: Any) -> ArtifactMask:
        """Return ``CLIPPED`` of a `~lsst.afw.image.Mask`.

        ``compare_warp_artifact_mask`` is the mask of a warp on the outer box
        of the patch, to which the artifacts were added as ``CLIPPED``
        (drp/tasks/assemble_coadd.py:472-483, 1922-1925).
        """
        mask = read_image(mask)
        return ArtifactMask(clipped=_get_plane(mask, "CLIPPED"), x0=int(mask.getX0()), y0=int(mask.getY0()))


def exposure_from_exposure_f(
    exposure_f: ExposureF,
    *,
    data_id: Mapping[str, Any],
    visit_summary_row: ExposureRecord | None = None,
    replace: frozenset[str] = frozenset(SUMMARY_PARTS),
    planes: PlaneTranslator | None = None,
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
        its PSF, WCS, photometric calibration and aperture corrections take
        the place of those of the exposure, as in ``_apply_all_calibrations``
        (drp/tasks/make_direct_warp.py:748-868).
    replace
        Members of `SUMMARY_PARTS` that the row replaces.
    planes
        Translates its mask; `None` for one that knows `INPUT_PLANES` alone.

    Returns
    -------
    `InputExposure`
        The image in nJy with canonical mask planes.

    Raises
    ------
    SkippedExposureError
        If the row lacks what it shall replace, as a detector has whose final
        calibration failed.
    UncalibratedExposureError
        If the exposure itself has no photometric calibration, or none that
        is finite and positive anywhere, or if the row would calibrate pixels
        that are in nJy already.
    InvalidExposureError
        If PSF, WCS or variance is missing or unusable; the text names the
        data id and what to do.

    Notes
    -----
    Pixels outside of the polygon of validity get ``NO_DATA``, as those outside
    of the bounds of a `~lsst.images.VisitImage` do.

    Getters of the exposure: afw/image/_exposure/_exposure.cc:93-127 and
    afw/image/_exposure/_exposureContinued.py:76-98; of its info:
    afw/image/_exposureInfo.cc:204-205; of the row:
    afw/table/_exposure.cc:84-94.
    """
    label = label_of(data_id)
    parts = {
        "PSF": ("psf", exposure_f.getPsf),
        "WCS": ("wcs", exposure_f.getWcs),
        _PHOTO_CALIB: ("photo_calib", exposure_f.getPhotoCalib),
        "aperture corrections": ("ap_corr", lambda: exposure_f.getInfo().getApCorrMap()),
    }
    found = {}
    for name, (key, get) in parts.items():
        if visit_summary_row is not None and key in replace:
            found[key] = _part_of_row(visit_summary_row, key, name=name, label=label)
            continue
        found[key] = get()
        if found[key] is None and key == "photo_calib":
            raise UncalibratedExposureError(f"{label} has no {name}; calibrate it or leave the exposure out.")
        if found[key] is None and key != "ap_corr":
            raise InvalidExposureError(f"{label} has no {name}; leave the exposure out.")
    masked_image = _calibrate(exposure_f, found["photo_calib"], label=label)
    scale = calibrate_level(1.0, found["photo_calib"], like=exposure_f)
    if visit_summary_row is not None and "photo_calib" in replace:
        _check_counts(exposure_f, scale, label=label)
    flags = translate_mask(exposure_f.mask, planes=planes or PlaneTranslator())
    bbox = Box.from_shape(flags.shape, start=(exposure_f.getY0(), exposure_f.getX0()))
    _mark_outside(flags, exposure_f.getInfo().getValidPolygon(), bbox)
    return make_exposure(
        data_id=data_id,
        physical_filter=_physical_filter(exposure_f) or str(data_id.get("physical_filter", "")),
        image=masked_image.image.array,
        variance=masked_image.variance.array,
        scale=scale,
        flags=flags,
        bbox=bbox,
        psf=ExposurePsf(found["psf"], label),
        wcs=SkyWcsMap(found["wcs"]),
        aperture_corrections=read_aperture_corrections(found["ap_corr"]),
    )


def _get_plane(mask: Mask, name: str) -> np.ndarray:
    """Return a plane as bool ``(y, x)``; all `False` if there is none."""
    bits, array = mask.getMaskPlaneDict(), mask.array
    return (array >> bits[name]) & 1 != 0 if name in bits else np.zeros(array.shape, bool)


def _part_of_row(row: ExposureRecord, key: str, *, name: str, label: str) -> Any:
    """Return a part of a visit summary's row; skip where it is missing."""
    getters = {
        "psf": row.getPsf,
        "wcs": row.getWcs,
        "photo_calib": row.getPhotoCalib,
        "ap_corr": row.getApCorrMap,
    }
    part = getters[key]()
    if part is None:
        raise SkippedExposureError(f"{label} has no {name} in its row of the visit summary.")
    if key == "photo_calib" and not np.isfinite(part.getInstFluxAtZeroMagnitude()):
        raise SkippedExposureError(f"The {name} of {label} in its row of the visit summary is not finite.")
    return part


def _calibrate(exposure_f: ExposureF, photo_calib: PhotoCalib, *, label: str) -> Any:
    """Return a copy of the masked image in nJy.

    ``calibrateImage`` (afw/image/_photoCalibContinued.py:114-137) applies a
    calibration that varies over the frame, too; the check for a finite zero
    point is that of drp/tasks/make_direct_warp.py:819.
    """
    zero_point = photo_calib.getInstFluxAtZeroMagnitude()
    if not (np.isfinite(zero_point) and zero_point > 0):
        raise UncalibratedExposureError(
            f"The photometric calibration of {label} is not finite; calibrate it or leave the exposure out."
        )
    return photo_calib.calibrateImage(exposure_f.maskedImage)


def _check_counts(exposure_f: ExposureF, scale: np.ndarray, *, label: str) -> None:
    """Refuse to calibrate pixels that are in nJy already.

    Such images say so by ``BUNIT`` and have a calibration of 1
    (drp/tasks/reprocess_visit_image.py:707-710, make_direct_warp.py:890-891;
    lsst/pipe_tasks calibrateImage.py:1830-1835); those in counts have what
    the instrument wrote there (``adu``, ``electron``), or nothing.
    ``makeDirectWarp`` itself does not look (make_direct_warp.py:811-861).
    """
    if read_unit(exposure_f) == "nJy" and not np.allclose(scale, 1):
        raise UncalibratedExposureError(
            f"{label} is in nJy (BUNIT), and its row of the visit summary calibrates counts; unset "
            "use_visit_summary_photo_calib."
        )


def _mark_outside(flags: np.ndarray, polygon: Polygon | None, bbox: Box) -> None:
    """Put pixels outside of the polygon of validity into ``NO_DATA``.

    Vertices are in the pixels of the image (``getVertices``:
    afw/geom/polygon/_polygon.cc).
    """
    if polygon is None:
        return
    outline = shapely.Polygon([(point.x, point.y) for point in polygon.getVertices()])
    shapely.prepare(outline)
    y, x = np.mgrid[bbox.y.start : bbox.y.stop, bbox.x.start : bbox.x.stop]
    flags[~shapely.intersects_xy(outline, x, y)] |= np.uint32(Plane.NO_DATA)


def _physical_filter(exposure_f: ExposureF) -> str:
    """Return the name of the filter; a coadd may have a band only.

    afw/image/_filterLabel.cc:101-102; asking for a label that is not there
    raises.
    """
    filter_label = exposure_f.getFilter()
    return filter_label.physicalLabel if filter_label and filter_label.hasPhysicalLabel() else ""
