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

from collections.abc import Mapping, Sequence
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
    "--metric",
    "chosen",
    multiple=True,
    metavar="NAME",
    help="Print this metric alone, a line for each patch; can be given several times.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pictures; without it, none are exported.",
)
def summary(
    repo: str, collections: str, where: str, coadd_name: str, chosen: tuple[str, ...], output: Path | None
) -> None:
    """Print the comparison of the coadds in the Butler repository REPO.

    The tables and pictures are those that the task compareAcnCoadd wrote; the
    last lines tell of patches of the run that have none, and why. A
    picture is exported as comparison.png, or, where there are several, as
    comparison_TRACT_PATCH_BAND.png (of several sky maps, as
    comparison_SKYMAP_TRACT_PATCH_BAND.png); files of that name are replaced.

    \b
    Examples:
      acn summary demo/repo --collections u/demo/acn -o demo
      acn summary REPO --collections u/you/acn --metric sky_rms
    """  # noqa: D301
    butler = open_butler(repo, writeable=False)
    named = split_collections(collections, option="--collections")
    metrics = find_metrics(butler, coadd_name, named, where)
    plots = find_datasets(butler, f"{coadd_name}_coadd_comparison_plot", named, where)
    if chosen:
        click.echo(_format_patches({ref: read_dataset(butler, ref) for ref in metrics}, chosen))
    else:
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
    from ..comparison._page import pivot_metrics

    pivoted = pivot_metrics(metrics, texts=("unit",), absent=None)
    planes = pivoted.colnames[1:-1]
    rows = []
    for row in pivoted:
        cells = [row[plane] for plane in planes]
        if row["metric"].startswith("mask_fraction_") and not any(cell and cell[0] > 0 for cell in cells):
            continue
        rows.append((row["metric"], *_write_cells(cells), row["unit"]))
    return _align(rows, names=("metric", *planes, "unit"), n_left=1)


def _format_patches(tables: Mapping[DatasetRef, Table], chosen: Sequence[str]) -> str:
    """Return some metrics as text, with a line for each and each patch."""
    from ..comparison._page import pivot_metrics

    keys = _choose_keys(list(tables)) or ["tract", "patch", "band"]
    pivoted = {ref: pivot_metrics(table, texts=("unit",), absent=None) for ref, table in tables.items()}
    known = dict.fromkeys(name for table in pivoted.values() for name in table["metric"])
    if unknown := [name for name in chosen if name not in known]:
        raise click.BadParameter(
            f"{', '.join(unknown)} is in none of the tables; they have {', '.join(known)}",
            param_hint="--metric",
        )
    planes = list(dict.fromkeys(plane for table in pivoted.values() for plane in table.colnames[1:-1]))
    rows = []
    for name in chosen:
        for ref, table in pivoted.items():
            place = [str(ref.dataId[key]) for key in keys]
            for row in table[table["metric"] == name]:
                cells = [row[plane] if plane in table.colnames else None for plane in planes]
                rows.append((name, *place, *_write_cells(cells), row["unit"]))
    return _align(rows, names=("metric", *keys, *planes, "unit"), n_left=1 + len(keys))


def _write_cells(cells: Sequence[tuple[float, float] | None]) -> list[str]:
    """Write values with their errors."""
    from ..comparison._page import format_number

    return ["" if cell is None else format_number(*cell).replace("±", "+-") for cell in cells]


def _align(rows: Sequence[Sequence[str]], *, names: Sequence[str], n_left: int) -> str:
    """Return rows as text; the first columns and the last are flush left."""
    from astropy.table import Table

    table = Table(rows=rows or None, names=names)
    sides = ["<"] * n_left + [">"] * (len(names) - n_left - 1) + ["<"]
    return "\n".join(table.pformat(max_lines=-1, max_width=-1, align=sides))


def _choose_keys(refs: Sequence[DatasetRef]) -> list[str]:
    """Return the dimensions that tell patches apart; none for a single one."""
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
