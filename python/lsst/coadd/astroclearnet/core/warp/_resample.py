# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interpolate the pixels of a frame at the positions of another grid."""

from __future__ import annotations

__all__ = ("GROWTH", "resample")

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.ndimage

from .._exposure import InputExposure
from .._planes import Plane
from ._grid_map import GridMap, divide_pixel
from ._warped_psf import ORDER

GROWTH = 2
"""Native pixels by which pixels that are left out are grown. Nearer than
that, the fill under a masked pixel on a star can reach 4 % of the peak;
beyond it, 1 %."""

_MARGIN = 16  # native pixels after which the spline has forgotten a boundary
_BLOCK = 256  # side of the pieces that are worked at a time
_TRUNCATE = 3.0  # sigma at which Gaussians end


def resample(
    exposure: InputExposure, grid: GridMap, *, height: int, width: int, bad: Plane
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interpolate image, variance and flags of an exposure.

    Parameters
    ----------
    exposure
        The frame.
    grid
        Native coordinates of the box.
    height, width
        The box, in pixels of the patch.
    bad
        Planes whose pixels are replaced by neighbours before.

    Returns
    -------
    image, variance, flags
        As in `WarpedExposure`, ``(height, width)``.
    """
    rows, columns = np.arange(height, dtype=float), np.arange(width, dtype=float)
    cut, cut_x0, cut_y0 = _needed_part(exposure, grid, rows, columns)
    coefficients, native_variance, native_flags = _clean(exposure, cut, bad)
    image, variance = (np.zeros((height, width), np.float32) for _ in range(2))
    flags = np.full((height, width), np.uint32(Plane.NO_DATA))
    for row, column in itertools.product(range(0, height, _BLOCK), range(0, width, _BLOCK)):
        part = slice(row, row + _BLOCK), slice(column, column + _BLOCK)
        where = rows[part[0]], columns[part[1]]
        samples = np.array(
            [
                (grid.y(where[0] + y, where[1] + x) - cut_y0, grid.x(where[0] + y, where[1] + x) - cut_x0)
                for y, x in itertools.product(divide_pixel(grid.divisions), repeat=2)
            ]
        )
        on_frame = np.ones(flags[part].shape, bool)
        for middle, size in zip(samples.mean(axis=0), native_flags.shape, strict=True):
            index = np.rint(middle)
            on_frame &= (index >= GROWTH) & (index < size - GROWTH)
        if not on_frame.any():
            continue
        area = grid.area(*where)[on_frame] / len(samples)
        flags[part][on_frame] = 0
        for y, x in samples[:, :, on_frame]:
            for values, order, output in ((coefficients, ORDER, image), (native_variance, 1, variance)):
                output[part][on_frame] += area * scipy.ndimage.map_coordinates(
                    values, (y, x), order=order, mode="mirror", prefilter=False
                )
            # A large pixel may reach beyond the frame with a part of it.
            nearest = (
                np.rint(position).astype(np.int32).clip(0, size - 1)
                for position, size in zip((y, x), native_flags.shape, strict=True)
            )
            flags[part][on_frame] |= native_flags[*nearest]
    return image, variance, flags


def _clean(
    exposure: InputExposure, cut: tuple[slice, slice], bad: Plane
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spline coefficients, filled variance and grown flags."""
    image, variance = exposure.image[cut], exposure.variance[cut]
    flags = exposure.flags[cut].astype(np.uint32)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    flags[~usable] |= np.uint32(Plane.NO_DATA)
    left_out = flags & np.uint32(bad)
    image, variance = _fill([image, variance], left_out != 0)
    coefficients = scipy.ndimage.spline_filter(image, order=ORDER, output=np.float32, mode="mirror")
    return coefficients, variance, flags | _grow(left_out)


def _needed_part(
    exposure: InputExposure, grid: GridMap, rows: np.ndarray, columns: np.ndarray
) -> tuple[tuple[slice, slice], int, int]:
    """Return the slices of a frame that a grid reaches, and their origin."""
    border_rows, border_columns = rows[[0, -1]], columns[[0, -1]]
    slices = []
    for spline, start, size in (
        (grid.y, exposure.y0, exposure.image.shape[0]),
        (grid.x, exposure.x0, exposure.image.shape[1]),
    ):
        border = np.concatenate([spline(border_rows, columns).ravel(), spline(rows, border_columns).ravel()])
        low = int(np.clip(np.floor(border.min()) - start - _MARGIN, 0, size - 1))
        high = int(np.clip(np.ceil(border.max()) - start + _MARGIN + 1, low + 1, size))
        slices.append(slice(low, high))
    return (slices[0], slices[1]), exposure.x0 + slices[1].start, exposure.y0 + slices[0].start


def _fill(arrays: Sequence[np.ndarray], left_out: np.ndarray) -> list[np.ndarray]:
    """Replace pixels by a weighted mean of their good neighbours, which are
    looked for ever farther, in blocks that need it.
    """
    known = [np.where(left_out, 0, array).astype(np.float32) for array in arrays]
    filled = [array.copy() for array in known]
    seen, remaining = (~left_out).astype(np.float32), left_out.copy()
    for sigma in (1.0, 4.0, 16.0):
        for block, around, inner in _find_blocks(remaining, margin=round(_TRUNCATE * sigma) + 1):
            if not seen[around].any():
                continue
            weight, *values = (
                scipy.ndimage.gaussian_filter(array[around], sigma, truncate=_TRUNCATE)[inner]
                for array in (seen, *known)
            )
            ready = remaining[block] & (weight > 0.02)
            for array, value in zip(filled, values, strict=True):
                array[block][ready] = value[ready] / weight[ready]
            remaining[block] &= ~ready
    if remaining.any():
        for result, array in zip(filled, arrays, strict=True):
            result[remaining] = np.median(array[~left_out]) if not left_out.all() else 0
    return filled


def _find_blocks(
    wanted: np.ndarray, *, margin: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice], tuple[slice, slice]]]:
    """Yield the blocks of an image with a pixel that is wanted, the same with
    a margin, and where the former lie in the latter.
    """
    for corner in itertools.product(*(range(0, size, _BLOCK) for size in wanted.shape)):
        block = slice(corner[0], corner[0] + _BLOCK), slice(corner[1], corner[1] + _BLOCK)
        if wanted[block].any():
            low = [max(start - margin, 0) for start in corner]
            around = tuple(slice(a, start + _BLOCK + margin) for a, start in zip(low, corner, strict=True))
            inner = tuple(slice(start - a, start - a + _BLOCK) for a, start in zip(low, corner, strict=True))
            yield block, around, inner


def _grow(flags: np.ndarray) -> np.ndarray:
    """Spread bits to all pixels within `GROWTH` rows and columns."""
    for axis in (0, 1):
        grown = flags.copy()
        for shift in range(1, GROWTH + 1):
            ahead = [slice(None), slice(None)]
            behind = [slice(None), slice(None)]
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= flags[tuple(behind)]
            grown[tuple(behind)] |= flags[tuple(ahead)]
        flags = grown
    return flags
