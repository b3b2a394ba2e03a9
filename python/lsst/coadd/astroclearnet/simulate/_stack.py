# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures that share one grid: no WCS, no detector."""

from __future__ import annotations

__all__ = ("StackTruth", "simulate_stack")

import dataclasses

import astropy.table
import galsim
import numpy as np

from ..core import CellStack
from ._artifacts import draw_cosmic_rays, draw_streak
from ._draw import draw_scene, draw_truth
from ._scene import SceneConfig, make_catalog


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StackTruth:
    """The sky behind a simulated stack."""

    image: np.ndarray
    """Noiseless sky in nJy per pixel at the target PSF, float32 ``(h, w)``."""

    target_fwhm: float
    """FWHM of the Gaussian PSF of `image`, in pixels."""

    catalog: astropy.table.Table
    """Sources, as `make_catalog` makes them; ``x``, ``y`` are array indices
    and can be outside of the image."""

    artifacts: np.ndarray
    """Pixels changed by an artifact that no mask tells, bool ``(n, h, w)``."""

    sky_sigma: np.ndarray
    """Noise of the sky of each exposure in nJy per pixel, ``(n,)``."""

    psf_fwhm: np.ndarray
    """Seeing of each exposure, in arcseconds, ``(n,)``."""

    config: SceneConfig
    """What the sky was made from."""

    def draw(self, *, target_fwhm: float) -> np.ndarray:
        """Return the sky at another Gaussian PSF, as `image`."""
        height, width = self.image.shape
        return draw_truth(
            self.catalog,
            height=height,
            width=width,
            pixel_scale=self.config.pixel_scale,
            target_fwhm=target_fwhm,
        )


