# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""One table of figures with errors, out of the rows of a run."""

from __future__ import annotations

__all__ = ("ALL", "FALSE_RATES", "FLUX_SCENES", "SHARED", "summarize_run")

from collections.abc import Iterator

import astropy.table
import numpy as np

from . import metrics
from .pool import Pool
from .skies import PAIR_MAGS, PAIR_SEPARATIONS, SHAPE_SNR, SHAPES

ALL = "all"
"""In place of a scene: all scenes of the group together."""

FLUX_SCENES = ("field", "grid")
"""Groups in which everything is as the stack says."""

FALSE_RATES = (0.0, 0.5, 1.0)
"""False detections per square arcminute at which completeness is compared."""

SHARED = "shared"
"""In place of a group: the observations of `Pool.shared`."""

_FIGURES = (
    "psnr",
    "ssim",
    "sky_rms",
    "sky_mean",
    "leak",
    "chi2",
    "chi2_sources",
    "held_out_chi2",
    "held_out_chi2_sources",
    "seam",
    "blank_n_peaks",
    "blank_mean",
    "blank_rms",
    "blank_highest",
)
_COSTS = ("seconds", "memory")

type Row = dict[str, str | float | int]


def summarize_run(tables) -> astropy.table.Table:
    """Summarize a run.

    Parameters
    ----------
    tables
        Gives a table for a name of `~benchmarks.engine.measure.TABLES`.

    Returns
    -------
    `astropy.table.Table`
        One row a figure: ``peer``, ``plane``, ``group`` and ``scene``,
        ``quantity``, ``value``, ``error``, ``n``. Errors of figures of images
        are standard errors over realisations (and propagated to the mean
        over scenes); those of medians, scatters and shares are of
        `~benchmarks.engine.metrics.summarize` and
        `~benchmarks.engine.metrics.share_error`: a source that is observed
        several times counts as one where its errors are alike.
    """
    pool = Pool(tables)
    rows: list[Row] = []
    for peer, plane in pool.planes():
        for row in _summarize_plane(pool, peer, plane):
            rows.append({"peer": peer, "plane": plane, **row})
    shared = pool.shared()
    for peer, plane in shared.planes():
        for row in _summarize_shared(shared, peer, plane):
            rows.append({"peer": peer, "plane": plane, **row})
    if not rows:
        return astropy.table.Table()
    return astropy.table.Table(rows)[["peer", "plane", "group", "scene", "quantity", "value", "error", "n"]]


def _row(group: str, scene: str, quantity: str, value: float, error: float, n: int) -> Row:
    names = ("group", "scene", "quantity", "value", "error", "n")
    return dict(zip(names, (group, scene, quantity, float(value), float(error), int(n)), strict=True))


def _summarize_plane(pool: Pool, peer: str, plane: str) -> Iterator[Row]:
    for group in pool.groups():
        yield from _summarize_figures(pool, peer, plane, group)
    if plane:
        yield from _count_scenes(pool, peer, plane)
        yield from _summarize_fluxes(pool, peer, plane, ALL, group=FLUX_SCENES)
        yield from _summarize_shapes(pool, peer, plane)
        yield from _summarize_detection(pool, peer, plane)
        yield from _summarize_faults(pool, peer, plane)
        yield from _summarize_pairs(pool, peer, plane)
        yield from _summarize_stamps(pool, peer, plane)


def _summarize_shared(pool: Pool, peer: str, plane: str) -> Iterator[Row]:
    """Summarize what was measured on the observations that peers share."""
    for group in pool.groups():
        yield from _share(_summarize_figures(pool, peer, plane, group))
    if plane:
        yield from _share(_summarize_fluxes(pool, peer, plane, ALL))
        yield from _share(_summarize_shapes(pool, peer, plane))
        n = len(pool.sources(peer, plane, snr=(20, np.inf)))
        yield _row(SHARED, ALL, "sources", n, np.nan, n)


