# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures that say how one coadd differs from another."""

from __future__ import annotations

__all__ = ("Comparison", "Truth", "compare_views")

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from astropy.table import Table

from ._coadds import CoaddView
from ._photometry import (
    Sources,
    aperture_fluxes,
    detect_sources,
    find_stars,
    homogenize,
    kernel_fwhm,
    select_isolated,
    sky_aperture_rms,
    star_fwhm,
)

_DEFINITIONS = {
    "star_fwhm": "Median FWHM of isolated bright stars (Gaussian with their adaptive moments).",
    "psf_fwhm": "Median FWHM, measured alike, of the attached PSF at these stars.",
    "star_over_psf_fwhm": "Median ratio of the FWHM of a star to that of the attached PSF.",
    "sky_rms": "Standard deviation of pixels away from sources, without the outer 0.1 % on each side.",
    "sky_mean": "Mean of these pixels.",
    "sky_pull": "sky_rms in units of the declared error (square root of the variance plane).",
    "sky_aperture_rms": "Robust scatter of apertures on empty sky, at the common PSF.",
    "flux_ratio": "Median aperture flux relative to the reference plane, at the common PSF.",
    "star_flux_bias": "Median of aperture flux / true flux - 1 of stars, at the common PSF.",
    "galaxy_flux_bias": "Median of aperture flux / true flux - 1 of galaxies, at the common PSF.",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What a simulation knows."""

    x: np.ndarray
    """Patch pixel x of each source, float ``(n,)``."""

    y: np.ndarray
    """Patch pixel y of each source, float ``(n,)``."""

    is_star: np.ndarray
    """Point sources, bool ``(n,)``."""

    view: CoaddView
    """Noiseless image with its PSF."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Result of `compare_views`."""

    metrics: Table
    """Columns ``name``, ``plane``, ``value``, ``error``, ``unit``, ``n``,
    ``definition``."""

    sources: Sources
    """Sources that were measured."""

    snr: np.ndarray
    """Aperture flux of each in the reference (with truth: its true flux)
    over the sky scatter of the reference, ``(n,)``."""

    stars: np.ndarray
    """Sources whose width was measured as a star's, bool ``(n,)``."""

    fluxes: dict[str, np.ndarray]
    """Aperture fluxes of each plane in nJy at the common PSF, ``(n,)``."""

    sky_rms: float
    """Sky rms of the reference plane, in nJy."""

    common_fwhm: float
    """FWHM of the common PSF, in pixels."""


def compare_views(
    views: Sequence[CoaddView],
    *,
    truth: Truth | None = None,
    detection_sigma: float = 5.0,
    aperture_radius: float = 1.0,
    snr_edges: Sequence[float] = (6.0, 20.0, 100.0, np.inf),
    star_snr: float = 50.0,
    isolation: float = 3.0,
) -> Comparison:
    """Measure the same sources in several coadds of the same sky.

    Fluxes are taken in circular apertures after all planes have been brought
    to one Gaussian PSF 1.2 times as broad as the broadest of them, so that
    an aperture holds the same part of a source in each. Sources are those
    detected in the first plane, or those of the truth.

    Parameters
    ----------
    views
        Planes on the same pixels; the first is the reference.
    truth
        What a simulation knows; adds the flux biases.
    detection_sigma
        Detection threshold, in sigma.
    aperture_radius
        Radius of the apertures, in arcsec.
    snr_edges
        Edges of the bins in S/N (aperture flux in the reference over the
        scatter of empty apertures).
    star_snr
        Lowest S/N of a star whose width is measured.
    isolation
        Radius in arcsec within which a star has no notable neighbour.

    Returns
    -------
    `Comparison`
        Table of metrics, and the measurements behind it.

    Raises
    ------
    ValueError
        If the planes do not cover the same pixels; the text names them.
    """
    reference = views[0]
    for view in (*views, *([truth.view] if truth else [])):
        if view.box != reference.box:
            raise ValueError(
                f"{view.name} covers (x0, y0, width, height) = {view.box}, "
                f"{reference.name} covers {reference.box}; they cannot be compared."
            )
    sources = detect_sources(reference, threshold=detection_sigma)
    if truth is not None:
        sources = dataclasses.replace(sources, x=truth.x, y=truth.y)
    fwhm = 1.2 * max(_central_fwhm(view) for view in views)
    radius = aperture_radius / reference.pixel_scale
    planes = [*views, truth.view] if truth else list(views)
    fluxes, noise = {}, {}
    for view in planes:
        smooth = homogenize(view, fwhm=fwhm)
        fluxes[view.name] = aperture_fluxes(smooth, sources, radius=radius, view=view)
        noise[view.name] = sky_aperture_rms(smooth, sources, radius=radius, view=view)
    best = fluxes[truth.view.name if truth else reference.name]
    snr = best / noise[reference.name]
    bright = (snr > star_snr) & select_isolated(sources, best, distance=isolation / reference.pixel_scale)
    stars = bright & truth.is_star if truth else find_stars(reference, sources, bright)
    rows = []
    for view in views:
        rows += _measure_stars(view, sources, stars)
        rows += _measure_sky(view, sources, noise[view.name])
    bins = list(itertools.pairwise(snr_edges))
    for view in views[1:]:
        rows += _bin_ratios("flux_ratio", view.name, fluxes[view.name] / fluxes[reference.name], snr, bins)
    if truth:
        for view, (kind, chosen) in itertools.product(
            views, (("star", truth.is_star), ("galaxy", ~truth.is_star))
        ):
            ratio = np.where(chosen, fluxes[view.name] / best - 1, np.nan)
            rows += _bin_ratios(f"{kind}_flux_bias", view.name, ratio, snr, bins)
    return Comparison(
        metrics=Table(rows=rows, names=("name", "plane", "value", "error", "unit", "n", "definition")),
        sources=sources,
        snr=snr,
        stars=stars,
        fluxes=fluxes,
        sky_rms=next(row[2] for row in rows if row[0] == "sky_rms"),
        common_fwhm=fwhm,
    )


def _central_fwhm(view: CoaddView) -> float:
    """Return the broadest of the PSFs on a 3 x 3 lattice, in pixels."""
    x0, y0, width, height = view.box
    widths = [
        kernel_fwhm(view.psf(x=x0 + int(width * fx), y=y0 + int(height * fy)))
        for fx in (0.15, 0.5, 0.85)
        for fy in (0.15, 0.5, 0.85)
    ]
    finite = [value for value in widths if np.isfinite(value)]
    if not finite:
        raise ValueError(f"{view.name} has no PSF that could be measured.")
    return max(finite)


def _median(values: np.ndarray) -> tuple[float, float, int]:
    """Return the median, its error and the number of finite values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan"), 0
    low, middle, high = np.percentile(values, (15.865, 50.0, 84.135))
    error = 1.2533 * 0.5 * (high - low) / np.sqrt(len(values)) if len(values) > 2 else float("nan")
    return float(middle), float(error), len(values)


def _measure_stars(view: CoaddView, sources: Sources, stars: np.ndarray) -> list[tuple]:
    """Make the rows about the width of stars."""
    places = [(sources.x[i], sources.y[i]) for i in np.flatnonzero(stars)]
    width = np.array([star_fwhm(view, x=x, y=y) for x, y in places])
    psf = np.array([kernel_fwhm(view.psf(x=x, y=y)) for x, y in places])
    psf[~np.isfinite(width)] = np.nan
    rows = []
    for name, values, unit in (
        ("star_fwhm", width * view.pixel_scale, "arcsec"),
        ("psf_fwhm", psf * view.pixel_scale, "arcsec"),
        ("star_over_psf_fwhm", width / psf if len(places) else width, ""),
    ):
        value, error, n = _median(values)
        rows.append((name, view.name, value, error, unit, n, _DEFINITIONS[name]))
    return rows


def _measure_sky(view: CoaddView, sources: Sources, aperture_rms: float) -> list[tuple]:
    """Make the rows about the pixels without sources."""
    sky = sources.sky & ~view.bad & ~view.saturated
    values = view.image[sky].astype(float)
    n = len(values)
    if n < 100:
        figures = dict.fromkeys(("sky_rms", "sky_mean", "sky_pull"), (float("nan"), float("nan")))
    else:
        low, high = np.percentile(values, (0.1, 99.9))
        inner = (values >= low) & (values <= high)
        rms = float(values[inner].std())
        with np.errstate(divide="ignore", invalid="ignore"):
            pulls = (values / np.sqrt(view.variance[sky].astype(float)))[inner]
        pulls = pulls[np.isfinite(pulls)]
        pull = float(pulls.std()) if len(pulls) else float("nan")
        figures = {
            "sky_rms": (rms, rms / np.sqrt(2 * n)),
            "sky_mean": (float(values[inner].mean()), rms / np.sqrt(n)),
            "sky_pull": (pull, pull / np.sqrt(2 * n)),
        }
    figures["sky_aperture_rms"] = (aperture_rms, float("nan"))
    units = {"sky_rms": "nJy", "sky_mean": "nJy", "sky_pull": "", "sky_aperture_rms": "nJy"}
    return [
        (name, view.name, value, error, units[name], n, _DEFINITIONS[name])
        for name, (value, error) in figures.items()
    ]


def _bin_ratios(
    name: str, plane: str, ratio: np.ndarray, snr: np.ndarray, bins: Sequence[tuple[float, float]]
) -> list[tuple]:
    """Make one row a bin of S/N."""
    rows = []
    for low, high in bins:
        value, error, n = _median(ratio[(snr >= low) & (snr < high)])
        label = f"{name}_snr_{low:g}_{high:g}" if np.isfinite(high) else f"{name}_snr_{low:g}"
        rows.append((label, plane, value, error, "", n, _DEFINITIONS[name]))
    return rows
