# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the products of the encoder scatter from one observation to the next."""

from __future__ import annotations

__all__ = ("Scatter", "ScatterHead", "describe_product")

import dataclasses

import numpy as np
import torch
from torch import nn

from ._inputs import EncoderInputs
from ._unet import Block, Stem, asinh, make_head

_CHANNELS = 24

_N_ABOUT = 2 + 6
"""Channels of `describe_product`: S/N, width, and those of
`EncoderInputs.constants`."""

_LEAST, _MOST = -5.0, 3.0
"""Limits of the logarithms."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scatter:
    """Standard deviations relative to those of linearly filtered noise,
    ``(b, rows, columns)``.
    """

    latent: torch.Tensor
    """Of the pixels of the latent."""
    coadd: torch.Tensor
    """Of those of the coadd."""
    psf_flux: torch.Tensor
    """Of fluxes measured about each pixel with the PSF of the coadd."""


class ScatterHead(nn.Module):
    """Small network that tells how products of the encoder scatter with the
    noise.

    Noise that a linear filter passes has a variance that can be calculated.
    The encoder is not linear: it holds the sky quiet, and sharpens bright
    sources more than the filter does. The head learns by how much, from
    pairs of observations of one sky. It says nothing about what all
    observations of a sky have wrong in common.

    Parameters
    ----------
    state_channels
        Channels of what the encoder knows of each place.
    products
        How many.
    """

    def __init__(self, state_channels: int, products: int):
        super().__init__()
        self.stem = Stem(state_channels + _N_ABOUT, _CHANNELS)
        self.blocks = nn.Sequential(Block(_CHANNELS, 5, 2), Block(_CHANNELS, 5, 2))
        self.head = make_head(_CHANNELS, products)

    def forward(self, state: torch.Tensor, about: torch.Tensor) -> torch.Tensor:
        """Tell standard deviations relative to those of filtered noise.

        Parameters
        ----------
        state
            What the encoder knows, ``(b, channels, rows, columns)``.
        about
            What `describe_product` says, ``(b, channels, rows, columns)``.

        Returns
        -------
        `torch.Tensor`
            ``(b, products, rows, columns)``.
        """
        hidden = nn.functional.leaky_relu(self.stem(state, about), 0.1)
        logarithms = self.head(nn.functional.leaky_relu(self.blocks(hidden), 0.1))
        return logarithms.clamp(_LEAST, _MOST).exp()


def describe_product(
    inputs: EncoderInputs, *, delivered: torch.Tensor, sigma: torch.Tensor, fwhm: float
) -> torch.Tensor:
    """Make what a `ScatterHead` is told beside the state of the encoder: S/N
    of the product, width of the target, kind of stack.

    Parameters
    ----------
    inputs
        What the encoder saw.
    delivered
        Its latents at the target, ``(b, rows, columns)``.
    sigma
        Standard deviation of the linearly filtered noise, same shape.
    fwhm
        FWHM of the target, in pixels.

    Returns
    -------
    `torch.Tensor`
        ``(b, channels, rows, columns)``.
    """
    signal = asinh(delivered / sigma)[:, None]
    width = torch.full_like(signal, np.log(fwhm / 2.5))
    return torch.cat([signal, width, inputs.constants()], dim=1)
