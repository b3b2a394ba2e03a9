# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter of each image library."""

from __future__ import annotations

__all__ = ("IMAGE_MODELS", "read_exposure")

from collections.abc import Callable

from ..core._exposure import InputExposure
from ._images import exposure_from_visit_image

IMAGE_MODELS = {
    "images": "VisitImage of lsst.images",
    "afw": "ExposureF of lsst.afw",
}


def read_exposure(image_model: str) -> Callable[..., InputExposure]:
    """Return the function that adapts the images of a library.

    Parameters
    ----------
    image_model
        One of `IMAGE_MODELS`.

    Returns
    -------
    `~collections.abc.Callable`
        ``adapt(image, *, data_id)``; for ``afw`` also with
        ``visit_summary_row=``.

    Raises
    ------
    ValueError
        If the image model is not known.
    """
    match image_model:
        case "images":
            return exposure_from_visit_image
        case "afw":
            from ._afw import exposure_from_exposure_f

            return exposure_from_exposure_f
    raise ValueError(f"image_model must be one of {', '.join(IMAGE_MODELS)}; got {image_model!r}.")
