# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures that say how one coadd differs from another."""

from __future__ import annotations

__all__ = ("Comparison", "compare_views")

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import Table

from .._coadds import CoaddView
from ._detect import detect_sources, is_restored, point_source_error
from ._detections import make_count_rows, make_residual_rows, make_truth_rows
from ._fluxes import bin_medians
from ._photometry import Sources, half_width, select_isolated
from ._rows import Row, make_table
from ._scene import Scene, measure_psf, measure_scene
from ._sky import make_mask_rows, make_seam_rows, make_sky_rows
from ._stars import StarShapes, find_stars, make_star_rows, measure_stars
from ._truth import Truth


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
    _check_boxes(views, truth)
    reference = views[0]
    radius = aperture_radius / reference.pixel_scale
    scene = measure_scene(views, truth, detection_sigma=detection_sigma, radius=radius)
    sources = scene.sources
    # The sky of a restored image says nothing of the noise.
    noisy = next((view for view in views if not is_restored(view)), reference)
    snr = scene.best / scene.noise[noisy.name]
    isolated = select_isolated(sources, scene.best, distance=isolation / reference.pixel_scale)
    bright = (snr > star_snr) & isolated
    stars = bright & truth.is_star if truth else find_stars(reference, sources, bright)
    shapes = {view.name: measure_stars(view, sources, stars) for view in views}
    found = _detect(views, detection_sigma)
    bins = list(itertools.pairwise(snr_edges))
    match_radius = measure_psf(reference)
    residuals = {view.name: _subtract(reference, view, scene.smooth) for view in views[1:]}
    rows: list[Row] = []
    for view in views:
        rows += make_star_rows(view, shapes[view.name])
        rows += make_sky_rows(view, sources, scene.noise[view.name], radius=radius)
        known = None if view is reference else found[reference.name]
        rows += make_count_rows(view, found[view.name], known, radius=match_radius)
        if known is not None:
            rows += _make_ratio_rows(view, reference, scene, snr, bins)
            sigma = _map_noise(scene.smooth[noisy.name], noisy, sources.sky)
            limits = {"sigma": sigma, "threshold": detection_sigma, "radius": match_radius}
            rows += make_residual_rows(view, residuals[view.name], known, **limits)
        rows += make_seam_rows(view, sources) + make_mask_rows(view)
        if truth:
            rows += _make_truth_rows(view, truth, scene, snr, isolated, found[view.name], bins, match_radius)
    return Comparison(
        metrics=make_table(rows),
        sources=sources,
        snr=snr,
        stars=stars,
        fluxes=scene.fluxes,
        offsets=scene.offsets,
        shapes=shapes,
        found=found,
        residuals=residuals,
        sky_rms=next(row[2] for row in rows if row[:2] == ("sky_rms", noisy.name)),
        noise_plane=noisy.name,
        common_fwhm=scene.fwhm,
    )


def _check_boxes(views: Sequence[CoaddView], truth: Truth | None) -> None:
    """Refuse planes that do not cover the same pixels."""
    reference = views[0]
    for view in (*views, *([truth.view] if truth and truth.view else [])):
        if view.box != reference.box:
            raise ValueError(
                f"{view.name} covers (x0, y0, width, height) = {view.box}, "
                f"{reference.name} covers {reference.box}; they cannot be compared."
            )


def _detect(views: Sequence[CoaddView], threshold: float) -> dict[str, Sources]:
    """Detect sources in each plane."""
    floor = point_source_error(views)
    return {
        view.name: detect_sources(view, threshold=threshold, least_error=floor if is_restored(view) else 0.0)
        for view in views
    }


def _subtract(reference: CoaddView, view: CoaddView, smooth: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the reference minus a plane at one PSF; NaN where either has no
    data.
    """
    return np.where(reference.bad | view.bad, np.nan, smooth[reference.name] - smooth[view.name])


def _make_ratio_rows(
    view: CoaddView,
    reference: CoaddView,
    scene: Scene,
    snr: np.ndarray,
    bins: Sequence[tuple[float, float]],
) -> list[Row]:
    """Make the rows of fluxes and places relative to the reference."""
    ratio = scene.fluxes[view.name] / scene.fluxes[reference.name]
    rows = bin_medians("flux_ratio", view.name, ratio, snr, bins)
    for name, offset in zip("xy", scene.offsets[view.name], strict=True):
        rows += bin_medians(f"centroid_d{name}", view.name, offset, snr, bins)
    return rows


def _map_noise(smooth: np.ndarray, view: CoaddView, sky: np.ndarray) -> np.ndarray:
    """Return the noise of each pixel ``(y, x)`` of a plane that was brought to
    another PSF, which goes with its own; NaN if there is no sky.
    """
    sigma = np.sqrt(np.where(view.variance > 0, view.variance, np.nan))
    return half_width((smooth / sigma)[sky]) * sigma


def _make_truth_rows(
    view: CoaddView,
    truth: Truth,
    scene: Scene,
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
