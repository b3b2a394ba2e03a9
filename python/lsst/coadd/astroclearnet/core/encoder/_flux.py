# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a latent the fluxes of the data."""

from __future__ import annotations

__all__ = ("match_and_quieten", "match_flux", "quieten")

import torch

from ..fourier._filters import filtered_sigma, wiener_response
from ..fourier._grid import FourierGrid
from ._inputs import LATENT_FWHM

_FWHM = 10.0
"""FWHM in pixels at which latent and residual are compared: wide, so that a
source gets its flux whatever its shape in the latent."""

_STRENGTH = 0.1
"""Noise level of the filter that compares them."""

_CAUTION = 3.0
"""S/N at which half of a flux difference is believed."""

_LARGEST = 0.3
"""Largest change of a round."""

_QUIET_FWHM, _QUIET = 8.0, 2.0
"""FWHM in pixels at which a latent is compared with the noise, and the S/N
there at which half of it is kept."""


_FULL = 1.2
"""Noise relative to the lowest up to which a place tells the level of the
sky. Beyond all exposures, in the padding above all, the encoder invents light
that no data hold back: counted, it would move faint fluxes by one or two per
cent, by how large the cell is and how many exposures there are."""

_VEIL = 0.08
"""What is left in that level of the light that the latent makes of noise, in
sigma of the noise at `_FWHM`: with it faint stars, small and large galaxies
together have no bias (benchmarks/EXPERIMENTS.md)."""


def _pedestal(residual: torch.Tensor, *, quiet: torch.Tensor, grid: FourierGrid) -> torch.Tensor:
    """Level of the sky beside the sources, ``(..., 1, 1)``, which is no flux
    of theirs; 0 where there is no such place.
    """
    beside = grid.crop(torch.where(quiet, residual, torch.nan)).flatten(-2)
    return beside.nanmedian(-1).values.nan_to_num()[..., None, None]


def match_flux(
    latent: torch.Tensor, *, data: torch.Tensor, den: torch.Tensor, inflation: torch.Tensor, grid: FourierGrid
) -> torch.Tensor:
    """Scale latents so that their sources have the flux of the data.

    The encoder knows fluxes to about a per cent, less where the PSF is not
    quite what it was said to be; the data know those of bright sources
    better. The ratio of residual to latent, both wider than the exposures'
    PSFs, is a factor for each place: profiles keep their shape, nothing
    becomes negative, and noise is left alone. A level that the sky has
    everywhere is not taken for flux.

    Parameters
    ----------
    latent
        Encoder's latents on the padded grid, at their own PSF,
        ``(..., rows, columns)``.
    data, den
        The statistics, ``(..., rows, columns // 2 + 1)``.
    inflation
        Noise of D relative to `den`, ``(..., rows, columns)``.
    grid
        Their grid.
    """
    response = wiener_response(den, grid, strength=_STRENGTH, fwhm=_FWHM)
    sigma = filtered_sigma(response, den, grid)
    noise = (sigma * inflation) ** 2
    full = inflation < _FULL * grid.crop(inflation).amin((-2, -1), keepdim=True)
    sharp, wide = grid.gaussian(LATENT_FWHM), grid.gaussian((_FWHM**2 - LATENT_FWHM**2) ** 0.5)
    for _ in range(2):
        spectrum = grid.transform(latent)
        residual = grid.inverse((data - den * spectrum / sharp.clamp_min(1e-4)) * response)
        flux = grid.inverse(spectrum * wide)
        level = _pedestal(residual, quiet=full & (flux**2 < noise), grid=grid)
        residual = residual - level + _VEIL * sigma
        ratio = residual * flux / (flux**2 + _CAUTION**2 * noise)
        latent = latent * (1.0 + ratio.clamp(-_LARGEST, _LARGEST))
    return latent


def quieten(
    latent: torch.Tensor, *, den: torch.Tensor, inflation: torch.Tensor, grid: FourierGrid
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave out what of latents cannot be told from noise.

    A latent is nowhere negative: what the noise has left in it adds up to a
    veil, which lifts faint sources and extended ones by some per cent. Each
    place is scaled by ``s^4 / (s^4 + c^4)``, s being its S/N in a wide
    filter: nothing changes on sources, and almost nothing stays beside them.

    Parameters
    ----------
    latent
        On the padded grid, at the PSF of the encoder, ``(..., rows,
        columns)``.
    den, inflation, grid
        As of `match_flux`.

    Returns
    -------
    latent
        What is left, same shape.
    share
        What each place was multiplied by, from 0 to 1.
    """
    response = wiener_response(den, grid, strength=_STRENGTH, fwhm=_QUIET_FWHM)
    noise = grid.mean_power(response**2 * den)[..., None, None] * inflation**2
    wide = grid.gaussian((_QUIET_FWHM**2 - LATENT_FWHM**2) ** 0.5)
    squared = grid.inverse(grid.transform(latent) * wide) ** 2 / (_QUIET**2 * noise)
    share = squared**2 / (squared**2 + 1.0)
    return latent * share, share


def match_and_quieten(
    latent: torch.Tensor, *, data: torch.Tensor, den: torch.Tensor, inflation: torch.Tensor, grid: FourierGrid
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what every latent of an encoder gets before it is delivered:
    `match_flux`, then `quieten`, with their parameters; return what the
    latter does.
    """
    stack = {"den": den, "inflation": inflation, "grid": grid}
    return quieten(match_flux(latent, data=data, **stack), **stack)
