# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Galaxies and stacks that the encoder is trained on."""

from __future__ import annotations

__all__ = ("GalaxyBank", "StackBank", "make_galaxy_bank", "make_stack_bank")

import dataclasses

import galsim
import numpy as np
import scipy.ndimage
import torch

from ..core._encoder import LATENT_FWHM
from ..core._fourier import FourierGrid

_STAMP = 81
_LARGE_RADIUS = 2.1
"""Half-light radius in pixels from which a galaxy counts as large."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GalaxyBank:
    """Galaxies of unit flux at the latent's PSF, sorted by size."""

    stamps: np.ndarray
    """float32 ``(n, 81, 81)``."""
    radius: np.ndarray
    """Half-light radius in pixels, before the PSF."""

    def is_large(self, index: int) -> bool:
        """Whether the flux bias of this one is judged with the large."""
        return bool(self.radius[index] > _LARGE_RADIUS)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StackBank:
    """What many stacks of exposures can see."""

    den: torch.Tensor
    """Transfer function and noise power, ``(n, rows, columns // 2 + 1)``."""
    source_noise: torch.Tensor
    """Added power of D per unit of source flux, ``(n,)``."""


def make_galaxy_bank(rng: np.random.Generator, count: int) -> GalaxyBank:
    """Draw galaxies: Sersic, bulge and disc, clumpy discs, and shapes that
    follow no profile (rings, arms, random fields).
    """
    blur = galsim.Gaussian(fwhm=LATENT_FWHM)
    params = galsim.GSParams(maximum_fft_size=8192, folding_threshold=1e-2)
    stamps, radii = [], []
    for _ in range(count):
        radius = float(np.exp(rng.uniform(np.log(0.6), np.log(10.0))))
        if rng.uniform() < 0.8:
            profile = galsim.Convolve(_smooth_galaxy(rng, radius), blur, gsparams=params)
            offset = tuple(rng.uniform(-0.5, 0.5, 2))
            stamp = profile.drawImage(nx=_STAMP, ny=_STAMP, scale=1.0, method="no_pixel", offset=offset).array
        else:
            stamp = _irregular_galaxy(rng, radius)
        stamps.append(stamp.astype(np.float32))
        radii.append(radius)
    order = np.argsort(radii)
    return GalaxyBank(stamps=np.array(stamps)[order], radius=np.array(radii)[order])


def _sersic(n: float, radius: float, flux: float = 1.0) -> galsim.GSObject:
    return galsim.Sersic(n=n, half_light_radius=radius, flux=flux, trunc=4.5 * radius)


def _smooth_galaxy(rng: np.random.Generator, radius: float) -> galsim.GSObject:
    shape = {"e": min(0.8, rng.rayleigh(0.27)), "beta": rng.uniform(0, np.pi) * galsim.radians}
    index = float(rng.choice([0.5, 0.6, 0.75, 0.9, 1.0, 1.2, 1.5, 2.0, 2.7, 3.5, 4.0]))
    kind = rng.uniform()
    if kind < 0.66:
        return _sersic(index, radius).shear(**shape)
    if kind < 0.83:
        share = rng.uniform(0.05, 0.6)
        bulge = _sersic(float(rng.choice([2.0, 3.5])), max(0.5, radius * rng.uniform(0.2, 0.6)), share)
        return _sersic(1.0, radius, 1.0 - share).shear(**shape) + bulge
    share, count = rng.uniform(0.05, 0.5), int(rng.integers(2, 14))
    galaxy = _sersic(1.0, radius, 1.0 - share).shear(**shape)
    for _ in range(count):
        clump = galsim.Gaussian(sigma=rng.uniform(0.2, 1.2), flux=share / count)
        galaxy += clump.shift(*rng.normal(0.0, 0.8 * radius, 2))
    return galaxy


def _irregular_galaxy(rng: np.random.Generator, radius: float) -> np.ndarray:
    """Draw light that follows no profile, ``(81, 81)``, sum 1."""
    half = _STAMP // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.25, 1.0)
    u = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.5, 0.5)
    v = (y * np.cos(angle) - x * np.sin(angle) - rng.uniform(-0.5, 0.5)) / ratio
    r = np.hypot(u, v)
    envelope = np.exp(-0.5 * (r / (0.85 * radius)) ** rng.uniform(1.0, 6.0))
    kind = rng.integers(3)
    if kind == 0:
        field = scipy.ndimage.gaussian_filter(rng.normal(size=r.shape), rng.uniform(0.5, 3.0))
        light = envelope * np.exp(rng.uniform(0.5, 1.5) * field / field.std())
    elif kind == 1:
        width = rng.uniform(0.15, 0.5) * radius
        light = np.exp(-0.5 * ((r - radius) / width) ** 2) + rng.uniform(0.0, 0.6) * envelope
    else:
        arms = np.cos(int(rng.integers(1, 4)) * np.arctan2(v, u) - rng.uniform(1, 6) * np.log1p(r))
        light = envelope * (1.0 + rng.uniform(0.3, 1.0) * arms)
    light = scipy.ndimage.gaussian_filter(light, LATENT_FWHM / 2.3548)
    return light / light.sum()


def make_stack_bank(
    rng: np.random.Generator, count: int, *, grid: FourierGrid, psf_size: int = 61
) -> StackBank:
    """Draw stacks of 2 to 40 exposures with PSFs of 2.7 to 6.5 pixels."""
    psfs, fwhms = [], rng.uniform(2.7, 6.5, 240)
    for fwhm in fwhms:
        if rng.uniform() < 0.6:
            psf = galsim.Kolmogorov(fwhm=fwhm)
        else:
            psf = galsim.Moffat(beta=rng.uniform(2.8, 4.5), fwhm=fwhm, trunc=6 * fwhm)
        shear = np.clip(rng.normal(0, 0.025, 2), -0.08, 0.08)
        stamp = psf.shear(g1=shear[0], g2=shear[1]).drawImage(nx=psf_size, ny=psf_size, scale=1.0).array
        psfs.append(stamp / stamp.sum())
    power = grid.transfer(torch.as_tensor(np.array(psfs), dtype=torch.float32)).abs() ** 2
    dens, source_noise = [], []
    for _ in range(count):
        n = int(np.exp(rng.uniform(np.log(2), np.log(41))))
        seeing = rng.uniform(3.1, 5.6) * np.exp(rng.normal(0, 0.13, n))
        chosen = np.abs(fwhms[None, :] - seeing[:, None]).argmin(1)
        sigma = np.exp(rng.normal(0, 0.12, n))
        # Flux at which a source doubles the variance of a pixel, in sigma.
        doubling = 10 ** rng.uniform(1.2, 2.3)
        weight = torch.as_tensor(sigma**-2, dtype=torch.float32)
        dens.append((power[chosen] * weight[:, None, None]).sum(0))
        source_noise.append(float((sigma**-3.0).sum() / doubling))
    return StackBank(den=torch.stack(dens), source_noise=torch.tensor(source_noise))
