# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cut the exposures of one cell out of those of a patch."""

from __future__ import annotations

__all__ = ("cut_stack",)

import logging
from collections.abc import Sequence

import numpy as np

from .._errors import InvalidExposureError
from .._planes import Plane
from .._stack import CellStack, PsfGradient
from ._psf_trend import nearest_on_frame
from ._register import WarpedExposure
from ._warped_psf import pad_kernels

_LOG = logging.getLogger(__name__)

_LEAST_CHANGE = 1e-4
"""Change of PSFs from the middle to the edge of a cell, relative to them,
below which it is left aside: stars of S/N 1000 do not tell."""


def cut_stack(
    warped: Sequence[WarpedExposure], *, x0: int, y0: int, height: int, width: int, bad: Plane
) -> CellStack | None:
    """Cut one cell, with its halo, out of resampled exposures.

    Parameters
    ----------
    warped
        Exposures on the patch grid, in any order.
    x0, y0, height, width
        The cell grown by its halo, in pixels of the patch grid.
    bad
        Planes whose pixels must not be used.

    Returns
    -------
    `CellStack` or `None`
        The exposures with at least one good pixel, by visit and detector,
        with the PSFs at the centre of the cell, or at the point of their
        frame that is nearest to it; `None` if there is none. An exposure
        whose PSF has no value there is left out with a warning.
    """
    images, variances, goods, kernels, places, labels = [], [], [], [], [], []
    for one in sorted(warped, key=lambda one: (one.visit, one.detector, one.label)):
        slices = one.slices_within(x0=x0, y0=y0, height=height, width=width)
        if slices is None:
            continue
        here, there = slices
        good_here = one.good[here] & ((one.flags[here] & np.uint32(bad)) == 0)
        if not good_here.any():
            continue
        image, good = np.zeros((height, width), np.float32), np.zeros((height, width), bool)
        # A plain level where there are no data keeps weights finite there.
        variance = np.full((height, width), np.median(one.variance[here][good_here]), np.float32)
        x, y = nearest_on_frame(one.outline, x=x0 + (width - 1) / 2, y=y0 + (height - 1) / 2)
        try:
            kernel = one.psf(x=x, y=y)
        except InvalidExposureError as error:
            _LOG.warning(
                "Not used in the cell around x=%d y=%d: %s", x0 + width // 2, y0 + height // 2, error
            )
            continue
        gradient = np.zeros((2, 1, 1), np.float32) if one.psf_trend is None else one.psf_trend(x=x, y=y)
        good[there] = good_here
        image[good] = one.image[here][good_here]
        variance[good] = one.variance[here][good_here]
        images.append(image)
        variances.append(variance)
        goods.append(good)
        kernels += [kernel, *gradient]
        places.append((x - x0, y - y0))
        labels.append(one.label)
    if not labels:
        return None
    # The PSF and its change along x and y, of each exposure.
    padded = pad_kernels(kernels)
    padded = padded.reshape(len(labels), 3, *padded.shape[1:])
    return CellStack(
        image=np.stack(images),
        variance=np.stack(variances),
        good=np.stack(goods),
        psf=padded[:, 0],
        labels=tuple(labels),
        psf_gradient=_find_gradient(padded, np.array(places), reach=max(height, width) / 2),
    )


def _find_gradient(kernels: np.ndarray, places: np.ndarray, *, reach: float) -> PsfGradient | None:
    """Return how PSFs change over a cell, if they do.

    Parameters
    ----------
    kernels
        PSF of each exposure and its change per pixel along x and y, ``(n, 3,
        p, p)``.
    places
        Column and row of the cell at which each PSF is right, ``(n, 2)``.
    reach
        Pixels from the middle of the cell to its edge.
    """
    size = np.sqrt((kernels.astype(float) ** 2).sum((2, 3)))
    if np.max(reach * size[:, 1:] / size[:, :1]) < _LEAST_CHANGE:
        return None
    return PsfGradient(per_pixel=kernels[:, 1:], x=places[:, 0], y=places[:, 1])
