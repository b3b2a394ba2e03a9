# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Native pixel coordinates of a patch grid, exact on a lattice."""

from __future__ import annotations

__all__ = ("GridMap", "box_outline", "frame_outline", "overlap_box", "patch_to_native")

import dataclasses

import numpy as np
import shapely
from scipy.interpolate import RectBivariateSpline

from ._errors import InvalidExposureError
from ._exposure import InputExposure, PixelSkyMap

_STEPS = (64, 32, 16, 8)  # pixels of the patch
_TOLERANCE = 1e-3  # pixels
_REACH = 64  # pixels of the patch around a short box that a lattice covers, too


def patch_to_native(
    patch: PixelSkyMap, native: PixelSkyMap, *, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Transform pixel positions of one grid to another, over the sky."""
    ra, dec = patch.pixel_to_sky(x=np.asarray(x, float), y=np.asarray(y, float))
    return native.sky_to_pixel(ra=ra, dec=dec)


def frame_outline(exposure: InputExposure, patch: PixelSkyMap, *, border: int = 0) -> np.ndarray | None:
    """Return the outer edge of a frame in patch pixels, without a border of
    so many native pixels; `box_outline` says how, and what it raises.
    """
    height, width = (max(size - 2 * border, 0) for size in exposure.image.shape)
    x0, y0 = exposure.x0 + border, exposure.y0 + border
    return box_outline(exposure.wcs, patch, x0=x0, y0=y0, height=height, width=width, label=exposure.label)


def box_outline(
    native: PixelSkyMap,
    patch: PixelSkyMap,
    *,
    x0: int,
    y0: int,
    height: int,
    width: int,
    label: str,
    n_per_side: int = 8,
) -> np.ndarray | None:
    """Return the outer edge of a box of native pixels in patch pixels.

    Parameters
    ----------
    native, patch
        World coordinates of both grids.
    x0, y0, height, width
        The box, in native pixels.
    label
        Data id for the error.
    n_per_side
        Vertices on each side.

    Returns
    -------
    `numpy.ndarray` or `None`
        Vertices ``(4 * n_per_side, 2)`` in the order x, y; `None` if the
        box lies in another part of the sky, where the projection of the
        patch does not reach.

    Raises
    ------
    InvalidExposureError
        If the box has no place on the sky.
    """
    t = np.arange(n_per_side) / n_per_side
    zero, one = np.zeros_like(t), np.ones_like(t)
    x = x0 - 0.5 + width * np.concatenate([t, one, 1 - t, zero])
    y = y0 - 0.5 + height * np.concatenate([zero, t, one, 1 - t])
    sky = np.stack(native.pixel_to_sky(x=x, y=y))
    if not np.all(np.isfinite(sky)):
        raise InvalidExposureError(
            f"The WCS of {label} is not finite at the edge of its frame; refit it or leave the exposure out."
        )
    vertices = np.stack(patch.sky_to_pixel(ra=sky[0], dec=sky[1]), axis=1)
    if not np.all(np.isfinite(vertices)):
        return None
    # A tangent plane maps the far side of the sky back onto itself.
    ra, dec = np.radians(sky[:, :1])
    back_ra, back_dec = np.radians(patch.pixel_to_sky(x=vertices[:1, 0], y=vertices[:1, 1]))
    cosine = np.sin(dec) * np.sin(back_dec) + np.cos(dec) * np.cos(back_dec) * np.cos(ra - back_ra)
    return vertices if cosine[0] > 0.999 else None


def overlap_box(
    outline: np.ndarray, *, x0: int, y0: int, height: int, width: int
) -> tuple[int, int, int, int] | None:
    """Return the smallest box around the pixels of a patch that a frame can
    reach.

    Parameters
    ----------
    outline
        Result of `frame_outline`.
    x0, y0, height, width
        The patch, in pixels of its own grid.

    Returns
    -------
    `tuple` or `None`
        ``x0, y0, height, width`` of the overlap; `None` if there is none.
    """
    # The box around a rotated frame may touch a patch that the frame misses.
    part = shapely.clip_by_rect(shapely.Polygon(outline), x0, y0, x0 + width - 1, y0 + height - 1)
    if part.is_empty:
        return None
    low, high = (np.reshape(part.bounds, (2, 2))[k] for k in (0, 1))
    low, high = np.ceil(low).astype(int), np.floor(high).astype(int)
    if np.any(high < low):
        return None
    return int(low[0]), int(low[1]), int(high[1] - low[1] + 1), int(high[0] - low[0] + 1)


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

    @classmethod
    def fit(
        cls, patch: PixelSkyMap, exposure: InputExposure, *, x0: int, y0: int, height: int, width: int
    ) -> GridMap:
        """Sample the transformation as densely as it needs.

        Parameters
        ----------
        patch
            World coordinates of the patch grid.
        exposure
            The frame whose pixels are wanted.
        x0, y0, height, width
            The box, in pixels of the patch grid.

        Raises
        ------
        InvalidExposureError
            If the transformation cannot be inverted on the frame, or is not
            smooth at the scale of a few pixels.
        """
        spans = _find_spans(patch, exposure, x0=x0, y0=y0, height=height, width=width)
        for step in _STEPS:
            # A border of one step keeps the spline's end effects outside.
            rows, columns = (
                start + step * np.arange(-1.0, max(5, np.ceil(size / step) + 2)) for start, size in spans
            )
            fitted = cls._sample(patch, exposure, x0, y0, rows, columns, step)
            if fitted is None:
                continue
            rows, columns = _choose_checks(rows, height), _choose_checks(columns, width)
            x, y = np.meshgrid(columns + x0, rows + y0)
            x, y = patch_to_native(patch, exposure.wcs, x=x, y=y)
            fitted_x, fitted_y = fitted.x(rows, columns), fitted.y(rows, columns)
            # What is off the frame must not be taken for a part of it either.
            inside = _inside(exposure, x, y, margin=0) | _inside(exposure, fitted_x, fitted_y, margin=-0.5)
            error = np.hypot(fitted_x - x, fitted_y - y)[inside]
            if np.all(error < _TOLERANCE):  # not so for NaN
                return fitted
        raise InvalidExposureError(
            f"The WCS of {exposure.label} cannot be followed to {_TOLERANCE} px across the patch; "
            "check its distortion terms."
        )

    @classmethod
    def _sample(
        cls,
        patch: PixelSkyMap,
        exposure: InputExposure,
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
        x, y = patch_to_native(patch, exposure.wcs, x=grid_x, y=grid_y)
        # Distortion polynomials mean nothing far from the frame, and their
        # inverse may land on another branch: keep what comes back.
        inside = _inside(exposure, x, y, margin=2 * step)
        back_x, back_y = patch_to_native(
            exposure.wcs, patch, x=np.where(inside, x, exposure.x0), y=np.where(inside, y, exposure.y0)
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
        return cls(spline_x, spline_y, RectBivariateSpline(rows, columns, area))


def _find_spans(
    patch: PixelSkyMap, exposure: InputExposure, *, x0: int, y0: int, height: int, width: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first index and the size, in rows and in columns, of what a
    lattice for a box covers.

    A short box can hold so small a part of the frame that its nodes do not
    tell how the WCS goes on: the lattice then follows the frame out of it.
    """
    outline = frame_outline(exposure, patch) if min(height, width) < _REACH else None
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


def _inside(exposure: InputExposure, x: np.ndarray, y: np.ndarray, *, margin: float) -> np.ndarray:
    """Tell which native positions lie on the frame; NaN does not."""
    height, width = exposure.image.shape
    with np.errstate(invalid="ignore"):
        return (np.abs(x - exposure.x0 - (width - 1) / 2) <= width / 2 + margin) & (
            np.abs(y - exposure.y0 - (height - 1) / 2) <= height / 2 + margin
        )


def _continue_smoothly(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Replace what is not known by a cubic polynomial through the rest."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in values.shape), indexing="ij")
    terms = np.stack([rows**i * columns**j for i in range(4) for j in range(4 - i)], axis=-1)
    solution, *_ = np.linalg.lstsq(terms[known], values[known], rcond=None)
    return np.where(known, values, terms @ solution)
