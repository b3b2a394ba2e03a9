# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Multiplicative updates: the classical sibling of the network."""

from __future__ import annotations

__all__ = ("fit_mm", "huber_weight")

from collections.abc import Callable

import torch

from .._options import FitOptions
from .._stack import HistoryRow
from ..encoder._inputs import LATENT_FWHM
from ..fourier._decoder import Decoder
from ..statistic._statistic import Statistic, fit_quality

_KAPPA = 2.0
_EXPONENT = 1.5
_START_DELTA = 31.0
_MODEL_ERROR = 0.01


def huber_weight(residual: torch.Tensor, delta: float) -> torch.Tensor:
    """Weight ``psi(r) / r`` of the Huber loss for residuals in sigma."""
    return delta / residual.abs().clamp_min(delta)


def fit_mm(
    statistic: Statistic,
    options: FitOptions,
    report: Callable[[HistoryRow], None],
) -> torch.Tensor:
    """Fit a non-negative latent by multiplicative updates.

    The update is that of ImageMM (Sukurdeep et al. 2025, AJ 170, 233) with
    exponent 1.5, a latent that has a PSF of its own, robust weights whose
    Huber threshold falls to its final value over the first third, and an
    error of the model in proportion to the flux.

    Parameters
    ----------
    statistic
        The stack.
    options
        ``mm_iterations``, ``huber_delta``.
    report
        Takes a row of the fit history.

    Returns
    -------
    `torch.Tensor`
        The latent at a Gaussian PSF of `LATENT_FWHM`, on the padded grid.
    """
    grid, used, image = statistic.grid, statistic.used, statistic.image
    decoder = Decoder(statistic.psf_transfer, grid, latent_fwhm=LATENT_FWHM)
    start = statistic.wiener(statistic.data, strength=0.1, fwhm=2.5)
    floor = 0.01 * statistic.den0.rsqrt()
    latent = start.clamp_min(floor)
    # Where hardly any pixel was seen the updates are noise: leave the latent.
    # By the noise of the sky: a bright core has been seen, if noisy.
    seen = decoder.adjoint(used / statistic.sky_variance[:, None, None])
    reach = seen > 1e-2 * seen.amax()
    ramp = max(1, int(0.35 * options.mm_iterations))
    stride = max(1, options.mm_iterations // 20)
    for step in range(options.mm_iterations):
        share = min(1.0, step / ramp)
        delta = options.huber_delta * _START_DELTA ** (1.0 - share)
        model = decoder.forward(latent)
        variance = statistic.variance + (_MODEL_ERROR * model) ** 2
        residual = (image - model) * variance.rsqrt()
        weight = used * huber_weight(residual, delta) / variance
        top = decoder.adjoint(weight * image)
        bottom = decoder.adjoint(weight * model)
        ratio = torch.where(reach, top / bottom.clamp_min(1e-30), 1.0)
        latent = latent * ratio.clamp(1.0 / _KAPPA, _KAPPA) ** _EXPONENT
        if step % stride == 0 or step == options.mm_iterations - 1:
            report(fit_quality("mm", step, image, model, variance, used, huber_delta=delta))
    return latent
