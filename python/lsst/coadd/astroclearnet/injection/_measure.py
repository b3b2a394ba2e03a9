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
from .._photometry import Sources, adaptive_fwhm, aperture_fluxes, homogenize
from ..comparison._detect import detect_sources, is_restored, point_source_error

DEFINITIONS = {
    "completeness": "Share of the injected sources with a new detection; without those on earlier ones.",
    "flux_bias": "Median of (aperture flux after - before injection) / that of the truth - 1, at one PSF.",
    "flux_scatter": "Half the central 68 % of that ratio.",
    "n_split": "Injected sources with more than one new detection.",
    "false_positives": "New detections that are no injected source: what injection caused.",
    "false_detections_before": "Negative detections before injection: what noise and artifacts cause.",
    "before_differs": "Version, weights and settings that differ between the coadds before and after: 0, or "
    "all other figures hold these differences, too.",
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
    """New detections near each injected source, int ``(n,)``."""

    usable: np.ndarray
    """Injected sources with data and without an earlier detection, bool
    ``(n,)``."""

    false_rate: float
    false_count: int
    before_rate: float
    before_count: int


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
    fwhm = 1.2 * max(_broadest(view) for view in (*views, truth))
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
        for label, rate, count in (
            ("false_positives", found.false_rate, found.false_count),
            ("false_detections_before", found.before_rate, found.before_count),
        ):
            error = rate * np.sqrt(count) / count if count else np.nan
            rows.append(_row(label, "", name, rate, error, "arcmin-2", count))
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
    before_rate, before_count = float("nan"), 0
    area = np.count_nonzero(~after.bad) * (after.pixel_scale / 60) ** 2
    if before is not None:
        old = detect_sources(before, threshold=max(threshold - _MARGIN, 1.0), least_error=least_error)
        flipped = dataclasses.replace(before, image=-before.image)
        negative = detect_sources(flipped, threshold=threshold, least_error=least_error)
        before_count = int(np.count_nonzero(_is_clear(before, negative.x, negative.y, 4 * reach)))
        before_rate = before_count / area if area else float("nan")
    # A detection belongs to whatever is nearest.
    to_old, to_injected = (_distance(found.x, found.y, *place) for place in ((old.x, old.y), (x, y)))
    new = (to_injected <= reach) & (to_injected < to_old)
    usable = (_count_near(x, y, old.x, old.y, reach) == 0) & _is_clear(after, x, y, reach)
    rate, count = float("nan"), 0
    if before is not None:
        # Around saturated stars neither list can be trusted.
        alone = (to_injected > reach) & (to_old > reach)
        count = int(np.count_nonzero(alone & _is_clear(after, found.x, found.y, 4 * reach)))
        rate = count / area if area else float("nan")
    return _Found(
        new=_count_near(x, y, found.x[new], found.y[new], reach),
        usable=usable,
        false_rate=rate,
        false_count=count,
        before_rate=before_rate,
        before_count=before_count,
    )


def _count_near(
    x: np.ndarray, y: np.ndarray, others_x: np.ndarray, others_y: np.ndarray, reach: float
) -> np.ndarray:
    """Count the others within reach of each place, int ``(n,)``."""
    if not len(x) or not len(others_x):
        return np.zeros(len(x), int)
    tree = scipy.spatial.KDTree(np.column_stack([others_x, others_y]))
    return np.array(tree.query_ball_point(np.column_stack([x, y]), reach, return_length=True), int)


def _distance(x: np.ndarray, y: np.ndarray, others_x: np.ndarray, others_y: np.ndarray) -> np.ndarray:
    """Return the distance of each place to the nearest of the others."""
    if not len(x) or not len(others_x):
        return np.full(len(x), np.inf)
    tree = scipy.spatial.KDTree(np.column_stack([others_x, others_y]))
    return tree.query(np.column_stack([x, y]))[0]


def _is_clear(view: CoaddView, x: np.ndarray, y: np.ndarray, distance: float) -> np.ndarray:
    """Say which places are away from saturated and missing pixels."""
    clear = scipy.ndimage.distance_transform_edt(np.pad(~(view.saturated | view.bad), 1))[1:-1, 1:-1]
    height, width = clear.shape
    column = np.clip(np.round(x - view.x0).astype(int), 0, width - 1)
    row = np.clip(np.round(y - view.y0).astype(int), 0, height - 1)
    return clear[row, column] > distance


def _broadest(view: CoaddView) -> float:
    """Return the broadest PSF on a lattice of places, in pixels; 0 without
    one.
    """
    x0, y0, width, height = view.box
    places = itertools.product((0.15, 0.5, 0.85), repeat=2)
    widths = [adaptive_fwhm(view.psf(x=x0 + int(width * a), y=y0 + int(height * b))) for a, b in places]
    return max((value for value in widths if np.isfinite(value)), default=0.0)


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
