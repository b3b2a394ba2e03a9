# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restoration without a network: pixels that an optimiser moves."""

from __future__ import annotations

__all__ = ("fit_deconvolved_coadd", "fit_image_mm", "fit_pixels")

import numpy as np
import scipy.ndimage
import torch
from torch.nn.functional import huber_loss

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core._options import FitOptions
from lsst.coadd.astroclearnet.core.cell import _finish
from lsst.coadd.astroclearnet.core.cell._finish import gaussian_kernel
from lsst.coadd.astroclearnet.core.fourier._decoder import Decoder
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid
from lsst.coadd.astroclearnet.core.methods import _mm
from lsst.coadd.astroclearnet.core.statistic._statistic import Statistic, compute_statistic

from ._linear import average
from ._types import Delivery, FitInputs, stitch

_TARGET_FWHM = 2.5
_MM_ITERATIONS = 200
_KAPPA = 2.0

_PIXELS_FWHM = 2.0
"""FWHM in pixels of the PSF of the pixels that Adam moves: the network's."""

_PIXELS_STEPS = 500
_PIXELS_RATE = 0.05

_DECONVOLVED_SIGMA = 0.8
_DECONVOLVED_STEPS = 100
_DECONVOLVED_CHANGE = 1e-3


def fit_image_mm(inputs: FitInputs) -> list[Delivery]:
    """Restore the sky as ImageMM does: without a PSF of its own.

    Multiplicative updates with Huber weights (Sukurdeep et al. 2025, AJ 170,
    233), 200 of them, kappa 2, on the unmasked pixels; nothing is clipped.
    The result has no PSF: it is delivered after a Gaussian of 2.5 px.
    """
    return [stitch(inputs, _restore_points)]


def _restore_points(stack: CellStack) -> Delivery:
    grid, decoder, image, variance, good = _prepare(stack, latent_fwhm=0.0)
    start = torch.as_tensor(average(stack).image, dtype=torch.float32)
    floor = 0.01 / float((1.0 / variance.amin((1, 2))).sum()) ** 0.5
    latent = torch.full(grid.shape, floor)
    grid.crop(latent)[:] = start.clamp_min(floor)
    reach = decoder.adjoint(good / variance)
    reach = reach > 1e-2 * reach.amax()
    options = FitOptions()
    for _ in range(_MM_ITERATIONS):
        model = decoder.forward(latent)
        weight = good * _mm.huber_weight((image - model) * variance.rsqrt(), options.huber_delta) / variance
        ratio = decoder.adjoint(weight * image) / decoder.adjoint(weight * model).clamp_min(1e-30)
        latent = latent * torch.where(reach, ratio, 1.0).clamp(1.0 / _KAPPA, _KAPPA)
    blurred = grid.inverse(grid.transform(latent) * grid.gaussian(_TARGET_FWHM))
    return _deliver(grid.crop(blurred).numpy(), _TARGET_FWHM)


def fit_pixels(inputs: FitInputs) -> list[Delivery]:
    """Let Adam move non-negative pixels, by the loss of the network.

    500 steps with a cosine schedule from the mean, with the masked,
    sigma-scaled Huber loss on the pixels that the paper's recipe uses, at a
    latent PSF of 2.0 px.
    """
    return [stitch(inputs, _move_pixels)]


def _move_pixels(stack: CellStack) -> Delivery:
    statistic: Statistic = compute_statistic(stack)
    grid = statistic.grid
    decoder = Decoder(statistic.psf_transfer, grid, latent_fwhm=_PIXELS_FWHM)
    unit = float(statistic.den0) ** -0.5
    start = statistic.wiener(statistic.data, strength=0.1, fwhm=_TARGET_FWHM)
    # Pixels move on a scale that is linear for noise and logarithmic above.
    pixels = torch.asinh(start.clamp_min(0.01 * unit) / unit).requires_grad_(True)
    optimiser = torch.optim.Adam([pixels], lr=_PIXELS_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _PIXELS_STEPS)
    n_used = statistic.used.sum()
    for _ in range(_PIXELS_STEPS):
        model = decoder.forward(torch.sinh(pixels.clamp_min(0.0)) * unit)
        residual = (statistic.image - model) * statistic.variance.rsqrt()
        loss = huber_loss(
            residual, torch.zeros_like(residual), reduction="none", delta=FitOptions().huber_delta
        )
        optimiser.zero_grad()
        ((statistic.used * loss).sum() / n_used).backward()
        optimiser.step()
        schedule.step()
    latent = torch.sinh(pixels.detach().clamp_min(0.0)) * unit
    widen = (_TARGET_FWHM**2 - _PIXELS_FWHM**2) ** 0.5
    delivered = grid.inverse(grid.transform(latent) * grid.gaussian(widen))
    return _deliver(grid.crop(delivered).numpy(), _TARGET_FWHM)


