# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts of detections: matched, split, missed and false."""

from __future__ import annotations

__all__ = ("make_count_rows", "make_residual_rows", "make_truth_rows")

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage
import scipy.spatial

from .._coadds import CoaddView
from ._detect import extract
from ._fluxes import label_bin
from ._photometry import Sources
from ._rows import Row, make_row


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Match:
    """How two lists of positions belong together."""

    counts: np.ndarray
    """Positions of the second list whose nearest in the first is this one and
    near enough, ``(n,)``."""

    found: np.ndarray
    """Positions of the first list with one of the second near, ``(n,)``."""

    known: np.ndarray
    """Positions of the second list with one of the first near, ``(m,)``."""


def _match(first: Sources, second: Sources, radius: float) -> _Match:
    """Match positions that are not farther apart than a radius in pixels."""
    counts = np.zeros(len(first.x), dtype=int)
    found, known = np.zeros(len(first.x), dtype=bool), np.zeros(len(second.x), dtype=bool)
    if len(first.x) and len(second.x):
        places = [np.column_stack([sources.x, sources.y]) for sources in (first, second)]
        distance, nearest = scipy.spatial.KDTree(places[0]).query(places[1])
        known = distance <= radius
        np.add.at(counts, nearest[known], 1)
        found = scipy.spatial.KDTree(places[1]).query(places[0])[0] <= radius
    return _Match(counts=counts, found=found, known=known)


def make_count_rows(
    view: CoaddView, found: Sources, reference: Sources | None, *, radius: float
) -> list[Row]:
    """Make the rows about numbers of detections.

    Parameters
    ----------
    view
        Plane.
    found
        Detections in it.
    reference
        Detections in the reference; `None` for the reference itself.
    radius
        Of the match, in pixels.
    """
    n = len(found.x)
    rows = [make_row("n_sources", view.name, n, np.sqrt(n), n=n)]
    if reference is None:
        return rows
    match = _match(reference, found, radius)
    for name, chosen in (
        ("n_split", match.counts > 1),
        ("n_only_here", ~match.known),
        ("n_only_in_reference", ~match.found),
    ):
        count = int(np.sum(chosen))
        rows.append(make_row(name, view.name, count, np.sqrt(count), n=len(chosen)))
    return rows


def make_residual_rows(
    view: CoaddView,
    residual: np.ndarray,
    reference: Sources,
    *,
    sigma: np.ndarray,
    threshold: float,
    radius: float,
) -> list[Row]:
    """Make the rows about what is in the residual, of either sign.

    Parameters
    ----------
    view
        Plane.
    residual
        Reference minus plane at the common PSF, nJy; NaN where undefined.
    reference
        Detections in the reference.
    sigma
        Noise at the common PSF, nJy ``(y, x)``; not positive or NaN where
        nothing counts.
    threshold
        In units of it.
    radius
        Distance in pixels from the footprint of a source of the reference
        within which nothing counts.
    """
    near = np.zeros(residual.shape, dtype=bool) if reference.footprint is None else reference.footprint.copy()
    column = np.clip(np.round(reference.x - view.x0).astype(int), 0, residual.shape[1] - 1)
    row = np.clip(np.round(reference.y - view.y0).astype(int), 0, residual.shape[0] - 1)
    near[row, column] = True
    near |= view.saturated
    away = scipy.ndimage.distance_transform_edt(~near) > radius if near.any() else ~near
    away &= np.isfinite(residual) & ~view.bad & (sigma > 0)
    area = float(away.sum()) * (view.pixel_scale / 60) ** 2
    signal = np.divide(residual, sigma, out=np.zeros(residual.shape), where=away).astype(np.float32)
    rows = []
    for name, sign in (("false_positive_rate", -1), ("missed_rate", 1)):
        count, rate, error = 0, np.nan, np.nan
        if area > 0:
            options = dict(filter_kernel=None, minarea=3, clean=False)
            count = len(extract(sign * signal, threshold, mask=~away, **options))
            rate, error = count / area, np.sqrt(max(count, 1)) / area
        rows.append(make_row(name, view.name, rate, error, n=count))
    return rows


def make_truth_rows(
    view: CoaddView,
    found: Sources,
    truth: Sources,
    snr: np.ndarray,
    *,
    is_star: np.ndarray,
    isolated: np.ndarray,
    is_complete: bool,
    bins: Sequence[tuple[float, float]],
    radius: float,
) -> list[Row]:
    """Make the rows about what was found of what is there.

    Parameters
    ----------
    view
        Plane.
    found
        Detections in it.
    truth
        True positions.
    snr
        S/N of the true sources in the reference ``(n,)``; those without one
        (saturated, at the edge) do not count.
    is_star, isolated
        Kind and surroundings of the true sources, bool ``(n,)``.
    is_complete
        Whether there is nothing but these sources: purity is defined.
    bins
        Lower and upper edge of each bin of S/N.
    radius
        Of the match, in pixels.
    """
    match = _match(truth, found, radius)
    rows = []
    for low, high in bins:
        chosen = (snr >= low) & (snr < high)
        n = int(chosen.sum())
        share, error = _share(int(np.sum(match.counts[chosen] > 0)), n)
        rows.append(make_row("completeness", view.name, share, error, n=n, suffix=label_bin(low, high)))
    single = is_star & isolated & (snr > 20)
    split = int(np.sum(match.counts[single] > 1))
    rows.append(make_row("n_split_stars", view.name, split, np.sqrt(split), n=int(single.sum())))
    if is_complete:
        # Around saturated stars neither list can be trusted.
        counted = _is_clear(view, found, radius=4 * radius)
        n = int(counted.sum())
        share, error = _share(int(match.known[counted].sum()), n)
        rows.append(make_row("purity", view.name, share, error, n=n))
    return rows


def _is_clear(view: CoaddView, sources: Sources, *, radius: float) -> np.ndarray:
    """Say which sources are away from saturated and missing pixels."""
    spoiled = view.saturated | view.bad
    if not spoiled.any():
        return np.ones(len(sources.x), dtype=bool)
    distance = scipy.ndimage.distance_transform_edt(~spoiled)
    column = np.clip(np.round(sources.x - view.x0).astype(int), 0, spoiled.shape[1] - 1)
    row = np.clip(np.round(sources.y - view.y0).astype(int), 0, spoiled.shape[0] - 1)
    return distance[row, column] > radius


def _share(part: int, n: int) -> tuple[float, float]:
    """Return a fraction and its error (Agresti & Coull 1998, 1 sigma)."""
    if not n:
        return float("nan"), float("nan")
    smooth = (part + 0.5) / (n + 1)
    return part / n, float(np.sqrt(smooth * (1 - smooth) / (n + 1)))
