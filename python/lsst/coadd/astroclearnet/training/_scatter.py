# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Training of the networks that tell how the products scatter."""

from __future__ import annotations

__all__ = ("train_scatter",)

from collections.abc import Callable

import numpy as np
import torch

from ..core.encoder._encoder import StatisticEncoder
from ..core.encoder._flux import match_and_quieten
from ..core.encoder._inputs import LATENT_FWHM, EncoderInputs
from ..core.fourier._deliver import Delivered, deliver, residual_response
from ..core.fourier._filters import filtered_variance, psf_flux_response
from ..core.fourier._grid import FourierGrid
from ._banks import GalaxyBank, StackBank
from ._checkpoint import Checkpoint
from ._descent import Part, descend
from ._skies import SkyGenerator, SkyOptions, TrainingBatch

_SKIES = SkyOptions(psf_error=0.008, neighbours=0.25, close=0.7, crowded=0.15, noise_error=0.0)
_EDGE = 14
_FWHM = (1.5, 4.5)
"""Range of target widths in pixels; half of the steps are near 2.5."""
_AROUND = 5.0
"""FWHM in pixels of the light that tells how much a pixel counts."""
_LARGEST_RATIO = 1e3
"""Of a squared difference to its prediction, in the loss."""


def train_scatter(
    encoder: StatisticEncoder,
    banks: tuple[GalaxyBank, StackBank],
    grid: FourierGrid,
    *,
    part: Part,
    batch: int,
    seed: int,
    report: Callable[[str], None],
    checkpoint: Checkpoint,
) -> None:
    """Train both networks that tell the scatter; all else stays as it is.

    Two observations of one sky differ by their noise alone: half of the
    squared difference of the products, or of the PSF fluxes about each pixel,
    is an estimate of their variance, whose likelihood is maximised.

    Parameters
    ----------
    encoder
        Trained encoder.
    banks
        What skies, each observed twice, are drawn from.
    grid
        Their grid.
    part
        How long, and how fast.
    batch
        Skies in each step.
    seed
        Seed of the skies and of the widths of the targets.
    report
        Takes a line of progress.
    checkpoint
        To go on from, and to keep what was done in.
    """
    skies = SkyGenerator(*banks, grid=grid, options=_SKIES, seed=seed)
    rng = np.random.default_rng(seed)
    widths = [
        2.5 if rng.uniform() < 0.5 else float(np.exp(rng.uniform(*np.log(_FWHM)))) for _ in range(part.steps)
    ]
    encoder.requires_grad_(False)
    heads = encoder.scatter_heads().train().requires_grad_(True)
    descend(
        part,
        heads,
        list(heads.parameters()),
        lambda step: _scatter_loss(encoder, skies.draw(batch, observations=2), grid, widths[step]),
        checkpoint=checkpoint,
        report=report,
        encoder=encoder,
        skies=skies,
    )
    encoder.requires_grad_(True)


@torch.no_grad()
def _products(
    encoder: StatisticEncoder, drawn: TrainingBatch, grid: FourierGrid, fwhm: float
) -> tuple[Delivered, torch.Tensor]:
    """Return both products, and what the encoder knows."""
    inputs = EncoderInputs.from_statistic(drawn.data, drawn.den, grid, inflation=drawn.inflation)
    output = encoder(inputs)
    stack = {"den": drawn.den, "grid": grid}
    latent, _ = match_and_quieten(output.latent, data=drawn.data, inflation=drawn.inflation, **stack)
    return deliver(latent, data=drawn.data, latent_fwhm=LATENT_FWHM, fwhm=fwhm, **stack), output.state


def _scatter_loss(
    encoder: StatisticEncoder, drawn: TrainingBatch, grid: FourierGrid, fwhm: float
) -> torch.Tensor:
    """Negative log-likelihood of the differences of two observations, with
    the scatter as the first of them tells it.
    """
    delivered, state = _products(encoder, drawn, grid, fwhm)
    state = state.chunk(2)[0]
    data, den, inflation, power = (
        values.chunk(2)[0] for values in (drawn.data, drawn.den, drawn.inflation, drawn.power)
    )
    inputs = EncoderInputs.from_statistic(data, den, grid, inflation=inflation)
    transfer = residual_response(den, grid, fwhm=fwhm) * den.sqrt()
    to_flux = psf_flux_response(grid.gaussian(fwhm), grid)
    sigma, flux_sigma = (
        filtered_variance(power, response, grid).clamp_min(0.0).sqrt()
        for response in (transfer, transfer * to_flux)
    )
    latents = delivered.latent.chunk(2)
    scatter = encoder.tell_scatter(inputs, state, delivered=latents[0], sigma=sigma, fwhm=fwhm)
    fluxes = grid.inverse(grid.transform(delivered.coadd) * to_flux)
    inner = np.s_[:, _EDGE:-_EDGE, _EDGE:-_EDGE]
    # Sources cover few pixels, and matter most.
    around = grid.inverse(grid.transform(latents[0]) * grid.gaussian(_AROUND)).clamp_min(0.0)
    weight = 0.15 + 0.5 * torch.asinh(around / (0.3 * sigma))
    loss = torch.zeros(())
    for (one, other), told, unit in (
        (latents, scatter.latent, sigma),
        (delivered.coadd.chunk(2), scatter.coadd, sigma),
        (fluxes.chunk(2), scatter.psf_flux, flux_sigma),
    ):
        squared = 0.5 * (one - other) ** 2 / (unit * told) ** 2
        term = 0.5 * squared.clamp_max(_LARGEST_RATIO) + torch.log(told)
        loss = loss + (weight * term)[inner].sum() / weight[inner].sum()
    return loss
