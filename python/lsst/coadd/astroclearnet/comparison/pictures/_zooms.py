# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Places of a patch that are worth a closer look."""

from __future__ import annotations

__all__ = ("Zoom", "choose_zooms")

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.ndimage
import scipy.spatial

from ..._coadds import CoaddView
from .._metrics import Comparison
from .._photometry import adaptive_fwhm, adaptive_moments, middle_psf

_HALF = 12  # half the side of the stamps on which widths are measured, in pixels

_Place = tuple[float, float] | None
_Corner = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Zoom:
    """One place."""

    label: str
    """Why it was chosen."""

    box: tuple[int, int, int, int]
    """``(x0, y0, width, height)`` in patch pixels."""


def choose_zooms(views: Sequence[CoaddView], comparison: Comparison, *, side: int) -> list[Zoom]:
    """Choose a blended pair, a bright galaxy, a faint source, a saturated
    star and the worst residual, as far as there are any and as they find room
    beside each other.

    Parameters
    ----------
    views
        Planes; the first is the reference.
    comparison
        What was measured on them.
    side
        Of each zoom, in pixels; cut to the patch.

    Returns
    -------
    `list` [`Zoom`]
        One or more, of which none lies on another; the centre of the patch if
        there is nothing else.
    """
    reference = views[0]
    fwhm = adaptive_fwhm(middle_psf(reference))
    fwhm = fwhm if np.isfinite(fwhm) else 4.0
    places = {
        "blended pair": _find_pair(views, comparison, fwhm),
        "bright galaxy": _find_galaxy(views, comparison, fwhm),
        "faint source": None,  # of many, one that is not beside the others
        "saturated star": _find_saturated(views),
        "worst residual": _find_residual(views, comparison, fwhm),
    }
    x0, y0, width, height = reference.box
    side = min(side, width, height)
    others = [place for place in places.values() if place is not None]
    places["faint source"] = _find_faint(comparison, fwhm, others=others, side=side)
    found = {label: place for label, place in places.items() if place is not None}
    if not found:
        found = {"centre": (x0 + width / 2, y0 + height / 2)}
    corners = _arrange(found, side=side, box=reference.box)
    labels: dict[_Corner, list[str]] = {}
    for label in found:  # no place is shown twice
        if label in corners:
            labels.setdefault(corners[label], []).append(label)
    return [Zoom(label=", ".join(names), box=(*corner, side, side)) for corner, names in labels.items()]


def _arrange(
    places: Mapping[str, tuple[float, float]], *, side: int, box: tuple[int, int, int, int]
) -> dict[str, _Corner]:
    """Find the corner of the zoom of each place; those that come first have it
    in the middle, and another order is tried where one finds no room.
    """
    most: dict[str, _Corner] = {}
    for order in itertools.permutations(places):
        corners: dict[str, _Corner] = {}
        for label in order:
            corner = _find_room(places[label], list(corners.values()), side=side, box=box)
            if corner is not None:
                corners[label] = corner
        if len(corners) > len(most):
            most = corners
        if len(most) == len(places):
            break
    return most


