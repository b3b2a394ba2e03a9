# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network of the paper: an encoder over the exposures, from scratch."""

from __future__ import annotations

__all__ = ("PaperNetwork",)

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from .._options import PAPER_LATENT_FWHM, FitOptions
from .._stack import HistoryRow
from ..fourier._decoder import Decoder
from ..statistic._statistic import Statistic
from ._step_line import describe_step

_KERNELS = (3, 5, 9)
_LINEAR_KERNELS = (5, 9, 15)
_CHANNELS = 32
"""After the point-wise mixing."""

_LEARNING_RATE = 5e-3
_GRADIENT_CLIP = 0.5

_HELD_OUT_SHARE = 0.02
_HELD_OUT_SIZE = 4
"""Share of each exposure, in blocks of some pixels, that training neither
shows to the encoder nor computes the loss on."""


class PaperEncoder(nn.Module):
    """Multi-scale depth-wise layers, point-wise mixing, ReLU.

    After Sukurdeep, Navarro & Budavari (2025, arXiv:2504.06463); the sizes
    and the start are our choices. One branch is linear in the exposures, a
    coadd with learned kernels that starts as their mean; the other, on
    compressed values, gates it and adds to it.

    Parameters
    ----------
    n_exposures
        Exposures of the stack.
    """

    def __init__(self, n_exposures: int):
        super().__init__()
        n = n_exposures
        self.linear = nn.ParameterList(torch.zeros(n, kernel, kernel) for kernel in _LINEAR_KERNELS)
        self.compressed = nn.ModuleList(_depthwise(n, kernel) for kernel in _KERNELS)
        self.mix = nn.Conv2d(n * len(_KERNELS), _CHANNELS, 1)
        self.deep = nn.Sequential(
            nn.ReLU(),
            _depthwise(_CHANNELS, 5),
            nn.Conv2d(_CHANNELS, _CHANNELS, 1),
            nn.ReLU(),
            _depthwise(_CHANNELS, 5),
            nn.Conv2d(_CHANNELS, 2, 1),
        )
        with torch.no_grad():
            for kernel in self.linear:
                middle = kernel.shape[-1] // 2
                kernel[:, middle, middle] = 1.0 / (n * len(_LINEAR_KERNELS))
            self.deep[-1].weight.zero_()
            self.deep[-1].bias.zero_()

    def forward(self, exposures: torch.Tensor) -> torch.Tensor:
        """Return the latent, ``(1, h, w)``, of exposures ``(1, n, h, w)`` in
        units of their sky noise.
        """
        linear = self._learned_coadd(exposures[0])
        compressed = torch.asinh(exposures)
        scales = torch.cat([layer(compressed) for layer in self.compressed], dim=1)
        gate, offset = self.deep(self.mix(scales))[0]
        return torch.relu(linear * (2.0 * torch.sigmoid(gate)) + offset)[None]

    def _learned_coadd(self, exposures: torch.Tensor) -> torch.Tensor:
        """Sum the exposures ``(n, h, w)``, each through its kernels.

        Depth-wise layers of all scales and their point-wise sum are one
        convolution; its gradient costs least by FFT.
        """
        size = _LINEAR_KERNELS[-1]
        padded = [nn.functional.pad(k, [(size - k.shape[-1]) // 2] * 4) for k in self.linear]
        height, width = exposures.shape[1:]
        shape = (height + size - 1, width + size - 1)
        kernels = torch.fft.rfft2(torch.stack(padded).sum(0), s=shape)
        full = torch.fft.irfft2((kernels * torch.fft.rfft2(exposures, s=shape)).sum(0), s=shape)
        half = size // 2
        return full[half : half + height, half : half + width]


def _depthwise(channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, padding_mode="reflect")


class PaperNetwork:
    """One encoder for all cells of a patch, trained on some of them.

    Parameters
    ----------
    labels
        Exposures that the encoder has a channel for. Others still count in
        the residual and in chi2.
    options
        ``paper_steps``, ``huber_delta``, ``seed``.
    """

    def __init__(self, labels: Sequence[str], options: FitOptions, device: torch.device):
        self._labels = sorted(labels)
        self._options = options
        # The state of torch's own generator is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            encoder = PaperEncoder(len(self._labels))
        self._encoder = encoder.to(device, memory_format=torch.channels_last)

    def train(
        self, cells: Sequence[tuple[Statistic, Sequence[str]]], report: Callable[[str], None]
    ) -> list[HistoryRow]:
        """Minimise the masked, sigma-scaled Huber loss, cell by cell.

        Parameters
        ----------
        cells
            Statistic and labels of each training cell.
        report
            Takes a line of progress.
        """
        steps, started = self._options.paper_steps, time.monotonic()
        optimiser = torch.optim.Adam(self._encoder.parameters(), lr=_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        generator = np.random.default_rng(self._options.seed)
        held_out = [_hold_out(statistic, generator) for statistic, _ in cells]
        inputs = [
            self._inputs(statistic, labels, shown=1.0 - hidden)
            for (statistic, labels), hidden in zip(cells, held_out, strict=True)
        ]
        decoders = [Decoder(s.psf_transfer, s.grid, latent_fwhm=PAPER_LATENT_FWHM) for s, _ in cells]
        stride = max(1, steps // 20)
        history: list[HistoryRow] = []
        recent: deque[dict[str, float]] = deque(maxlen=len(cells))
        self._encoder.train()
        for step in range(steps):
            which = step % len(cells)
            loss, row = self._loss(cells[which][0], *inputs[which], decoders[which], held_out[which])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._encoder.parameters(), _GRADIENT_CLIP)
            optimiser.step()
            schedule.step()
            # Each step is of one cell: what all of them last had is a row.
            recent.append(row)
            if step % stride == 0 or step == steps - 1:
                row = {name: float(np.mean([one[name] for one in recent])) for name in row}
                history.append({"stage": "paper", "step": step, **row})
                report(describe_step(row, done=step + 1, steps=steps, started=started))
        self._encoder.eval().requires_grad_(False)
        return history

    def restore(self, statistic: Statistic, labels: Sequence[str]) -> torch.Tensor:
        """Return the latent on the padded grid."""
        exposures, unit = self._inputs(statistic, labels, shown=1.0)
        latent = torch.zeros(statistic.grid.shape, device=exposures.device)
        statistic.grid.crop(latent)[:] = self._encoder(exposures)[0] * unit
        return latent

    def _inputs(
        self, statistic: Statistic, labels: Sequence[str], *, shown: torch.Tensor | float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Exposures in units of the sky noise of a typical one, holes and
        what is not shown filled with the mean of the others.
        """
        used = statistic.used * shown
        weight = used / statistic.sky_variance[:, None, None]
        mean = (weight * statistic.image).sum(0) / weight.sum(0).clamp_min(1e-12 * float(weight.max()))
        filled = torch.where(used > 0, statistic.image, mean)
        unit = statistic.sky_variance.median().sqrt()
        place = {label: k for k, label in enumerate(labels)}
        planes = [filled[place[label]] if label in place else mean for label in self._labels]
        exposures = (torch.stack(planes) / unit)[None]
        return exposures.contiguous(memory_format=torch.channels_last), unit

    def _loss(
        self,
        statistic: Statistic,
        exposures: torch.Tensor,
        unit: torch.Tensor,
        decoder: Decoder,
        hidden: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss, and the figures of a row of history."""
        model = decoder.forward(self._encoder(exposures)[0] * unit)
        residual = (statistic.image - model) * statistic.variance.rsqrt()
        delta = self._options.huber_delta
        huber = nn.functional.huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=delta)
        loss = _mean(huber, statistic.used * (1.0 - hidden))
        with torch.no_grad():
            held_out = _mean(huber, statistic.used * hidden)
            chi2 = _mean(residual**2, statistic.used)
        return loss, {"loss": float(loss.detach()), "held_out_loss": float(held_out), "chi2": float(chi2)}


def _mean(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (weight * image).sum() / weight.sum()


def _hold_out(statistic: Statistic, generator: np.random.Generator) -> torch.Tensor:
    """Choose what to hold out, 1 there and else 0, ``(n, h, w)``."""
    n, height, width = statistic.image.shape
    size = _HELD_OUT_SIZE
    blocks = generator.random((n, -(-height // size), -(-width // size))) < _HELD_OUT_SHARE
    hidden = blocks.repeat(size, 1).repeat(size, 2)[:, :height, :width]
    return torch.as_tensor(hidden.astype(np.float32), device=statistic.image.device)
