# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detector images of a simulated visit, as a pipeline leaves them."""

from __future__ import annotations

__all__ = ("SimulatedExposure", "mean_psf", "simulate_exposure", "sky_catalog")

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import astropy.table
import astropy.wcs
import galsim
import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from ._artifacts import draw_cosmic_rays, draw_streak
from ._camera import PIXEL_SCALE, SimDetector, detector_wcs, make_piff_psf
from ._draw import draw_scene, locate
from ._visits import SurveyConfig, VisitPlan

if TYPE_CHECKING:
    import piff

READ_NOISE = 4.5
"""Of a pixel, in electrons."""

EDGE = 10
"""Rows and columns at the edge of a detector in the plane DETECTION_EDGE."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedExposure:
    """The part of a detector near the patch: calibrated, sky-subtracted."""

    plan: VisitPlan
    """The visit."""

    detector: SimDetector
    """The detector."""

    x0: int
    """Pixel x of column 0 of the arrays."""

    y0: int
    """Pixel y of row 0 of the arrays."""

    image: np.ndarray
    """ADU per pixel, float32 ``(y, x)``."""

    variance: np.ndarray
    """Variance in ADU^2 from the counts of each pixel, float32 ``(y, x)``."""

    planes: dict[str, np.ndarray]
    """Marked pixels of each mask plane, bool ``(y, x)``."""

    calibration: np.ndarray
    """nJy per ADU: Chebyshev coefficients over the image, ``[order y,
    order x]``."""

    wcs: astropy.wcs.WCS
    """Of the whole detector: FITS pixel (1, 1) is pixel (0, 0)."""

    psf: piff.PSF
    """The PSF that the image was drawn with, in the pixels of the whole
    detector."""

    signal: np.ndarray
    """The sky without noise and artifacts in nJy per pixel, ``(y, x)``."""

    artifacts: np.ndarray
    """Pixels changed by an artifact that no mask tells, bool ``(y, x)``."""


def sky_catalog(catalog: astropy.table.Table, grid_wcs: astropy.wcs.WCS) -> astropy.table.Table:
    """Return a catalogue with ``ra`` and ``dec`` (degrees) added."""
    ra, dec = grid_wcs.all_pix2world(catalog["x"], catalog["y"], 0)
    result = catalog.copy()
    result.add_columns([ra, dec], names=["ra", "dec"], indexes=[2, 2])
    return result


def simulate_exposure(
    plan: VisitPlan,
    detector: SimDetector,
    *,
    config: SurveyConfig,
    catalog: astropy.table.Table,
    grid_wcs: astropy.wcs.WCS,
) -> SimulatedExposure | None:
    """Simulate one detector of a visit.

    Parameters
    ----------
    plan
        The visit.
    detector
        One of its detectors.
    config
        The survey.
    catalog
        Sources, in pixels of the grid of the scene.
    grid_wcs
        WCS of that grid; FITS pixel (1, 1) is pixel (0, 0).

    Returns
    -------
    `SimulatedExposure` or `None`
        `None` if the detector does not see the patch.
    """
    rng = np.random.default_rng([config.scene.seed, 4, plan.index, detector.id])
    wcs = detector_wcs(detector, ra=plan.ra, dec=plan.dec, rotation=plan.rotation)

    def to_image(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return wcs.all_world2pix(*grid_wcs.all_pix2world(x, y, 0), 0, tolerance=1e-7)

    box = _footprint(detector, config, to_image)
    if box is None:
        return None
    x0, y0, width, height = box
    psf = make_piff_psf(rng, fwhm=plan.fwhm, beta=plan.beta, x=x0 + width / 2, y=y0 + height / 2)

    def profile(*, x: float, y: float) -> galsim.GSObject:
        return psf.get_profile(x, y)[0]

    calibration = plan.calibration * np.array([[1.0, rng.normal(0, 0.003)], [rng.normal(0, 0.003), 0.0]])
    rows, columns = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    to_njy = np.polynomial.chebyshev.chebgrid2d(rows, columns, calibration)
    signal = draw_scene(
        catalog,
        height=height,
        width=width,
        x0=x0,
        y0=y0,
        pixel_scale=PIXEL_SCALE,
        psf=profile,
        to_image=to_image,
        faintest=0.1 * plan.calibration * np.sqrt(plan.sky) / config.gain,
    )
    counts = signal / to_njy * config.gain + plan.sky
    planes = {"DETECTED": signal > 3 * plan.calibration * np.sqrt(plan.sky) / config.gain}
    electrons, artifacts = _expose(rng, counts, plan, config, planes)
    _mark_detector(rng, electrons, planes, detector, x0=x0, y0=y0)
    image = (electrons - plan.sky) / config.gain
    # As in a real pipeline the variance comes from the noisy counts.
    variance = (np.maximum(electrons, 0.25 * plan.sky) + READ_NOISE**2) / config.gain**2
    if plan.dead_pixels:
        _kill_pixels(rng, image, variance, planes)
    return SimulatedExposure(
        plan=plan,
        detector=detector,
        x0=x0,
        y0=y0,
        image=image.astype(np.float32),
        variance=variance.astype(np.float32),
        planes=planes,
        calibration=calibration,
        wcs=wcs,
        psf=psf,
        signal=signal,
        artifacts=artifacts,
    )


def mean_psf(
    exposures: Sequence[SimulatedExposure], *, x: float, y: float, grid_wcs: astropy.wcs.WCS
) -> galsim.GSObject:
    """Return the PSF of an ideal mean of exposures at one position.

    Parameters
    ----------
    exposures
        The exposures; those that do not see the position are left out.
    x, y
        Pixel of the grid of the scene.
    grid_wcs
        WCS of that grid; FITS pixel (1, 1) is pixel (0, 0).

    Returns
    -------
    `galsim.GSObject`
        In arcseconds along the axes of the grid, flux 1; it includes the
        pixel response. The weights are those of the noise of the sky.
    """
    total, fine = np.zeros((161, 161)), PIXEL_SCALE / 2
    for exposure in exposures:

        def to_image(x: np.ndarray, y: np.ndarray, wcs=exposure.wcs) -> tuple[np.ndarray, np.ndarray]:
            return wcs.all_world2pix(*grid_wcs.all_pix2world(x, y, 0), 0, tolerance=1e-7)

        x_image, y_image, jacobian = locate(x, y, to_image)
        height, width = exposure.image.shape
        if not (0 <= x_image - exposure.x0 < width and 0 <= y_image - exposure.y0 < height):
            continue
        profile = galsim.Convolve(exposure.psf.get_profile(x_image, y_image)[0], galsim.Pixel(PIXEL_SCALE))
        profile = profile.transform(*np.linalg.inv(jacobian).ravel()).withFlux(1.0)
        weight = 1.0 / (exposure.plan.calibration**2 * exposure.plan.sky)
        total += weight * profile.drawImage(nx=161, ny=161, scale=fine, method="no_pixel", dtype=float).array
    return galsim.InterpolatedImage(galsim.Image(total), scale=fine, flux=1.0, x_interpolant="lanczos5")


def _footprint(detector: SimDetector, config: SurveyConfig, to_image) -> tuple[int, int, int, int] | None:
    """Return x0, y0, width and height of the pixels near the patch."""
    scene, pad = config.scene, config.padding
    x = np.array([0, 1, 0, 1]) * (scene.width + 2 * pad) + scene.x0 - pad
    y = np.array([0, 0, 1, 1]) * (scene.height + 2 * pad) + scene.y0 - pad
    xs, ys = to_image(x, y)
    left, right = max(int(np.floor(xs.min())), 0), min(int(np.ceil(xs.max())), detector.width)
    bottom, top = max(int(np.floor(ys.min())), 0), min(int(np.ceil(ys.max())), detector.height)
    if right - left <= pad or top - bottom <= pad:
        return None
    return left, bottom, right - left, top - bottom


def _expose(
    rng: np.random.Generator,
    counts: np.ndarray,
    plan: VisitPlan,
    config: SurveyConfig,
    planes: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Add noise, particles, trails and saturation; mark what a pipeline finds.

    Returns the electrons of each pixel and the artifacts that are not marked.
    """
    height, width = counts.shape
    sigma = np.sqrt(plan.sky)
    trail = {"height": height, "width": width, "fwhm": plan.fwhm / PIXEL_SCALE}
    hidden, known = np.zeros_like(counts), np.zeros_like(counts)
    if plan.streak:
        hidden += draw_streak(rng, brightness=6 * sigma, **trail)
    if plan.masked_trail:
        known += draw_streak(rng, brightness=15 * sigma, **trail)
        planes["STREAK"] = known > 0.1 * sigma
    rays = {"height": height, "width": width, "sigma": sigma}
    hidden += draw_cosmic_rays(rng, number=config.unmasked_cosmic_rays, **rays)
    found = draw_cosmic_rays(rng, number=config.cosmic_rays, **rays)
    electrons = rng.poisson(counts + hidden + known).astype(float)
    electrons += rng.normal(0.0, READ_NOISE, counts.shape) + found
    planes["COSMIC_RAY"] = found > 0.5 * sigma
    saturated = _bleed(electrons, config.full_well)
    planes["SUSPECT"] = electrons > 0.85 * config.full_well
    planes["SATURATED"] = binary_dilation(saturated, iterations=1)
    return electrons, hidden > 0.2 * sigma


