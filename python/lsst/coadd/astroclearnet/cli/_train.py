# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ``acn train``."""

from __future__ import annotations

__all__ = ("train",)

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from .._locks import lock_file
from ..core._options import LARGEST_SEED
from ._progress import Progress

_COUNTS = (
    ("steps", 1, 8000, "Steps on the sky."),
    ("scatter_steps", 0, 2000, "Steps on the scatter of the products, at the end."),
    ("seed", 0, 1, "Seed of everything."),
    ("n_galaxies", 10, 3000, "Galaxies drawn."),
    ("n_stacks", 1, 240, "Stacks drawn."),
)
"""Fields of `TrainingOptions`, whose module would import torch: name, least
value, default, help."""


def _count_options(command: Callable) -> Callable:
    for name, least, default, text in reversed(_COUNTS):
        option = f"--{name.replace('_', '-')}"
        kind = click.IntRange(min=least, max=LARGEST_SEED if name == "seed" else None)
        command = click.option(option, type=kind, default=default, show_default=True, help=text)(command)
    return command


@click.command("train")
@click.argument("weights", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@_count_options
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of torch.")
@click.option("--overwrite", is_flag=True, help="Replace WEIGHTS if it exists.")
def train(weights: Path, threads: int, overwrite: bool, **counts: int) -> None:
    """Train the encoder of recipe "trained" and write WEIGHTS (safetensors).

    Half an hour on two cores with --threads 2. The skies and stacks are
    simulated: nothing is read. Every 100 steps WEIGHTS.checkpoint is written,
    and removed at the end: after an interruption the same command goes on
    from there, to the same weights.

    \b
    Example, to try it in a minute:
      acn train try.safetensors --steps 100 --scatter-steps 20 \\
        --n-stacks 20 --n-galaxies 100
      acn restore stack.npz -o sky.fits --weights try.safetensors
    """  # noqa: D301
    import torch

    from ..training import TrainingOptions, train_encoder, write_weights

    if not weights.parent.is_dir():
        raise click.ClickException(f"The folder {weights.parent} does not exist.")
    with _alone(weights):
        if weights.exists() and not overwrite:
            raise click.ClickException(f"{weights} exists; choose another name or give --overwrite.")
        torch.set_num_threads(threads)
        options = TrainingOptions(**counts)
        checkpoint = weights.with_name(f"{weights.name}.checkpoint")
        with Progress() as progress:
            encoder = train_encoder(options, report=progress, checkpoint=checkpoint)
        write_weights(encoder, weights, options=options)
        checkpoint.unlink(missing_ok=True)
    click.echo(f"Wrote {weights}.")


@contextlib.contextmanager
def _alone(weights: Path) -> Iterator[None]:
    """Keep out a second training of the same file, which would go on from the
    checkpoints of the first, and replace what it has written.

    That the folder can be written is known then, too, not in an hour.
    """
    lock = weights.with_name(f"{weights.name}.lock")
    try:
        file = lock.open("a")
    except OSError as error:
        raise click.ClickException(f"{weights} cannot be written: {error.strerror or error}") from error
    with file:
        lock_file(
            file,
            busy=click.ClickException(f"Another process is making {weights}: wait, or give another name."),
        )
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
