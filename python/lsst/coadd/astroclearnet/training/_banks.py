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

from ..core.encoder._inputs import LATENT_FWHM
from ..core.fourier._grid import FWHM_TO_SIGMA, FourierGrid

_STAMP = 81
_PSF_SIZE = 61
_SMOOTH_SHARE = 0.55
_LARGE_RADIUS = 2.1
"""Half-light radius in pixels from which a galaxy counts as large."""

_N_PSFS = 240
"""PSFs that exposures are given."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GalaxyBank:
    """Galaxies of unit flux at the latent's PSF, sorted by size."""

    stamps: np.ndarray
    """float32 ``(n, 81, 81)``."""
    radius: np.ndarray
    """Half-light radius in pixels, before the PSF."""
    smooth: np.ndarray
    """Whether it follows a profile, bool ``(n,)``."""

    def kind(self, index: int) -> int:
        """Return with which sources the flux of this one is judged: 1 small
        galaxies, 2 large ones, 3 large ones without a profile.
        """
        if self.radius[index] <= _LARGE_RADIUS:
            return 1
        return 2 if self.smooth[index] else 3


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StackBank:
    """What many stacks of exposures can see."""

    den: torch.Tensor
    """Transfer function and noise power, ``(n, rows, columns // 2 + 1)``."""
    source_noise: torch.Tensor
    """Added power of D per unit of source flux, ``(n,)``."""


def make_galaxy_bank(rng: np.random.Generator, count: int) -> GalaxyBank:
    """Draw galaxies: Sersic, bulge and disc, clumpy discs, and shapes that
    follow no profile (random fields, their level sets, heaps of lumps).
    """
    blur = galsim.Gaussian(fwhm=LATENT_FWHM)
    params = galsim.GSParams(maximum_fft_size=8192, folding_threshold=1e-2)
    stamps, radii, smooth = [], [], []
    for _ in range(count):
        radius = float(np.exp(rng.uniform(np.log(0.6), np.log(10.0))))
        smooth.append(rng.uniform() < _SMOOTH_SHARE)
        if smooth[-1]:
            profile = galsim.Convolve(_smooth_galaxy(rng, radius), blur, gsparams=params)
            offset = tuple(rng.uniform(-0.5, 0.5, 2))
            stamp = profile.drawImage(nx=_STAMP, ny=_STAMP, scale=1.0, method="no_pixel", offset=offset).array
        else:
            stamp = _irregular_galaxy(rng, radius)
        stamps.append(stamp.astype(np.float32))
        radii.append(radius)
    order = np.argsort(radii)
    return GalaxyBank(
        stamps=np.array(stamps)[order], radius=np.array(radii)[order], smooth=np.array(smooth)[order]
    )


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
    kind = rng.integers(3)
    if kind == 2:
        light = _composite(rng, x, y, radius)
    else:
        u, v = _sheared(rng, x, y, ratio=rng.uniform(0.25, 1.0))
        envelope = np.exp(-0.5 * (np.hypot(u, v) / (0.9 * radius)) ** rng.uniform(1.0, 8.0))
        field = _random_field(rng, radius)
        if kind == 0:
            light = envelope * np.exp(rng.uniform(0.5, 1.5) * field)
        else:
            # Level sets: lanes, arcs, holes and islands with sharp edges.
            edge = (field - rng.uniform(-0.8, 0.8)) / np.exp(rng.uniform(np.log(0.05), 0.0))
            light = envelope * (rng.choice([0.0, 0.1, 0.4]) + 0.5 * (1.0 + np.tanh(edge)))
    light = scipy.ndimage.gaussian_filter(light, LATENT_FWHM * FWHM_TO_SIGMA)
    total = light.sum()
    # Lumps thinner than a pixel can fall between all of them.
    return light / total if total > 1e-6 else _irregular_galaxy(rng, radius)


def _sheared(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, *, ratio: float):
    """Coordinates along the axes of an ellipse of random orientation."""
    angle = rng.uniform(0, np.pi)
    u = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.5, 0.5)
    return u, (y * np.cos(angle) - x * np.sin(angle) - rng.uniform(-0.5, 0.5)) / ratio


