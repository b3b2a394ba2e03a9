# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a latent and what it leaves of the data to the target PSF."""

from __future__ import annotations

__all__ = ("Delivered", "deliver", "residual_response")

import dataclasses

import torch

from ._filters import widening, wiener_response
from ._grid import FourierGrid

_RESIDUAL_STRENGTH = 0.035
"""Noise level of the filter that brings the residual to the target PSF: a
lower one sharpens it more and amplifies its noise."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Delivered:
    """Both products at the target PSF, ``(..., rows, columns)``."""

    latent: torch.Tensor
    """Non-negative."""
    coadd: torch.Tensor
    """The latent plus the filtered residual of the data."""


def residual_response(den: torch.Tensor, grid: FourierGrid, *, fwhm: float) -> torch.Tensor:
    """Filter from what is left of D to the target PSF."""
    return wiener_response(den, grid, strength=_RESIDUAL_STRENGTH, fwhm=fwhm)


def deliver(
    latent: torch.Tensor,
    *,
    data: torch.Tensor,
    den: torch.Tensor,
    grid: FourierGrid,
    latent_fwhm: float,
    fwhm: float,
) -> Delivered:
    """Deliver latents at a target PSF.

    Parameters
    ----------
    latent
        Non-negative, ``(..., rows, columns)``.
    data, den
        The statistics, ``(..., rows, columns // 2 + 1)``.
    grid
        Their grid.
    latent_fwhm, fwhm
        FWHM of the latent's Gaussian PSF and of the target, in pixels.
    """
    spectrum = grid.transform(latent)
    left = data - den * spectrum / grid.gaussian(latent_fwhm).clamp_min(1e-4)
    residual = grid.inverse(left * residual_response(den, grid, fwhm=fwhm))
    wide = grid.inverse(spectrum * widening(grid, from_fwhm=latent_fwhm, to_fwhm=fwhm))
    # Little is negative: rounding of the FFT, ripples of narrow kernels.
    return Delivered(latent=wide.clamp_min(0.0), coadd=wide + residual)
