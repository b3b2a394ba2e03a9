# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a stack says of itself that is not quite true."""

from __future__ import annotations

__all__ = ("StackFaults", "draw_warped_noise")

import dataclasses

import galsim
import numpy as np

_LANCZOS = 3
"""Order of the kernel that warps the noise; LSST warps images by it."""

_ROTATION = 0.5
"""Largest rotation between an exposure and the grid, in degrees: it lets the
sub-pixel phase change over the field."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackFaults:
    """Errors of the calibration of a simulated stack; none by default.

    Errors of fluxes and positions have mean 0 over the exposures, because
    the mean defines the scale.
    """

    psf_size: float = 1.0
    """Size of the PSF kernels relative to those that the sky was drawn
    with."""

    flux_scale: float = 0.0
    """Relative rms error of the flux scale of an exposure."""

    astrometry: float = 0.0
    """Rms distance of an exposure from its place, in pixels."""

    sky_offset: float = 0.0
    """Light left by the sky subtraction in every exposure, in units of the
    noise of its sky."""

    variance_factor: float = 1.0
    """Written variance relative to the true one."""

    warped_noise: bool = False
    """Whether the noise was warped from another grid, which correlates it.
    The written variance is that of a pixel, as warping propagates it: less
    than the power at low frequencies."""

    def __post_init__(self) -> None:
        for name in ("psf_size", "variance_factor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}.")
        for name in ("flux_scale", "astrometry"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}.")

    def draw_scales(self, seed: int, n: int) -> np.ndarray:
        """Draw the flux scale of each exposure, ``(n,)``."""
        errors = np.random.default_rng([seed, 6]).normal(size=n)
        return 1.0 + self.flux_scale * _standardise(errors[:, None])[:, 0]

    def draw_offsets(self, seed: int, n: int) -> np.ndarray:
        """Draw the shift in x and y of each exposure, ``(n, 2)``, pixels."""
        return self.astrometry * _standardise(np.random.default_rng([seed, 7]).normal(size=(n, 2)))

    def falsify_kernel(self, kernel: np.ndarray) -> np.ndarray:
        """Return a PSF kernel ``(p, p)`` at its wrong size, sum 1."""
        if self.psf_size == 1.0:
            return kernel
        profile = galsim.InterpolatedImage(galsim.Image(kernel.astype(float), scale=1.0)).dilate(
            self.psf_size
        )
        size = kernel.shape[0]
        wrong = profile.drawImage(nx=size, ny=size, scale=1.0, method="no_pixel", dtype=float).array
        return wrong / wrong.sum()


def _standardise(errors: np.ndarray) -> np.ndarray:
    """Give vectors ``(n, k)`` mean 0 and rms length 1, where n allows it."""
    if len(errors) > 1:
        errors = errors - errors.mean(0)
    return errors / np.sqrt(np.mean(np.sum(errors**2, axis=1)))


def draw_warped_noise(rng: np.random.Generator, *, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw white noise of variance 1 on another grid and warp it.

    Parameters
    ----------
    rng
        Random numbers; they also choose shift and rotation of the grid.
    height, width
        Shape of the image.

    Returns
    -------
    noise, variance : `numpy.ndarray`
        The warped noise, and the variance of each of its pixels: the sum of
        the squares of the interpolation weights. ``(y, x)``.
    """
    angle = np.deg2rad(rng.uniform(-_ROTATION, _ROTATION))
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    rows, columns = np.mgrid[:height, :width] - np.array([height / 2, width / 2])[:, None, None]
    x = columns * np.cos(angle) - rows * np.sin(angle) + dx
    y = columns * np.sin(angle) + rows * np.cos(angle) + dy
    x0, y0 = int(np.floor(x.min())) - _LANCZOS, int(np.floor(y.min())) - _LANCZOS
    white = rng.normal(size=(int(y.max()) - y0 + _LANCZOS + 2, int(x.max()) - x0 + _LANCZOS + 2))
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    across, along = _lanczos_weights(x - column), _lanczos_weights(y - row)
    noise = np.zeros((height, width))
    taps = range(1 - _LANCZOS, _LANCZOS + 1)
    for j, weight_y in zip(taps, along, strict=True):
        for i, weight_x in zip(taps, across, strict=True):
            noise += weight_y * weight_x * white[row + j - y0, column + i - x0]
    return noise, (across**2).sum(0) * (along**2).sum(0)


def _lanczos_weights(phase: np.ndarray) -> np.ndarray:
    """Weights ``(taps, ...)`` of the neighbours at a phase of 0 to 1."""
    taps = np.arange(1 - _LANCZOS, _LANCZOS + 1).reshape(-1, *[1] * phase.ndim)
    distance = phase - taps
    weights = np.sinc(distance) * np.sinc(distance / _LANCZOS)
    return weights / weights.sum(0)
