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
    "ERROR_FWHM",
    "LATENT_FWHM",
    "STRENGTHS",
    "EncoderInputs",
    "EncoderOutput",
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

import numpy as np
import safetensors.torch
import torch
from torch import nn

from ._fourier import FourierGrid

LATENT_FWHM = 1.5
"""FWHM in pixels of the Gaussian PSF of the encoder's latent: sharper than
any target, so that one set of weights serves all of them."""

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Wiener strengths of the encoder's inputs, smooth to sharp."""

ERROR_FWHM = (1.5, 2.0, 2.5, 4.0)
"""FWHM in pixels of the targets whose error the encoder predicts."""

_REFERENCE = 1
"""Index of the Wiener image whose noise is the unit of additive terms."""

_N_STRENGTHS = len(STRENGTHS)
_MATCHED_FWHM = (0.0, 4.0, 9.0)
_N_CONSTANTS = _N_STRENGTHS
_N_FEATURES = 2 * _N_STRENGTHS + len(_MATCHED_FWHM) + _N_CONSTANTS
_WEIGHTS = "resources/weights/statistic_encoder.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncoderInputs:
    """A batch of statistics, and the linear images that the encoder mixes.

    All channels are ratios to the noise or to each other, so that the encoder
    commutes with a change of the flux unit.
    """

    grid: FourierGrid
    data: torch.Tensor
    """D, complex ``(b, rows, columns // 2 + 1)``."""
    den: torch.Tensor
    """Its noise power, same shape."""
    inflation: torch.Tensor
    """Noise of D relative to `den`, ``(b, 1, rows, columns)``."""
    filters: torch.Tensor
    """Wiener filters to the latent's PSF, ``(b, strength, rows, ...)``."""
    sigma: torch.Tensor
    """Noise of the Wiener images, ``(b, strength, rows, columns)``."""

    @classmethod
    def from_statistic(
        cls,
        data: torch.Tensor,
        den: torch.Tensor,
        grid: FourierGrid,
        *,
        inflation: torch.Tensor | None = None,
    ) -> EncoderInputs:
        """Make the inputs for statistics D and their transfer functions.

        Parameters
        ----------
        data
            D, complex ``(b, rows, columns // 2 + 1)``.
        den
            Its noise power, same shape.
        grid
            The grid of the transforms.
        inflation
            Noise of D relative to full coverage, ``(b, rows, columns)``;
            1 if `None`.
        """
        if inflation is None:
            inflation = torch.ones((len(den), *grid.shape), device=den.device)
        inflation = inflation[:, None]
        strengths = torch.tensor(STRENGTHS, device=den.device)[:, None, None]
        filters = grid.gaussian(LATENT_FWHM) / (den[:, None] + strengths * den[:, None, :1, :1])
        sigma = grid.mean_power(filters**2 * den[:, None]).sqrt()[..., None, None] * inflation
        return cls(grid=grid, data=data, den=den, inflation=inflation, filters=filters, sigma=sigma)

    @property
    def unit(self) -> torch.Tensor:
        """Noise of the reference Wiener image, ``(b, rows, columns)``."""
        return self.sigma[:, _REFERENCE]

    def residual(self, latent: torch.Tensor) -> torch.Tensor:
        """Return what a latent ``(b, rows, columns)`` leaves of D."""
        grid = self.grid
        return self.data - self.den * grid.transform(latent) / grid.gaussian(LATENT_FWHM)

    def images(self, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Filter a statistic, D or what is left of it.

        Returns
        -------
        wiener : `torch.Tensor`
            Wiener images at the latent's PSF, ``(b, strength, rows,
            columns)``.
        smooth : `torch.Tensor`
            Two of them smoothed, ``(b, 2, rows, columns)``.
        detection : `torch.Tensor`
            Matched-filter images in units of their noise, ``(b, scale, rows,
            columns)``.
        """
        grid, den = self.grid, self.den[:, None]
        spectra = data[:, None] * self.filters
        matched = torch.stack([grid.gaussian(fwhm) for fwhm in _MATCHED_FWHM])
        noise = grid.mean_power(matched**2 * den).sqrt()[..., None, None] * self.inflation
        smooth = grid.inverse(spectra[:, 1:3] * grid.gaussian(5.0))
        return grid.inverse(spectra), smooth, grid.inverse(data[:, None] * matched) / noise

    def constants(self) -> torch.Tensor:
        """Channels that tell the kind of stack and how much of it was seen."""
        sharpness = 0.5 * torch.log10(self.sigma[:, 1:] / self.sigma[:, :1])
        return torch.cat([sharpness, 2.0 * torch.log(self.inflation)], dim=1)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncoderOutput:
    """What the encoder makes of a batch."""

    latent: torch.Tensor
    """Non-negative, ``(b, rows, columns)``, at the latent's PSF."""
    first: torch.Tensor
    """The latent of the first stage."""
    log_error: torch.Tensor
    """For each of `ERROR_FWHM` the logarithms of the error's two parts, in
    the noise unit and relative to the latent, ``(b, 2, target, rows,
    columns)``."""

    def errors(self, delivered: torch.Tensor, *, unit: torch.Tensor) -> torch.Tensor:
        """Return the errors of latents delivered at each of `ERROR_FWHM`.

        Parameters
        ----------
        delivered
            The latents at those PSFs, ``(b, target, rows, columns)``.
        unit
            Noise unit of the inputs, ``(b, rows, columns)``.
        """
        noise, relative = self.log_error.exp().unbind(1)
        return unit[:, None] * noise + delivered.clamp_min(0.0) * relative

    def error(self, delivered: torch.Tensor, *, unit: torch.Tensor, fwhm: float) -> torch.Tensor:
        """Return the error of the first latent of the batch, delivered at
        any FWHM in pixels, ``(rows, columns)``.
        """
        place = float(np.interp(np.log(fwhm), np.log(ERROR_FWHM), np.arange(len(ERROR_FWHM))))
        low = min(int(place), len(ERROR_FWHM) - 2)
        between = torch.lerp(self.log_error[0, :, low], self.log_error[0, :, low + 1], place - low)
        noise, relative = between.exp()
        return unit[0] * noise + delivered.clamp_min(0.0) * relative


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


