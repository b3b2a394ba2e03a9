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
from scipy.ndimage import binary_dilation, distance_transform_edt, label

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


_PROMINENCE = 0.05
"""Least prominence relative to the true brightness at the feature."""

_MATCH_RADIUS = 2.0
"""Largest distance in pixels of a feature from a true one, or from the part of
that one's hill that is lower by less than the least prominence."""


def false_structure(
    image: np.ndarray,
    truth: np.ndarray,
    *,
    level: float = 0.1,
    sigma: float = 0.0,
) -> FalseStructure:
    """Find structure that is not in the truth.

    Features are the local maxima and minima of an image inside of the
    isophote at ``level`` of the true peak, with their topological
    persistence: how far a peak stands above the highest saddle to a higher
    one, a dip below the lowest rim to a deeper one or to the outside
    (Edelsbrunner, Letscher & Zomorodian 2002); the peak that holds the
    summit of the truth counts as the highest. A feature of more than the
    least prominence is false if the truth has none of the same kind within
    2 pixels that is at least half as prominent and belongs to no
    other feature. The dip in the middle of a bar shows as a second peak, for
    it is a saddle.

    Parameters
    ----------
    image
        One object ``(y, x)``.
    truth
        The same without noise at the PSF of the image.
    level
        Isophote relative to the brightest pixel of the truth.
    sigma
        Noise of a pixel of a coadd; a prominence below 5 sigma is never
        counted. Truth with white noise of this sigma then shows a false
        feature in 0.3 % of odd galaxies at most; at 3 sigma it would be 3 to
        6 %. So nothing can be found in an object that is itself fainter.

    Returns
    -------
    `FalseStructure`
        Number, size and flux of the false ones.
    """
    image, truth = np.asarray(image, dtype=float), np.asarray(truth, dtype=float)
    region = truth > level * truth.max()
    # One summit for both: of two equal ends noise makes either the higher.
    summit = _highest(image, truth >= (1 - _PROMINENCE) * truth.max())
    flux = truth[region].sum()
    counts, largest, share = [], 0.0, 0.0
    for sign in (1, -1):
        found, known = (
            _persistence(sign * plane, region, summit=summit if sign > 0 else None)
            for plane in (image, truth)
        )
        places = [
            _surroundings(sign * truth, region, feature, slack=max(_PROMINENCE * bright, 5 * sigma))
            for feature, bright in zip(
                known, truth[known[:, 0].astype(int), known[:, 1].astype(int)], strict=True
            )
        ]
        false = _find_unmatched(found, known, places)
        bright = truth[false[:, 0].astype(int), false[:, 1].astype(int)]
        seen = false[:, 2] >= np.maximum(_PROMINENCE * bright, 5 * sigma)
        counts.append(int(seen.sum()))
        largest = max(largest, np.max(false[seen, 2] / bright[seen], initial=0.0))
        share += false[seen, 3].sum() / flux
    return FalseStructure(
        n_peaks=counts[0], n_dips=counts[1], largest=float(largest), flux_share=float(share)
    )


def _highest(image: np.ndarray, region: np.ndarray) -> tuple[int, int]:
    """Return row and column of the highest pixel in a region."""
    place = int(np.argmax(np.where(region, image, -np.inf)))
    return place // image.shape[1], place % image.shape[1]


def _surroundings(truth: np.ndarray, region: np.ndarray, feature: np.ndarray, *, slack: float) -> np.ndarray:
    """Return where a feature of the truth can be found, bool ``(y, x)``.

    These are the pixels of its own hill nearly as high as its top, and a
    radius around them: on a ridge the least error moves a peak far.
    """
    row, column = int(feature[0]), int(feature[1])
    level = truth[row, column] - min(slack, 0.5 * feature[2])
    parts, _ = label(region & (truth >= level), structure=np.ones((3, 3)))
    return distance_transform_edt(parts != parts[row, column]) <= _MATCH_RADIUS


