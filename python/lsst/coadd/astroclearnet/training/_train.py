# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The training loop."""

from __future__ import annotations

__all__ = ("TrainingOptions", "train_encoder", "write_weights")

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from .._files import write_whole
from ..core.encoder._encoder import StatisticEncoder
from ..core.encoder._inputs import EncoderInputs
from ..core.fourier._grid import FourierGrid
from ..core.methods._step_line import describe_time
from ._banks import make_galaxy_bank, make_stack_bank
from ._checkpoint import EVERY, Checkpoint
from ._loss import TrainingLoss, read_loss
from ._scatter import train_scatter
from ._skies import SkyGenerator, SkyOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How weights are made; the shipped ones were made so, part by part (see
    ``resources/weights/README.md``).
    """

    seed: int = 1
    """Seed of the banks, the skies and the first weights."""

    steps: int = 3600
    """Optimiser steps on all kinds of skies, with PSFs that can be wrong."""

    pair_steps: int = 900
    """Optimiser steps after them: more close pairs, better known PSFs."""

    flux_steps: int = 1500
    """Optimiser steps after them: PSF fluxes, too, without bias."""

    mixed_steps: int = 6200
    """Optimiser steps after them: crowded skies, too, and sharper pairs."""

    scatter_steps: int = 1500
    """Optimiser steps of the network that tells the scatter, at the end."""

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Phase:
    """A part of the training with its own skies, rate and loss."""

    name: str
    steps: int
    learning_rate: float
    skies: SkyOptions
    sharp_weight: float
    psf_flux_weight: float = 0.0
    share: float = 1.0
    """Share of its weights in the result; the rest are those before."""


_WARM_UP = 30
_AVERAGE_FROM = 0.3
_AVERAGE_WEIGHT = 0.995
_FLUX_FROM = 100
_SLOPE = 0.05
_SCATTER_SKIES = SkyOptions(psf_error=0.008, neighbours=0.45, close=0.7, noise_error=0.0)
_FIRST_WEIGHT = 0.25


def _phases(options: TrainingOptions) -> list[_Phase]:
    return [
        _Phase(
            name="all skies",
            steps=options.steps,
            learning_rate=options.learning_rate,
            skies=SkyOptions(psf_error=0.015, neighbours=0.42, close=0.6),
            sharp_weight=0.35,
        ),
        _Phase(
            name="pairs",
            steps=options.pair_steps,
            learning_rate=0.4 * options.learning_rate,
            skies=SkyOptions(psf_error=0.008, neighbours=0.52, close=0.8),
            sharp_weight=1.0,
        ),
        _Phase(
            name="PSF fluxes",
            steps=options.flux_steps,
            learning_rate=0.3 * options.learning_rate,
            skies=SkyOptions(psf_error=0.01, neighbours=0.5, close=0.7),
            sharp_weight=0.8,
            psf_flux_weight=1.0,
            share=0.85,
        ),
        _Phase(
            name="mixed",
            steps=options.mixed_steps,
            learning_rate=0.35 * options.learning_rate,
            skies=SkyOptions(psf_error=0.008, neighbours=0.5, close=0.78, crowded=0.3),
            sharp_weight=1.2,
            psf_flux_weight=1.0,
            share=0.85,
        ),
    ]


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
    phases = _phases(options)
    for number, phase in enumerate(phases):
        if number < kept.part or not phase.steps:
            continue
        skies = SkyGenerator(*banks, grid=grid, options=phase.skies, seed=options.seed + 1000 * number)
        _run_phase(
            encoder.train(),
            phase,
            skies,
            grid,
            batch=options.batch,
            report=report,
            checkpoint=kept,
            part=number,
        )
        kept.keep(number + 1, 0, encoder=encoder)
    skies = SkyGenerator(*banks, grid=grid, options=_SCATTER_SKIES, seed=options.seed + 9000)
    train_scatter(
        encoder,
        skies,
        grid,
        steps=options.scatter_steps,
        batch=options.batch,
        seed=options.seed,
        report=report,
        checkpoint=kept,
        part=len(phases),
    )
    return encoder.eval()


def _run_phase(
    encoder: StatisticEncoder,
    phase: _Phase,
    skies: SkyGenerator,
    grid: FourierGrid,
    *,
    batch: int,
    report: Callable[[str], None],
    checkpoint: Checkpoint,
    part: int,
) -> None:
    """Train through one phase and leave the mean weights in the encoder."""
    loss_of = TrainingLoss(grid, sharp_weight=phase.sharp_weight, psf_flux_weight=phase.psf_flux_weight)
    optimiser = torch.optim.AdamW(
        _trunk(encoder), lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4
    )
    mean = _MeanWeights(encoder)
    members = {"encoder": encoder, "optimiser": optimiser, "skies": skies, "loss": loss_of, "mean": mean}
    first = checkpoint.resume(part, **members)
    losses, started = [], time.monotonic()
    for step in range(first, phase.steps):
        _set_rate(optimiser, phase, step)
        drawn = skies.draw(batch)
        inputs = EncoderInputs.from_statistic(drawn.data, drawn.den, grid, inflation=drawn.inflation)
        output = encoder(inputs, slope=_SLOPE)
        loss = loss_of(output.latent, drawn, inputs.unit, with_flux=step >= _FLUX_FROM)
        loss = loss + _FIRST_WEIGHT * loss_of(output.first, drawn, inputs.unit, with_flux=False)
        losses.append(read_loss(loss, phase.name, step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(_trunk(encoder), 1.0)
        optimiser.step()
        if step >= _AVERAGE_FROM * phase.steps:
            mean.add(encoder)
        if (step + 1) % EVERY == 0:
            time_left = describe_time(done=step + 1 - first, steps=phase.steps - first, started=started)
            _report_progress(report, phase, step + 1, losses, loss_of, time_left)
        checkpoint.keep(part, step + 1, **members)
    mean.put(encoder, share=phase.share)


def _trunk(encoder: StatisticEncoder) -> list[torch.nn.Parameter]:
    """Everything but the head that is trained at the end."""
    return [p for name, p in encoder.named_parameters() if not name.startswith("scatter.")]


def _set_rate(optimiser: torch.optim.Optimizer, phase: _Phase, step: int) -> None:
    cosine = 0.5 * (1.0 + np.cos(np.pi * step / phase.steps))
    rate = phase.learning_rate * min(1.0, (step + 1) / _WARM_UP) * (0.02 + 0.98 * cosine)
    for group in optimiser.param_groups:
        group["lr"] = float(rate)  # a checkpoint holds no scalars of numpy


class _MeanWeights:
    """Weights before a phase, and the running mean of those of its end."""

    def __init__(self, encoder: StatisticEncoder):
        self._before = {name: value.clone() for name, value in encoder.state_dict().items()}
        self._mean: dict[str, torch.Tensor] = {}

    def state_dict(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"before": self._before, "mean": self._mean}

    def load_state_dict(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        self._before, self._mean = state["before"], state["mean"]

    def add(self, encoder: StatisticEncoder) -> None:
        for name, value in encoder.state_dict().items():
            if name in self._mean:
                self._mean[name].lerp_(value, 1.0 - _AVERAGE_WEIGHT)
            else:
                self._mean[name] = value.clone()

    def put(self, encoder: StatisticEncoder, *, share: float) -> None:
        """Leave the mean in the encoder, mixed with what was before."""
        mixed = {name: torch.lerp(self._before[name], value, share) for name, value in self._mean.items()}
        if mixed:
            encoder.load_state_dict(mixed)


def _report_progress(report, phase: _Phase, step: int, losses, loss_of: TrainingLoss, time_left: str) -> None:
    bias, of_psf = (
        " ".join("/".join(f"{100 * b:+.1f}" for b in row) for row in measure) for measure in loss_of.bias
    )
    report(
        f"{phase.name}: step {step}/{phase.steps} loss {np.mean(losses[-EVERY:]):.4f} "
        f"flux bias % (star/small/large/odd) {bias}, of PSF fluxes {of_psf}, {time_left}"
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