class _UNet(nn.Module):
    """Small U-Net of depth-wise and point-wise convolutions."""

    def __init__(self, features: int, channels: int):
        super().__init__()
        c = channels
        self.stem = nn.Conv2d(features, c, 1)
        self.fine = nn.Sequential(_Block(c, 5, 1), _Block(c, 5, 1))
        self.down = nn.Conv2d(c, 2 * c, 2, stride=2)
        self.middle = nn.Sequential(_Block(2 * c, 5, 2), _Block(2 * c, 5, 2))
        self.down_again = nn.Conv2d(2 * c, 3 * c, 2, stride=2)
        self.coarse = nn.Sequential(_Block(3 * c, 7, 2), _Block(3 * c, 7, 2))
        self.up = nn.ConvTranspose2d(3 * c, 2 * c, 2, stride=2)
        self.middle_up = _Block(2 * c, 5, 2)
        self.up_again = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
        self.fine_up = _Block(c, 5, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = features.contiguous(memory_format=torch.channels_last)
        fine = self.fine(nn.functional.leaky_relu(self.stem(x), 0.1))
        middle = self.middle(nn.functional.leaky_relu(self.down(fine), 0.1))
        coarse = self.coarse(self.down_again(middle))
        middle = self.middle_up(middle + self.up(coarse))
        return self.fine_up(fine + self.up_again(middle))


def _head(channels: int, outputs: int) -> nn.Conv2d:
    head = nn.Conv2d(channels, outputs, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


class StatisticEncoder(nn.Module):
    """Two small U-Nets that mix the Wiener images of a stack into its latent.

    The first stage is a convex mixture of the Wiener images of D, times a
    gain, plus additive terms in units of noise and of local brightness,
    through a ReLU. The second is an unrolled step of data consistency: it
    sees what the first has left of D and adds a learned share of its Wiener
    images. A third, small head predicts the error of the result.

    Parameters
    ----------
    channels, second_channels
        Channels of the stages at full resolution.
    """

    def __init__(self, channels: int = 20, second_channels: int = 16):
        super().__init__()
        self.first = _UNet(_N_FEATURES, channels)
        self.first_head = _head(channels, _N_STRENGTHS + 3)
        # Begin near a moderate Wiener image.
        start = torch.tensor([0.0, 2.0, 0.5, -0.5, -1.0, -1.5])
        with torch.no_grad():
            self.first_head.bias[:_N_STRENGTHS] = start
        self.second = _UNet(_N_FEATURES + channels + 2, second_channels)
        self.second_head = _head(second_channels, _N_STRENGTHS + 2)
        self.error = nn.Conv2d(second_channels, 16, 1)
        self.error_head = _head(16, 2 * len(ERROR_FWHM))
        with torch.no_grad():
            self.error_head.bias[: len(ERROR_FWHM)] = -1.5
            self.error_head.bias[len(ERROR_FWHM) :] = -3.5

    def forward(self, inputs: EncoderInputs, *, slope: float = 0.0) -> EncoderOutput:
        """Fit a batch; ``slope`` of the final ReLU below 0 is for training
        only.
        """
        first, amplitude, state = self._start(inputs, slope)
        latent, state = self._refine(inputs, first, amplitude, state, slope)
        hidden = nn.functional.leaky_relu(self.error(state.detach()), 0.1)
        log_error = self.error_head(hidden).unflatten(1, (2, -1)).clamp(-12.0, 6.0)
        return EncoderOutput(latent=latent, first=first, log_error=log_error)

    def _start(self, inputs: EncoderInputs, slope: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        wiener, smooth, detection = inputs.images(inputs.data)
        local = wiener / torch.sqrt((0.5 * inputs.sigma) ** 2 + smooth[:, :1] ** 2)
        channels = [torch.asinh(wiener / inputs.sigma), local.clamp(-6.0, 6.0), torch.asinh(detection)]
        state = self.first(torch.cat([*channels, inputs.constants()], dim=1))
        out = self.first_head(state)
        mixture = (torch.softmax(out[:, :_N_STRENGTHS], dim=1) * wiener).sum(1)
        gain, offset, shape = out[:, _N_STRENGTHS:].unbind(1)
        amplitude = smooth[:, 1].clamp_min(0.0)
        latent = mixture * (2.0 * torch.sigmoid(gain)) + inputs.unit * offset
        latent = latent + 0.2 * amplitude * torch.tanh(shape)
        return nn.functional.leaky_relu(latent, slope), amplitude, state

    def _refine(
        self,
        inputs: EncoderInputs,
        first: torch.Tensor,
        amplitude: torch.Tensor,
        state: torch.Tensor,
        slope: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wiener, _, detection = inputs.images(inputs.residual(first))
        bright = torch.sqrt(inputs.unit**2 + amplitude**2)[:, None]
        channels = [
            torch.asinh(wiener / inputs.sigma),
            (30.0 * wiener / bright).clamp(-6.0, 6.0),
            torch.asinh(detection),
            torch.asinh(first[:, None] / inputs.unit[:, None]),
            (first[:, None] / bright).clamp(0.0, 12.0),
            inputs.constants(),
            state,
        ]
        state = self.second(torch.cat(channels, dim=1))
        out = self.second_head(state)
        correction = (out[:, :_N_STRENGTHS] * wiener).sum(1)
        offset, shape = out[:, _N_STRENGTHS:].unbind(1)
        latent = first + correction + inputs.unit * offset + 0.1 * amplitude * torch.tanh(shape)
        return nn.functional.leaky_relu(latent, slope), state


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