def _find_unmatched(found: np.ndarray, known: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
    """Return the features, as of `_persistence`, that have no partner; a
    feature of the truth is the partner of one at most.
    """
    free = np.full(len(known), True)
    false = []
    for feature in found:
        row, column = int(feature[0]), int(feature[1])
        here = np.array([place[row, column] for place in places], dtype=bool)
        near = np.flatnonzero(free & here & (known[:, 2] >= 0.5 * feature[2]))
        if len(near):
            distance = np.hypot(*(known[near, :2] - feature[:2]).T)
            free[near[np.argmin(distance)]] = False
        else:
            false.append(feature)
    return np.array(false).reshape(-1, 4)


def _persistence(image: np.ndarray, region: np.ndarray, *, summit: tuple[int, int] | None) -> np.ndarray:
    """List the local maxima in a region by topological persistence.

    Pixels are added from the highest down; where two hills of 8-connected
    pixels meet, the lower one ends.

    Parameters
    ----------
    image
        Values ``(y, x)``.
    region
        Pixels to use, bool ``(y, x)``.
    summit
        Row and column of a pixel whose hill counts as the highest and is not
        listed. `None` to count what is outside of the region as the highest
        hill, so that only maxima with a lower rim all around are listed.

    Returns
    -------
    `numpy.ndarray`
        ``row, column, height, volume`` of each maximum above the saddle at
        which it ends, or above 0 if the region has none, ``(m, 4)``, the most
        prominent first.
    """
    padded = np.pad(region, 1)
    width = padded.shape[1]
    steps = [dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    inside = np.flatnonzero(padded.ravel())
    values = np.pad(image, 1).ravel()
    order = inside[np.argsort(-values[inside], kind="stable")].tolist()
    highest = _Hills.OUTSIDE if summit is None else (summit[0] + 1) * width + summit[1] + 1
    hills = _Hills(values, inside=set(order), highest=highest)
    for pixel in order:
        hills.add(pixel, [pixel + step for step in steps])
    ended = hills.finish()
    if not ended:
        return np.zeros((0, 4))
    tops, heights, volumes = (np.array(column) for column in zip(*ended, strict=True))
    found = np.column_stack([tops // width - 1, tops % width - 1, heights, volumes])
    return found[np.argsort(-heights, kind="stable")]


class _Hills:
    """Union-find of pixels that are added from the highest down."""

    OUTSIDE = -1

    def __init__(self, values: np.ndarray, *, inside: set[int], highest: int):
        self._values = values
        self._inside = inside
        self._highest = highest
        # A pixel points towards the top of its hill; the top to itself.
        self._parent: dict[int, int] = {}
        self._sums: dict[int, list[float]] = {}
        self._ended: list[tuple[int, float, float]] = []
        if highest == self.OUTSIDE:
            self._parent[highest] = highest
            self._sums[highest] = [0.0, 0.0]

    def add(self, pixel: int, neighbours: list[int]) -> None:
        """Add the next lower pixel."""
        level = float(self._values[pixel])
        roots = {self._find(other) for other in neighbours if other in self._parent}
        self._parent[pixel] = pixel
        self._sums[pixel] = [level, 1.0]
        if self._highest == self.OUTSIDE and not self._inside.issuperset(neighbours):
            roots.add(self.OUTSIDE)
        ranked = sorted(roots | {pixel}, key=self._rank, reverse=True)
        for root in ranked[1:]:
            if root != pixel:
                self._end(root, level)
            self._parent[root] = ranked[0]
            for k, part in enumerate(self._sums[root]):
                self._sums[ranked[0]][k] += part

    def finish(self) -> list[tuple[int, float, float]]:
        """Return top, height and volume of all hills but the highest."""
        for root in [pixel for pixel, parent in self._parent.items() if pixel == parent]:
            if root != self._highest:
                self._end(root, 0.0)
        return self._ended

    def _rank(self, root: int) -> tuple[float, int]:
        return (np.inf if root == self._highest else float(self._values[root]), -root)

    def _find(self, pixel: int) -> int:
        while self._parent[pixel] != pixel:
            self._parent[pixel] = self._parent[self._parent[pixel]]
            pixel = self._parent[pixel]
        return pixel

    def _end(self, root: int, level: float) -> None:
        total, count = self._sums[root]
        self._ended.append((root, float(self._values[root]) - level, total - count * level))


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