def fit_deconvolved_coadd(inputs: FitInputs) -> list[Delivery]:
    """Deconvolve one coadd to a Gaussian of 0.8 px sigma.

    After the idea of the ``DeconvolveExposureTask`` of the LSST stack:
    projected gradient steps from the coadd itself, at most 100, until the
    loss changes by less than 1e-3, and nothing outside of the footprints of
    detections. The coadd is the clipped mean.
    """
    return [stitch(inputs, _deconvolve_mean)]


def _deconvolve_mean(stack: CellStack) -> Delivery:
    statistic = compute_statistic(stack)
    mean = _finish.finish_mean(stack, statistic, generator=np.random.default_rng(1))
    fwhm = 2.3548 * _DECONVOLVED_SIGMA
    grid = statistic.grid
    transfer = grid.transfer(torch.as_tensor(mean.coadd_psf[None]))
    decoder = Decoder(transfer, grid, latent_fwhm=fwhm)
    image = torch.as_tensor(mean.coadd[None])
    noise = float(np.sqrt(np.median(mean.coadd_variance)))
    footprint = torch.as_tensor(_footprints(mean.coadd, mean.coadd_psf, noise))
    model = torch.zeros(grid.shape)
    grid.crop(model)[:] = torch.where(footprint, image[0].clamp_min(0.0), 0.0)
    last = np.inf
    for _ in range(_DECONVOLVED_STEPS):
        residual = image - decoder.forward(model)
        loss = float((residual**2).sum())
        if abs(last - loss) < _DECONVOLVED_CHANGE * loss:
            break
        last = loss
        # The kernel passes no frequency by more than 1: so does the step.
        model = (model + decoder.adjoint(residual)).clamp_min(0.0)
        inner = grid.crop(model)
        inner[:] = torch.where(footprint, inner, 0.0)
    return _deliver(grid.crop(model).numpy(), fwhm)


def _footprints(image: np.ndarray, psf: np.ndarray, noise: float) -> np.ndarray:
    """Mark what is above 5 sigma after the matched filter, and grow it."""
    axis = np.arange(psf.shape[0]) - psf.shape[0] // 2
    sigma = float(np.sqrt((psf * (axis[:, None] ** 2 + axis**2)).clip(0).sum() / 2))
    smooth = scipy.ndimage.correlate(image, psf, mode="nearest")
    found = smooth > 5.0 * noise * np.sqrt(np.sum(psf**2))
    return scipy.ndimage.binary_dilation(found, iterations=round(2.4 * min(sigma, 3.0)))


def _prepare(stack: CellStack, *, latent_fwhm: float):
    height, width = stack.image.shape[1:]
    grid = FourierGrid.for_images(height=height, width=width)
    transfer = grid.transfer(torch.as_tensor(stack.psf))
    good = torch.as_tensor(stack.good).float()
    variance = torch.where(good > 0, torch.as_tensor(stack.variance), 1.0)
    fill = variance.amax((1, 2), keepdim=True)
    variance = torch.where(good > 0, variance, fill)
    decoder = Decoder(transfer, grid, latent_fwhm=latent_fwhm)
    return grid, decoder, torch.as_tensor(stack.image), variance, good


def _deliver(image: np.ndarray, fwhm: float) -> Delivery:
    kernel = gaussian_kernel(fwhm)
    return Delivery(plane="latent", image=image, psf=kernel[None, None], target_fwhm=fwhm)
