# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn ingest``: plain FITS exposures in, Butler repository out."""

from __future__ import annotations

__all__ = ("ingest",)

import importlib.resources
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._progress import Progress

if TYPE_CHECKING:
    from ..ingest import IngestConfig


def _print_example(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        resources = importlib.resources.files("lsst.coadd.astroclearnet") / "resources"
        click.echo((resources / "ingest" / "decam_field.yaml").read_text(), nl=False)
        context.exit()


@click.command("ingest")
@click.argument("exposures", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("repo", type=click.Path(path_type=Path))
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Directory of the FITS files, in place of data_root in EXPOSURES.",
)
@click.option(
    "--example",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_example,
    help="Print a commented example of EXPOSURES and stop.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def ingest(exposures: Path, repo: Path, data_root: Path | None, quiet: bool) -> None:
    """Make the Butler repository REPO of the exposures in EXPOSURES.

    EXPOSURES is a YAML file: for each exposure image, weight, data quality,
    PSF (PSFEx, Piff or stamp), WCS, zero point and sky; see --example.

    \b
    Example:
      acn ingest --example > exposures.yaml     # then write down your files
      acn ingest exposures.yaml field/repo
    """  # noqa: D301
    from ..ingest import ingest as ingest_exposures
    from ..ingest import load_config

    config = load_config(exposures, data_root=data_root)
    with Progress(quiet=quiet) as progress:
        ingest_exposures(config, repo, report=progress, warn=progress.warn)
    if not quiet:
        click.echo(_describe_next_steps(config, repo))


def _describe_next_steps(config: IngestConfig, repo: Path) -> str:
    """Return commands that make the coadds, compare and show them."""
    query = f"skymap='{config.sky_map.name}' AND tract={config.sky_map.tract}"
    name, where = shlex.quote(config.instrument.name), shlex.quote(str(repo))

    def make(pipeline: str, inputs: str, output: str) -> str:
        return (
            f"  pipetask run -b {where} -i {inputs} -o {output} --register-dataset-types \\\n"
            f"    -p resource://lsst.coadd.astroclearnet/resources/pipelines/{pipeline}.yaml \\\n"
            f'    -d "{query}"'
        )

    return "\n".join(
        [
            "Now a mean coadd, the latent coadd beside it, and a page about both:",
            make("mean", f"{name}/defaults", "u/mean"),
            make("acn", f"u/mean,{name}/defaults", "u/acn"),
            f"  acn report {where} --collections u/acn -o report.html",
        ]
    )
