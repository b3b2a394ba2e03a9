# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same sources in several planes at one PSF."""

from __future__ import annotations

__all__ = ("Scene", "measure_psf", "measure_scene")

import dataclasses
from collections.abc import Sequence

import numpy as np

from .._coadds import CoaddView
from ._detect import detect_sources, is_restored, point_source_error
from ._fluxes import expected_fluxes
from ._photometry import (
    Sources,
    aperture_fluxes,
    broadest_fwhm,
    centroids,
    homogenize,
    sky_aperture_rms,
)
from ._truth import Truth


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """All planes at one PSF, and the same sources in each."""

    sources: Sources
    fwhm: float
    smooth: dict[str, np.ndarray]
    fluxes: dict[str, np.ndarray]
    noise: dict[str, float]
    offsets: dict[str, tuple[np.ndarray, np.ndarray]]
    best: np.ndarray
    """What the fluxes of the sources are compared with, ``(n,)``."""


def measure_scene(
    views: Sequence[CoaddView], truth: Truth | None, *, detection_sigma: float, radius: float
) -> Scene:
    """Bring planes to one PSF and measure the same sources in each."""
    reference = views[0]
    least_error = point_source_error(views) if is_restored(reference) else 0.0
    sources = detect_sources(reference, threshold=detection_sigma, least_error=least_error)
    if truth is not None:
        sources = dataclasses.replace(sources, x=truth.x, y=truth.y)
    fwhm = 1.2 * max(measure_psf(view) for view in views)
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
    return Scene(
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


def measure_psf(view: CoaddView) -> float:
    """Return the FWHM of the broadest PSF of a plane, in pixels."""
    fwhm = broadest_fwhm(view)
    if not np.isfinite(fwhm):
        raise ValueError(f"{view.name} has no PSF that could be measured.")
    return fwhm
