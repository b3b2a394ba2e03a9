# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn summary``: what ``compareAcnCoadd`` found, on screen and as files."""

from __future__ import annotations

__all__ = ("format_metrics", "summary")

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._files import write_whole
from ._butler import find_datasets, find_metrics, label_dataset, open_butler, read_dataset, split_collections
from ._patches import find_lacks

if TYPE_CHECKING:
    from astropy.table import Table

    from lsst.daf.butler import Butler, DatasetRef


@click.command("summary")
@click.argument("repo", metavar="REPO")
@click.option("--collections", required=True, help="Output collection of the pipeline; several with commas.")
@click.option("--where", default="", help="Which patches, e.g. \"skymap='s' AND tract=1 AND patch=2\".")
@click.option("--coadd-name", default="acn", show_default=True, help="The coadds are called NAME_coadd.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pictures; without it, none are exported.",
)
def summary(repo: str, collections: str, where: str, coadd_name: str, output: Path | None) -> None:
    """Print the comparison of the coadds in the Butler repository REPO.

    The tables and pictures are those that the task compareAcnCoadd wrote; the
    last lines tell of patches of the run that have none, and why. A
    picture is exported as comparison.png, or, where there are several, as
    comparison_TRACT_PATCH_BAND.png (of several sky maps, as
    comparison_SKYMAP_TRACT_PATCH_BAND.png); files of that name are replaced.

    \b
    Example:
      acn summary demo/repo --collections u/demo/acn -o demo
    """  # noqa: D301
    butler = open_butler(repo, writeable=False)
    named = split_collections(collections, option="--collections")
    metrics = find_metrics(butler, coadd_name, named, where)
    plots = find_datasets(butler, f"{coadd_name}_coadd_comparison_plot", named, where)
    for ref in metrics:
        click.echo(f"\n{label_dataset(ref)}")
        click.echo(format_metrics(read_dataset(butler, ref)))
    lacks = find_lacks(butler, metrics, coadd_name, named, where)
    for k, lack in enumerate(lacks):
        number = f"{len(lack.patches)} patch{'es' if len(lack.patches) > 1 else ''}"
        first = "" if k else "\n"
        click.echo(f"{first}{lack.label}: no comparison of {number} ({lack.reason}): {lack.numbers}")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        keys = _choose_keys(plots)
        for ref in plots:
            click.echo(f"\npicture: {_export(butler, ref, output, keys)}")


def format_metrics(metrics: Table) -> str:
    """Return the metrics as text: a line for each name, a column for each
    plane. Figures of single exposures and mask planes that are nowhere set
    are left to the report.
    """
    from astropy.table import Table

    from ..comparison._page import format_number, pivot_metrics

    pivoted = pivot_metrics(metrics, texts=("unit",), absent=None)
    planes = pivoted.colnames[1:-1]
    rows = []
    for row in pivoted:
        cells = [row[plane] for plane in planes]
        if row["metric"].startswith("mask_fraction_") and not any(cell and cell[0] > 0 for cell in cells):
            continue
        texts = ["" if cell is None else format_number(*cell).replace("±", "+-") for cell in cells]
        rows.append((row["metric"], *texts, row["unit"]))
    table = Table(rows=rows or None, names=("metric", *planes, "unit"))
    return "\n".join(table.pformat(max_lines=-1, max_width=-1, align=["<", *">" * len(planes), "<"]))


def _choose_keys(refs: Sequence[DatasetRef]) -> list[str]:
    """Return the dimensions that tell pictures apart in the names of files."""
    if len(refs) == 1:
        return []
    several = len({ref.dataId["skymap"] for ref in refs}) > 1
    return [*(["skymap"] if several else []), "tract", "patch", "band"]


def _export(butler: Butler, ref: DatasetRef, folder: Path, keys: Sequence[str]) -> Path:
    """Copy a picture, which the Butler can write but not read, to a folder."""
    source = butler.getURI(ref)
    stem = "_".join(("comparison", *(str(ref.dataId[key]) for key in keys)))
    target = folder / f"{stem}{source.getExtension()}"
    write_whole(target, source.read())
    return target
