# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of `lsst.images` to the form that the core uses."""

from __future__ import annotations

__all__ = ("VisitImageAdapter", "VisitImagePsf", "exposure_from_visit_image")

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import astropy.units as u
import numpy as np

from lsst.daf.butler import DeferredDatasetHandle
from lsst.images import Box, ObservationSummaryStats, VisitImage
from lsst.images.psfs import PointSpreadFunction
from lsst.images.serialization import ArchiveReadError

from ..core._errors import InvalidExposureError, UncalibratedExposureError
from ..core._exposure import InputExposure, PixelSkyMap
from ..core._planes import Plane
from ..core.warp._register import WarpedExposure
from ._adapter import (
    NO_EXTRAS,
    ArtifactMask,
    FaultyDetector,
    InputExtras,
    InputSummary,
    centre_kernel,
    label_of,
    model_fwhm,
    read_image,
    statistics_fwhm,
    to_number,
)
from ._background import change_visit_image_background
from ._geometry import SkyProjectionMap
from ._make_exposure import make_exposure
from ._masks import PlaneTranslator


@dataclasses.dataclass(frozen=True, eq=False)
class VisitImagePsf:
    """A PSF of `lsst.images` as a `~..core.PsfModel`."""

    psf: PointSpreadFunction

    label: str = "the image"
    """Data id for errors."""

    def __call__(self, *, x: float, y: float) -> np.ndarray:
        """Return the kernel at a pixel position, inside the PSF's bounds.

        The origin of the image that the model returns marks the star
        (lsst/images 464a06b psfs/_base.py, ``compute_kernel_image``).

        Raises
        ------
        InvalidExposureError
            If the model has no value there, whatever it raises.
        """
        bounds = self.psf.bounds.bbox
        place = {
            "x": float(np.clip(x, bounds.x.min, bounds.x.max)),
            "y": float(np.clip(y, bounds.y.min, bounds.y.max)),
        }
        try:
            image = self.psf.compute_kernel_image(**place)
        except Exception as error:
            raise InvalidExposureError(
                f"The PSF of {self.label} has no value at x={x:.0f} y={y:.0f} "
                f"({type(error).__name__}: {error}); refit it or leave the exposure out."
            ) from error
        return centre_kernel(image.array, x0=int(image.bbox.x.start), y0=int(image.bbox.y.start))


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisitImageAdapter:
    """Adapter of `lsst.images` (`~._adapter.ImageAdapter`).

    The final calibration is in the images themselves: there are no visit
    summaries beside them.
    """

    revert_background: bool = False
    """Add the background to an image that was subtracted from it."""

    apply_background: str = ""
    """Name of a background of the image to subtract from it; none if
    empty."""

    planes: PlaneTranslator = dataclasses.field(default_factory=PlaneTranslator)
    """Translates masks."""

    def adapt(
        self, image: Any, *, data_id: Mapping[str, Any], extras: InputExtras = NO_EXTRAS
    ) -> InputExposure:
        """Convert a `~lsst.images.VisitImage`; `exposure_from_visit_image`
        says how.
        """
        visit_image = change_visit_image_background(
            read_image(image),
            revert=self.revert_background,
            apply=self.apply_background,
            label=label_of(data_id),
        )
        return exposure_from_visit_image(visit_image, data_id=data_id, planes=self.planes)

    def adapt_warp(
        self, warp: Any, *, data_id: Mapping[str, Any], wcs: PixelSkyMap, box: Box, bad: Plane
    ) -> list[WarpedExposure | FaultyDetector]:
        """Refuse: lsst.images has no class for one visit on the grid of a
        tract with its PSF (`~lsst.images.VisitImage` needs the frame of a
        detector).
        """
        raise InvalidExposureError(
            f"visit={data_id['visit']}: lsst.images has no class for warps; use the detector images."
        )

    def summarize_warp(self, warp: Any, *, data_id: Mapping[str, Any]) -> InputSummary:
        """Return nothing; `adapt_warp` says why."""
        return InputSummary()

    def summarize(
        self,
        image: Any,
        *,
        data_id: Mapping[str, Any],
        extras: InputExtras = NO_EXTRAS,
        names: Iterable[str] = (),
    ) -> InputSummary:
        """Return the image's ``summary_stats``; where none was measured, the
        FWHM of its PSF model at the centre of the frame alone. Those that the
        file was written too early for have their defaults, NaN or 0.
        """
        stats = _read_component(image, "summary_stats")
        statistics = {}
        if stats != ObservationSummaryStats():
            fields = {"psfSigma", "pixelScale", *names} & set(type(stats).model_fields)
            statistics = {name: to_number(getattr(stats, name), name=name) for name in fields}
        fwhm = statistics_fwhm(statistics)
        if not math.isfinite(fwhm):
            fwhm = self._measure_fwhm(image, label=label_of(data_id))
        return InputSummary(psf_fwhm=fwhm, statistics=statistics)

    def _measure_fwhm(self, image: Any, *, label: str) -> float:
        """Return the FWHM of the PSF model in arcsec; NaN without one."""
        try:
            psf = _read_component(image, "psf")
        except ArchiveReadError:
            return math.nan
        if not isinstance(psf, PointSpreadFunction):
            return math.nan
        wcs = SkyProjectionMap(_read_component(image, "sky_projection"))
        bbox = _read_component(image, "bbox")
        return model_fwhm(VisitImagePsf(psf, label), wcs, x=bbox.x.center, y=bbox.y.center, label=label)

    def find_band(self, image: Any) -> str | None:
        """Return the band of the image."""
        return getattr(image, "band", None)

    def read_artifacts(self, mask: Any) -> ArtifactMask:
        """Return ``CLIPPED`` of a `~lsst.images.Mask` on the tract's grid."""
        mask = read_image(mask)
        clipped = mask.get("CLIPPED") if "CLIPPED" in mask.schema.names else np.zeros(mask.bbox.shape, bool)
        return ArtifactMask(clipped=clipped, x0=int(mask.bbox.x.start), y0=int(mask.bbox.y.start))


