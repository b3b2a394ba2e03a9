# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter of each image library."""

from __future__ import annotations

__all__ = ("IMAGE_MODELS", "make_adapter")

from typing import Any

from ._adapter import ImageAdapter
from ._images import VisitImageAdapter

IMAGE_MODELS = {
    "images": "VisitImage of lsst.images, geometry from acn_sky_geometry.",
    "afw": "ExposureF of lsst.afw, geometry from skyMap.",
}
"""The libraries, with what a configuration says of each."""


def make_adapter(image_model: str, **options: Any) -> ImageAdapter:
    """Return the adapter of a library.

    Parameters
    ----------
    image_model
        One of `IMAGE_MODELS`.
    **options
        Fields of the adapter: ``planes`` for both, ``replace``,
        ``warp_kernel`` and ``calibrate_backgrounds`` for ``afw``,
        ``revert_background`` and ``apply_background`` for ``images``.

    Raises
    ------
    ValueError
        If the image model is not known.
    """
    match image_model:
        case "images":
            return VisitImageAdapter(**options)
        case "afw":
            from ._afw import ExposureFAdapter

            return ExposureFAdapter(**options)
    raise ValueError(f"image_model must be one of {', '.join(IMAGE_MODELS)}; got {image_model!r}.")
