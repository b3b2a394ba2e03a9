# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the exposures disagree with a latent, pixel by pixel."""

from __future__ import annotations

__all__ = ("measure_misfit",)

import torch

from .._batches import parts
from ..clip._neighbours import brightest_nearby
from ..statistic._statistic import Statistic
from ._expected_variance import expect_variance

_MODEL_ERROR = 0.02
"""Error of the model in proportion to the flux: PSF models are not better."""

_CHI2_ERROR = 0.1
"""The same for chi2, where it is relative to the brightest pixel nearby."""

_CHI2_FWHM = 8.0
"""FWHM in pixels of the window in which chi2 is averaged."""


def measure_misfit(statistic: Statistic, model: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Measure how the exposures disagree with a latent, pixel by pixel.

    Parameters
    ----------
    statistic
        The stack.
    model
        The decoded latent, ``(n, h, w)``.

    Returns
    -------
    misfit
        Flux of the point source that explains the residuals best, in units
        of its error, ``(h, w)``: what all exposures say together. The error
        is that of the noise and 2 % of the flux of the model there.
    chi2
        Reduced chi2 about the model in a window of 8 pixels FWHM, ``(h, w)``:
        it sees exposures that disagree with each other, too. The variance has
        been raised by 10 % of the brightest pixel nearby, so that the small
        errors of PSFs do not count.
    """
    grid = statistic.grid
    # Sums of the squares of the kernels.
    power = grid.mean_power(statistic.psf_transfer.abs() ** 2)[:, None, None]
    weights, models, scores = (torch.zeros_like(model[0]) for _ in range(3))
    total = torch.zeros_like(statistic.psf_transfer[0])
    for part in parts(model):
        image, variance, used = (x[part] for x in (statistic.image, statistic.variance, statistic.used))
        residual = image - model[part]
        variance = expect_variance(
            variance,
            residual=residual,
            model=model[part],
            used=used,
            sky_variance=statistic.sky_variance[part],
        )
        weight = used / variance
        total += (statistic.psf_transfer[part].conj() * grid.transform(weight * residual)).sum(0)
        weights += (weight * power[part]).sum(0)
        models += (weight * model[part]).sum(0)
        near = brightest_nearby(model[part].abs(), 2).mul_(_CHI2_ERROR).square_().add_(variance)
        scores += (used * residual.square_() / near).sum(0)

    # One mean PSF, and one of its square, where only errors depend on it.
    transfer = (statistic.den / statistic.den0).sqrt()
    squared = grid.transform(grid.inverse(transfer.to(torch.complex64)) ** 2)
    precision = grid.crop(grid.inverse(grid.transform(weights) * squared / squared[0, 0].real))
    enough = precision > 1e-3 * precision.amax()
    precision = precision.clamp_min(1e-3 * float(precision.amax()) + 1e-30)
    flux = grid.crop(grid.inverse(total)) / precision
    bright = grid.crop(grid.inverse(grid.transform(models) * transfer)) / precision
    misfit = flux / (1.0 / precision + (_MODEL_ERROR * bright) ** 2).sqrt()
    window = grid.gaussian(_CHI2_FWHM)
    smooth = [
        grid.crop(grid.inverse(window * grid.transform(one))) for one in (scores, statistic.used.sum(0))
    ]
    chi2 = smooth[0] / smooth[1].clamp_min(0.1)
    return torch.where(enough, misfit, 0.0), torch.where(enough, chi2, 0.0)
