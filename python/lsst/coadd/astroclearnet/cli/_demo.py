# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ``acn demo``."""

from __future__ import annotations

__all__ = ("demo",)

import click

from ._progress import Progress


@click.command("demo")
@click.argument("repo", type=click.Path(file_okay=False))
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of everything random.")
@click.option("--visits", type=int, default=12, show_default=True, help="Number of visits.")
@click.option(
    "--size", type=int, default=600, show_default=True, help="Side of the patch in pixels, a multiple of 200."
)
@click.option("--overwrite", is_flag=True, help="Replace a complete demo repository.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def demo(repo: str, seed: int, visits: int, size: int, overwrite: bool, quiet: bool) -> None:
    """Make REPO, a Butler repository of simulated HSC exposures.

    It holds visits of one patch as calexp (collection HSC/runs/demo), the
    geometry of the sky map (skymaps) and the truth (HSC/truth/demo); the
    collection HSC/defaults chains them. A complete repository is left as it
    is, an interrupted one is made anew, and no other folder is touched.

    \b
    Example, 8 visits of a patch of 400 x 400 pixels:
      acn demo demo/repo --size 400 --visits 8
    """  # noqa: D301
    from ..demo import DemoConfig, make_demo_repository

    try:
        config = DemoConfig(seed=seed, n_visits=visits, size=size)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with Progress(quiet=quiet) as progress:
        made = make_demo_repository(repo, config, overwrite=overwrite, report=progress)
    if made and not quiet:
        click.echo(f"Wrote {repo}.")
