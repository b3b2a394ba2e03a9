# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The trained encoder: from the sufficient statistic to the latent image."""

from __future__ import annotations

__all__ = (
    "LATENT_FWHM",
    "STRENGTHS",
    "EncoderInputs",
    "StatisticEncoder",
    "load_encoder",
    "weights_digest",
    "weights_file",
)

import dataclasses
import functools
import hashlib
import importlib.resources
from importlib.resources.abc import Traversable

import safetensors.torch
import torch
from torch import nn

from ._fourier import FourierGrid

LATENT_FWHM = 2.0
"""FWHM in pixels of the Gaussian PSF of the encoder's latent."""

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Wiener strengths of the encoder's inputs, smooth to sharp."""

_REFERENCE = 1
"""Index of the Wiener image whose noise is the unit of additive terms."""

_N_STRENGTHS = len(STRENGTHS)
_MATCHED_FWHM = (0.0, 4.0, 9.0)
_N_FEATURES = 2 * _N_STRENGTHS + len(_MATCHED_FWHM) + _N_STRENGTHS - 1
_WEIGHTS = "resources/weights/statistic_encoder.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncoderInputs:
    """What the encoder is given for a batch of statistics."""

    features: torch.Tensor
    """Dimensionless channels, ``(b, channels, rows, columns)``."""
    wiener: torch.Tensor
    """Wiener images at the latent's PSF, ``(b, strength, rows, columns)``."""
    amplitude: torch.Tensor
    """Smooth local brightness, ``(b, rows, columns)``, >= 0."""
    unit: torch.Tensor
    """Noise of the reference Wiener image, ``(b, 1, 1)``."""

    @classmethod
    def from_statistic(cls, data: torch.Tensor, den: torch.Tensor, grid: FourierGrid) -> EncoderInputs:
        """Make the inputs for statistics D and their transfer functions.

        All channels are ratios, so that the encoder commutes with a change
        of the flux unit.

        Parameters
        ----------
        data
            D, complex ``(b, rows, columns // 2 + 1)``.
        den
            Its noise power, same shape.
        grid
            The grid of the transforms.
        """
        den = den[:, None]
        den0 = den[..., :1, :1]
        strengths = torch.tensor(STRENGTHS, device=den.device)[:, None, None]
        filters = grid.gaussian(LATENT_FWHM) / (den + strengths * den0)
        spectra = data[:, None] * filters
        wiener = grid.inverse(spectra)
        sigma = grid.mean_power(filters**2 * den).sqrt()[..., None, None]

        smooth = grid.inverse(spectra[:, 1:3] * grid.gaussian(5.0))
        local = wiener / torch.sqrt((0.5 * sigma) ** 2 + smooth[:, :1] ** 2)

        matched = torch.stack([grid.gaussian(fwhm) for fwhm in _MATCHED_FWHM])
        matched_sigma = grid.mean_power(matched**2 * den).sqrt()[..., None, None]
        detection = grid.inverse(data[:, None] * matched) / matched_sigma

        shape = (-1, -1, *wiener.shape[-2:])
        constants = 0.5 * torch.log10(sigma[:, 1:] / sigma[:, :1]).expand(shape)
        channels = [torch.asinh(wiener / sigma), local.clamp(-6.0, 6.0), torch.asinh(detection), constants]
        return cls(
            features=torch.cat(channels, dim=1),
            wiener=wiener,
            amplitude=smooth[:, 1].clamp_min(0.0),
            unit=sigma[:, _REFERENCE],
        )


class _Block(nn.Module):
    """Depth-wise, then two point-wise convolutions, added to the input."""

    def __init__(self, channels: int, kernel: int, expansion: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.widen = nn.Conv2d(channels, expansion * channels, 1)
        self.project = nn.Conv2d(expansion * channels, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project(nn.functional.leaky_relu(self.widen(self.depthwise(x)), 0.1))


class StatisticEncoder(nn.Module):
    """Small U-Net that mixes the Wiener images of a stack into its latent.

    The output is a convex mixture of the Wiener images, times a gain, plus
    additive terms in units of noise and of local brightness, through a ReLU.

    Parameters
    ----------
    channels
        Channels at full resolution.
    """

    def __init__(self, channels: int = 20):
        super().__init__()
        c = channels
        self.stem = nn.Conv2d(_N_FEATURES, c, 1)
        self.fine = nn.Sequential(_Block(c, 5, 1), _Block(c, 5, 1))
        self.down = nn.Conv2d(c, 2 * c, 2, stride=2)
        self.middle = nn.Sequential(_Block(2 * c, 5, 2), _Block(2 * c, 5, 2))
        self.down_again = nn.Conv2d(2 * c, 3 * c, 2, stride=2)
        self.coarse = nn.Sequential(_Block(3 * c, 7, 2), _Block(3 * c, 7, 2))
        self.up = nn.ConvTranspose2d(3 * c, 2 * c, 2, stride=2)
        self.middle_up = _Block(2 * c, 5, 2)
        self.up_again = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
        self.fine_up = _Block(c, 5, 1)
        self.head = nn.Conv2d(c, _N_STRENGTHS + 3, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # Begin near a moderate Wiener image.
        start = torch.tensor([0.0, 2.0, 0.5, -0.5, -1.0, -1.5])
        with torch.no_grad():
            self.head.bias[:_N_STRENGTHS] = start

    def forward(self, inputs: EncoderInputs, *, slope: float = 0.0) -> torch.Tensor:
        """Return the latents, ``(b, rows, columns)``; ``slope`` of the final
        ReLU below 0 is for training only.
        """
        x = inputs.features.contiguous(memory_format=torch.channels_last)
        fine = self.fine(nn.functional.leaky_relu(self.stem(x), 0.1))
        middle = self.middle(nn.functional.leaky_relu(self.down(fine), 0.1))
        coarse = self.coarse(self.down_again(middle))
        middle = self.middle_up(middle + self.up(coarse))
        out = self.head(self.fine_up(fine + self.up_again(middle)))
        mixture = (torch.softmax(out[:, :_N_STRENGTHS], dim=1) * inputs.wiener).sum(1)
        gain, offset, shape = out[:, _N_STRENGTHS:].unbind(1)
        latent = mixture * (2.0 * torch.sigmoid(gain)) + inputs.unit * offset
        latent = latent + 0.2 * inputs.amplitude * torch.tanh(shape)
        return nn.functional.leaky_relu(latent, slope)


def weights_file() -> Traversable:
    """Return the file of the shipped weights."""
    return importlib.resources.files("lsst.coadd.astroclearnet").joinpath(_WEIGHTS)


@functools.cache
def weights_digest() -> str:
    """SHA-256 of the shipped weights (`str`), for provenance."""
    return hashlib.sha256(weights_file().read_bytes()).hexdigest()


def load_encoder(device: torch.device | str = "cpu") -> StatisticEncoder:
    """Load the encoder with the shipped weights.

    The file holds arrays only (safetensors); no code is run to read it. The
    command that made it stands in its metadata.
    """
    encoder = StatisticEncoder()
    encoder.load_state_dict(safetensors.torch.load(weights_file().read_bytes()))
    return encoder.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
