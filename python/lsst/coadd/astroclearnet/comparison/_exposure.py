# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sharpest of the exposures, on the pixels of the coadd."""

from __future__ import annotations

__all__ = ("choose_exposure", "view_exposure")

from typing import TYPE_CHECKING, Any

import numpy as np

from .._coadds import CoaddView
from ..core import InvalidExposureError, Plane
from ..core.warp._register import WarpPlan

if TYPE_CHECKING:
    from astropy.table import Table

_FILLED = Plane.NO_DATA | Plane.BAD | Plane.SATURATED | Plane.COSMIC_RAY | Plane.UNMASKED_NAN
"""Planes that are filled, so that their edges do not ring in the picture."""

_MIN_SHARE = 0.6  # of the pixels of the exposure that covers most


def choose_exposure(inputs: Table) -> tuple[int, int] | None:
    """Choose the exposure with the sharpest PSF among those that cover much.

    Parameters
    ----------
    inputs
        Table of inputs, with columns ``visit``, ``detector``, ``kept``,
        ``n_good`` and ``psf_fwhm_arcsec``.

    Returns
    -------
    `tuple` or `None`
        Visit and detector; `None` if none was used.
    """
    width = np.asarray(inputs["psf_fwhm_arcsec"], dtype=float)
    usable = np.asarray(inputs["kept"], dtype=bool) & np.isfinite(width)
    if not usable.any():
        return None
    n_good = np.asarray(inputs["n_good"])
    usable &= n_good >= _MIN_SHARE * n_good[usable].max()
    best = int(np.argmin(np.where(usable, width, np.inf)))
    return int(inputs["visit"][best]), int(inputs["detector"][best])


def view_exposure(
    exposure_or_handle: Any, like: CoaddView, *, adapter: Any, data_id: Any
) -> CoaddView | None:
    """Resample an exposure to the pixels of a coadd.

    Parameters
    ----------
    exposure_or_handle
        What the adapter reads.
    like
        The coadd.
    adapter
        Of the image library (`adapters.make_adapter`).
    data_id
        With ``visit`` and ``detector``.

    Returns
    -------
    `CoaddView` or `None`
        `None` if it cannot be used, or does not overlap.
    """
    x0, y0, width, height = like.box
    try:
        exposure = adapter.adapt(exposure_or_handle, data_id=data_id)
        plan = WarpPlan.make(exposure, wcs=like.wcs, x0=x0, y0=y0, height=height, width=width, bad=_FILLED)
        if plan is None:
            return None
        warped = plan.warp()
    except InvalidExposureError:
        return None
    image, variance = np.zeros((height, width), np.float32), np.ones((height, width), np.float32)
    flags = np.full((height, width), np.uint32(Plane.NO_DATA))
    rows, columns = warped.image.shape
    part = np.s_[warped.y0 - y0 : warped.y0 - y0 + rows, warped.x0 - x0 : warped.x0 - x0 + columns]
    for target, source in ((image, warped.image), (variance, warped.variance), (flags, warped.flags)):
        target[part] = source
    return CoaddView(
        name=f"visit {warped.visit}",
        image=image,
        variance=variance,
        bad=(flags & np.uint32(Plane.NO_DATA)) != 0,
        saturated=(flags & np.uint32(Plane.SATURATED)) != 0,
        x0=x0,
        y0=y0,
        pixel_scale=like.pixel_scale,
        psf=warped.psf,
        configuration="sharpest exposure",
    )
