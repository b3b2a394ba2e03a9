# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proper coadd: linear, with white noise and nothing lost."""

from __future__ import annotations

__all__ = ("KAISER_FILL_STRENGTH", "finish_kaiser")

import numpy as np
import torch

from .._stack import CellFit, CellStack
from ..cell._data_noise import draw_noise
from ..cell._finish import finish_linear
from ..statistic._statistic import Statistic

KAISER_FILL_STRENGTH = 3e-5
"""Strength of the prior of what holes of this coadd are filled with. It is no
sharper than its exposures, so that a weaker one brings nothing but noise."""


def finish_kaiser(stack: CellStack, statistic: Statistic, *, generator: np.random.Generator) -> CellFit:
    """Coadd of Kaiser (2004) and Zackay & Ofek (2017, ApJ 836, 188).

    The statistic D of the stack has the transfer function den and noise of
    power den. Divided by ``sqrt(den)`` it has white noise, and the PSF with
    the transfer function ``sqrt(den)``; divided by ``sqrt(den0)`` too, that
    PSF has the sum 1 and pixels are fluxes. Matched filtering of this image
    with this PSF gives back all that D says.

    Both products are this image, at its own PSF: it has no latent.

    Parameters
    ----------
    stack
        The exposures; the kernel is cut to the size of theirs.
    statistic
        The statistic of them, with its holes filled.
    generator
        Source of the noise realization.
    """
    grid = statistic.grid
    # Where rounding leaves no power at all there is no signal either.
    den = statistic.den.clamp_min(1e-30 * float(statistic.den0))
    root = den.sqrt() * statistic.den0.sqrt()
    weighted = grid.transform(draw_noise(statistic, generator)) / statistic.sky_variance[:, None, None]
    noise = grid.inverse((statistic.psf_transfer.conj() * weighted).sum(0) / root)
    share = statistic.coverage
    kernel = torch.fft.fftshift(grid.inverse(den.sqrt() / statistic.den0.sqrt())).cpu().numpy()
    return finish_linear(
        statistic,
        image=grid.crop(_whiten(statistic, root, share)),
        variance=grid.crop(_variance(statistic, root) / share),
        noise=grid.crop(noise * share.rsqrt()),
        psf=_cut_stamp(kernel, stack.psf.shape[-1]),
    )


def _variance(statistic: Statistic, root: torch.Tensor) -> torch.Tensor:
    """Propagate the variance of every pixel through the filters, one of each
    exposure; on blank sky of full coverage this is ``1 / den0``.
    """
    grid = statistic.grid
    total = torch.zeros(grid.shape, device=root.device)
    for transfer, sky, variance in zip(
        statistic.psf_transfer, statistic.sky_variance, statistic.variance, strict=True
    ):
        squared = grid.inverse(transfer.conj() / (sky * root)) ** 2
        padded = sky.expand(grid.shape).clone()
        grid.crop(padded)[:] = variance
        total += grid.inverse(grid.transform(squared) * grid.transform(padded))
    # Rounding can leave a trace below 0 beside a very bright star.
    return total.clamp_min(1e-6 / statistic.den0)


def _whiten(statistic: Statistic, root: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Divide D by the root of its noise power.

    Where only a share of the weight was seen, the rest was filled with the
    Wiener model of it, which holds nothing beyond the frequencies that it
    can know. There D is too small by the share, signal and noise alike. In
    a share that varies slowly this undoes it; the exposures missing are
    taken to have PSFs like the others'.
    """
    grid = statistic.grid
    white = statistic.data / root
    prior = KAISER_FILL_STRENGTH * statistic.den0
    beyond = grid.inverse(white * (prior / (statistic.den + prior)))
    return grid.inverse(white) + (1.0 / share - 1.0) * beyond


def _cut_stamp(kernel: np.ndarray, size: int) -> np.ndarray:
    """Cut an odd stamp, float32 ``(p, p)`` with sum 1, out of a kernel that
    is centred on ``shape // 2``.
    """
    half = min(size, *(2 * ((n - 1) // 2) + 1 for n in kernel.shape)) // 2
    row, column = (n // 2 for n in kernel.shape)
    stamp = kernel[row - half : row + half + 1, column - half : column + half + 1].astype(float)
    return (stamp / stamp.sum()).astype(np.float32)
