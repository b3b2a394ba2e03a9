# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The training loop: steps of an optimiser, and what is kept of them."""

from __future__ import annotations

__all__ = ("Part", "descend")

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ..core.methods._step_line import describe_time
from ._checkpoint import EVERY, Checkpoint, Keepable
from ._loss import read_loss

_WARM_UP = 30
"""Steps in which the rate rises to its highest."""
_AVERAGE_FROM, _AVERAGE_WEIGHT = 0.3, 0.995
"""Share of the steps before the running mean of the weights begins, and what
it keeps of itself from one step to the next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a training."""

    number: int
    """Parts before it."""
    name: str
    """For lines of progress and errors."""
    steps: int
    """Steps of the optimiser."""
    learning_rate: float
    """The highest; it falls with a cosine."""


def descend(
    part: Part,
    network: nn.Module,
    parameters: list[nn.Parameter],
    loss_at: Callable[[int], torch.Tensor],
    *,
    checkpoint: Checkpoint,
    report: Callable[[str], None],
    tell: Callable[[], str] = lambda: "",
    **members: Keepable,
) -> None:
    """Train a network, and leave the mean of its last weights in it.

    Parameters
    ----------
    part
        How long, and how fast.
    network
        What is trained.
    parameters
        Those of its parameters that may change.
    loss_at
        Draws data and computes the loss of a step.
    checkpoint
        To go on from, and to keep what was done in.
    report
        Takes a line of progress.
    tell
        What the line shall say beside the loss.
    **members
        The network, and all else that changes from step to step.

    Raises
    ------
    FitError
        If the loss of a step is no number.
    """
    optimiser = torch.optim.AdamW(parameters, lr=part.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    mean = _MeanWeights()
    members = {**members, "optimiser": optimiser, "mean": mean}
    first = checkpoint.resume(part.number, **members)
    losses, started = [], time.monotonic()
    for step in range(first, part.steps):
        _set_rate(optimiser, part, step)
        loss = loss_at(step)
        losses.append(read_loss(loss, part.name, step))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step >= int(_AVERAGE_FROM * part.steps):
            mean.add(network)
        if (step + 1) % EVERY == 0:
            time_left = describe_time(done=step + 1 - first, steps=part.steps - first, started=started)
            about = f"loss {np.mean(losses[-EVERY:]):.4f} {tell()}".rstrip()
            report(f"{part.name}: step {step + 1}/{part.steps} {about}, {time_left}")
        checkpoint.keep(part.number, step + 1, **members)
    if part.steps:
        mean.put(network)


def _set_rate(optimiser: torch.optim.Optimizer, part: Part, step: int) -> None:
    cosine = 0.5 * (1.0 + np.cos(np.pi * step / part.steps))
    rate = part.learning_rate * min(1.0, (step + 1) / _WARM_UP) * (0.02 + 0.98 * cosine)
    for group in optimiser.param_groups:
        group["lr"] = float(rate)  # a checkpoint holds no scalars of numpy


class _MeanWeights:
    """Running mean of the weights of the last steps."""

    def __init__(self):
        self._mean: dict[str, torch.Tensor] = {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self._mean

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self._mean = state

    def add(self, network: nn.Module) -> None:
        for name, value in network.state_dict().items():
            if name in self._mean:
                self._mean[name].lerp_(value, 1.0 - _AVERAGE_WEIGHT)
            else:
                self._mean[name] = value.clone()

    def put(self, network: nn.Module) -> None:
        """Leave the mean in the network."""
        network.load_state_dict(self._mean)
