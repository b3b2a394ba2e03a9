# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""False structure in single objects of any shape."""

from __future__ import annotations

__all__ = ("FalseStructure", "ShapeErrors", "false_structure", "shape_errors")

import dataclasses

import numpy as np
from scipy.ndimage import binary_dilation

from ._images import relative_rms


@dataclasses.dataclass(frozen=True, kw_only=True)
class FalseStructure:
    """Peaks and dips of an object that its truth has not."""

    n_peaks: int
    """False peaks."""

    n_dips: int
    """False dips."""

    largest: float
    """Largest prominence of one, relative to the true brightness there; 0
    without one."""

    flux_share: float
    """Flux above the saddles of false peaks and missing below those of false
    dips, relative to the flux of the object."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeErrors:
    """Errors of an object of any shape."""

    relative_rms: float
    """`relative_rms` over the object."""

    flux_error: float
    """Flux relative to the truth's, minus 1."""

    false_share: float
    """`FalseStructure.flux_share`."""

    has_false: bool
    """Whether there is a false peak or dip."""


def false_structure(
    image: np.ndarray,
    truth: np.ndarray,
    *,
    level: float = 0.1,
    prominence: float = 0.05,
    sigma: float = 0.0,
    match_radius: float = 2.0,
) -> FalseStructure:
    """Find structure that is not in the truth.

    Features are the local maxima and minima of an image inside of the
    isophote at ``level`` of the true peak, with their topological
    persistence: how far a peak stands above the highest saddle to a higher
    one, a dip below the lowest rim to a deeper one or to the outside
    (Edelsbrunner, Letscher & Zomorodian 2002). A feature of more than the
    least prominence is false if the truth has none of the same kind within
    ``match_radius`` that is at least half as prominent. The dip in the
    middle of a bar shows as a second peak, for it is a saddle.

    Parameters
    ----------
    image
        One object ``(y, x)``.
    truth
        The same without noise at the PSF of the image.
    level
        Isophote relative to the brightest pixel of the truth.
    prominence
        Least prominence relative to the true brightness at the feature.
    sigma
        Noise of a pixel of a coadd; a prominence below 3 sigma is never
        counted.
    match_radius
        Largest distance of a feature from a true one, in pixels.

    Returns
    -------
    `FalseStructure`
        Number, size and flux of the false ones.
    """
    image, truth = np.asarray(image, dtype=float), np.asarray(truth, dtype=float)
    region = truth > level * truth.max()
    flux = truth[region].sum()
    counts, largest, share = [], 0.0, 0.0
    for sign in (1, -1):
        found = _persistence(sign * image, region, enclosed=sign < 0)
        known = _persistence(sign * truth, region, enclosed=sign < 0)
        false = 0
        for row, column, height, volume in found:
            if height < max(prominence * truth[row, column], 3 * sigma):
                continue
            distance = np.hypot(known[:, 0] - row, known[:, 1] - column)
            if np.any((distance <= match_radius) & (known[:, 2] >= 0.5 * height)):
                continue
            false += 1
            largest = max(largest, height / truth[int(row), int(column)])
            share += volume / flux
        counts.append(false)
    return FalseStructure(
        n_peaks=counts[0], n_dips=counts[1], largest=float(largest), flux_share=float(share)
    )


def _persistence(image: np.ndarray, region: np.ndarray, *, enclosed: bool) -> np.ndarray:
    """List the local maxima in a region by topological persistence.

    Pixels are added from the highest down; where two hills of 8-connected
    pixels meet, the lower one ends.

    Parameters
    ----------
    image
        Values ``(y, x)``.
    region
        Pixels to use, bool ``(y, x)``.
    enclosed
        Count what is outside as a hill without a top, so that only maxima
        with a lower rim all around are found.

    Returns
    -------
    `numpy.ndarray`
        ``row, column, height, volume`` of each maximum above the saddle at
        which it ends (the last one: above the lowest pixel), ``(m, 4)``.
    """
    padded = np.pad(region, 1)
    width = padded.shape[1]
    steps = [dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    inside = np.flatnonzero(padded.ravel())
    values = np.pad(image, 1).ravel()
    order = inside[np.argsort(-values[inside], kind="stable")].tolist()
    hills = _Hills(values, inside=set(order), enclosed=enclosed)
    for pixel in order:
        hills.add(pixel, [pixel + step for step in steps])
    rows, columns = np.divmod(np.array(hills.tops, dtype=int), width)
    if not len(rows):
        return np.zeros((0, 4))
    return np.column_stack([rows - 1, columns - 1, hills.heights, hills.volumes])


class _Hills:
    """Union-find of pixels that are added from the highest down."""

    _OUTSIDE = -1

    def __init__(self, values: np.ndarray, *, inside: set[int], enclosed: bool):
        self._values = values
        self._inside = inside
        self._enclosed = enclosed
        self._left = len(inside)
        # A pixel points towards the top of its hill; the top to itself.
        self._parent = {self._OUTSIDE: self._OUTSIDE} if enclosed else {}
        self._sums: dict[int, list[float]] = {self._OUTSIDE: [0.0, 0.0]}
        self.tops: list[int] = []
        self.heights: list[float] = []
        self.volumes: list[float] = []

    def add(self, pixel: int, neighbours: list[int]) -> None:
        """Add the next lower pixel."""
        level = float(self._values[pixel])
        self._parent[pixel] = pixel
        self._sums[pixel] = [level, 1.0]
        roots = {self._find(other) for other in neighbours if other in self._parent and other != pixel}
        if self._enclosed and not self._inside.issuperset(neighbours):
            roots.add(self._OUTSIDE)
        ranked = sorted(roots, key=self._height, reverse=True)
        for root in ranked[1:]:
            self._end(root, level)
            self._join(root, ranked[0])
        if ranked:
            self._join(pixel, ranked[0])
        self._left -= 1
        if not self._left:
            last = self._find(pixel)
            if last != self._OUTSIDE:
                self._end(last, level)

    def _height(self, root: int) -> tuple[float, int]:
        return (np.inf if root == self._OUTSIDE else float(self._values[root]), -root)

    def _find(self, pixel: int) -> int:
        while self._parent[pixel] != pixel:
            self._parent[pixel] = self._parent[self._parent[pixel]]
            pixel = self._parent[pixel]
        return pixel

    def _end(self, root: int, level: float) -> None:
        total, count = self._sums[root]
        self.tops.append(root)
        self.heights.append(float(self._values[root]) - level)
        self.volumes.append(total - count * level)

    def _join(self, lower: int, higher: int) -> None:
        self._parent[lower] = higher
        for k, part in enumerate(self._sums[lower]):
            self._sums[higher][k] += part


def shape_errors(image: np.ndarray, truth: np.ndarray, *, sigma: float = 0.0) -> ShapeErrors:
    """Measure one object of any shape against its truth.

    Parameters
    ----------
    image
        The object ``(y, x)``, alone on its stamp.
    truth
        The same without noise at the PSF of the image.
    sigma
        Noise of a pixel of a coadd, as for `false_structure`.

    Returns
    -------
    `ShapeErrors`
        The rms is over the pixels above 1 % of the true peak, the flux over
        3 more pixels around them.
    """
    core = truth > 0.01 * truth.max()
    wide = binary_dilation(core, iterations=3)
    false = false_structure(image, truth, sigma=sigma)
    return ShapeErrors(
        relative_rms=relative_rms(image, truth, core),
        flux_error=float(np.sum(image[wide], dtype=float) / np.sum(truth[wide], dtype=float) - 1.0),
        false_share=false.flux_share,
        has_false=false.n_peaks + false.n_dips > 0,
    )