def exposure_from_visit_image(
    visit_image: VisitImage, *, data_id: Mapping[str, Any], planes: PlaneTranslator | None = None
) -> InputExposure:
    """Adapt a `~lsst.images.VisitImage`.

    Parameters
    ----------
    visit_image
        A calibrated, sky-subtracted detector image, in nJy or in a unit that
        its ``photometric_scaling`` (which may vary over the frame) converts.
    data_id
        Values of ``visit`` and ``detector``.
    planes
        Translates its mask; `None` for one that knows `INPUT_PLANES` alone.

    Returns
    -------
    `InputExposure`
        The image in nJy with canonical mask planes.

    Raises
    ------
    UncalibratedExposureError
        If the pixels cannot be converted to nJy.
    InvalidExposureError
        If PSF, WCS or variance is missing or unusable; the text names the
        data id and what to do.
    """
    label = label_of(data_id)
    try:
        calibrated = visit_image.convert_unit(u.nJy, copy="as-needed")
    except u.UnitConversionError as error:
        raise UncalibratedExposureError(
            f"The pixels of {label} have the unit '{visit_image.unit}', which cannot be converted to nJy: "
            f"{error} Attach a photometric_scaling or leave the exposure out."
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
    flags = (planes or PlaneTranslator())(mask.schema.names, mask.get, shape=mask.bbox.shape)
    bounds = visit_image.bounds
    if bounds != visit_image.bbox:
        box = visit_image.bbox
        y, x = np.mgrid[box.y.start : box.y.stop, box.x.start : box.x.stop]
        flags[~bounds.contains(x=x, y=y)] |= np.uint32(Plane.NO_DATA)
    return make_exposure(
        data_id=data_id,
        physical_filter=calibrated.physical_filter,
        image=calibrated.image.array,
        variance=calibrated.variance.array,
        scale=_render_scaling(visit_image),
        flags=flags,
        bbox=calibrated.bbox,
        psf=VisitImagePsf(psf, label),
        wcs=SkyProjectionMap(calibrated.sky_projection),
        aperture_corrections=dict(visit_image.aperture_corrections),
    )


def _render_scaling(visit_image: VisitImage) -> np.ndarray | None:
    """Return the photometric scaling of each pixel, or its inverse: one is
    finite and positive if the other is; `None` where it is not used.
    """
    if visit_image.unit.is_equivalent(u.nJy):
        return None
    return visit_image.photometric_scaling.render(visit_image.bbox, dtype=np.float32).array


def _read_component(image: Any, name: str) -> Any:
    """Return a part of a visit image, without the pixels where a handle
    allows it.
    """
    if isinstance(image, DeferredDatasetHandle):
        try:
            return image.get(component=name)
        except ValueError:
            # lsst.images keeps what describes the image that was read last,
            # from which a Piff model can be made once only.
            image = image.get()
    return getattr(read_image(image), name)
