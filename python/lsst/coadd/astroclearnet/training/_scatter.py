# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Training of the network that tells how the products scatter."""

from __future__ import annotations

__all__ = ("train_scatter",)

import time
from collections.abc import Callable

import numpy as np
import torch

from ..core.encoder._encoder import StatisticEncoder
from ..core.encoder._flux import match_and_quieten
from ..core.encoder._inputs import LATENT_FWHM, EncoderInputs
from ..core.fourier._deliver import Delivered, deliver, residual_response
from ..core.fourier._filters import filtered_variance
from ..core.fourier._grid import FourierGrid
from ..core.methods._step_line import describe_time
from ._checkpoint import EVERY, Checkpoint
from ._loss import read_loss
from ._skies import SkyGenerator, TrainingBatch

_LEARNING_RATE = 4e-3
_EDGE = 14
_FWHM = (1.5, 4.5)
"""Range of target widths in pixels; half of the steps are near 2.5."""
_AROUND = 5.0
"""FWHM in pixels of the light that tells how much a pixel counts."""
_LARGEST_RATIO = 1e3
"""Of a squared difference to its prediction, in the loss."""


def train_scatter(
    encoder: StatisticEncoder,
    skies: SkyGenerator,
    grid: FourierGrid,
    *,
    steps: int,
    batch: int,
    seed: int,
    report: Callable[[str], None],
    checkpoint: Checkpoint,
    part: int,
) -> None:
    """Train ``encoder.scatter``; all else stays as it is.

    Two observations of one sky differ by their noise alone: half of the
    squared difference of the products is an estimate of their variance,
    whose likelihood is maximised.

    Parameters
    ----------
    encoder
        Trained encoder.
    skies
        Draws the skies, each observed twice.
    grid
        Their grid.
    steps, batch
        Optimiser steps, and skies in each.
    seed
        Seed of the widths of the targets.
    report
        Takes a line of progress.
    checkpoint
        To go on from, and to keep what was done in.
    part
        Parts of the training before this.
    """
    encoder.requires_grad_(False)
    head = encoder.scatter.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98))
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=max(steps, 2))
    rng = np.random.default_rng(seed)
    widths = [
        2.5 if rng.uniform() < 0.5 else float(np.exp(rng.uniform(*np.log(_FWHM)))) for _ in range(steps)
    ]
    members = {"encoder": encoder, "optimiser": optimiser, "rates": rates, "skies": skies}
    first = checkpoint.resume(part, **members)
    losses, started = [], time.monotonic()
    for step in range(first, steps):
        loss = _scatter_loss(encoder, skies.draw(batch, observations=2), grid, widths[step])
        losses.append(read_loss(loss, "scatter", step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        rates.step()
        if (step + 1) % EVERY == 0:
            report(
                f"scatter: step {step + 1}/{steps} loss {np.mean(losses[-EVERY:]):.4f} "
                f"{describe_time(done=step + 1 - first, steps=steps - first, started=started)}"
            )
        checkpoint.keep(part, step + 1, **members)
    encoder.requires_grad_(True)


@torch.no_grad()
def _products(
    encoder: StatisticEncoder, inputs: EncoderInputs, drawn: TrainingBatch, fwhm: float
) -> tuple[Delivered, torch.Tensor]:
    """Return both products, and what the encoder knows."""
    output = encoder(inputs)
    stack = {"den": drawn.den, "grid": inputs.grid}
    latent, _ = match_and_quieten(output.latent, data=drawn.data, inflation=drawn.inflation, **stack)
    return deliver(latent, data=drawn.data, latent_fwhm=LATENT_FWHM, fwhm=fwhm, **stack), output.state


def _scatter_loss(
    encoder: StatisticEncoder, drawn: TrainingBatch, grid: FourierGrid, fwhm: float
) -> torch.Tensor:
    """Negative log-likelihood of the differences of two observations."""
    inputs = EncoderInputs.from_statistic(drawn.data, drawn.den, grid, inflation=drawn.inflation)
    delivered, state = _products(encoder, inputs, drawn, fwhm)
    transfer = residual_response(drawn.den, grid, fwhm=fwhm) * drawn.den.sqrt()
    sigma = filtered_variance(drawn.power, transfer, grid).clamp_min(0.0).sqrt()
    scatter = encoder.scatter(inputs, state, delivered=delivered.latent, sigma=sigma, fwhm=fwhm)
    inner = np.s_[:, _EDGE:-_EDGE, _EDGE:-_EDGE]
    # Sources cover few pixels, and matter most.
    around = grid.inverse(grid.transform(delivered.latent) * grid.gaussian(_AROUND)).clamp_min(0.0)
    weight = 0.15 + 0.5 * torch.asinh(around / (0.3 * sigma))
    loss = torch.zeros(())
    for product, told in ((delivered.latent, scatter.latent), (delivered.coadd, scatter.coadd)):
        one, other = product.chunk(2)
        squared = (0.5 * (one - other) ** 2).repeat(2, 1, 1) / (sigma * told) ** 2
        term = 0.5 * squared.clamp_max(_LARGEST_RATIO) + torch.log(told)
        loss = loss + (weight * term)[inner].sum() / weight[inner].sum()
    return loss
