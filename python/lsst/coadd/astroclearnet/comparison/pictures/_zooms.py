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
from collections.abc import Sequence

import numpy as np
import scipy.ndimage
import scipy.spatial

from ..._coadds import CoaddView
from .._metrics import Comparison
from .._photometry import adaptive_fwhm, adaptive_moments, middle_psf

_WORST = "worst residual"
_HALF = 12  # half the side of the stamps on which widths are measured, in pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Zoom:
    """One place."""

    label: str
    """Why it was chosen."""

    box: tuple[int, int, int, int]
    """``(x0, y0, width, height)`` in patch pixels."""

    def holds(self, x: float, y: float) -> bool:
        """Say whether a place is well inside."""
        x0, y0, width, height = self.box
        return abs(x - x0 - width / 2) < 0.3 * width and abs(y - y0 - height / 2) < 0.3 * height


def choose_zooms(views: Sequence[CoaddView], comparison: Comparison, *, side: int) -> list[Zoom]:
    """Choose a blended pair, a bright galaxy, a faint source, a saturated
    star and the worst residual, as far as there are any.

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
        One or more; the centre of the patch if there is nothing else.
    """
    reference = views[0]
    fwhm = adaptive_fwhm(middle_psf(reference))
    fwhm = fwhm if np.isfinite(fwhm) else 4.0
    places = {
        "blended pair": _find_pair(views, comparison, fwhm),
        "bright galaxy": _find_galaxy(views, comparison, fwhm),
        "faint source": _find_faint(comparison, fwhm),
        "saturated star": _find_saturated(views),
        _WORST: _find_residual(views, comparison, fwhm),
    }
    x0, y0, width, height = reference.box
    found = {label: place for label, place in places.items() if place is not None}
    if not found:
        found = {"centre": (x0 + width / 2, y0 + height / 2)}
    side = min(side, width, height)
    zooms: list[Zoom] = []
    for label, (x, y) in found.items():
        shown = [k for k, zoom in enumerate(zooms) if zoom.holds(x, y)]
        if label == _WORST and shown:
            # No place is shown twice.
            zooms[shown[0]] = dataclasses.replace(zooms[shown[0]], label=f"{zooms[shown[0]].label}, {label}")
            continue
        left = int(np.clip(round(x) - side // 2, x0, x0 + width - side))
        bottom = int(np.clip(round(y) - side // 2, y0, y0 + height - side))
        zooms.append(Zoom(label=label, box=(left, bottom, side, side)))
    return zooms


_Place = tuple[float, float] | None


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


def _find_faint(comparison: Comparison, fwhm: float) -> _Place:
    """Find a source of S/N 5 to 12 that is far from its neighbours."""
    sources, snr = comparison.sources, comparison.snr
    faint = np.flatnonzero((snr > 5) & (snr < 12))
    if not len(faint):
        return None
    if len(sources.x) < 2:
        return sources.x[faint[0]], sources.y[faint[0]]
    places = np.column_stack([sources.x, sources.y])
    distance = scipy.spatial.KDTree(places).query(places[faint], k=2)[0][:, 1]
    best = faint[int(np.argmax(np.minimum(distance, 10 * fwhm)))]
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