def _random_field(rng: np.random.Generator, radius: float) -> np.ndarray:
    """Gaussian field of unit variance, ``(81, 81)``: a power law between a
    smallest and a largest scale, stretched along a random axis.
    """
    fy, fx = np.fft.fftfreq(_STAMP)[:, None], np.fft.fftfreq(_STAMP)[None, :]
    u, v = _sheared(rng, fx, fy, ratio=rng.uniform(0.3, 1.0))
    u, v = u - u[0, 0], v - v[0, 0]
    size, smallest = rng.uniform(0.5, 2.5) * radius, rng.uniform(0.4, 1.5)
    power = (u**2 + v**2 + size**-2.0) ** (-0.5 * rng.uniform(1.0, 4.0))
    amplitude = np.sqrt(power) * np.exp(-2.0 * (np.pi * smallest) ** 2 * (fx**2 + fy**2))
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(_STAMP, _STAMP))) * amplitude).real
    return (field - field.mean()) / field.std()


def _composite(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Overlapping lumps, some flat-topped, some thin."""
    light = np.zeros_like(x)
    for _ in range(rng.integers(2, 8)):
        size = radius * np.exp(rng.uniform(np.log(0.15), 0.0))
        dy, dx = rng.normal(0.0, 0.7 * radius, 2)
        u, v = _sheared(rng, x - dx, y - dy, ratio=np.exp(rng.uniform(np.log(0.12), 0.0)))
        profile = np.exp(-0.5 * (np.hypot(u, v) / size) ** rng.choice([1.0, 2.0, 2.0, 4.0, 8.0]))
        light += rng.uniform(0.2, 1.0) * profile / max(profile.sum(), 1.0)
    return light


def make_stack_bank(rng: np.random.Generator, count: int, *, grid: FourierGrid) -> StackBank:
    """Draw stacks of 2 to 40 exposures with PSFs of 2.7 to 6.5 pixels."""
    fwhms = rng.uniform(2.7, 6.5, _N_PSFS)
    psfs = [_choose_psf(rng, fwhm) for fwhm in fwhms]
    members, weights, source_noise = [], [], []
    for _ in range(count):
        n = int(np.exp(rng.uniform(np.log(2), np.log(41))))
        seeing = rng.uniform(3.1, 5.6) * np.exp(rng.normal(0, 0.13, n))
        members.append(np.abs(fwhms[None, :] - seeing[:, None]).argmin(1))
        sigma = np.exp(rng.normal(0, 0.12, n))
        # Flux at which a source doubles the variance of a pixel, in sigma.
        doubling = 10 ** rng.uniform(1.2, 2.3)
        weights.append(torch.as_tensor(sigma**-2, dtype=torch.float32))
        source_noise.append(float((sigma**-3.0).sum() / doubling))
    # Drawing takes longest: few stacks need few of the PSFs.
    drawn = np.unique(np.concatenate(members))
    stamps = np.array([_draw_psf(psfs[k]) for k in drawn])
    power = grid.transfer(torch.as_tensor(stamps, dtype=torch.float32)).abs() ** 2
    dens = [
        (power[np.searchsorted(drawn, chosen)] * weight[:, None, None]).sum(0)
        for chosen, weight in zip(members, weights, strict=True)
    ]
    return StackBank(den=torch.stack(dens), source_noise=torch.tensor(source_noise))


def _choose_psf(rng: np.random.Generator, fwhm: float) -> galsim.GSObject:
    """Choose the profile of a PSF without its pixel, in pixels."""
    if rng.uniform() < 0.6:
        psf = galsim.Kolmogorov(fwhm=fwhm)
    else:
        psf = galsim.Moffat(beta=rng.uniform(2.8, 4.5), fwhm=fwhm, trunc=6 * fwhm)
    shear = np.clip(rng.normal(0, 0.025, 2), -0.08, 0.08)
    return psf.shear(g1=shear[0], g2=shear[1])


def _draw_psf(psf: galsim.GSObject) -> np.ndarray:
    stamp = psf.drawImage(nx=_PSF_SIZE, ny=_PSF_SIZE, scale=1.0).array
    return stamp / stamp.sum()
