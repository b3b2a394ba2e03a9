# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Training of the encoder, from nothing."""

from __future__ import annotations

__all__ = ("TrainingOptions", "train_encoder", "write_weights")

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from .._files import write_whole
from ..core.encoder._encoder import StatisticEncoder
from ..core.encoder._inputs import EncoderInputs
from ..core.fourier._grid import FourierGrid
from ._banks import make_galaxy_bank, make_stack_bank
from ._checkpoint import Checkpoint
from ._descent import Part, descend
from ._loss import TrainingLoss
from ._scatter import train_scatter
from ._skies import SkyGenerator, SkyOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How weights are made (``resources/weights/README.md`` says how the
    shipped ones were).
    """

    seed: int = 1
    """Seed of the banks, the skies and the first weights."""

    steps: int = 8000
    """Optimiser steps of all but the networks that tell the scatter."""

    scatter_steps: int = 2000
    """Optimiser steps of these networks, at the end."""

    batch: int = 4
    """Skies a step."""

    size: int = 128
    """Side of a sky, in pixels."""

    n_galaxies: int = 3000
    """Galaxies to draw skies from."""

    n_stacks: int = 240
    """Stacks of exposures to draw statistics from."""

    learning_rate: float = 4e-3
    """Highest learning rate; it falls with a cosine."""


_SKIES = SkyOptions(psf_error=0.009, neighbours=0.5, close=0.75, crowded=0.25)
_FLUX_FROM = 0.15
"""Share of the steps without the flux term: fluxes of a network that knows
nothing yet tell nothing."""
_SLOPE = 0.05
_FIRST_WEIGHT = 0.25
_ENCODER, _SCATTER = range(2)
"""The parts of a training, as its checkpoint numbers them."""


def train_encoder(
    options: TrainingOptions,
    *,
    report: Callable[[str], None],
    checkpoint: Path | None = None,
) -> StatisticEncoder:
    """Train an encoder.

    Parameters
    ----------
    options
        Sizes, seed and duration.
    report
        Takes a line of progress.
    checkpoint
        File that is written again and again, and from which the training
        goes on if it exists: to the same weights.

    Returns
    -------
    `StatisticEncoder`
        With the running mean of the weights of the last steps.

    Raises
    ------
    CoreError
        If the checkpoint cannot be used: it is no checkpoint of a training,
        is damaged, or was written with other options.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    grid = FourierGrid(height=options.size, width=options.size, shape=(options.size, options.size))
    encoder = StatisticEncoder().to(memory_format=torch.channels_last)
    # Before the banks, whose drawing takes minutes: it can fail.
    kept = Checkpoint(checkpoint, dataclasses.asdict(options))
    kept.resume(kept.part, encoder=encoder)
    if kept.part or kept.step:
        report(f"going on after step {kept.step} of part {kept.part + 1} of {kept.path}")
    report(f"drawing {options.n_galaxies} galaxies and {options.n_stacks} stacks")
    banks = make_galaxy_bank(rng, options.n_galaxies), make_stack_bank(rng, options.n_stacks, grid=grid)
    if kept.part == _ENCODER:
        skies = SkyGenerator(*banks, grid=grid, options=_SKIES, seed=options.seed)
        _train_trunk(encoder.train(), skies, grid, options=options, report=report, checkpoint=kept)
        kept.keep(_SCATTER, 0, encoder=encoder)
    train_scatter(
        encoder,
        banks,
        grid,
        part=Part(
            number=_SCATTER,
            name="scatter",
            steps=options.scatter_steps,
            learning_rate=options.learning_rate,
        ),
        batch=options.batch,
        seed=options.seed + 9000,
        report=report,
        checkpoint=kept,
    )
    return encoder.eval()


def _train_trunk(
    encoder: StatisticEncoder,
    skies: SkyGenerator,
    grid: FourierGrid,
    *,
    options: TrainingOptions,
    report: Callable[[str], None],
    checkpoint: Checkpoint,
) -> None:
    """Train all but the networks that tell the scatter."""
    loss_of = TrainingLoss(grid)
    others = set(encoder.scatter_heads().parameters())
    flux_from = int(_FLUX_FROM * options.steps)

    def loss_at(step: int) -> torch.Tensor:
        drawn = skies.draw(options.batch)
        inputs = EncoderInputs.from_statistic(drawn.data, drawn.den, grid, inflation=drawn.inflation)
        output = encoder(inputs, slope=_SLOPE)
        loss = loss_of(output.latent, drawn, inputs.unit, with_flux=step >= flux_from)
        return loss + _FIRST_WEIGHT * loss_of(output.first, drawn, inputs.unit, with_flux=False)

    descend(
        Part(number=_ENCODER, name="encoder", steps=options.steps, learning_rate=options.learning_rate),
        encoder,
        [p for p in encoder.parameters() if p not in others],
        loss_at,
        checkpoint=checkpoint,
        report=report,
        tell=loss_of.describe_bias,
        encoder=encoder,
        skies=skies,
        loss=loss_of,
    )


def write_weights(encoder: StatisticEncoder, path: Path, *, options: TrainingOptions) -> None:
    """Write weights as safetensors, with the options that made them; what is
    there is replaced only by a whole file.
    """
    metadata = {
        "command": "acn train",
        "options": json.dumps(dataclasses.asdict(options)),
        "torch": torch.__version__,
    }
    state = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    # The library's own file would be for its owner's eyes only.
    write_whole(path, safetensors.torch.save(state, metadata=metadata))