def _share(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if row["scene"] == ALL:
            yield row | {"group": SHARED}


def _count_scenes(pool: Pool, peer: str, plane: str) -> Iterator[Row]:
    """Say of how many scenes the figures of fields, and those of sources, of
    a plane are.
    """
    for groups in (("field",), FLUX_SCENES):
        scenes = [scene for scene in pool.scenes(*groups) if pool.count_observations(scene, peer, plane)]
        if n := len(scenes):
            yield _row("+".join(groups), ALL, "scenes", n, np.nan, n)


def _summarize_figures(pool: Pool, peer: str, plane: str, group: str) -> Iterator[Row]:
    for quantity in _FIGURES if plane else _COSTS:
        means, errors = [], []
        for scene in pool.scenes(group):
            values = pool.figures(peer, plane, quantity, scene=(scene,))
            if not len(values):
                continue
            error = metrics.mean_error(values)
            yield _row(group, scene, quantity, np.mean(values), error, len(values))
            means.append(np.mean(values))
            errors.append(error)
        if means:
            error = np.sqrt(np.sum(np.square(errors))) / len(means)
            yield _row(group, ALL, quantity, np.mean(means), error, len(means))


def _label(name: str, kind: str, low: float, high: float) -> str:
    return f"{name} {kind} {low:g}-{high:g}"


PULLS = {
    "psf_pull": "pull",
    "pixel_pull": "pixel pull",
    "aperture_pull": "aperture pull",
    "aperture_pixel_pull": "aperture pixel pull",
}
"""Quantities of columns of the sources, which `Judge` says what they are."""


def _summarize_fluxes(pool: Pool, peer: str, plane: str, scene: str, **where) -> Iterator[Row]:
    sources = pool.sources(peer, plane, **where)
    if not len(sources):
        return
    group = "+".join(where.get("group", ("",)))
    for column, name in (("aperture_error", "aperture"), ("psf_error", "psf")):
        for row in metrics.bin_values(np.array(sources[column]), sources):
            if row["n"]:
                label = _label("", row["kind"], row["snr_low"], row["snr_high"])
                yield _row(group, scene, f"{name} bias{label}", row["median"], row["median_error"], row["n"])
                yield _row(
                    group, scene, f"{name} scatter{label}", row["scatter"], row["scatter_error"], row["n"]
                )
    for row in metrics.bin_values(np.array(sources["aperture_sigmas"]), sources, kinds=("any",)):
        if row["n"]:
            label = _label("aperture noise", row["kind"], row["snr_low"], row["snr_high"])
            yield _row(group, scene, label, row["scatter"], row["scatter_error"], row["n"])
    for column, name in PULLS.items():
        for row in metrics.bin_values(np.array(sources[column]), sources, kinds=("star", "galaxy")):
            if row["n"]:
                label = _label(name, row["kind"], row["snr_low"], row["snr_high"])
                yield _row(group, scene, label, row["scatter"], row["scatter_error"], row["n"])


def _summarize_shapes(pool: Pool, peer: str, plane: str) -> Iterator[Row]:
    stars = pool.sources(peer, plane, kind="star", group=FLUX_SCENES)
    galaxies = pool.sources(peer, plane, kind="galaxy", snr=(20, np.inf), group=FLUX_SCENES)
    group = "+".join(FLUX_SCENES)
    bright = pool.cut(stars, (20, np.inf))
    figures = []
    for snr in metrics.WIDTH_BINS:
        some = pool.cut(stars, snr)
        figures.append((_label("star fwhm ratio", "star", *snr), some, some["fwhm_ratio"]))
    figures += [
        ("star fwhm px", bright, bright["fwhm"]),
        ("centroid dx", bright, bright["dx"]),
        ("centroid dy", bright, bright["dy"]),
        ("centroid distance", bright, np.hypot(bright["dx"], bright["dy"])),
    ]
    figures += [(name, galaxies, galaxies[name]) for name in ("lumps", "ellipticity_error", "rounding")]
    for quantity, sources, values in figures:
        summary = metrics.summarize(np.array(values), sources["object"])
        if summary.n:
            yield _row(group, ALL, quantity, summary.median, summary.median_error, summary.n)


def _summarize_detection(pool: Pool, peer: str, plane: str) -> Iterator[Row]:
    for group in FLUX_SCENES:
        for scene in pool.scenes(group):
            for rate in FALSE_RATES:
                found = pool.completeness(peer, plane, scene, false_rate=rate)
                if found is not None:
                    label = f"completeness {rate:g}" if rate else "completeness"
                    yield _row(group, scene, label, found.completeness, found.error, found.n)
            if n := pool.count_observations(scene, peer, plane):
                yield _row(group, scene, "searched", pool.searched_area(peer, plane, scene), np.nan, n)


def _summarize_faults(pool: Pool, peer: str, plane: str) -> Iterator[Row]:
    for group in ("fault", "coverage"):
        for scene in pool.scenes(group):
            for kind, snr in (("star", (20, np.inf)), ("galaxy", (20, np.inf)), ("any", (6, 20))):
                sources = pool.sources(peer, plane, kind=kind, snr=snr, scene=(scene,))
                summary = metrics.summarize(sources["aperture_error"], sources["object"])
                if summary.n:
                    label = _label("aperture bias", kind, *snr)
                    yield _row(group, scene, label, summary.median, summary.median_error, summary.n)
            sources = pool.sources(peer, plane, kind="star", snr=(100, np.inf), scene=(scene,))
            rings = np.concatenate([sources["ring_height"], sources["ring_depth"]])
            rings = rings[np.isfinite(rings)]
            if len(rings):
                yield _row(group, scene, "highest ring", rings.max(), np.nan, len(rings) // 2)


def _summarize_pairs(pool: Pool, peer: str, plane: str) -> Iterator[Row]:
    for separation in PAIR_SEPARATIONS:
        pairs = pool.pairs(peer, plane, separation)
        for mag in (None, *PAIR_MAGS):
            mine = pairs if mag is None else pairs[np.abs(pairs["mag"] - mag) < 0.1]
            if n := len(mine):
                error = metrics.share_error(mine["resolved"], mine["pair"])
                label = f"resolved {separation:g}" + (f" mag {mag:g}" if mag else "")
                yield _row("pairs", "pairs", label, np.mean(mine["resolved"]), error, n)


def _summarize_stamps(pool: Pool, peer: str, plane: str) -> Iterator[Row]:
    stamps = pool.stamps(peer, plane)
    if not len(stamps):
        return
    for number, snr in enumerate(SHAPE_SNR):
        mine = stamps[stamps["rank"] == number]
        for name in ("relative_rms", "flux_error"):
            summary = metrics.summarize(np.array(mine[name], dtype=float), mine["shape"])
            yield _row("shapes", "shapes", f"{name} {snr:g}", summary.median, summary.median_error, summary.n)
    for shape in SHAPES:
        mine = stamps[stamps["shape"] == shape]
        if n := len(mine):
            error = metrics.share_error(mine["has_false"], mine["rank"])
            yield _row("shapes", "shapes", f"false {shape}", np.mean(mine["has_false"]), error, n)
