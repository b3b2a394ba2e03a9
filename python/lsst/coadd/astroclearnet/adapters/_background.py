# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backgrounds that are added back to an image or subtracted from it."""

from __future__ import annotations

__all__ = ("calibrate_level", "change_exposure_f_background", "change_visit_image_background")

from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np

from lsst.images import Background, Image, VisitImage

from ..core._errors import InvalidExposureError

if TYPE_CHECKING:
    from lsst.afw.image import ExposureF, ImageF, PhotoCalib
    from lsst.afw.math import BackgroundList


def change_exposure_f_background(
    exposure_f: ExposureF,
    *,
    revert: BackgroundList | None,
    apply: BackgroundList | None,
    ratio: ImageF | None,
    label: str,
    photo_calib: PhotoCalib | None,
) -> ExposureF:
    """Add and subtract backgrounds of an `~lsst.afw.image.ExposureF`.

    Parameters
    ----------
    exposure_f
        The image, not yet calibrated; it is not changed.
    revert, apply
        What is added and what is subtracted; `None` or an empty list for
        nothing.
    ratio
        Ratio of the image flattened for backgrounds to the image as it is;
        `None` if they are the same.
    label
        Data id for the error.
    photo_calib
        Calibration of the backgrounds to the unit of the image; `None` if
        they have the same.

    Returns
    -------
    `~lsst.afw.image.ExposureF`
        A copy with the other background, or the image itself if nothing is
        to be done.

    Raises
    ------
    InvalidExposureError
        If a background has another size than the image.

    Notes
    -----
    As ``revert_background`` and ``apply_background`` (lsst/drp_tasks dc28b94
    make_direct_warp.py:101-138, called at :791 and :851, before calibration)
    within ``backgroundFlatContext`` (lsst/meas_algorithms 4a7591d6
    subtractBackground.py:48-90), which multiplies the image by the ratio and
    divides it again: a background divided by the ratio is the same, and the
    variance stays as it is. ``BackgroundList.getImage``: lsst/afw 714e0ed6d
    math/_backgroundList.py:213; ``clone``: image/_image/_slicing.py:275.
    """
    if not revert and not apply:
        return exposure_f
    changed = exposure_f.clone()
    for sign, background in ((1, revert), (-1, apply)):
        if background:
            level = background.getImage().array
            if level.shape != changed.image.array.shape:
                raise InvalidExposureError(
                    f"A background of {label} has shape {level.shape}, the image "
                    f"{changed.image.array.shape}; leave the exposure out."
                )
            level = level if ratio is None else level / ratio.array
            if photo_calib is not None:
                level = calibrate_level(level, photo_calib, like=exposure_f)
            changed.image.array[:, :] += sign * level
    return changed


def calibrate_level(level: np.ndarray | float, photo_calib: PhotoCalib, *, like: ExposureF) -> np.ndarray:
    """Calibrate a level of counts at every pixel of an exposure, ``(y, x)``.

    ``calibrateImage`` (lsst/afw 714e0ed6d image/_photoCalibContinued.py:114)
    does so for a calibration that varies over the frame, too.
    """
    counts = like.clone()
    counts.image.array[:, :] = level
    return photo_calib.calibrateImage(counts.maskedImage).image.array


def change_visit_image_background(
    visit_image: VisitImage, *, revert: bool, apply: str, label: str
) -> VisitImage:
    """Add and subtract backgrounds that a `~lsst.images.VisitImage` carries.

    Parameters
    ----------
    visit_image
        The image; it is not changed.
    revert
        Whether to add the background that was subtracted.
    apply
        Name of the background to subtract; none if empty.
    label
        Data id for the error.

    Returns
    -------
    `~lsst.images.VisitImage`
        A copy with the other background, or the image itself if nothing is
        to be done.

    Raises
    ------
    InvalidExposureError
        If a background is not there or in a unit of another kind.
    """
    backgrounds, changes = visit_image.backgrounds, []
    if revert:
        if backgrounds.subtracted is None:
            raise InvalidExposureError(
                f"{label} does not say which background was subtracted; unset revert_background."
            )
        changes.append((1, backgrounds.subtracted))
    if apply:
        if apply not in backgrounds:
            known = ", ".join(sorted(backgrounds)) or "none"
            raise InvalidExposureError(f"{label} has no background {apply!r}; there is: {known}.")
        changes.append((-1, backgrounds[apply]))
    if not changes:
        return visit_image
    changed = visit_image.copy()
    for sign, background in changes:
        changed.image.array += sign * _render(background, like=changed.image, label=label)
    return changed


def _render(background: Background, *, like: Image, label: str) -> np.ndarray:
    """Return a background in the unit and on the pixels of an image."""
    unit: Any = background.field.unit
    try:
        factor = 1.0 if unit is None else unit.to(like.unit)
    except u.UnitConversionError as error:
        raise InvalidExposureError(
            f"Background {background.name!r} of {label} has the unit '{unit}', the image '{like.unit}'."
        ) from error
    return factor * background.field.render(like.bbox, dtype=like.array.dtype).array
