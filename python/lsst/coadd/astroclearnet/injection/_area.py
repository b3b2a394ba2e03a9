# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where on the sky sources can be injected."""

from __future__ import annotations

__all__ = ("CoverageMap", "map_coverage")

import dataclasses
import math

import numpy as np
import scipy.ndimage

from ..comparison._detect import extract
from ..core import InputExposure, PixelSkyMap, Plane
from ..core.warp._frame import measure_pixel

_N_ALONG = 9
"""Points along each side of a frame that say how far it reaches."""

_MARGIN = 1.02
"""For what lies between them."""

_UNUSABLE = Plane.NO_DATA | Plane.BAD | Plane.SATURATED


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CoverageMap:
    """What one exposure says of the places that it sees."""

    band: str
    """Band of the exposure."""

    x0: int
    """Pixel x of column 0."""

    y0: int
    """Pixel y of row 0."""

    wcs: PixelSkyMap
    """World coordinates of the pixels."""

    usable: np.ndarray
    """Pixels with data, not at the edge of the frame, bool ``(y, x)``."""

    occupied: np.ndarray
    """Pixels that are too near a bright source, bool ``(y, x)``."""

    def find_near(self, places: np.ndarray) -> np.ndarray:
        """Return which places can be on the frame: those of a circle around
        it, which is far cheaper than looking them up.

        Parameters
        ----------
        places
            Points of the unit sphere, ``(n, 3)``.

        Returns
        -------
        `numpy.ndarray`
            Rows of `places`, in order.
        """
        height, width = self.usable.shape
        ends = np.linspace(-0.5, height - 0.5, _N_ALONG), np.linspace(-0.5, width - 0.5, _N_ALONG)
        y, x = (grid.ravel() for grid in np.meshgrid(*ends, indexing="ij"))
        frame = to_unit_vectors(*self.wcs.pixel_to_sky(x=self.x0 + x, y=self.y0 + y))
        middle = frame.mean(axis=0)
        far = _MARGIN * np.linalg.norm(frame - middle, axis=1).max()
        if not np.isfinite(far):  # nobody knows where it ends
            return np.arange(len(places))
        # |a - b| < r in one product, for |a| = 1.
        return np.flatnonzero(places @ middle >= (1 + middle @ middle - far**2) / 2)

    def look(self, *, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look places up.

        Parameters
        ----------
        ra, dec
            Positions in degrees, ``(n,)``.

        Returns
        -------
        usable, occupied
            Values of the two planes, bool ``(n,)``; false off the frame.
        """
        x, y = (np.asarray(value, float) for value in self.wcs.sky_to_pixel(ra=ra, dec=dec))
        height, width = self.usable.shape
        with np.errstate(invalid="ignore"):
            inside = (x > self.x0 - 0.5) & (x < self.x0 + width - 0.5)
            inside &= (y > self.y0 - 0.5) & (y < self.y0 + height - 0.5)
        column = np.where(inside, np.round(np.where(inside, x, 0)) - self.x0, 0).astype(int)
        row = np.where(inside, np.round(np.where(inside, y, 0)) - self.y0, 0).astype(int)
        return inside & self.usable[row, column], inside & self.occupied[row, column]


def to_unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return points of the unit sphere ``(n, 3)``.

    Parameters
    ----------
    ra, dec
        Positions in degrees, ``(n,)``.
    """
    ra, dec = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def map_coverage(
    exposure: InputExposure, *, band: str, avoid: float, threshold: float = 5.0, edge: int = 10
) -> CoverageMap:
    """Find what an exposure covers and where its bright sources are.

    Parameters
    ----------
    exposure
        Sky-subtracted exposure.
    band
        Its band.
    avoid
        Width of the border around every bright source that counts as
        occupied, in arcsec; 0 if bright sources do not matter.
    threshold
        A source is bright where at least 5 connected pixels are above this
        many sigma of the noise of one exposure; it ends where it falls below
        3 sigma.
    edge
        Pixels at the ends of the frame that do not count as covered.

    Returns
    -------
    `CoverageMap`
        Planes on the pixels of the exposure.
    """
    image = np.ascontiguousarray(exposure.image, dtype=np.float32)
    bad = (exposure.flags & np.uint32(_UNUSABLE)) != 0
    bad |= ~np.isfinite(image) | ~(exposure.variance > 0)
    usable = ~bad
    inner = np.zeros_like(usable)
    inner[edge : usable.shape[0] - edge, edge : usable.shape[1] - edge] = True
    occupied = np.zeros_like(usable)
    if avoid > 0 and usable.any():
        sky = math.sqrt(float(np.median(exposure.variance[usable])))
        occupied = _find_bright(np.where(bad, np.float32(0), image), sky=sky, threshold=threshold)
        saturated = (exposure.flags & np.uint32(Plane.SATURATED)) != 0
        height, width = image.shape
        middle = exposure.x0 + width / 2, exposure.y0 + height / 2
        reach = avoid / measure_pixel(exposure.wcs, x=middle[0], y=middle[1])
        occupied |= saturated
        if occupied.any():
            occupied = scipy.ndimage.distance_transform_edt(~occupied) <= reach
    return CoverageMap(
        band=band,
        x0=exposure.x0,
        y0=exposure.y0,
        wcs=exposure.wcs,
        usable=usable & inner,
        occupied=occupied,
    )


def _find_bright(image: np.ndarray, *, sky: float, threshold: float) -> np.ndarray:
    """Return the pixels of sources with a core above the threshold."""
    _, labels = extract(image, 3.0, err=sky, minarea=5, clean=False, segmentation_map=True)
    n_core = np.bincount(labels[image > threshold * sky], minlength=labels.max() + 1)
    n_core[0] = 0
    return (n_core >= 5)[labels]
