# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every image is checked for, whatever library it came from."""

from __future__ import annotations

__all__ = ("make_exposure",)

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from lsst.images import Box

from ..core._errors import InvalidExposureError, UncalibratedExposureError
from ..core._exposure import InputExposure, PixelSkyMap, PsfModel, ScalarField
from ..core._planes import Plane
from ..core.warp._holed_psf import find_kernel, sample_positions

_LOG = logging.getLogger(__name__)

_MOST_SIGMA = 1e6
"""Value of a pixel in units of the noise of the frame beyond which it is none:
no detector holds as much light, and interpolation would spread it."""


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
    aperture_corrections: Mapping[str, ScalarField],
    scale: np.ndarray | None = None,
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
        not finite, absurdly far from 0, or have no positive variance or
        scale, get ``NO_DATA``.
    bbox
        Pixels of the arrays.
    psf, wcs, aperture_corrections
        Models in the pixels of ``bbox``.
    scale
        What pixels were multiplied by to be in nJy, ``(y, x)``; `None` if it
        was nothing that may be wrong.

    Raises
    ------
    UncalibratedExposureError
        If no pixel has a finite and positive scale.
    InvalidExposureError
        If no pixel has a usable variance, though the mask says that there are
        data; if the WCS cannot be evaluated at the centre of the frame, or
        the PSF neither there nor near it.
    """
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
        aperture_corrections=aperture_corrections,
    )
    _mark_unusable(exposure, scale)
    x, y = bbox.x.center, bbox.y.center
    positions = sample_positions(np.ones(flags.shape, bool), x0=exposure.x0, y0=exposure.y0)
    find_kernel(psf, positions, x=x, y=y, label=exposure.label)
    sky = wcs.pixel_to_sky(x=np.array([x]), y=np.array([y]))
    if not np.all(np.isfinite(sky)):
        raise InvalidExposureError(
            f"The WCS of {exposure.label} is not finite at its centre; refit it or leave the exposure out."
        )
    return exposure


def _mark_unusable(exposure: InputExposure, scale: np.ndarray | None) -> None:
    """Put pixels without a value, a variance or a scale into ``NO_DATA``."""
    label, flags = exposure.label, exposure.flags
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(exposure.image)
        measured = np.isfinite(exposure.variance) & (exposure.variance > 0)
        scaled = np.ones(flags.shape, bool) if scale is None else np.isfinite(scale) & (scale > 0)
    if not scaled.any():
        raise UncalibratedExposureError(
            f"The photometric calibration of {label} is nowhere finite and positive; calibrate it or leave "
            "the exposure out."
        )
    claimed = (flags & np.uint32(Plane.NO_DATA)) == 0
    # A frame that its mask calls empty says so itself.
    if claimed.any() and not measured.any():
        raise InvalidExposureError(
            f"No pixel of {label} has a finite and positive variance; make it anew or leave it out."
        )
    finite &= ~_find_absurd(exposure, measured)
    new = ~(finite & measured) & scaled & claimed
    flags[new | (~scaled & claimed)] |= np.uint32(Plane.NO_DATA)
    if new.any():
        _LOG.info(
            "%s: %d pixels without a possible value and %d without a positive variance are left out.",
            label,
            np.count_nonzero(new & ~finite),
            np.count_nonzero(new & finite),
        )
    if not scaled.all():
        _LOG.info(
            "%s: %d pixels without a finite and positive photometric calibration are left out.",
            label,
            np.count_nonzero(~scaled),
        )


def _find_absurd(exposure: InputExposure, measured: np.ndarray) -> np.ndarray:
    """Find pixels whose value no detector can have given, bool ``(y, x)``."""
    few = exposure.variance[::8, ::8][measured[::8, ::8]]
    if not len(few):
        few = exposure.variance[measured]
    limit = _MOST_SIGMA * float(np.median(few)) ** 0.5 if len(few) else np.inf
    with np.errstate(invalid="ignore"):
        return np.abs(exposure.image) > limit
