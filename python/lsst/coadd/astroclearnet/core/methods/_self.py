# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""An encoder that learns from the stack itself, across its exposures."""

from __future__ import annotations

__all__ = ("SelfNetwork",)

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from .._options import FitOptions
from .._stack import HistoryRow
from ..encoder._unet import Block
from ..statistic._statistic import Statistic
from ._self_halves import Half, split_cell
from ._self_inputs import SelfInputs, update_by_statistic
from ._step_line import describe_step

_SPLITS = 5
"""Random splits of the exposures, over all cells; each is used both ways."""

_CHANNELS = 16

_WINDOW = 144
"""Side of the piece of a cell that one step is made with, in pixels."""

_LEARNING_RATE = 1e-2
_GRADIENT_CLIP = 0.5
_SLOPE = 0.02
"""Slope of the last ReLU below 0 while training, so that it cannot die."""

_N_ROWS, _N_SHOWN = 10, 4
"""Rows of history of a training, and most halves measured for each."""


class SelfEncoder(nn.Module):
    """Depth-wise and point-wise layers at two scales, 6000 parameters.

    The output is a convex mixture of the images it is given, which begins
    close to the multiplicative updates, times a gain, plus terms in units of
    noise and of local brightness.

    Parameters
    ----------
    n_features
        Channels of the features.
    n_images
        Images to be mixed.
    """

    def __init__(self, n_features: int, n_images: int):
        super().__init__()
        channels = _CHANNELS
        self._n_images = n_images
        self.stem = nn.Conv2d(n_features, channels, 1)
        self.fine = Block(channels, 3, 1)
        self.down = nn.Conv2d(channels, channels, 2, stride=2)
        self.coarse = nn.Sequential(Block(channels, 5, 1), Block(channels, 5, 1))
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.fine_up = Block(channels, 3, 1)
        self.head = nn.Conv2d(channels, n_images + 3, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias[0] = 3.0

    def forward(self, inputs: SelfInputs, *, slope: float = 0.0) -> torch.Tensor:
        """Return the latent, ``(rows, columns)``; ``slope`` of the final ReLU
        below 0 is for training only.
        """
        x = inputs.features.contiguous(memory_format=torch.channels_last)
        fine = self.fine(nn.functional.leaky_relu(self.stem(x), 0.1))
        coarse = self.coarse(nn.functional.leaky_relu(self.down(fine), 0.1))
        out = self.head(self.fine_up(fine + self.up(coarse)))[0]
        mixture = (torch.softmax(out[: self._n_images], dim=0) * inputs.images).sum(0)
        gain, offset, shape = out[self._n_images :]
        latent = mixture * (2.0 * torch.sigmoid(gain)) + inputs.unit * offset
        latent = latent + 0.2 * inputs.amplitude * torch.tanh(shape)
        return nn.functional.leaky_relu(latent, slope)


class SelfNetwork:
    """One encoder for all cells of a patch, trained on some of them.

    The exposures of a cell are split at random; the encoder sees the
    statistic of one half, and its latent must predict the exposures of the
    other through the decoder. Noise and artifacts of the first half do not
    help with that, so that the encoder learns to leave them out.

    Parameters
    ----------
    options
        ``self_steps``, ``huber_delta``, ``seed``.
    """

    def __init__(self, options: FitOptions):
        self._options = options
        self._encoder: SelfEncoder | None = None

    def train(self, cells: Sequence[Statistic], report: Callable[[str], None]) -> list[HistoryRow]:
        """Learn from cells; return rows of the fit history.

        Parameters
        ----------
        cells
            Statistic of each training cell.
        report
            Takes a line of progress.
        """
        generator = np.random.default_rng(self._options.seed)
        n_splits = -(-_SPLITS // len(cells))
        halves = [half for cell in cells for half in split_cell(cell, n_splits, self._options, generator)]
        if not halves:
            report("no cell has two exposures to learn from: multiplicative updates are used as they are")
            return []
        encoder = self._make_encoder(halves[0].inputs)
        with torch.no_grad():
            latents = [encoder(half.inputs) for half in halves]
        steps, started = self._options.self_steps, time.monotonic()
        warm = max(1, steps // 10)
        optimiser = torch.optim.AdamW(
            encoder.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda k: min(1.0, (k + 1) / warm) * 0.5 * (1.0 + np.cos(np.pi * k / steps))
        )
        shown = halves[:: -(-len(halves) // _N_SHOWN)]
        history: list[HistoryRow] = []
        for step in range(steps + 1):
            if step % max(1, steps // _N_ROWS) == 0 or step == steps:
                history.append(_measure(step, encoder, shown))
                report(describe_step(history[-1], done=step, steps=steps, started=started))
            if step == steps:
                break
            which = step % len(halves)
            window = _choose_window(latents[which].shape, generator)
            piece = encoder(halves[which].inputs.cut(window), slope=_SLOPE)
            latent = latents[which].clone()
            latent[window] = piece
            # What is around the window stays as the encoder last made it.
            latents[which][window] = piece.detach().clamp_min(0.0)
            optimiser.zero_grad()
            halves[which].loss(latent, window).backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), _GRADIENT_CLIP)
            optimiser.step()
            schedule.step()
        self._encoder = encoder.eval().requires_grad_(False)
        return history

    def restore(self, statistic: Statistic) -> torch.Tensor:
        """Return the latent of a stack on the padded grid."""
        if self._encoder is None:
            return update_by_statistic(statistic)
        return self._encoder(SelfInputs.from_statistic(statistic))

    def _make_encoder(self, inputs: SelfInputs) -> SelfEncoder:
        device = inputs.features.device
        # The state of torch's own generator is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._options.seed)
            encoder = SelfEncoder(inputs.features.shape[1], inputs.images.shape[0])
        return encoder.to(device, memory_format=torch.channels_last)


def _choose_window(shape: tuple[int, int], generator: np.random.Generator) -> tuple[slice, slice]:
    """Choose a window of a grid whose sides are multiples of 4."""
    sides = [min(_WINDOW, n) for n in shape]
    starts = [4 * int(generator.integers((n - side) // 4 + 1)) for n, side in zip(shape, sides, strict=True)]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return rows, columns


def _measure(step: int, encoder: SelfEncoder, halves: Sequence[Half]) -> HistoryRow:
    """Make a row of history: mean over some halves."""
    with torch.no_grad():
        figures = [half.measure(encoder(half.inputs)) for half in halves]
    loss, held_out, chi2 = (float(np.nanmean(column)) for column in zip(*figures, strict=True))
    return {"stage": "self", "step": step, "loss": loss, "held_out_loss": held_out, "chi2": chi2}
