# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""One exposure of a simulated stack in the making."""

from __future__ import annotations

__all__ = ("SKY_PSF_KINDS", "PsfField", "StackExposure", "draw_signal")

import dataclasses
from collections.abc import Sequence

import astropy.table
import galsim
import numpy as np

from ._artifacts import draw_cosmic_rays, draw_streak
from ._draw import draw_scene
from ._faults import StackFaults, draw_warped_noise
from ._scene import SceneConfig

SKY_PSF_KINDS = ("moffat", "kolmogorov")
"""Profiles of the PSFs of a stack, in turn."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PsfField:
    """PSF of one exposure, which can change over the field."""

    profile: galsim.GSObject
    """Point source of flux 1 at the centre, without the pixel, in arcsec."""

    pixel_scale: float
    """Size of a pixel, in arcsec."""

    centre: tuple[float, float]
    """x and y of the centre of the field, in pixels."""

    gradient: np.ndarray
    """Change of the logarithm of the size and of the shears g1, g2 per pixel
    along x and y, float ``(3, 2)``."""

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        config: SceneConfig,
        *,
        fwhm: float,
        kind: str,
        variation: float,
        seed: Sequence[int],
    ) -> PsfField:
        """Draw a PSF.

        Parameters
        ----------
        rng
            Random numbers for the profile.
        config
            Grid of the field.
        fwhm
            FWHM without the pixel, in arcsec.
        kind
            ``moffat`` or ``kolmogorov``.
        variation
            Largest change from the centre to an edge.
        seed
            Seed of the change over the field.

        Raises
        ------
        ValueError
            If the kind is not known.
        """
        if kind == "kolmogorov":
            profile = galsim.Kolmogorov(fwhm=fwhm)
        elif kind == "moffat":
            profile = galsim.Moffat(beta=rng.uniform(3.0, 4.5), fwhm=fwhm)
        else:
            raise ValueError(f"psf_kinds must be of {', '.join(SKY_PSF_KINDS)}; got {kind!r}.")
        g1, g2 = np.clip(rng.normal(0.0, 0.02, 2), -0.05, 0.05)
        half = np.array([config.width, config.height]) / 2
        change = np.random.default_rng(seed).uniform(-variation, variation, (3, 2))
        return cls(
            profile=profile.shear(g1=g1, g2=g2),
            pixel_scale=config.pixel_scale,
            centre=((config.width - 1) / 2, (config.height - 1) / 2),
            gradient=change / half,
        )

    def __call__(self, *, x: float, y: float) -> galsim.GSObject:
        """Return the profile at a place, in pixels of the field."""
        if not self.gradient.any():
            return self.profile
        size, g1, g2 = self.gradient @ (x - self.centre[0], y - self.centre[1])
        return self.profile.dilate(float(np.exp(size))).shear(g1=float(g1), g2=float(g2))

    def kernel(self, *, x: float, y: float, size: int) -> np.ndarray:
        """Return the PSF with the pixel as a stamp ``(size, size)``, sum 1."""
        # A coarser threshold would fold the far wings back into the stamp.
        precise = self(x=x, y=y).withGSParams(folding_threshold=1e-3)
        kernel = precise.drawImage(nx=size, ny=size, scale=self.pixel_scale, method="auto", dtype=float).array
        return kernel / kernel.sum()


def draw_signal(
    catalog: astropy.table.Table,
    config: SceneConfig,
    *,
    psf: PsfField,
    offset: np.ndarray,
    faintest: float,
) -> np.ndarray:
    """Draw a sky without noise.

    Parameters
    ----------
    catalog
        Sources.
    config
        Grid.
    psf
        PSF of the exposure.
    offset
        Shift of all sources in x and y, in pixels.
    faintest
        Flux in nJy of a source's wings that may be left out.

    Returns
    -------
    `numpy.ndarray`
        Flux in nJy per pixel, float32 ``(y, x)``.
    """
    if np.any(offset):
        catalog = catalog.copy()
        catalog["x"] += offset[0]
        catalog["y"] += offset[1]
    signal = draw_scene(
        catalog,
        height=config.height,
        width=config.width,
        pixel_scale=config.pixel_scale,
        psf=psf,
        faintest=faintest,
    )
    return signal.astype(np.float32)


@dataclasses.dataclass(kw_only=True, eq=False)
class StackExposure:
    """One exposure in the making; arrays are changed in place."""

    image: np.ndarray
    variance: np.ndarray
    good: np.ndarray
    artifacts: np.ndarray
    streak: np.ndarray
    fwhm: float
    """Seeing, in pixels."""
    sigma: float
    """Noise of the sky, in nJy."""

    @classmethod
    def expose(
        cls,
        rng: np.random.Generator,
        signal: np.ndarray,
        *,
        fwhm: float,
        sigma: float,
        gain: float,
        warped: bool,
    ) -> StackExposure:
        """Add the noise of sky and sources to a signal ``(y, x)``."""
        variance = sigma**2 + (np.maximum(signal, 0) / gain if gain else np.zeros(signal.shape))
        if warped:
            white, share = draw_warped_noise(rng, height=signal.shape[0], width=signal.shape[1])
            noise, variance = np.sqrt(variance) * white, variance * share
        else:
            noise = rng.normal(0.0, np.sqrt(variance))
        return cls(
            image=signal + noise,
            variance=variance,
            good=np.ones(signal.shape, dtype=bool),
            artifacts=np.zeros(signal.shape, dtype=bool),
            streak=np.zeros(signal.shape),
            fwhm=fwhm,
            sigma=sigma,
        )

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
        if not masked:
            self.streak += trail

    def falsify(self, *, scale: float, faults: StackFaults) -> None:
        """Put in what the stack will say wrongly."""
        self.image = scale * self.image + faults.sky_offset * self.sigma
        self.variance = faults.variance_factor * self.variance

    def _add(self, artifact: np.ndarray, *, masked: bool) -> None:
        self.image += artifact
        hit = artifact > 0.2 * self.sigma
        if masked:
            self.good &= ~hit
        else:
            self.artifacts |= hit
