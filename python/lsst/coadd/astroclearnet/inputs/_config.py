# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration of what the assembly task reads."""

from __future__ import annotations

__all__ = ("InputsConfig",)

import numpy as np

from lsst.pex.config import ChoiceField, Config, ConfigField, Field, FieldValidationError, ListField

from ..adapters import (
    ALWAYS_LEFT_OUT,
    FROM_NEIGHBOURS,
    IMAGE_MODELS,
    INPUT_PLANES,
    ImageAdapter,
    PlaneTranslator,
    make_adapter,
    parse_input_planes,
)
from ..core import Plane
from ..core.warp._premade_warp import variance_share
from ._select_config import SelectInputsConfig

_SUMMARY_SWITCHES = {
    "psf": "use_visit_summary_psf",
    "wcs": "use_visit_summary_wcs",
    "photo_calib": "use_visit_summary_photo_calib",
    "ap_corr": "use_visit_summary_ap_corr",
}


class InputsConfig(Config):
    """Which images are read, what is applied to them, which pixels count."""

    image_model = ChoiceField[str](
        doc="Library of the input images. Change it to 'afw' in the full Science Pipelines.",
        allowed=dict(IMAGE_MODELS),
        default="images",
        optional=False,
    )
    inputs = ChoiceField[str](
        doc="What the coadd is made of. Change it to 'warps' where calexps are gone and warps are kept; "
        "needs image_model='afw'.",
        allowed={
            "visits": "Detector images, resampled here.",
            "warps": "Warps of makeDirectWarp, cut to the patch and not resampled again.",
        },
        default="visits",
        optional=False,
    )
    warp_kernel = Field[str](
        doc="Interpolation with which the warps were made, as makeDirectWarp.warper.warpingKernelName; the "
        "weights need it, because interpolation lowers the variance of single pixels. Used if inputs is "
        "'warps'.",
        default="lanczos3",
    )
    use_visit_summary = Field[bool](
        doc="Use visit_summaries: their statistics for selection, and what the four fields named like this "
        "one say instead of what is in the images. A detector without a row is left out. Set it where a "
        "final calibration was run; needs image_model='afw'.",
        default=False,
    )
    use_visit_summary_psf = Field[bool](
        doc="Take the PSF from visit_summaries. Unset it to keep those of the images.", default=True
    )
    use_visit_summary_wcs = Field[bool](
        doc="Take the WCS from visit_summaries. Unset it to keep those of the images.", default=True
    )
    use_visit_summary_photo_calib = Field[bool](
        doc="Take the photometric calibration from visit_summaries. Unset it to keep those of the images "
        "where they are in nJy and the summaries calibrate counts, which is an error otherwise.",
        default=True,
    )
    use_visit_summary_ap_corr = Field[bool](
        doc="Take the aperture corrections from visit_summaries. Unset it to keep those of the images.",
        default=True,
    )
    revert_background = Field[bool](
        doc="Add background_reverts to the images, i.e. undo their sky subtraction (image_model='images': "
        "the background that the image says was subtracted). Set it where apply_background subtracts the "
        "whole sky instead, not a correction as skyCorr.",
        default=False,
    )
    apply_background = Field[bool](
        doc="Subtract background_applies (skyCorr) from the images. Set it where skyCorr was run, as for HSC "
        "coadds.",
        default=False,
    )
    apply_background_ratio = Field[bool](
        doc="Divide the backgrounds that are added or subtracted by background_ratios. Set it where an "
        "illumination correction was used; needs image_model='afw'.",
        default=False,
    )
    calibrate_backgrounds = Field[bool](
        doc="Multiply the backgrounds that are added or subtracted by the photometric calibration of "
        "visit_summaries. Set it where images are in nJy (BUNIT) and backgrounds still in counts, as "
        "visit_image and visit_image_background are; needs use_visit_summary, without "
        "use_visit_summary_photo_calib.",
        default=False,
    )
    background_name = Field[str](
        doc="Name, in VisitImage.backgrounds, of what apply_background subtracts if image_model is 'images'.",
        default="skyCorr",
    )
    use_selected_visits = Field[bool](
        doc="Use only visits of selected_visits (deepCoaddVisits). Set it for the same visits as deepCoadd.",
        default=False,
    )
    use_artifact_masks = Field[bool](
        doc="Leave out what artifact_masks (compare_warp_artifact_mask) call CLIPPED. Set it to profit from "
        "the artifacts that deepCoadd found.",
        default=False,
    )
    require_artifact_masks = Field[bool](
        doc="Leave visits out that have none where use_artifact_masks is set, as visits are that deepCoadd "
        "did not use.",
        default=True,
    )
    bad_planes = ListField[str](
        doc="Mask planes whose pixels are left out, with names of lsst.afw or lsst.images. NO_DATA, CLIPPED "
        "and cosmic rays that were not interpolated are left out in any case. Add SUSPECT for HSC.",
        default=["NO_DATA", "BAD", "SATURATED", "DETECTION_EDGE", "STREAK"],
    )
    extra_bad_planes = ListField[str](
        doc="Mask planes of your own, which bad_planes does not know, whose pixels are left out, too. Other "
        "unknown planes are ignored, with a warning; so are those named here that no input has.",
        default=[],
    )
    use_interpolated = Field[bool](
        doc="Use pixels of COSMIC_RAY and INTERPOLATED, whose values were made from neighbours, as coadds of "
        "the Science Pipelines do. Unset it to leave them out; the PSF is then less exact around them.",
        default=True,
    )
    select = ConfigField[SelectInputsConfig](
        doc="Cuts on visits and detectors, those of the Science Pipelines.", dtype=SelectInputsConfig
    )

    def validate(self) -> None:
        """Check that the fields agree.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If a name is not known or two fields do not agree.
        """
        super().validate()
        for name, check in (
            ("bad_planes", lambda: parse_input_planes(self.bad_planes)),
            ("warp_kernel", lambda: variance_share(self.warp_kernel, np.zeros(1))),
        ):
            try:
                check()
            except ValueError as error:
                raise FieldValidationError(getattr(type(self), name), self, str(error)) from error
        known = [name for name in self.extra_bad_planes if name in INPUT_PLANES]
        self._require(not known, "extra_bad_planes", f"must not have {known}, which bad_planes knows")
        if self.image_model == "images":
            self._require(not self.use_visit_summary, "use_visit_summary", "needs image_model='afw'")
            self._require(
                self.inputs == "visits",
                "inputs",
                "'warps' needs image_model='afw': lsst.images has no class for one visit on the tract's grid",
            )
            self._require(
                not self.apply_background_ratio, "apply_background_ratio", "needs image_model='afw'"
            )
        if self.inputs == "warps":
            for name in ("revert_background", "apply_background"):
                self._require(not getattr(self, name), name, "needs inputs='visits'")
        self._require(
            self.revert_background or self.apply_background or not self.apply_background_ratio,
            "apply_background_ratio",
            "needs revert_background or apply_background",
        )
        if self.revert_background or self.apply_background:
            self._check_backgrounds()

    def _check_backgrounds(self) -> None:
        """Check what is said of backgrounds, where there are some."""
        self._require(
            self.background_name or not self.apply_background or self.image_model == "afw",
            "background_name",
            "must not be empty with apply_background",
        )
        if self.calibrate_backgrounds:
            self._require(self.use_visit_summary, "calibrate_backgrounds", "needs use_visit_summary")
            self._require(
                not self.use_visit_summary_photo_calib,
                "calibrate_backgrounds",
                "is for images in nJy, and use_visit_summary_photo_calib for images in counts: unset one",
            )

    def _require(self, holds: bool, name: str, text: str) -> None:
        if not holds:
            raise FieldValidationError(getattr(type(self), name), self, f"{name} {text}.")

    @property
    def bad_plane_bits(self) -> Plane:
        """Planes whose pixels are left out (`Plane`)."""
        bits = parse_input_planes(self.bad_planes) | ALWAYS_LEFT_OUT
        return bits if self.use_interpolated else bits | FROM_NEIGHBOURS

    def make_adapter(self) -> ImageAdapter:
        """Make the adapter of the image library, set as the fields say."""
        planes = PlaneTranslator(extra_bad=frozenset(self.extra_bad_planes))
        if self.image_model == "afw":
            replace = frozenset(part for part, name in _SUMMARY_SWITCHES.items() if getattr(self, name))
            return make_adapter(
                "afw",
                planes=planes,
                replace=replace,
                warp_kernel=self.warp_kernel,
                calibrate_backgrounds=self.calibrate_backgrounds,
            )
        return make_adapter(
            "images",
            planes=planes,
            revert_background=self.revert_background,
            apply_background=self.background_name if self.apply_background else "",
        )