def _find_room(
    place: tuple[float, float], taken: Sequence[_Corner], *, side: int, box: tuple[int, int, int, int]
) -> _Corner | None:
    """Find the lower left corner of a zoom that shows a place: one that does,
    or a new one, with the place as near to its middle as the ends of the patch
    and the others let it.
    """
    at = [
        min(max(round(value), start), start + size - 1)
        for value, start, size in zip(place, box[:2], box[2:], strict=True)
    ]
    for corner in taken:
        if all(low <= value < low + side for low, value in zip(corner, at, strict=True)):
            return corner
    x, y = np.meshgrid(
        *(
            np.arange(max(start, value - side + 1), min(start + size - side, value) + 1)
            for value, start, size in zip(at, box[:2], box[2:], strict=True)
        )
    )
    distance = np.hypot(x + side // 2 - at[0], y + side // 2 - at[1])
    for left, bottom in taken:
        distance[(abs(x - left) < side) & (abs(y - bottom) < side)] = np.inf
    if not np.isfinite(distance).any():
        return None
    best = np.argmin(distance)
    return int(x.flat[best]), int(y.flat[best])


def _find_pair(views: Sequence[CoaddView], comparison: Comparison, fwhm: float) -> _Place:
    """Find the brightest two sources whose images overlap in the reference;
    the second plane may be the one that tells them apart.
    """
    for view in (*views[1:], views[0]):
        found = comparison.found[view.name]
        if len(found.x) < 2:
            continue
        pairs = scipy.spatial.KDTree(np.column_stack([found.x, found.y])).query_pairs(
            3 * fwhm, output_type="ndarray"
        )
        column, row = (
            np.clip(np.round(place - origin).astype(int), 0, size - 1)
            for place, origin, size in zip((found.x, found.y), view.box[:2], view.box[2:], strict=True)
        )
        peak = np.where(view.bad | view.saturated, 0, view.image)[row, column]
        score = np.min(peak[pairs], axis=1) if len(pairs) else np.zeros(0)
        if len(score) and score.max() > 0:
            i, j = pairs[int(np.argmax(score))]
            return float(found.x[i] + found.x[j]) / 2, float(found.y[i] + found.y[j]) / 2
    return None


def _find_galaxy(views: Sequence[CoaddView], comparison: Comparison, fwhm: float) -> _Place:
    """Find the brightest single source that is broader than the PSF, if there
    is one that no plane takes apart.
    """
    view, split = views[0], None
    snr = np.where(comparison.stars, 0, np.nan_to_num(comparison.snr))
    for i in np.argsort(-snr)[:40]:
        x, y = comparison.sources.x[i], comparison.sources.y[i]
        distance = np.hypot(comparison.sources.x - x, comparison.sources.y - y)
        # A blend is broad, too.
        if np.any((distance < 3 * fwhm) & (distance > 0) & (np.nan_to_num(comparison.snr) > 0.1 * snr[i])):
            continue
        stamp = view.stamp(x=x, y=y, half=_HALF)
        shape = None if stamp is None or snr[i] <= 0 else adaptive_moments(stamp)
        if shape is None or not shape.fwhm > 1.15 * adaptive_fwhm(view.psf(x=x, y=y)):
            continue
        pieces = [np.hypot(found.x - x, found.y - y) < 1.5 * fwhm for found in comparison.found.values()]
        if all(np.count_nonzero(near) <= 1 for near in pieces):
            return x, y
        split = split or (x, y)
    return split


def _find_faint(
    comparison: Comparison, fwhm: float, *, others: Sequence[tuple[float, float]], side: int
) -> _Place:
    """Find a source of S/N 5 to 12 that is far from its neighbours, and whose
    zoom has room beside the other places, if there is one.
    """
    sources, snr = comparison.sources, comparison.snr
    faint = np.flatnonzero((snr > 5) & (snr < 12))
    if not len(faint):
        return None
    if len(sources.x) < 2:
        return sources.x[faint[0]], sources.y[faint[0]]
    places = np.column_stack([sources.x, sources.y])
    distance = scipy.spatial.KDTree(places).query(places[faint], k=2)[0][:, 1]
    score = np.minimum(distance, 10 * fwhm)
    for other in others:
        score[np.abs(places[faint] - other).max(axis=1) < side] -= 10 * fwhm
    best = faint[int(np.argmax(score))]
    return sources.x[best], sources.y[best]


def _find_saturated(views: Sequence[CoaddView]) -> _Place:
    """Find the largest group of saturated pixels in any plane."""
    saturated = np.any([view.saturated for view in views], axis=0)
    labels, n = scipy.ndimage.label(scipy.ndimage.binary_closing(saturated, iterations=2) | saturated)
    if not n:
        return None
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    y, x = scipy.ndimage.center_of_mass(labels == largest)
    return x + views[0].x0, y + views[0].y0


def _find_residual(views: Sequence[CoaddView], comparison: Comparison, fwhm: float) -> _Place:
    """Find where the second plane differs most from the reference, away from
    pixels that no plane claims to know.
    """
    if len(views) < 2:
        return None
    residual = np.abs(comparison.residuals[views[1].name])
    spoiled = ~np.isfinite(residual) | views[0].bad | views[1].bad | views[0].saturated | views[1].saturated
    spoiled = np.pad(spoiled, 1, constant_values=True)
    clear = scipy.ndimage.distance_transform_edt(~spoiled)[1:-1, 1:-1] > 4 * fwhm
    if not clear.any():
        return None
    row, column = np.unravel_index(int(np.argmax(np.where(clear, residual, -1))), residual.shape)
    return float(column + views[0].x0), float(row + views[0].y0)
