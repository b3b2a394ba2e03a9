# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the PSF of an exposure changes over the pixel grid of a patch."""

from __future__ import annotations

__all__ = ("PsfTrend", "nearest_on_frame")

import dataclasses
import itertools

import numpy as np
import shapely

from .._errors import InvalidExposureError
from .._exposure import PsfModel
from ._warped_psf import pad_kernels

_STEPS = (-0.8, -0.4, 0.0, 0.4, 0.8)
"""Where along each side of the overlap, from -1 to 1, the PSF is asked for:
half of these positions lie on a frame that is turned by 45 degrees. Some for
each cell would cost more time than all the rest that is done for it here."""

_FEWEST = 3
"""Positions that are needed at least."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PsfTrend:
    """A polynomial through the PSFs of an exposure at a few positions.

    It tells the gradient alone; what the PSF is at a position, the model of
    the exposure says better.
    """

    coefficients: np.ndarray
    """Of x, y, x^2, x y, y^2, or of x and y alone, from `centre` and in units
    of `half`, float32 ``(k, p, p)``."""

    centre: tuple[float, float]
    """x and y of the mean of the positions, in pixels of the patch grid."""

    half: tuple[float, float]
    """Half of the sides of the overlap along x and y, in pixels."""

    @classmethod
    def fit(
        cls, psf: PsfModel, *, outline: np.ndarray, x0: int, y0: int, height: int, width: int
    ) -> PsfTrend | None:
        """Fit the polynomial.

        Parameters
        ----------
        psf
            PSF at a position of the patch grid.
        outline
            Vertices ``(n, 2)`` of the edge of the frame, x and y, in pixels of
            the patch grid.
        x0, y0, height, width
            The overlap of frame and patch, in pixels of the patch grid.

        Returns
        -------
        `PsfTrend` or `None`
            `None` if the PSF has no value at three positions of the overlap
            that lie on the frame.
        """
        middle = np.array([x0 + (width - 1) / 2, y0 + (height - 1) / 2])
        half = np.maximum([width - 1, height - 1], 1) / 2
        places, kernels = [], []
        shapely.prepare(frame := shapely.Polygon(outline))
        for place in middle + half * list(itertools.product(_STEPS, repeat=2)):
            if not shapely.contains_xy(frame, *place):
                continue
            try:
                kernels.append(psf(x=float(place[0]), y=float(place[1])))
            except InvalidExposureError:
                continue
            places.append(place)
        if len(places) < _FEWEST:
            return None
        centre = np.mean(places, axis=0)
        u, v = np.transpose((places - centre) / half)
        design = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
        if np.linalg.matrix_rank(design) < design.shape[1]:
            design = design[:, :3]
        values = pad_kernels(kernels).reshape(len(kernels), -1)
        found, *_ = np.linalg.lstsq(design, values)
        side = round(values.shape[1] ** 0.5)
        coefficients = found[1:].reshape(-1, side, side).astype(np.float32)
        return cls(coefficients=coefficients, centre=tuple(centre), half=tuple(half))

    def __call__(self, *, x: float, y: float) -> np.ndarray:
        """Return the change of the PSF per pixel along x and y, float32
        ``(2, p, p)``, at a position of the patch grid; off the overlap, that
        at its edge.
        """
        u, v = (
            np.clip((place - middle) / half, -1, 1)
            for place, middle, half in zip((x, y), self.centre, self.half, strict=True)
        )
        along_x = np.array([1, 0, 2 * u, v, 0])[: len(self.coefficients)] / self.half[0]
        along_y = np.array([0, 1, 0, u, 2 * v])[: len(self.coefficients)] / self.half[1]
        return np.tensordot(np.stack([along_x, along_y]), self.coefficients, axes=1).astype(np.float32)


def nearest_on_frame(outline: np.ndarray, *, x: float, y: float) -> tuple[float, float]:
    """Return x and y of a position of the patch grid, or of the point of a
    frame that is nearest to it.

    Parameters
    ----------
    outline
        Vertices ``(n, 2)`` of the edge of the frame, x and y.
    x, y
        The position.
    """
    nearest = shapely.shortest_line(shapely.Polygon(outline), shapely.Point(x, y))
    return tuple(shapely.get_coordinates(nearest)[0].tolist())
