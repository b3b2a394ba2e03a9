# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a frame lies: its pixels, the sky and the grid of a patch."""

from __future__ import annotations

__all__ = ("Frame", "measure_pixel", "overlap_box", "transform_pixels")

import dataclasses

import numpy as np
import shapely

from .._errors import InvalidExposureError
from .._exposure import InputExposure, PixelSkyMap

_VERTICES = 8  # on each side of an outline


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The box of pixels of a detector and their world coordinates."""

    wcs: PixelSkyMap
    """World coordinates of the pixels."""

    x0: int
    """Pixel x of the first column."""

    y0: int
    """Pixel y of the first row."""

    height: int
    """Number of rows."""

    width: int
    """Number of columns."""

    label: str
    """Data id for errors."""

    @classmethod
    def of(cls, exposure: InputExposure) -> Frame:
        """Return the frame of an exposure."""
        height, width = exposure.image.shape
        return cls(
            wcs=exposure.wcs, x0=exposure.x0, y0=exposure.y0, height=height, width=width, label=exposure.label
        )

    def outline(self, patch: PixelSkyMap, *, border: int = 0) -> np.ndarray | None:
        """Return the outer edge in pixels of a patch.

        Parameters
        ----------
        patch
            World coordinates of the patch grid.
        border
            Native pixels at each edge that are left out.

        Returns
        -------
        `numpy.ndarray` or `None`
            Vertices ``(n, 2)`` in the order x, y; `None` if the frame lies
            in another part of the sky, where the projection of the patch
            does not reach.

        Raises
        ------
        InvalidExposureError
            If the edge has no place on the sky.
        """
        height, width = (max(size - 2 * border, 0) for size in (self.height, self.width))
        t = np.arange(_VERTICES) / _VERTICES
        zero, one = np.zeros_like(t), np.ones_like(t)
        x = self.x0 + border - 0.5 + width * np.concatenate([t, one, 1 - t, zero])
        y = self.y0 + border - 0.5 + height * np.concatenate([zero, t, one, 1 - t])
        sky = np.stack(self.wcs.pixel_to_sky(x=x, y=y))
        if not np.all(np.isfinite(sky)):
            raise InvalidExposureError(
                f"The WCS of {self.label} is not finite at the edge of its frame; "
                "refit it or leave the exposure out."
            )
        vertices = np.stack(patch.sky_to_pixel(ra=sky[0], dec=sky[1]), axis=1)
        if not np.all(np.isfinite(vertices)):
            return None
        # A tangent plane maps the far side of the sky back onto itself.
        ra, dec = np.radians(sky[:, :1])
        back_ra, back_dec = np.radians(patch.pixel_to_sky(x=vertices[:1, 0], y=vertices[:1, 1]))
        cosine = np.sin(dec) * np.sin(back_dec) + np.cos(dec) * np.cos(back_dec) * np.cos(ra - back_ra)
        return vertices if cosine[0] > 0.999 else None

    def contains(self, *, x: np.ndarray, y: np.ndarray, margin: float) -> np.ndarray:
        """Tell which native positions lie in the box, grown by a margin in
        pixels; NaN does not.
        """
        with np.errstate(invalid="ignore"):
            return (np.abs(x - self.x0 - (self.width - 1) / 2) <= self.width / 2 + margin) & (
                np.abs(y - self.y0 - (self.height - 1) / 2) <= self.height / 2 + margin
            )

    def nearest(self, patch: PixelSkyMap, *, x: float, y: float) -> tuple[float, float]:
        """Return native x and y of a pixel of a patch, or of the pixel centre
        of the frame that is nearest to it.
        """
        native_x, native_y = transform_pixels(patch, self.wcs, x=np.array(x), y=np.array(y))
        return (
            float(np.clip(native_x, self.x0, self.x0 + self.width - 1)),
            float(np.clip(native_y, self.y0, self.y0 + self.height - 1)),
        )


def transform_pixels(
    source: PixelSkyMap, target: PixelSkyMap, *, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Transform pixel positions of one grid to another, over the sky."""
    ra, dec = source.pixel_to_sky(x=np.asarray(x, float), y=np.asarray(y, float))
    return target.sky_to_pixel(ra=ra, dec=dec)


def measure_pixel(wcs: PixelSkyMap, *, x: float, y: float) -> float:
    """Return the side of a square as large as the pixel at a position, in
    arcsec; right ascension may pass 0 there.
    """
    ra, dec = wcs.pixel_to_sky(x=np.array([x, x + 1, x]), y=np.array([y, y, y + 1]))
    east = ((ra[1:] - ra[0] + 180) % 360 - 180) * np.cos(np.radians(dec[0]))
    north = dec[1:] - dec[0]
    return 3600 * float(np.sqrt(abs(east[0] * north[1] - east[1] * north[0])))


def overlap_box(
    outline: np.ndarray, *, x0: int, y0: int, height: int, width: int
) -> tuple[int, int, int, int] | None:
    """Return the smallest box around the pixels of a patch that a frame can
    reach.

    Parameters
    ----------
    outline
        Result of `Frame.outline`.
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
