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

from .._coadds import CoaddView
from ._detect import detect_sources, is_restored, point_source_error
from ._detections import make_count_rows, make_residual_rows, make_truth_rows
from ._fluxes import bin_medians, expected_fluxes
from ._photometry import (
    Sources,
    aperture_fluxes,
    broadest_fwhm,
    centroids,
    half_width,
    homogenize,
    select_isolated,
    sky_aperture_rms,
)
from ._rows import Row, make_table
from ._sky import make_mask_rows, make_seam_rows, make_sky_rows
from ._stars import StarShapes, find_stars, make_star_rows, measure_stars


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What a simulation knows."""

    x: np.ndarray
    """Patch pixel x of each source, float ``(n,)``."""

    y: np.ndarray
    """Patch pixel y of each source, float ``(n,)``."""

    is_star: np.ndarray
    """Point sources, bool ``(n,)``."""

    view: CoaddView | None = None
    """Noiseless image with its PSF; then there are no sources but these."""

    flux: np.ndarray | None = None
    """True flux of each in nJy ``(n,)``; needed where there is no image."""

    half_light_radius: np.ndarray | None = None
    """Of each galaxy in pixels ``(n,)``, 0 for stars; goes with `flux`, as
    what follows, all as of `expected_fluxes`."""

    sersic_n: np.ndarray | None = None
    """Sersic index of each galaxy ``(n,)``; 1 by default."""

    axis_ratio: np.ndarray | None = None
    """Minor to major axis of each ``(n,)``; 1 by default."""

    trunc: np.ndarray | None = None
    """Where each profile ends, in pixels ``(n,)``; nowhere by default."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Result of `compare_views`."""

    metrics: Table
    """As of `comparison._rows.make_table`."""

    sources: Sources
    """Sources that were measured."""

    snr: np.ndarray
    """Aperture flux of each in the reference (with truth: its true flux)
    over the sky scatter of `noise_plane`, ``(n,)``."""

    stars: np.ndarray
    """Sources whose width was measured as a star's, bool ``(n,)``."""

    fluxes: dict[str, np.ndarray]
    """Aperture fluxes of each plane in nJy at the common PSF, ``(n,)``."""

    offsets: dict[str, tuple[np.ndarray, np.ndarray]]
    """Centroids in each plane but the reference minus those in the reference,
    along x and y, in milliarcsec, ``(n,)`` each."""

    shapes: dict[str, StarShapes]
    """Shapes of the stars in each plane."""

    found: dict[str, Sources]
    """Detections in each plane."""

    residuals: dict[str, np.ndarray]
    """Reference minus each other plane at the common PSF, nJy ``(y, x)``."""

    sky_rms: float
    """Sky rms of `noise_plane`, in nJy; NaN if there is no sky."""

    noise_plane: str
    """The first plane that is not restored, whose noise counts."""

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
        scatter of empty apertures, there or, if it is restored, in the next
        plane).
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
    for view in (*views, *([truth.view] if truth and truth.view else [])):
        if view.box != reference.box:
            raise ValueError(
                f"{view.name} covers (x0, y0, width, height) = {view.box}, "
                f"{reference.name} covers {reference.box}; they cannot be compared."
            )
    scene = _measure_scene(
        views, truth, detection_sigma=detection_sigma, radius=aperture_radius / reference.pixel_scale
    )
    sources, radius = scene.sources, isolation / reference.pixel_scale
    # The sky of a restored image says nothing of the noise.
    noisy = next((view for view in views if not is_restored(view)), reference)
    fluxes, snr = scene.fluxes, scene.best / scene.noise[noisy.name]
    isolated = select_isolated(sources, scene.best, distance=radius)
    bright = (snr > star_snr) & isolated
    stars = bright & truth.is_star if truth else find_stars(reference, sources, bright)
    shapes = {view.name: measure_stars(view, sources, stars) for view in views}
    floor = point_source_error(views)
    found = {
        view.name: detect_sources(
            view, threshold=detection_sigma, least_error=floor if is_restored(view) else 0.0
        )
        for view in views
    }
    bins = list(itertools.pairwise(snr_edges))
    match_radius = _measure_psf(reference)
    residuals = {
        view.name: np.where(
            reference.bad | view.bad, np.nan, scene.smooth[reference.name] - scene.smooth[view.name]
        )
        for view in views[1:]
    }
    rows: list[Row] = []
    for view in views:
        rows += make_star_rows(view, shapes[view.name])
        rows += make_sky_rows(view, sources, scene.noise[view.name])
        is_reference = view is reference
        known = None if is_reference else found[reference.name]
        rows += make_count_rows(view, found[view.name], known, radius=match_radius)
        if known is not None:
            rows += bin_medians(
                "flux_ratio", view.name, fluxes[view.name] / fluxes[reference.name], snr, bins
            )
            for name, offset in zip("xy", scene.offsets[view.name], strict=True):
                rows += bin_medians(f"centroid_d{name}", view.name, offset, snr, bins)
            rows += make_residual_rows(
                view,
                residuals[view.name],
                known,
                sigma=_map_noise(scene.smooth[noisy.name], noisy, sources.sky),
                threshold=detection_sigma,
                radius=match_radius,
            )
        rows += make_seam_rows(view, sources) + make_mask_rows(view)
        if truth:
            rows += _make_truth_rows(view, truth, scene, snr, isolated, found[view.name], bins, match_radius)
    return Comparison(
        metrics=make_table(rows),
        sources=sources,
        snr=snr,
        stars=stars,
        fluxes=fluxes,
        offsets=scene.offsets,
        shapes=shapes,
        found=found,
        residuals=residuals,
        sky_rms=next(row[2] for row in rows if row[:2] == ("sky_rms", noisy.name)),
        noise_plane=noisy.name,
        common_fwhm=scene.fwhm,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    """All planes at one PSF, and the same sources in each."""

    sources: Sources
    fwhm: float
    smooth: dict[str, np.ndarray]
    fluxes: dict[str, np.ndarray]
    noise: dict[str, float]
    offsets: dict[str, tuple[np.ndarray, np.ndarray]]
    best: np.ndarray
    """What the fluxes of the sources are compared with, ``(n,)``."""


def _measure_scene(
    views: Sequence[CoaddView], truth: Truth | None, *, detection_sigma: float, radius: float
) -> _Scene:
    """Bring planes to one PSF and measure the same sources in each."""
    reference = views[0]
    least_error = point_source_error(views) if is_restored(reference) else 0.0
    sources = detect_sources(reference, threshold=detection_sigma, least_error=least_error)
    if truth is not None:
        sources = dataclasses.replace(sources, x=truth.x, y=truth.y)
    fwhm = 1.2 * max(_measure_psf(view) for view in views)
    planes = [*views, truth.view] if truth and truth.view else list(views)
    smooth = {view.name: homogenize(view, fwhm=fwhm) for view in planes}
    fluxes, noise, places = {}, {}, {}
    for view in planes:
        image = smooth[view.name]
        fluxes[view.name] = aperture_fluxes(image, sources, radius=radius, view=view)
        noise[view.name] = sky_aperture_rms(image, sources, radius=radius, view=view)
        places[view.name] = centroids(image, sources, fwhm=fwhm, view=view)
    if truth is not None and truth.view is None:
        fluxes["catalogue"] = _expect_fluxes(truth, fwhm=fwhm, radius=radius)
    best = fluxes["catalogue" if "catalogue" in fluxes else planes[-1 if truth else 0].name]
    # What lies where the reference has no data could not be found.
    best = np.where(np.isfinite(fluxes[reference.name]), best, np.nan)
    return _Scene(
        sources=sources,
        fwhm=fwhm,
        smooth=smooth,
        fluxes=fluxes,
        noise=noise,
        offsets={
            view.name: _subtract(places[view.name], places[reference.name], reference.pixel_scale)
            for view in views[1:]
        },
        best=best,
    )


def _map_noise(smooth: np.ndarray, view: CoaddView, sky: np.ndarray) -> np.ndarray:
    """Return the noise of each pixel ``(y, x)`` of a plane that was brought to
    another PSF, which goes with its own; NaN if there is no sky.
    """
    sigma = np.sqrt(np.where(view.variance > 0, view.variance, np.nan))
    return half_width((smooth / sigma)[sky]) * sigma


def _subtract(
    places: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray], pixel_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return differences of positions, in milliarcsec."""
    scale = 1000 * pixel_scale
    return (places[0] - others[0]) * scale, (places[1] - others[1]) * scale


def _expect_fluxes(truth: Truth, *, fwhm: float, radius: float) -> np.ndarray:
    """Say what apertures should hold of the sources of a catalogue."""
    if truth.flux is None:
        raise ValueError("A catalogue of true sources without an image needs their fluxes.")
    size, index, ratio, end = (
        np.full(len(truth.flux), default) if values is None else values
        for values, default in (
            (truth.half_light_radius, 0.0),
            (truth.sersic_n, 1.0),
            (truth.axis_ratio, 1.0),
            (truth.trunc, 0.0),
        )
    )
    return expected_fluxes(truth.flux, size, index, axis_ratio=ratio, trunc=end, fwhm=fwhm, radius=radius)


def _make_truth_rows(
    view: CoaddView,
    truth: Truth,
    scene: _Scene,
    snr: np.ndarray,
    isolated: np.ndarray,
    found: Sources,
    bins: Sequence[tuple[float, float]],
    radius: float,
) -> list[Row]:
    """Make the rows that need the truth."""
    rows: list[Row] = []
    for kind, chosen in (("star", truth.is_star), ("galaxy", ~truth.is_star)):
        # In a catalogue of injected sources the rest of the sky is unknown.
        usable = chosen if truth.view else chosen & isolated
        ratio = np.where(usable, scene.fluxes[view.name] / scene.best - 1, np.nan)
        rows += bin_medians(f"{kind}_flux_bias", view.name, ratio, snr, bins)
    return rows + make_truth_rows(
        view,
        found,
        scene.sources,
        snr,
        is_star=truth.is_star,
        isolated=isolated,
        is_complete=truth.view is not None,
        bins=bins,
        radius=radius,
    )


def _measure_psf(view: CoaddView) -> float:
    """Return the FWHM of the broadest PSF of a plane, in pixels."""
    fwhm = broadest_fwhm(view)
    if not np.isfinite(fwhm):
        raise ValueError(f"{view.name} has no PSF that could be measured.")
    return fwhm