def _bleed(electrons: np.ndarray, full_well: float) -> np.ndarray:
    """Spill charge above the full well along columns, in place.

    Returns the saturated pixels.
    """
    saturated = electrons > full_well
    for column in np.flatnonzero(saturated.any(axis=0)):
        rows = np.flatnonzero(saturated[:, column])
        excess = electrons[rows, column].sum() - full_well * rows.size
        reach = int(np.ceil(0.5 * excess / full_well))
        start, stop = max(rows[0] - reach, 0), min(rows[-1] + reach + 1, electrons.shape[0])
        saturated[start:stop, column] = True
        electrons[start:stop, column] = full_well
    return saturated


def _mark_detector(
    rng: np.random.Generator,
    electrons: np.ndarray,
    planes: dict[str, np.ndarray],
    detector: SimDetector,
    *,
    x0: int,
    y0: int,
) -> None:
    """Mark bad columns and edges, and interpolate as a pipeline does."""
    height, width = electrons.shape
    bad = np.zeros(electrons.shape, dtype=bool)
    bad[:, rng.integers(0, width, 2)] = True
    planes["BAD"] = bad
    planes["INTERPOLATED"] = bad | planes["COSMIC_RAY"]
    x, y = x0 + np.arange(width), y0 + np.arange(height)
    edge_x = (x < EDGE) | (x >= detector.width - EDGE)
    edge_y = (y < EDGE) | (y >= detector.height - EDGE)
    planes["DETECTION_EDGE"] = edge_y[:, None] | edge_x[None, :]
    repair = planes["INTERPOLATED"]
    weight = gaussian_filter((~repair).astype(float), 1.2)
    smooth = gaussian_filter(np.where(repair, 0.0, electrons), 1.2) / np.maximum(weight, 1e-6)
    electrons[repair] = smooth[repair]


def _kill_pixels(
    rng: np.random.Generator, image: np.ndarray, variance: np.ndarray, planes: dict[str, np.ndarray]
) -> None:
    """Leave a small block without values, in place."""
    height, width = image.shape
    y, x = rng.integers(height // 4, height // 2), rng.integers(width // 4, width // 2)
    planes["NO_DATA"] = np.zeros(image.shape, dtype=bool)
    planes["NO_DATA"][y : y + 12, x : x + 20] = True
    image[planes["NO_DATA"]] = np.nan
    variance[planes["NO_DATA"]] = np.nan
