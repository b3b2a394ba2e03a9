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

import tempfile
from pathlib import Path

import click

from ._progress import Progress


@click.command("train")
@click.argument("weights", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@click.option(
    "--steps", type=click.IntRange(min=1), default=3600, show_default=True, help="Steps on all skies."
)
@click.option(
    "--pair-steps",
    type=click.IntRange(min=0),
    default=900,
    show_default=True,
    help="Steps on pairs after them.",
)
@click.option(
    "--flux-steps",
    type=click.IntRange(min=0),
    default=1500,
    show_default=True,
    help="Steps on PSF fluxes after them.",
)
@click.option(
    "--mixed-steps",
    type=click.IntRange(min=0),
    default=4800,
    show_default=True,
    help="Steps on crowded skies and sharper pairs after them.",
)
@click.option(
    "--scatter-steps",
    type=click.IntRange(min=0),
    default=1500,
    show_default=True,
    help="Steps on the scatter of the products, at the end.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of everything.")
@click.option(
    "--n-galaxies", type=click.IntRange(min=10), default=3000, show_default=True, help="Galaxies drawn."
)
@click.option("--n-stacks", type=click.IntRange(min=1), default=240, show_default=True, help="Stacks drawn.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of torch.")
@click.option("--overwrite", is_flag=True, help="Replace WEIGHTS if it exists.")
def train(
    weights: Path,
    steps: int,
    pair_steps: int,
    flux_steps: int,
    mixed_steps: int,
    scatter_steps: int,
    seed: int,
    n_galaxies: int,
    n_stacks: int,
    threads: int,
    overwrite: bool,
) -> None:
    """Train the encoder of recipe "trained" and write WEIGHTS (safetensors).

    The defaults made the weights that are shipped; they take about 130
    minutes on one core. The skies and stacks are simulated: nothing is read.

    \b
    Example, to try it in some minutes:
      acn train try.safetensors --steps 60 --n-stacks 20 --n-galaxies 100 \\
        --pair-steps 20 --flux-steps 20 --mixed-steps 20 --scatter-steps 20
    """  # noqa: D301
    import torch

    from ..training import TrainingOptions, train_encoder, write_weights

    if weights.exists() and not overwrite:
        raise click.ClickException(f"{weights} exists; choose another name or give --overwrite.")
    if not weights.parent.is_dir():
        raise click.ClickException(f"The folder {weights.parent} does not exist.")
    with tempfile.TemporaryFile(dir=weights.parent):
        pass  # Whether it can be written is known now, not in an hour.
    torch.set_num_threads(threads)
    options = TrainingOptions(
        steps=steps,
        pair_steps=pair_steps,
        flux_steps=flux_steps,
        mixed_steps=mixed_steps,
        scatter_steps=scatter_steps,
        seed=seed,
        n_galaxies=n_galaxies,
        n_stacks=n_stacks,
    )
    with Progress() as progress:
        encoder = train_encoder(options, report=progress)
    write_weights(encoder, weights, options=options)
    click.echo(f"Wrote {weights}.")
