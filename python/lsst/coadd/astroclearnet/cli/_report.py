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

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from .._files import write_whole
from ._butler import find_datasets, find_metrics, label_dataset, open_butler, read_dataset, split_collections
from ._patches import Lack, count_patches, find_lacks, is_within
from ._progress import Progress

if TYPE_CHECKING:
    from lsst.daf.butler import Butler, DatasetRef

    from .._progress import StepCounter
    from ..comparison._page import Section

_MOST_PATCHES = 20
"""Patches on one page, at one to two megabytes each: no browser opens the
hundreds of megabytes of a whole tract."""

_PICTURES = {
    "plot": "The same sky at one stretch, with zooms on places that were chosen automatically",
    "flux_plot": "Fluxes and positions against brightness",
    "psf_plot": "Stars against the attached PSF",
    "fit_plot": "History of the fit",
    "exposure_plot": "Each exposure against the model",
}


@click.command("report")
@click.argument("repo", metavar="REPO")
@click.option(
    "--collections",
    required=True,
    help="Output collection of the pipeline, e.g. u/you/acn; several with commas.",
)
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
    gatherAcnComparison wrote, tract by tract and patch by patch, and says
    which patches of the run have no comparison. It is one file that needs no
    network: pictures are inside, and tables are sorted by a press on the head
    of a column. Of more than 20 patches each has a page of its own, in the
    folder report_patches beside report.html.

    \b
    Example:
      acn report demo/repo --collections u/demo/acn -o report.html
    """  # noqa: D301
    from .._progress import StepCounter
    from ..comparison._page import make_page

    base = f"{coadd_name}_coadd_comparison"
    butler = open_butler(repo, writeable=False)
    named = split_collections(collections, option="--collections")
    patches = find_metrics(butler, coadd_name, named, where)
    tracts = find_datasets(butler, f"{base}_tract_metrics", named, where)
    lacks = find_lacks(butler, patches, coadd_name, named, where)
    title, introduction = f"Coadds of {collections}", f"Butler repository: {repo}"
    with Progress(quiet=quiet) as progress:
        for line in _find_other_runs(butler, patches, named, coadd_name):
            progress.warn(line)
        for line in _find_ungathered(butler, patches, tracts):
            progress.warn(line)
        count = StepCounter(len(tracts) + len(patches), progress)
        sections = [_describe_tract(butler, ref, base, named, count) for ref in tracts]
        of_patches = (_describe_patch(butler, ref, base, named, count) for ref in patches)
        links, number = {}, f"{len(patches)} patch{'es' if len(patches) > 1 else ''}"
        output.parent.mkdir(parents=True, exist_ok=True)
        if len(patches) > _MOST_PATCHES:
            folder = output.with_name(f"{output.stem}_patches")
            links = _write_pages(of_patches, patches, folder, introduction, index=output.name)
            number += f" in {folder}"
        elif len(patches) <= len(tracts):
            # The tract of a single patch says nothing that the patch does not.
            sections = [*of_patches, *sections]
        else:
            sections += of_patches
    page = make_page(title, introduction, [*_describe_lacks(lacks), *sections], links=links)
    write_whole(output, page.encode())
    click.echo(f"Wrote {output} ({number}, {len(page) / 1e6:.1f} MB).")


def _write_pages(
    sections: Iterable[Section], refs: Sequence[DatasetRef], folder: Path, introduction: str, *, index: str
) -> dict[str, list[tuple[str, str]]]:
    """Write a page for each patch, one at a time; return numbers and addresses
    for the page that they lie beside, by tract and band.
    """
    from ..comparison._page import make_page

    folder.mkdir(exist_ok=True)
    links: dict[str, list[tuple[str, str]]] = {}
    for ref, section in zip(refs, sections, strict=True):
        name = "_".join(str(value) for value in ref.dataId.required_values) + ".html"
        page = make_page(
            section.title, introduction, [section], links={"": [("All patches", quote(f"../{index}"))]}
        )
        write_whole(folder / name, page.encode())
        rest = [f"{key}={value}" for key, value in ref.dataId.required.items() if key != "patch"]
        links.setdefault(f"Patches of {', '.join(rest)}:", []).append(
            (str(ref.dataId["patch"]), quote(f"{folder.name}/{name}"))
        )
    return links


def _describe_lacks(lacks: Sequence[Lack]) -> list[Section]:
    """Make the section of the patches that have no comparison, if any."""
    from astropy.table import Table

    from ..comparison._page import Section

    if not lacks:
        return []
    rows = [(one.skymap, one.tract, one.band, one.reason, len(one.patches), one.numbers) for one in lacks]
    table = Table(rows=rows, names=("skymap", "tract", "band", "why", "number", "patches"))
    return [Section(title="Patches without a comparison", tables=[("Why there is none", table)])]


def _find_ungathered(
    butler: Butler, patches: Sequence[DatasetRef], tracts: Sequence[DatasetRef]
) -> list[str]:
    """Say which tracts were gathered before all of their patches were there,
    or, of several patches, not at all: a failed patch prevents it.
    """
    gathered = {}
    for ref in tracts:
        numbers = read_dataset(butler, ref)["n_patches"]
        place = str(ref.dataId["skymap"]), int(ref.dataId["tract"]), str(ref.dataId["band"])
        gathered[place] = int(max(numbers, default=0))
    return [
        f"skymap={place[0]}, tract={place[1]}, band={place[2]}: {gathered.get(place, 0)} of {n} compared "
        "patches are in the figures of the tract; run gatherAcnComparison again"
        for place, n in sorted(count_patches(patches).items())
        if n > 1 and gathered.get(place, 0) < n
    ]


def _find_other_runs(
    butler: Butler, refs: Sequence[DatasetRef], collections: Sequence[str], coadd_name: str
) -> list[str]:
    """Say which metrics are not of the collections that were named, but of
    one that was among their inputs.
    """
    runs = {ref.run for ref in refs}
    others = {run for run in runs if not is_within(run, collections)}
    if not others:
        return []
    line = (
        f"what the page shows was made in {', '.join(sorted(others))}, an input of {', '.join(collections)}"
    )
    injected = f"injected_{coadd_name}"
    if find_datasets(butler, f"{injected}_coadd_comparison_metrics", collections):
        line += f"; give --coadd-name {injected} for the coadds with injected sources"
    return [line]


def _read_pictures(
    butler: Butler, ref: DatasetRef, names: dict[str, str], collections: Sequence[str]
) -> list:
    """Read pictures, which the Butler can write but not read."""
    pictures = []
    for name, caption in names.items():
        for found in find_datasets(butler, name, collections, data_id=ref.dataId):
            pictures.append((caption, butler.getURI(found).read()))
    return pictures


def _describe_tract(
    butler: Butler, ref: DatasetRef, base: str, collections: Sequence[str], count: StepCounter
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
    butler: Butler, ref: DatasetRef, base: str, collections: Sequence[str], count: StepCounter
) -> Section:
    """Make the section of a patch."""
    from ..comparison._page import Section, choose_key_rows, pivot_metrics

    metrics = pivot_metrics(read_dataset(butler, ref))
    count(f"Read {label_dataset(ref)}")
    tables = [("Key figures", choose_key_rows(metrics)), ("All figures", metrics)]
    coadd = base.removesuffix("_comparison")
    for found in find_datasets(butler, f"{coadd}_inputs", collections, data_id=ref.dataId):
        tables.append(("Inputs", read_dataset(butler, found)))
    injection = f"{coadd.removesuffix('_coadd')}_injection_metrics"
    for found in find_datasets(butler, injection, collections, data_id=ref.dataId):
        tables.append(("What became of injected sources", pivot_metrics(read_dataset(butler, found))))
    names = {f"{base}_{name}": caption for name, caption in _PICTURES.items()}
    return Section(
        title=label_dataset(ref), tables=tables, pictures=_read_pictures(butler, ref, names, collections)
    )
