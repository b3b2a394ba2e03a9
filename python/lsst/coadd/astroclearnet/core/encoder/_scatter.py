# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the products of the encoder scatter from one observation to the next."""

from __future__ import annotations

__all__ = ("Scatter", "ScatterHead")

import dataclasses

import numpy as np
import torch
from torch import nn

from ._inputs import EncoderInputs
from ._unet import Block, Stem, asinh, make_head

_CHANNELS = 24
_LEAST, _MOST = -5.0, 3.0
"""Limits of the logarithms."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scatter:
    """Standard deviations of the two products, relative to that of the
    linearly filtered noise, ``(b, rows, columns)``.
    """

    latent: torch.Tensor
    coadd: torch.Tensor


class ScatterHead(nn.Module):
    """Small network that tells how latent and coadd scatter with the noise.

    Noise that a linear filter passes has a variance that can be calculated.
    The encoder is not linear: it holds the sky quiet, and sharpens bright
    sources more than the filter does. The head learns by how much, from
    pairs of observations of one sky. It says nothing about what all
    observations of a sky have wrong in common.

    Parameters
    ----------
    state_channels
        Channels of what the encoder knows of each place.
    """

    def __init__(self, state_channels: int):
        super().__init__()
        # Also: S/N of the product, width of the target, kind of stack.
        features = state_channels + 2 + 6
        self.stem = Stem(features, _CHANNELS)
        self.blocks = nn.Sequential(Block(_CHANNELS, 5, 2), Block(_CHANNELS, 5, 2))
        self.head = make_head(_CHANNELS, 2)

    def forward(
        self,
        inputs: EncoderInputs,
        state: torch.Tensor,
        *,
        delivered: torch.Tensor,
        sigma: torch.Tensor,
        fwhm: float,
    ) -> Scatter:
        """Tell the scatter of products at one target PSF.

        Parameters
        ----------
        inputs
            What the encoder saw.
        state
            What it knows, ``(b, channels, rows, columns)``.
        delivered
            Its latents at the target, ``(b, rows, columns)``.
        sigma
            Standard deviation of the linearly filtered noise, same shape.
        fwhm
            FWHM of the target, in pixels.
        """
        signal = asinh(delivered / sigma)[:, None]
        width = torch.full_like(signal, np.log(fwhm / 2.5))
        others = torch.cat([signal, width, inputs.constants()], dim=1)
        hidden = nn.functional.leaky_relu(self.stem(state, others), 0.1)
        logarithms = self.head(nn.functional.leaky_relu(self.blocks(hidden), 0.1))
        latent, coadd = logarithms.clamp(_LEAST, _MOST).exp().unbind(1)
        return Scatter(latent=latent, coadd=coadd)
