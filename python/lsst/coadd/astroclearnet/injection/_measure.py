# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find injected sources in coadds, among those that were there before."""

from __future__ import annotations

__all__ = ("Pair", "measure_injection")

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import scipy.ndimage
import scipy.spatial
from astropy.table import Table

from .._coadds import CoaddView
from ..comparison._detect import detect_sources, is_restored, point_source_error
from ..comparison._photometry import Sources, aperture_fluxes, broadest_fwhm, homogenize

DEFINITIONS = {
    "completeness": "Share of the injected sources with a new detection of their own; without those on "
    "earlier ones.",
    "flux_bias": "Median of (aperture flux after - before injection) / that of the truth - 1, at one PSF.",
    "flux_scatter": "Half the central 68 % of that ratio.",
    "n_split": "Injected sources with more than one new detection.",
    "false_positives": "New detections that are no injected source: what injection caused.",
    "false_detections_before": "Negative detections before injection: what noise and artifacts cause; not "
    "known of a restored image (acn_latent), which is never negative.",
    "before_differs": "Version, weights, settings and number of exposures that differ between the coadds "
    "before and after: 0, or all other figures hold these differences, too.",
}
"""What each metric means; the names of bins follow its own."""

_MARGIN = 1.5
"""Earlier detections count from so many sigma below the threshold on: a source
that noise lifts over it afterwards is not new."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One kind of coadd with and without injected sources."""

    after: CoaddView
    """Coadd of the exposures with sources; names the plane."""

    before: CoaddView | None = None
    """Coadd of the exposures as they were, where there is one."""

    differences: Sequence[str] = ()
    """What else than sources differs between them."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """Detections of a pair, matched with what was injected."""

    new: np.ndarray
    """New detections that belong to each injected source, int ``(n,)``."""

    usable: np.ndarray
    """Injected sources with data and without an earlier detection, bool
    ``(n,)``."""

    false: tuple[int, float] | None
    """Number of false positives, and the area in arcmin^2 that they are
    counted on; `None` without a coadd from before."""

    negative: tuple[int, float] | None
    """The same of the negative detections before; `None` if there can be
    none."""


def measure_injection(
    pairs: Sequence[Pair],
    truth: CoaddView,
    catalog: Table,
    *,
    detection_sigma: float = 5.0,
    match_radius: float = 0.7,
    aperture_radius: float = 1.0,
    mag_edges: Sequence[float] = (20.0, 22.0, 23.0, 24.0, 25.0, 26.0),
) -> tuple[Table, Table]:
    """Measure what became of injected sources.

    What was on the sky before is told by coadds of the same exposures
    without the sources: fluxes are differences of the two, and a detection
    counts as new only where there was none.

    Parameters
    ----------
    pairs
        Coadds on the same pixels.
    truth
        Light of the injected sources alone, without noise.
    catalog
        Injected sources as `make_truth` describes them.
    detection_sigma
        Detection threshold, in sigma.
    match_radius
        Largest distance of a detection from its source, in arcsec.
    aperture_radius
        Radius of the apertures, in arcsec.
    mag_edges
        Edges of the bins in magnitude, ascending.

    Returns
    -------
    metrics : `~astropy.table.Table`
        Columns ``name``, ``plane``, ``value``, ``error``, ``unit``, ``n``,
        ``definition``.
    sources : `~astropy.table.Table`
        The catalogue with columns ``found_<plane>`` (new detections),
        ``usable_<plane>`` and ``flux_<plane>`` (nJy, aperture, after minus
        before) and ``flux_aperture`` (the same of the truth).

    Raises
    ------
    ValueError
        If the coadds do not cover the same pixels.
    """
    views = [view for pair in pairs for view in (pair.after, pair.before) if view is not None]
    for view in views:
        if view.box != truth.box:
            raise ValueError(
                f"{view.name} covers (x0, y0, width, height) = {view.box}, the truth covers {truth.box}."
            )
    x, y = np.asarray(catalog["x"], float), np.asarray(catalog["y"], float)
    places = Sources(x=x, y=y, sky=np.zeros(truth.image.shape, bool))
    radius, reach = aperture_radius / truth.pixel_scale, match_radius / truth.pixel_scale
    fwhm = 1.2 * np.nanmax([broadest_fwhm(view) for view in (*views, truth)])
    expected = aperture_fluxes(homogenize(truth, fwhm=fwhm), places, radius=radius, view=truth)
    sources, rows = catalog.copy(), []
    sources["flux_aperture"] = expected
    is_star = np.asarray(catalog["type"]) == "star"
    bins = [(low, high) for low, high in itertools.pairwise(mag_edges)]
    floor = point_source_error([pair.after for pair in pairs])
    for pair in pairs:
        name, least_error = pair.after.name, floor if is_restored(pair.after) else 0.0
        found = _find(pair, x, y, threshold=detection_sigma, least_error=least_error, reach=reach)
        flux = _difference(pair, places, fwhm=fwhm, radius=radius)
        sources[f"found_{name}"], sources[f"usable_{name}"] = found.new, found.usable
        sources[f"flux_{name}"] = flux
        for kind, chosen in (("star", is_star), ("galaxy", ~is_star)):
            for low, high in bins:
                inside = chosen & found.usable & (sources["mag"] >= low) & (sources["mag"] < high)
                label = f"{kind}_mag_{low:g}_{high:g}"
                rows += _bin_rows(label, name, found.new[inside] > 0, (flux / expected - 1)[inside])
        n = int(found.usable.sum())
        rows.append(_row("n_split", "", name, int(np.sum(found.new[found.usable] > 1)), np.nan, "", n))
        rows.append(_rate_row("false_positives", name, found.false))
        rows.append(_rate_row("false_detections_before", name, found.negative))
        if pair.before is not None:
            rows.append(_row("before_differs", "", name, len(pair.differences), np.nan, "", 1))
    names = ("name", "plane", "value", "error", "unit", "n", "definition")
    return Table(rows=rows, names=names), sources


def _find(
    pair: Pair, x: np.ndarray, y: np.ndarray, *, threshold: float, least_error: float, reach: float
) -> _Found:
    """Detect in both coadds of a pair and match."""
    after, before = pair.after, pair.before
    found = detect_sources(after, threshold=threshold, least_error=least_error)
    old = Sources(x=np.zeros(0), y=np.zeros(0), sky=found.sky)
    negative = None
    if before is not None:
        old = detect_sources(before, threshold=max(threshold - _MARGIN, 1.0), least_error=least_error)
        if not is_restored(before):
            flipped = dataclasses.replace(before, image=-before.image)
            below = detect_sources(flipped, threshold=threshold, least_error=least_error)
            negative = _count_clear(before, below.x, below.y, 4 * reach)
    # A detection belongs to whatever is nearest.
    to_old, _ = _find_nearest(found.x, found.y, old.x, old.y)
    to_injected, nearest = _find_nearest(found.x, found.y, x, y)
    new = (to_injected <= reach) & (to_injected < to_old)
    beside_old = _find_nearest(x, y, old.x, old.y)[0] <= reach
    alone = (to_injected > reach) & (to_old > reach)
    return _Found(
        new=np.bincount(nearest[new], minlength=len(x)),
        usable=~beside_old & _look_up(_measure_distance(after) > reach, after, x, y),
        # Around saturated stars neither list can be trusted.
        false=None if before is None else _count_clear(after, found.x[alone], found.y[alone], 4 * reach),
        negative=negative,
    )


def _find_nearest(
    x: np.ndarray, y: np.ndarray, others_x: np.ndarray, others_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each place to the nearest of the others, and
    which that is.
    """
    if not len(x) or not len(others_x):
        return np.full(len(x), np.inf), np.zeros(len(x), int)
    tree = scipy.spatial.KDTree(np.column_stack([others_x, others_y]))
    return tree.query(np.column_stack([x, y]))


