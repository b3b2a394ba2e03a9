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
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from .._errors import CoreError
from ._inputs import N_FEATURES, STRENGTHS, EncoderInputs
from ._scatter import Scatter, ScatterHead, describe_product
from ._unet import UNet, asinh, make_head

_N_STRENGTHS = len(STRENGTHS)
_FIRST, _SECOND = 20, 16
"""Channels of the two stages at full resolution."""

_WEIGHTS = "resources/weights/statistic_encoder.safetensors"
_LFS_POINTER = b"version https://git-lfs"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncoderOutput:
    """What the encoder makes of a batch."""

    latent: torch.Tensor
    """Non-negative, ``(b, rows, columns)``, at the latent's PSF."""
    first: torch.Tensor
    """The latent of the first stage."""
    state: torch.Tensor
    """What the encoder knows of each place, ``(b, channels, rows,
    columns)``."""


class StatisticEncoder(nn.Module):
    """Two small U-Nets that mix the Wiener images of a stack into its latent.

    The first stage is a convex mixture of the Wiener images of D, times a
    gain, plus additive terms in units of noise and of local brightness,
    through a ReLU. The second is an unrolled step of data consistency: it
    sees what the first has left of D and adds a learned share of its Wiener
    images. Two more, small networks tell how the result scatters.
    """

    def __init__(self):
        super().__init__()
        self.first = UNet(N_FEATURES, _FIRST)
        self.first_head = make_head(_FIRST, _N_STRENGTHS + 3)
        # Begin near a moderate Wiener image.
        start = torch.tensor([0.0, 2.0, 0.5, -0.5, -1.0, -1.5])
        with torch.no_grad():
            self.first_head.bias[:_N_STRENGTHS] = start
        self.second = UNet(N_FEATURES + _FIRST + 2, _SECOND)
        self.second_head = make_head(_SECOND, _N_STRENGTHS + 2)
        self.pixel_scatter = ScatterHead(_FIRST + _SECOND, 2)
        self.flux_scatter = ScatterHead(_FIRST + _SECOND, 1)

    def forward(self, inputs: EncoderInputs, *, slope: float = 0.0) -> EncoderOutput:
        """Fit a batch; ``slope`` of the final ReLU below 0 is for training
        only.
        """
        first, amplitude, state = self._start(inputs, slope)
        latent, refined = self._refine(inputs, first, amplitude, state, slope)
        return EncoderOutput(latent=latent, first=first, state=torch.cat([state, refined], dim=1))

    def scatter_heads(self) -> nn.ModuleList:
        """Return the networks that tell the scatter, which are trained apart
        from the others.
        """
        return nn.ModuleList([self.pixel_scatter, self.flux_scatter])

    def tell_scatter(
        self,
        inputs: EncoderInputs,
        state: torch.Tensor,
        *,
        delivered: torch.Tensor,
        sigma: torch.Tensor,
        fwhm: float,
    ) -> Scatter:
        """Tell how products at one target PSF scatter.

        Parameters
        ----------
        inputs
            What the encoder saw.
        state
            `EncoderOutput.state` of it.
        delivered
            Its latents at the target, ``(b, rows, columns)``.
        sigma
            Standard deviation of the linearly filtered noise, same shape.
        fwhm
            FWHM of the target, in pixels.
        """
        about = describe_product(inputs, delivered=delivered, sigma=sigma, fwhm=fwhm)
        latent, coadd = self.pixel_scatter(state, about).unbind(1)
        return Scatter(latent=latent, coadd=coadd, psf_flux=self.flux_scatter(state, about)[:, 0])

    def _start(self, inputs: EncoderInputs, slope: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        wiener, smooth, detection = inputs.images(inputs.data)
        local = wiener / torch.sqrt((0.5 * inputs.sigma) ** 2 + smooth[:, :1] ** 2)
        channels = [asinh(wiener / inputs.sigma), local.clamp(-6.0, 6.0), asinh(detection)]
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
            asinh(wiener / inputs.sigma),
            (30.0 * wiener / bright).clamp(-6.0, 6.0),
            asinh(detection),
            asinh(first[:, None] / inputs.unit[:, None]),
            (first[:, None] / bright).clamp(0.0, 12.0),
            inputs.constants(),
        ]
        state = self.second(torch.cat(channels, dim=1), state)
        out = self.second_head(state)
        correction = (out[:, :_N_STRENGTHS] * wiener).sum(1)
        offset, shape = out[:, _N_STRENGTHS:].unbind(1)
        latent = first + correction + inputs.unit * offset + 0.1 * amplitude * torch.tanh(shape)
        return nn.functional.leaky_relu(latent, slope), state


def weights_file() -> Traversable:
    """Return the file of the shipped weights."""
    return importlib.resources.files("lsst.coadd.astroclearnet").joinpath(_WEIGHTS)


@functools.cache
def weights_digest(weights: str | None = None) -> str:
    """SHA-256 of weights, by default the shipped ones, for provenance."""
    return hashlib.sha256(_read_bytes(weights)).hexdigest()


def load_encoder(device: torch.device | str = "cpu", *, weights: str | None = None) -> StatisticEncoder:
    """Load the encoder with its weights.

    The file holds arrays only (safetensors); no code is run to read it. The
    command that made it stands in its metadata.

    Parameters
    ----------
    device
        Where it shall live.
    weights
        File of ``acn train``; `None` takes the shipped weights.

    Raises
    ------
    CoreError
        If the file is missing, damaged, or holds other arrays.
    """
    content = _read_bytes(weights)
    if content.startswith(_LFS_POINTER):
        raise _make_error(weights, "it is a pointer of Git LFS in the place of the file: run 'git lfs pull'")
    encoder = StatisticEncoder()
    try:
        encoder.load_state_dict(safetensors.torch.load(content))
    except safetensors.SafetensorError as error:
        raise _make_error(weights, "it is damaged or cut short") from error
    except RuntimeError as error:
        raise _make_error(weights, "its arrays are not those of this version's network") from error
    if not all(torch.isfinite(values).all() for values in encoder.state_dict().values()):
        raise _make_error(weights, "it is damaged: some values are not finite")
    return encoder.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def _read_bytes(weights: str | None) -> bytes:
    try:
        return (weights_file() if weights is None else Path(weights)).read_bytes()
    except FileNotFoundError as error:
        raise _make_error(weights, "there is no such file") from error
    except OSError as error:
        raise _make_error(weights, error.strerror or str(error)) from error


def _make_error(weights: str | None, reason: str) -> CoreError:
    """Say what is wrong with a file of weights, and what to do about it."""
    if weights is None:
        name, advice = weights_file(), "Install the package anew, or take recipe 'self', which needs none."
    else:
        name, advice = weights, "Give a file that acn train has written, or none to take the shipped weights."
    return CoreError(f"The weights {name} cannot be used: {reason}. {advice}")
