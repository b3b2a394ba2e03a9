# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn inject``: synthetic sources in one's own exposures."""

from __future__ import annotations

__all__ = ("inject",)

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..injection._options import InjectionConfig
from ._butler import find_datasets, label_dataset, open_butler, read_dataset, split_collections
from ._progress import Progress

if TYPE_CHECKING:
    from astropy.table import Table

    from lsst.daf.butler import Butler

    from ..injection import InjectionSite

_DEFAULTS = InjectionConfig()
_PIPELINE = "resource://lsst.coadd.astroclearnet/resources/pipelines/acn-inject.yaml"
_METRICS = "injected_acn_injection_metrics"


def _check_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse what is no name of a collection: the Butler would take it."""
    if not all(value.split("/")) or any(sign.isspace() or sign == "," for sign in value):
        raise click.BadParameter(
            f"{value!r} is no name of a collection: it must have neither blanks, commas nor empty parts."
        )
    return value


@click.command("inject")
@click.argument("repo", metavar="REPO")
@click.option("-i", "--input", "inputs", required=True, help="Collections with the exposures, by commas.")
@click.option(
    "-o", "--output", required=True, callback=_check_name, help="Collection to make; it must not exist."
)
@click.option(
    "-d",
    "--where",
    default="",
    help="Which patches, visits, bands, e.g. \"skymap='s' AND tract=1 AND patch=2 AND band='i'\".",
)
@click.option(
    "--catalog",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Table of sources to inject, in the columns of lsst.source_injection; without it one is made.",
)
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Seed of the catalogue.")
@click.option(
    "--noise-seed", type=int, default=0, show_default=True, help="Seed of the noise of the injected light."
)
@click.option(
    "--density",
    type=float,
    default=_DEFAULTS.density,
    show_default=True,
    help="Sources per square arcminute.",
)
@click.option(
    "--star-fraction",
    type=float,
    default=_DEFAULTS.star_fraction,
    show_default=True,
    help="Fraction that are stars; the others are Sersic galaxies.",
)
@click.option(
    "--mag",
    type=(float, float),
    default=_DEFAULTS.mag,
    show_default=True,
    help="Brightest and faintest, AB; the same in all bands.",
)
@click.option(
    "--avoid",
    type=float,
    default=_DEFAULTS.avoid,
    show_default=True,
    help="Distance to keep from bright sources, in arcsec; 0 to inject anywhere.",
)
@click.option(
    "--separation",
    type=float,
    default=_DEFAULTS.separation,
    show_default=True,
    help="Least distance between injected sources, in arcsec.",
)
@click.option(
    "--min-exposures",
    type=int,
    default=_DEFAULTS.min_exposures,
    show_default=True,
    help="Exposures of each band that must cover a source.",
)
@click.option("--dataset-type", default="calexp", show_default=True, help="Dataset type of the exposures.")
@click.option(
    "--run",
    "steps",
    type=click.Choice(["pipeline", "images", "nothing"]),
    default="pipeline",
    show_default=True,
    help="What to do with the catalogue.",
)
@click.option(
    "-n",
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes of the pipeline.",
)
def inject(
    repo: str,
    inputs: str,
    output: str,
    where: str,
    catalog: Path | None,
    noise_seed: int,
    dataset_type: str,
    steps: str,
    processes: int,
    **options: float | int | tuple[float, float],
) -> None:
    """Inject stars and galaxies into exposures of the Butler repository REPO.

    A catalogue of sources is made (or read from a file), spread over the
    patches that the exposures cover, off the bright sources that are there,
    and stored as injection_catalog in the collection OUTPUT/catalog. Then:

    --run pipeline runs pipelines/acn-inject.yaml: injected_calexp, the coadds
    of them (injected_deepCoadd, injected_acn_coadd, ...), and what became of
    the injected sources: completeness, flux bias, false positives. Coadds of
    the exposures as they were, if there are any among the collections
    INPUT, tell what was there before.

    --run images makes the exposures alone, under their own name in the
    collection OUTPUT, so that any pipeline reads them with -i OUTPUT.

    --run nothing stops after the catalogue.

    No dataset of INPUT is changed.

    For example, after make demo:

    acn inject demo/repo -i u/demo/acn,HSC/defaults -o u/you/inject
    """
    from ..injection import find_site, put_injection_catalog
    from ..injection._errors import InjectionError
    from ..repository import naming_full_disk

    try:
        config = InjectionConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    collections = split_collections(inputs, option="--input")
    butler = open_butler(repo, writeable=True)
    _check_output(butler, output)
    site = find_site(butler, inputs=collections, where=where, dataset_type=dataset_type)
    if steps == "images" and site.image_model != "images":
        raise InjectionError(
            "Sources are injected into images of lsst.afw by lsst.source_injection: "
            "use --run nothing, then its tasks."
        )
    table = _read_catalog(catalog) if catalog else _make_catalog(butler, site, config)
    run = f"{output}/catalog"
    with naming_full_disk(Path(repo)):
        put_injection_catalog(butler, table, bands=site.bands, run=run)
    click.echo(
        f"{run}: injection_catalog in {', '.join(site.bands)}; sources: {len(table)}, "
        f"exposures: {len(site.exposures)}, patches: {len(site.patches)}."
    )
    if steps == "images":
        with naming_full_disk(Path(repo)):
            _inject_images(butler, site, table, output=output, inputs=collections, noise_seed=noise_seed)
    command = ["pipetask", "run", "-n", str(processes), "-b", repo, "-i", ",".join([run, *collections])]
    command += ["-o", output, "-p", _PIPELINE, "--register-dataset-types"]
    command += ["-c", f"injectAcnSources:noise_seed={noise_seed}"]
    if dataset_type != "calexp":
        for label in ("injectAcnSources", "gatherAcnInjected"):
            command += ["-c", f"{label}:connections.calexp_type={dataset_type}"]
        for label in ("assembleMeanCoadd", "assembleAcnCoadd", "compareAcnCoadd"):
            command += ["-c", f"{label}:connections.calexp_type=injected_{dataset_type}"]
    command += ["-d", where] if where else []
    if steps == "nothing":
        click.echo(f"Now for instance:\n  {shlex.join(command)}")
    elif steps == "pipeline":
        _run_pipeline(command)
        _print_metrics(repo, output)


def _check_output(butler: Butler, output: str) -> None:
    """Stop if the output is there already."""
    from lsst.daf.butler import MissingCollectionError

    for name in (output, f"{output}/catalog", f"{output}/images"):
        try:
            butler.collections.get_info(name)
        except MissingCollectionError:
            continue
        raise click.ClickException(f"The collection {name} exists already; choose another output.")


def _read_catalog(path: Path) -> Table:
    """Read a table of any format that astropy knows."""
    from astropy.io.registry import IORegistryError
    from astropy.table import Table

    try:
        table = Table.read(path)
    except (IORegistryError, ValueError, OSError, TypeError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise click.ClickException(f"{path} is not a table that astropy can read: {reason}") from error
    # FITS tables hold texts as bytes, and numbers in the order of other
    # machines.
    table.convert_bytestring_to_unicode()
    for name in [name for name in table.colnames if not table[name].dtype.isnative]:
        table[name] = table[name].astype(table[name].dtype.newbyteorder("="))
    return table


def _make_catalog(butler: Butler, site: InjectionSite, config: InjectionConfig) -> Table:
    """Make a catalogue, and tell how far it is."""
    from ..injection import make_catalog_for_site

    with Progress() as progress:
        return make_catalog_for_site(butler, site, config, report=progress)


def _inject_images(
    butler: Butler, site: InjectionSite, table: Table, *, output: str, inputs: list[str], noise_seed: int
) -> None:
    """Write the exposures with the sources, under their own name."""
    from .._progress import StepCounter
    from ..inject_acn_sources import InjectAcnSourcesConfig, InjectAcnSourcesTask
    from ..injection import label_exposure, put_injected
    from ..repository import define_chain

    config = InjectAcnSourcesConfig()
    config.noise_seed = noise_seed
    run = f"{output}/images"
    with Progress() as progress:
        count = StepCounter(len(site.exposures), progress)
        for ref in site.exposures:
            put_injected(butler, ref, table, task=InjectAcnSourcesTask(config=config), run=run)
            count(f"Sources in {label_exposure(ref)}")
    define_chain(butler, output, [run, f"{output}/catalog", *inputs])
    name = site.exposures[0].datasetType.name
    click.echo(f"{output}: {len(site.exposures)} {name} with the sources, before everything of the input.")


def _run_pipeline(command: list[str]) -> None:
    """Run pipetask of this installation; its log is shown as it comes."""
    beside = Path(sys.executable).parent / command[0]
    program = str(beside) if beside.exists() else shutil.which(command[0])
    if program is None:
        raise click.ClickException("pipetask is not installed here; install lsst-ctrl-mpexec.")
    done = subprocess.run([program, *command[1:]], check=False)
    if done.returncode:
        raise click.ClickException(f"The pipeline failed (pipetask: exit code {done.returncode}).")


def _print_metrics(repo: str, output: str) -> None:
    """Print what became of the sources, patch by patch."""
    import numpy as np

    from ._summary import format_metrics

    butler = open_butler(repo, writeable=False)
    for ref in find_datasets(butler, _METRICS, [output]):
        click.echo(f"\n{label_dataset(ref)}")
        metrics = read_dataset(butler, ref)
        # A bin that nothing was injected into has nothing to say.
        empty = [row["n"] == 0 and "_mag_" in row["name"] for row in metrics]
        click.echo(format_metrics(metrics[~np.array(empty)]))
