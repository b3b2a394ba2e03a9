# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan of a simulated survey: where and how each visit looks."""

from __future__ import annotations

__all__ = ("EXPOSURE_TIME", "SurveyConfig", "VisitPlan", "plan_visits")

import dataclasses

import astropy.time
import astropy.wcs
import numpy as np

from ._camera import DETECTORS, SimDetector, point_at
from ._scene import SceneConfig

EXPOSURE_TIME = 200.0
"""Of each visit, in seconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurveyConfig:
    """Sky and visits of a simulated survey.

    Raises
    ------
    ValueError
        If a value is out of its range; the text names the field.
    """

    scene: SceneConfig
    """The sky; its grid is the patch, in the pixels of its tract. The seed
    of the scene is the seed of everything."""

    n_visits: int = 12
    """How many visits."""

    first_visit: int = 29324
    """Number of the first visit; the others follow in steps of 2."""

    seeing: tuple[float, float] = (0.5, 0.9)
    """Least and largest FWHM of the PSFs without the pixel, in arcsec."""

    dither: float = 40.0
    """Largest offset between pointings along each axis, in pixels."""

    rotation: float = 1.0
    """Largest rotation of the camera, in degrees."""

    padding: int = 60
    """Border around the patch that the images keep, in pixels."""

    calibration: float = 0.9
    """Typical nJy per ADU; each visit has its own within 30 per cent, and it
    changes over an image by some per mille."""

    sky: float = 3700.0
    """Typical sky level, in electrons per pixel; subtracted."""

    gain: float = 3.0
    """Electrons per ADU."""

    full_well: float = 150_000.0
    """Electrons at which a pixel saturates."""

    cosmic_rays: int = 12
    """Masked tracks on an image."""

    unmasked_cosmic_rays: int = 2
    """Tracks on an image that no mask tells."""

    gap_visits: tuple[int, ...] = (4, 9)
    """Indices of visits in which a chip gap crosses the patch."""

    half_visits: tuple[int, ...] = (2,)
    """Indices of visits that see half of the patch."""

    trail_visits: tuple[int, ...] = (6,)
    """Indices of visits with a satellite trail that the mask tells."""

    streak_visits: tuple[int, ...] = (7,)
    """Indices of visits with a trail that no mask tells."""

    dead_visits: tuple[int, ...] = (10,)
    """Indices of visits with a few pixels without a value."""

    def __post_init__(self) -> None:
        if self.n_visits < 1:
            raise ValueError(f"n_visits must be at least 1; got {self.n_visits}.")
        low, high = self.seeing
        if not 0.3 <= low <= high <= 2.0:
            raise ValueError(f"seeing must rise within 0.3 to 2.0 arcsec; got {self.seeing}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisitPlan:
    """How one visit looks at the patch."""

    index: int
    """Number of the visit in the survey, from 0."""

    visit: int
    """Number of the visit, as in a data id."""

    begin: astropy.time.Time
    """Start of the exposure."""

    ra: float
    """Axis of the camera, in degrees."""

    dec: float
    """Axis of the camera, in degrees."""

    rotation: float
    """Rotation of the camera, in degrees."""

    detectors: tuple[SimDetector, ...]
    """Detectors to read."""

    fwhm: float
    """Seeing without the pixel, in arcseconds."""

    beta: float
    """Exponent of the Moffat profile of the PSF."""

    calibration: float
    """nJy per ADU."""

    sky: float
    """Sky level, in electrons per pixel."""

    masked_trail: bool
    """Whether there is a trail that the mask tells."""

    streak: bool
    """Whether there is a trail that no mask tells."""

    dead_pixels: bool
    """Whether a few pixels have no value."""


def plan_visits(config: SurveyConfig, grid_wcs: astropy.wcs.WCS) -> list[VisitPlan]:
    """Choose pointing, seeing and zero point of each visit.

    Parameters
    ----------
    config
        The survey.
    grid_wcs
        WCS of the grid of the scene; FITS pixel (1, 1) is pixel (0, 0).

    Returns
    -------
    `list` [`VisitPlan`]
        In the order of their numbers.
    """
    scene, n = config.scene, config.n_visits
    rng = np.random.default_rng([scene.seed, 3])
    ra, dec = grid_wcs.all_pix2world(scene.x0 + (scene.width - 1) / 2, scene.y0 + (scene.height - 1) / 2, 0)
    fwhm = rng.permutation(np.linspace(*config.seeing, n) if n > 1 else np.full(1, np.mean(config.seeing)))
    night = astropy.time.Time("2015-01-17T10:30:00", scale="tai")
    plans = []
    for i in range(n):
        dx, dy = rng.uniform(-config.dither, config.dither, 2)
        rotation = rng.uniform(-config.rotation, config.rotation)
        x, y, detectors = _place(config, i)
        axis_ra, axis_dec = point_at(
            detectors[0], x=x + dx, y=y + dy, ra=float(ra), dec=float(dec), rotation=rotation
        )
        plans.append(
            VisitPlan(
                index=i,
                visit=config.first_visit + 2 * i,
                begin=night + astropy.time.TimeDelta((i % 6) * 240.0 + (i // 6) * 86400.0 * 31, format="sec"),
                ra=axis_ra,
                dec=axis_dec,
                rotation=rotation,
                detectors=detectors,
                fwhm=float(fwhm[i]),
                beta=rng.uniform(3.5, 4.8),
                calibration=config.calibration * rng.uniform(0.75, 1.3),
                sky=config.sky * rng.lognormal(0.0, 0.15),
                masked_trail=i in config.trail_visits,
                streak=i in config.streak_visits,
                dead_pixels=i in config.dead_visits,
            )
        )
    return plans


def _place(config: SurveyConfig, index: int) -> tuple[float, float, tuple[SimDetector, ...]]:
    """Return the pixel that sees the patch's centre, and the detectors.

    The pixel belongs to the first of them; every third visit uses a detector
    that stands the other way up.
    """
    scene = config.scene
    if index in config.gap_visits:
        first, second = DETECTORS[50], DETECTORS[58]
        return first.width - 0.2 * scene.width, 2000.0, (first, second)
    if index in config.half_visits:
        return 0.0, 2000.0, (DETECTORS[50],)
    if index % 3 == 1:
        return 1100.0, 2200.0, (DETECTORS[49],)
    return 1100.0, 2000.0, (DETECTORS[50],)