def _measure_distance(view: CoaddView) -> np.ndarray:
    """Return how far each pixel is from saturated and missing ones."""
    return scipy.ndimage.distance_transform_edt(np.pad(~(view.saturated | view.bad), 1))[1:-1, 1:-1]


def _look_up(pixels: np.ndarray, view: CoaddView, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the values of pixels at places on a plane."""
    height, width = pixels.shape
    column = np.clip(np.round(x - view.x0).astype(int), 0, width - 1)
    row = np.clip(np.round(y - view.y0).astype(int), 0, height - 1)
    return pixels[row, column]


def _count_clear(view: CoaddView, x: np.ndarray, y: np.ndarray, distance: float) -> tuple[int, float]:
    """Count the places away from saturated and missing pixels; return the
    area in arcmin^2 that is, too.
    """
    clear = _measure_distance(view) > distance
    area = np.count_nonzero(clear) * (view.pixel_scale / 60) ** 2
    return int(np.count_nonzero(_look_up(clear, view, x, y))), float(area)


def _rate_row(name: str, plane: str, counted: tuple[int, float] | None) -> tuple:
    """Make the row of a number on an area."""
    count, area = counted or (0, 0.0)
    if not area:
        return _row(name, "", plane, np.nan, np.nan, "arcmin-2", count)
    # None found leaves room for one.
    return _row(name, "", plane, count / area, np.sqrt(max(count, 1)) / area, "arcmin-2", count)


def _difference(pair: Pair, places: Sources, *, fwhm: float, radius: float) -> np.ndarray:
    """Return aperture fluxes after minus before, in nJy."""
    fluxes = [
        aperture_fluxes(homogenize(view, fwhm=fwhm), places, radius=radius, view=view)
        for view in (pair.after, pair.before)
        if view is not None
    ]
    return fluxes[0] - (fluxes[1] if len(fluxes) > 1 else 0)


def _bin_rows(label: str, plane: str, found: np.ndarray, ratio: np.ndarray) -> list[tuple]:
    """Make the rows of one bin."""
    n = len(found)
    share = error = median = median_error = scatter = float("nan")
    if n:
        share = float(np.mean(found))
        smooth = (found.sum() + 0.5) / (n + 1)  # Agresti & Coull (1998), 1 sigma
        error = float(np.sqrt(smooth * (1 - smooth) / (n + 1)))
    ratio = ratio[np.isfinite(ratio)]
    if len(ratio):
        low, median, high = (float(value) for value in np.percentile(ratio, (15.865, 50, 84.135)))
        if len(ratio) > 1:
            scatter = (high - low) / 2
        if len(ratio) > 2:
            median_error = 1.2533 * scatter / np.sqrt(len(ratio))
    return [
        _row("completeness", label, plane, share, error, "", n),
        _row("flux_bias", label, plane, median, median_error, "", len(ratio)),
        _row("flux_scatter", label, plane, scatter, float("nan"), "", len(ratio)),
    ]


def _row(name: str, label: str, plane: str, value: float, error: float, unit: str, n: int) -> tuple:
    full = f"{name}_{label}" if label else name
    return full, plane, float(value), float(error), unit, n, DEFINITIONS[name]
