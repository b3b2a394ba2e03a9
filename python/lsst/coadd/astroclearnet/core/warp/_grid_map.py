# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Native pixel coordinates of a patch grid, exact on a lattice."""

from __future__ import annotations

__all__ = ("GridMap", "divide_pixel")

import dataclasses

import numpy as np
from scipy.interpolate import RectBivariateSpline

from .._errors import InvalidExposureError
from .._exposure import PixelSkyMap
from ._frame import Frame, overlap_box, transform_pixels

_STEPS = (64, 32, 16, 8)  # pixels of the patch
_TOLERANCE = 1e-3  # pixels
_REACH = 64  # pixels of the patch around a short box that a lattice covers, too
_COARSEST = 1.5  # native pixels between samples: with 2, sums have 2.3 times the noise of their pixels


@dataclasses.dataclass(frozen=True, eq=False)
class GridMap:
    """Smooth map from array indices of a box to native pixel coordinates.

    Distortions of a telescope vary over hundreds of pixels, so the exact
    transformation is needed on a lattice only.
    """

    x: RectBivariateSpline
    y: RectBivariateSpline
    area: RectBivariateSpline
    """Native pixels per pixel of the box."""
    divisions: int
    """Parts of each side of a pixel of the box that are sampled for
    themselves; see `divide_pixel`."""

    @classmethod
    def fit(cls, patch: PixelSkyMap, frame: Frame, *, x0: int, y0: int, height: int, width: int) -> GridMap:
        """Sample the transformation as densely as it needs.

        Parameters
        ----------
        patch
            World coordinates of the patch grid.
        frame
            Whose pixels are wanted.
        x0, y0, height, width
            The box, in pixels of the patch grid.

        Raises
        ------
        InvalidExposureError
            If the transformation cannot be inverted on the frame, or is not
            smooth at the scale of a few pixels.
        """
        spans = _find_spans(patch, frame, x0=x0, y0=y0, height=height, width=width)
        for step in _STEPS:
            # A border of one step keeps the spline's end effects outside.
            rows, columns = (
                start + step * np.arange(-1.0, max(5, np.ceil(size / step) + 2)) for start, size in spans
            )
            fitted = cls._sample(patch, frame, x0, y0, rows, columns, step)
            if fitted is None:
                continue
            rows, columns = _choose_checks(rows, height), _choose_checks(columns, width)
            x, y = np.meshgrid(columns + x0, rows + y0)
            x, y = transform_pixels(patch, frame.wcs, x=x, y=y)
            fitted_x, fitted_y = fitted.x(rows, columns), fitted.y(rows, columns)
            # What is off the frame must not be taken for a part of it either.
            inside = frame.contains(x=x, y=y, margin=0) | frame.contains(x=fitted_x, y=fitted_y, margin=-0.5)
            error = np.hypot(fitted_x - x, fitted_y - y)[inside]
            if np.all(error < _TOLERANCE):  # not so for NaN
                return fitted
        raise InvalidExposureError(
            f"The WCS of {frame.label} cannot be followed to {_TOLERANCE} px across the patch; "
            "check its distortion terms."
        )

    @classmethod
    def _sample(
        cls,
        patch: PixelSkyMap,
        frame: Frame,
        x0: int,
        y0: int,
        rows: np.ndarray,
        columns: np.ndarray,
        step: int,
    ) -> GridMap | None:
        """Fit splines through a lattice; `None` if too little of it is on
        the frame.
        """
        grid_x, grid_y = np.meshgrid(columns + x0, rows + y0)
        x, y = transform_pixels(patch, frame.wcs, x=grid_x, y=grid_y)
        # Distortion polynomials mean nothing far from the frame, and their
        # inverse may land on another branch: keep what comes back.
        inside = frame.contains(x=x, y=y, margin=2 * step)
        back_x, back_y = transform_pixels(
            frame.wcs, patch, x=np.where(inside, x, frame.x0), y=np.where(inside, y, frame.y0)
        )
        trusted = inside & (np.hypot(back_x - grid_x, back_y - grid_y) < 0.01)
        if not trusted.all():
            if np.count_nonzero(trusted) < 20:
                return None
            x, y = (_continue_smoothly(values, trusted) for values in (x, y))
        spline_x, spline_y = (RectBivariateSpline(rows, columns, values) for values in (x, y))
        area = np.abs(
            spline_x(rows, columns, dy=1) * spline_y(rows, columns, dx=1)
            - spline_x(rows, columns, dx=1) * spline_y(rows, columns, dy=1)
        )
        divisions = int(np.ceil(np.median(area) ** 0.5 / _COARSEST))
        return cls(spline_x, spline_y, RectBivariateSpline(rows, columns, area), divisions)


def divide_pixel(divisions: int) -> np.ndarray:
    """Return the middles ``(divisions,)`` of equal parts of a pixel's side,
    from its centre.

    A mean over such parts is what a pixel sees that is much larger than those
    of the detector: one sample would leave most of their light aside, and let
    their noise come in at low spatial frequency.
    """
    return (np.arange(divisions) + 0.5) / divisions - 0.5


def _find_spans(
    patch: PixelSkyMap, frame: Frame, *, x0: int, y0: int, height: int, width: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first index and the size, in rows and in columns, of what a
    lattice for a box covers.

    A short box can hold so small a part of the frame that its nodes do not
    tell how the WCS goes on: the lattice then follows the frame out of it.
    """
    outline = frame.outline(patch) if min(height, width) < _REACH else None
    wider = {"x0": x0 - _REACH, "y0": y0 - _REACH, "height": height + 2 * _REACH, "width": width + 2 * _REACH}
    near = None if outline is None else overlap_box(outline, **wider)
    if near is None:
        return (0, height), (0, width)
    return (near[1] - y0, near[2]), (near[0] - x0, near[3])


def _choose_checks(nodes: np.ndarray, size: int) -> np.ndarray:
    """Return indices at which to compare with the exact coordinates: half way
    between nodes, or all over a box that holds few of these.
    """
    between = (nodes[1:] + nodes[:-1]) / 2
    between = between[(between >= 0) & (between <= size - 1)]
    return between if len(between) >= 5 else np.linspace(0, size - 1, 5)


def _continue_smoothly(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Replace what is not known by a cubic polynomial through the rest."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in values.shape), indexing="ij")
    terms = np.stack([rows**i * columns**j for i in range(4) for j in range(4 - i)], axis=-1)
    solution, *_ = np.linalg.lstsq(terms[known], values[known], rcond=None)
    return np.where(known, values, terms @ solution)
