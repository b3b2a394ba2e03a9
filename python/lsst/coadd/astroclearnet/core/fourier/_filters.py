# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Linear filters of a statistic, and what they make of its noise."""

from __future__ import annotations

__all__ = (
    "filtered_sigma",
    "filtered_variance",
    "psf_flux_response",
    "wiener_filters",
    "wiener_response",
    "widening",
)

import functools
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import torch

from ._grid import FWHM_TO_SIGMA, FourierGrid


def wiener_response(den: torch.Tensor, grid: FourierGrid, *, strength: float, fwhm: float) -> torch.Tensor:
    """Flux-preserving Wiener filter of statistics to a Gaussian PSF.

    Parameters
    ----------
    den
        Transfer functions, ``(..., rows, columns // 2 + 1)``.
    grid
        Their grid.
    strength
        Noise level of the filter relative to ``den`` at frequency 0.
    fwhm
        FWHM of the target in pixels.
    """
    return grid.gaussian(fwhm) * (1.0 + strength) / (den + strength * den[..., :1, :1])


def wiener_filters(
    den: torch.Tensor, grid: FourierGrid, *, strengths: Sequence[float], fwhm: float
) -> torch.Tensor:
    """Wiener filters of several strengths, ``(..., strength, rows, columns //
    2 + 1)``; parameters as of `wiener_response`. They do not preserve fluxes.
    """
    levels = torch.tensor(strengths, device=den.device)[:, None, None]
    den = den[..., None, :, :]
    return grid.gaussian(fwhm) / (den + levels * den[..., :1, :1])


def psf_flux_response(psf_transfer: torch.Tensor, grid: FourierGrid) -> torch.Tensor:
    """Filter that measures the PSF flux of a source at each place of an image.

    With a PSF P, the flux of a star is ``sum(P I) / sum(P^2)``: the
    least-squares fit with equal weights of all pixels, as base_PsfFlux makes
    it (lsst/meas_base PsfFlux.cc).

    Parameters
    ----------
    psf_transfer
        Transfer function of P, centred on its pixel, ``(..., rows, columns //
        2 + 1)``.
    grid
        The grid of the image.

    Returns
    -------
    `torch.Tensor`
        Transfer function of the filter, same shape.
    """
    power = grid.mean_power(psf_transfer.abs() ** 2)
    return psf_transfer.conj() / power[..., None, None]


def filtered_sigma(filters: torch.Tensor, den: torch.Tensor, grid: FourierGrid) -> torch.Tensor:
    """Return the standard deviation of noise of the power `den` behind filters
    ``(..., rows, columns // 2 + 1)``, shape ``(..., 1, 1)``.
    """
    return grid.mean_power(filters**2 * den).sqrt()[..., None, None]


def filtered_variance(power: torch.Tensor, transfer: torch.Tensor, grid: FourierGrid) -> torch.Tensor:
    """Variance of filtered noise that is uneven but independent from place to
    place.

    Parameters
    ----------
    power
        Variance of the noise before the filter, ``(..., rows, columns)``.
    transfer
        Of the filter, ``(..., rows, columns // 2 + 1)``.
    grid
        Their grid.
    """
    kernel = grid.inverse(transfer.to(torch.complex64))
    return grid.inverse(grid.transform(power) * grid.transform(kernel**2))


_NARROWEST = 1.6
"""FWHM in pixels of the narrowest Gaussian that samples without negative
values can stand for: a narrower one would lose 2 % of the flux of a star."""


@functools.lru_cache(maxsize=16)
def _widening_taps(from_fwhm: float, to_fwhm: float) -> np.ndarray:
    """Best kernel in one dimension for all places of a star within its pixel:
    without negative values, unless it is narrow.
    """
    radius = int(np.ceil(2.0 * to_fwhm))
    y = np.arange(-4 * radius, 4 * radius + 1.0)
    offsets = np.linspace(-0.5, 0.5, 9)

    def profile(fwhm: float, shift: float) -> np.ndarray:
        sigma = fwhm * FWHM_TO_SIGMA
        return np.exp(-0.5 * ((y - shift) / sigma) ** 2) / (sigma * np.sqrt(2.0 * np.pi))

    shifts = np.arange(-radius, radius + 1)
    matrix = [[profile(from_fwhm, offset + shift) for shift in shifts] for offset in offsets]
    wanted = np.concatenate([profile(to_fwhm, offset) for offset in offsets])
    matrix = np.concatenate(matrix, axis=1).T
    if from_fwhm == to_fwhm or to_fwhm**2 - from_fwhm**2 > _NARROWEST**2:
        taps, _ = scipy.optimize.nnls(matrix, wanted)
    else:
        taps, *_ = np.linalg.lstsq(matrix, wanted)
    taps = 0.5 * (taps + taps[::-1])
    return taps / taps.sum()


def widening(grid: FourierGrid, *, from_fwhm: float, to_fwhm: float) -> torch.Tensor:
    """Transfer function that takes an image from one Gaussian PSF to a wider.

    That of the Gaussian between them, cut off at the Nyquist frequency, would
    leave ripples beside bright stars. This is the transform of a compact
    kernel without negative values, which leaves none; of a narrow one, which
    has some, they are below 0.3 % of the peak.

    Parameters
    ----------
    grid
        The grid of the image.
    from_fwhm, to_fwhm
        FWHM in pixels.

    Raises
    ------
    ValueError
        If the PSF would become narrower.
    """
    if to_fwhm < from_fwhm:
        raise ValueError(f"A PSF of {from_fwhm} pixels cannot be widened to {to_fwhm}.")
    taps = _widening_taps(float(from_fwhm), float(to_fwhm))
    kernel = torch.as_tensor(np.outer(taps, taps), dtype=torch.float32, device=grid.device)
    return grid.transfer(kernel)
