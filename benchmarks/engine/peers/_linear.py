# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Linear coadds as others publish them: nothing clipped but what is masked."""

from __future__ import annotations

__all__ = ("average", "fit_proper", "fit_weighted_mean")

import numpy as np
import scipy.fft

from lsst.coadd.astroclearnet.core import CellStack

from ._types import Delivery, FitInputs, stitch


def fit_weighted_mean(inputs: FitInputs) -> list[Delivery]:
    """Mean of the unmasked pixels, weighted by the variance of the sky."""
    return [stitch(inputs, average)]


def fit_proper(inputs: FitInputs) -> list[Delivery]:
    """Proper coadd of Zackay & Ofek (2017, ApJ 836, 188), equation 7.

    Masked pixels take the value of the weighted mean. Flux 1 gives a PSF of
    sum 1, so that pixels are fluxes.
    """
    return [stitch(inputs, _combine_properly)]


def _weights(stack: CellStack) -> np.ndarray:
    """One over the variance of each exposure's sky, ``(n, 1, 1)``."""
    sky = [np.quantile(v[g], 0.1) for v, g in zip(stack.variance, stack.good, strict=True)]
    return 1.0 / np.array(sky)[:, None, None]


def average(stack: CellStack) -> Delivery:
    """Average the exposures of one cell, halo included."""
    weight = _weights(stack) * stack.good
    total = weight.sum(0)
    mean = (weight * stack.image).sum(0) / np.maximum(total, 1e-12 * total.max())
    share = weight.sum((1, 2))
    psf = np.tensordot(share / share.sum(), stack.psf, axes=1)
    return Delivery(plane="coadd", image=mean, psf=(psf / psf.sum())[None, None])


def _combine_properly(stack: CellStack) -> Delivery:
    weight = _weights(stack)
    filled = np.where(stack.good, stack.image, average(stack).image)
    size = stack.psf.shape[-1]
    shape = [scipy.fft.next_fast_len(n + size, real=True) for n in filled.shape[1:]]
    # Light beyond the edges is unknown; a mirror image does least harm.
    margin = [(0, 0), *((0, full - n) for full, n in zip(shape, filled.shape[1:], strict=True))]
    images = scipy.fft.rfft2(np.pad(filled, margin, mode="symmetric"))
    kernels = np.zeros((len(filled), *shape))
    kernels[:, :size, :size] = stack.psf
    transfer = scipy.fft.rfft2(np.roll(kernels, (-(size // 2), -(size // 2)), (1, 2)))
    power = (weight * np.abs(transfer) ** 2).sum(0)
    root = np.sqrt(np.maximum(power, 1e-12 * power[0, 0]))
    data = (weight * transfer.conj() * images).sum(0)
    unit = np.sqrt(power[0, 0])
    image = scipy.fft.irfft2(data / root, s=shape)[: filled.shape[1], : filled.shape[2]] / unit
    psf = np.fft.fftshift(scipy.fft.irfft2(root, s=shape)) / unit
    row, column, half = shape[0] // 2, shape[1] // 2, size // 2
    psf = psf[row - half : row + half + 1, column - half : column + half + 1]
    return Delivery(plane="coadd", image=image, psf=(psf / psf.sum())[None, None])