def simulate_stack(
    *,
    n_exposures: int = 16,
    size: int = 256,
    seed: int = 1,
    target_fwhm: float = 2.5,
    seeing: tuple[float, float] = (0.5, 0.9),
    sky_sigma: float = 18.0,
    gain: float = 3.3,
    stamp_size: int = 41,
    scene: SceneConfig | None = None,
    catalog: astropy.table.Table | None = None,
    streak: bool = True,
    masked_trail: bool = True,
    bad_columns: int = 2,
    cosmic_rays: int = 6,
    unmasked_cosmic_rays: int = 1,
) -> tuple[CellStack, StackTruth]:
    """Simulate exposures of one sky on one grid.

    Parameters
    ----------
    n_exposures
        How many exposures.
    size
        Side of the square images, in pixels.
    seed
        Seed of everything random: equal calls give equal stacks.
    target_fwhm
        FWHM in pixels of the Gaussian PSF of the truth.
    seeing
        Least and largest FWHM of the PSFs without the pixel, in arcseconds.
    sky_sigma
        Typical noise of the sky, in nJy per pixel; each exposure has its own
        within about 10 per cent.
    gain
        Electrons per nJy, for the photon noise of the sources; 0 for none.
    stamp_size
        Side of the PSF kernels, in pixels; odd.
    scene
        What to put on the sky; `None` for the defaults. Its seed and shape
        are replaced by those given here.
    catalog
        Sources to draw instead of those of `scene`; columns as of
        `make_catalog`.
    streak
        Cross one exposure with a trail that no mask tells.
    masked_trail
        Cross another exposure with a masked trail.
    bad_columns
        Masked columns of each exposure.
    cosmic_rays
        Masked tracks on each exposure.
    unmasked_cosmic_rays
        Tracks on each exposure that no mask tells.

    Returns
    -------
    stack : `~lsst.coadd.astroclearnet.core.CellStack`
        The exposures; half of the PSFs are Kolmogorov, half Moffat profiles,
        a little sheared. The variance is that of sky and sources, without
        noise of its own.
    truth : `StackTruth`
        The sky behind them.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    if n_exposures < 1 or stamp_size % 2 == 0:
        raise ValueError(
            f"n_exposures must be positive and stamp_size odd; got {n_exposures} and {stamp_size}."
        )
    config = dataclasses.replace(scene or SceneConfig(), seed=seed, width=size, height=size, x0=0, y0=0)
    catalog = make_catalog(config) if catalog is None else catalog
    rng = np.random.default_rng([seed, 2])
    fwhm = _draw_seeing(rng, n_exposures, seeing)
    sigma = sky_sigma * rng.lognormal(0.0, 0.1, n_exposures)
    streaked = rng.integers(n_exposures) if streak or masked_trail else -1
    trailed = (streaked + 1) % n_exposures if n_exposures > 1 else -1
    exposures = []
    for i in range(n_exposures):
        exposure = _draw_exposure(
            rng, catalog, config, fwhm=fwhm[i], kolmogorov=bool(i % 2), sigma=sigma[i], gain=gain
        )
        exposure.spoil_columns(rng, bad_columns)
        exposure.spoil_pixels(rng, cosmic_rays, masked=True)
        exposure.spoil_pixels(rng, unmasked_cosmic_rays, masked=False)
        if streak and i == streaked:
            exposure.spoil_trail(rng, masked=False)
        if masked_trail and i == trailed:
            exposure.spoil_trail(rng, masked=True)
        exposures.append(exposure)
    good = np.stack([exposure.good for exposure in exposures])
    stack = CellStack(
        image=np.where(good, [exposure.image for exposure in exposures], 0).astype(np.float32),
        variance=np.stack([exposure.variance for exposure in exposures]).astype(np.float32),
        good=good,
        psf=np.stack([_kernel(e.psf, stamp_size, config.pixel_scale) for e in exposures]).astype(np.float32),
        labels=tuple(f"exposure={i}" for i in range(n_exposures)),
    )
    truth = StackTruth(
        image=draw_truth(
            catalog, height=size, width=size, pixel_scale=config.pixel_scale, target_fwhm=target_fwhm
        ),
        target_fwhm=target_fwhm,
        catalog=catalog,
        artifacts=np.stack([exposure.artifacts for exposure in exposures]) & good,
        sky_sigma=sigma,
        psf_fwhm=fwhm,
        config=config,
    )
    return stack, truth


@dataclasses.dataclass(kw_only=True, eq=False)
class _Exposure:
    """One exposure in the making; arrays are changed in place."""

    image: np.ndarray
    variance: np.ndarray
    good: np.ndarray
    artifacts: np.ndarray
    psf: galsim.GSObject
    fwhm: float
    """Seeing, in pixels."""
    sigma: float
    """Noise of the sky, in nJy."""

    def spoil_columns(self, rng: np.random.Generator, number: int) -> None:
        """Mask columns."""
        self.good[:, rng.integers(0, self.image.shape[1], number)] = False

    def spoil_pixels(self, rng: np.random.Generator, number: int, *, masked: bool) -> None:
        """Add tracks of particles."""
        height, width = self.image.shape
        tracks = draw_cosmic_rays(rng, height=height, width=width, number=number, sigma=self.sigma)
        self._add(tracks, masked=masked)

    def spoil_trail(self, rng: np.random.Generator, *, masked: bool) -> None:
        """Add the trail of a satellite."""
        height, width = self.image.shape
        brightness = self.sigma * rng.uniform(4, 10)
        trail = draw_streak(rng, height=height, width=width, fwhm=self.fwhm, brightness=brightness)
        self._add(trail, masked=masked)

    def _add(self, artifact: np.ndarray, *, masked: bool) -> None:
        self.image += artifact
        hit = artifact > 0.2 * self.sigma
        if masked:
            self.good &= ~hit
        else:
            self.artifacts |= hit


def _draw_exposure(
    rng: np.random.Generator,
    catalog: astropy.table.Table,
    config: SceneConfig,
    *,
    fwhm: float,
    kolmogorov: bool,
    sigma: float,
    gain: float,
) -> _Exposure:
    """Draw sky and noise of one exposure."""
    shape = (config.height, config.width)
    profile = _psf_profile(rng, fwhm, kolmogorov=kolmogorov)
    signal = draw_scene(
        catalog,
        height=config.height,
        width=config.width,
        pixel_scale=config.pixel_scale,
        psf=lambda *, x, y: profile,
        faintest=0.1 * sigma,
    )
    variance = sigma**2 + (np.maximum(signal, 0) / gain if gain else np.zeros(shape))
    return _Exposure(
        image=signal + rng.normal(0.0, np.sqrt(variance)),
        variance=variance,
        good=np.ones(shape, dtype=bool),
        artifacts=np.zeros(shape, dtype=bool),
        psf=profile,
        fwhm=fwhm / config.pixel_scale,
        sigma=sigma,
    )


def _draw_seeing(rng: np.random.Generator, n: int, limits: tuple[float, float]) -> np.ndarray:
    """Spread the seeing over its range, in random order."""
    return rng.permutation(np.linspace(*limits, n) if n > 1 else np.full(1, np.mean(limits)))


def _psf_profile(rng: np.random.Generator, fwhm: float, *, kolmogorov: bool) -> galsim.GSObject:
    if kolmogorov:
        profile = galsim.Kolmogorov(fwhm=fwhm)
    else:
        profile = galsim.Moffat(beta=rng.uniform(3.0, 4.5), fwhm=fwhm)
    g1, g2 = np.clip(rng.normal(0.0, 0.02, 2), -0.05, 0.05)
    return profile.shear(g1=g1, g2=g2)


def _kernel(profile: galsim.GSObject, size: int, pixel_scale: float) -> np.ndarray:
    # A coarser threshold would fold the far wings back into the stamp.
    precise = profile.withGSParams(folding_threshold=1e-3)
    kernel = precise.drawImage(nx=size, ny=size, scale=pixel_scale, method="auto", dtype=float).array
    return kernel / kernel.sum()
