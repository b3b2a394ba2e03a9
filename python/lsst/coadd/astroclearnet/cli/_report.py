# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn report``: what a run found, as one page to open and to mail."""

from __future__ import annotations

__all__ = ("report",)

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._butler import find_datasets, label_dataset, open_butler, read_dataset
from ._progress import Progress

if TYPE_CHECKING:
    from lsst.daf.butler import Butler, DatasetRef

    from .._progress import StepCounter
    from ..comparison._page import Section

_PICTURES = {
    "plot": "The same sky at one stretch, with zooms on places that were chosen automatically",
    "flux_plot": "Fluxes and positions against brightness",
    "psf_plot": "Stars against the attached PSF",
    "fit_plot": "History of the fit",
    "exposure_plot": "Each exposure against the model",
}


@click.command("report")
@click.argument("repo", metavar="REPO")
@click.option("--collections", required=True, help="Output collection of the pipeline, e.g. u/you/acn.")
@click.option("--where", default="", help="Which patches, e.g. \"skymap='s' AND tract=1 AND patch=2\".")
@click.option("--coadd-name", default="acn", show_default=True, help="The coadds are called NAME_coadd.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    help="The page; a file of that name is replaced.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def report(repo: str, collections: str, where: str, coadd_name: str, output: Path, quiet: bool) -> None:
    """Write one page about the coadds of a run in the Butler repository REPO.

    The page holds the tables and pictures that the tasks compareAcnCoadd and
    gatherAcnComparison wrote, tract by tract and patch by patch. It is one
    file that needs no network: pictures are inside, and tables are sorted by
    a press on the head of a column.

    \b
    Example:
      acn report demo/repo --collections u/demo/acn -o report.html
    """  # noqa: D301
    from .._progress import StepCounter
    from ..comparison._page import make_page

    base = f"{coadd_name}_coadd_comparison"
    butler = open_butler(repo, writeable=False)
    tracts = find_datasets(butler, f"{base}_tract_metrics", collections, where)
    patches = find_datasets(butler, f"{base}_metrics", collections, where)
    if not patches:
        raise click.ClickException(
            f"No {base}_metrics in {collections} of {repo}: run compareAcnCoadd first, "
            "e.g. pipetask run ... -p acn.yaml#evaluate."
        )
    with Progress(quiet=quiet) as progress:
        count = StepCounter(len(tracts) + len(patches), progress)
        sections = [_describe_tract(butler, ref, base, collections, count) for ref in tracts]
        of_patches = [_describe_patch(butler, ref, base, collections, count) for ref in patches]
    # The tract of a single patch says nothing that the patch does not.
    sections = of_patches + sections if len(patches) <= len(tracts) else sections + of_patches
    page = make_page(f"Coadds of {collections}", f"Butler repository: {repo}", sections)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    number = f"{len(patches)} patch{'es' if len(patches) > 1 else ''}"
    click.echo(f"Wrote {output} ({number}, {len(page) / 1e6:.1f} MB).")


def _read_pictures(butler: Butler, ref: DatasetRef, names: dict[str, str], collections: str) -> list:
    """Read pictures, which the Butler can write but not read."""
    pictures = []
    for name, caption in names.items():
        for found in find_datasets(butler, name, collections, data_id=ref.dataId):
            pictures.append((caption, butler.getURI(found).read()))
    return pictures


def _describe_tract(
    butler: Butler, ref: DatasetRef, base: str, collections: str, count: StepCounter
) -> Section:
    """Make the section of a tract."""
    from ..comparison._page import Section, choose_key_rows

    table = read_dataset(butler, ref)
    count(f"Read {label_dataset(ref)}")
    pictures = _read_pictures(butler, ref, {f"{base}_tract_plot": "Patch by patch"}, collections)
    return Section(
        title=f"Tract: {label_dataset(ref)}",
        tables=[("Key figures over the patches", choose_key_rows(table)), ("All figures", table)],
        pictures=pictures,
    )


def _describe_patch(
    butler: Butler, ref: DatasetRef, base: str, collections: str, count: StepCounter
) -> Section:
    """Make the section of a patch."""
    from ..comparison._page import Section, choose_key_rows, pivot_metrics

    metrics = pivot_metrics(read_dataset(butler, ref))
    count(f"Read {label_dataset(ref)}")
    tables = [("Key figures", choose_key_rows(metrics)), ("All figures", metrics)]
    inputs = f"{base.removesuffix('_comparison')}_inputs"
    for found in find_datasets(butler, inputs, collections, data_id=ref.dataId):
        tables.append(("Inputs", read_dataset(butler, found)))
    names = {f"{base}_{name}": caption for name, caption in _PICTURES.items()}
    return Section(
        title=label_dataset(ref), tables=tables, pictures=_read_pictures(butler, ref, names, collections)
    )
