# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn compare``: two images of the same pixels, without a Butler."""

from __future__ import annotations

__all__ = ("compare",)

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._files import write_whole
from ._progress import Progress

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.figure import Figure

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("compare")
@click.argument("reference", metavar="A.fits", type=_FILE)
@click.argument("other", metavar="B.fits", type=_FILE)
@click.option("--psf-a", type=_FILE, help="FITS stamp of the PSF of A; by default see above.")
@click.option("--psf-b", type=_FILE, help="FITS stamp of the PSF of B.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="comparison",
    show_default=True,
    help="Folder for metrics.ecsv, planes.png, fluxes.png, psf.png and report.html; files are replaced.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def compare(
    reference: Path, other: Path, psf_a: Path | None, psf_b: Path | None, output: Path, quiet: bool
) -> None:
    """Compare two coadds in FITS files, pixel by pixel on the same grid.

    A is the reference: sources are detected in it, and fluxes of B are
    divided by those of A. Of each file the extension IMAGE is compared, else
    COADD (of acn restore), else the first image, with VARIANCE
    (LATENT_VARIANCE if the image is LATENT), MASK and PSF as far as they
    exist; without them the noise and the PSF are measured, the PSF on stars.
    Both must have the same size, the same world coordinates or none, and a
    unit of flux density or none (then it is taken as that of the other).
    Without world coordinates sizes are given in pixels, without a unit fluxes
    in counts. The radius of the apertures is 1.4 times the FWHM of the
    broader PSF.

    \b
    Example:
      acn compare deepCoadd.fits acn_coadd.fits -o comparison
    """  # noqa: D301
    from ._summary import format_metrics

    with _make_folder(output), Progress(quiet=quiet) as progress:
        metrics, how, pictures = _compare((reference, other), (psf_a, psf_b), output, progress)
    click.echo(format_metrics(metrics))
    click.echo("\n" + "\n".join(how))
    click.echo(f"\nWrote {output}/report.html, metrics.ecsv, {', '.join(pictures)}.")


@contextlib.contextmanager
def _make_folder(path: Path) -> Iterator[None]:
    """Make a folder before the work, which would be lost without it; take it
    away again if nothing comes of the work.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()
        raise


def _compare(
    paths: tuple[Path, Path], psfs: tuple[Path | None, Path | None], output: Path, report: Progress
) -> tuple[Table, list[str], list[str]]:
    """Write all files; return the metrics, lines about what was taken for
    granted, and the names of the pictures.
    """
    from .._progress import StepCounter
    from ..comparison._fits import FitsCoaddError, find_common_scale, find_unit, view_from_fits
    from ..comparison._metrics import compare_views
    from ..comparison._page import Section, make_page, pivot_metrics
    from ..comparison._photometry import adaptive_fwhm
    from ..comparison._rows import restate_units
    from ..comparison.pictures._diagrams import make_flux_figure, make_psf_figure
    from ..comparison.pictures._plots import make_comparison_figure

    names = [path.stem for path in paths]
    if names[0] == names[1]:
        names = [f"A: {names[0]}", f"B: {names[1]}"]
    count, views = StepCounter(5, report), []
    scale, unit = find_common_scale(paths), find_unit(paths)
    for path, name, psf in zip(paths, names, psfs, strict=True):
        views.append(view_from_fits(path, name=name, psf=psf, pixel_scale=scale, unit=unit))
        count(f"Read {path.name}")
    # Without world coordinates an arcsec means nothing: go by the PSF.
    fwhm = max(adaptive_fwhm(view.psf(x=0, y=0)) * view.pixel_scale for view in views)
    try:
        comparison = compare_views(views, aperture_radius=1.4 * fwhm, isolation=4 * fwhm)
    except ValueError as error:
        raise FitsCoaddError(str(error)) from error
    metrics = restate_units(comparison.metrics, pixels=scale is None, counts=not unit)
    comparison = dataclasses.replace(comparison, metrics=metrics)
    n_sources = len(comparison.sources.x)
    count(f"Measured {n_sources} source{'s' * (n_sources != 1)}")
    files = " and ".join(path.name for path in paths)
    how = [f"{view.name}: {view.configuration}" for view in views]
    title = "\n".join([files, *how])
    figures = {
        "planes": make_comparison_figure(views, comparison, title=title),
        "fluxes": make_flux_figure(views, comparison, title=title),
        "psf": make_psf_figure(views, comparison, title=title),
    }
    pictures = {name: _draw(figure) for name, figure in figures.items()}
    count(f"Drew {len(figures)} pictures")
    section = Section(
        title=" and ".join(names),
        tables=[("Metrics", pivot_metrics(metrics))],
        pictures=list(pictures.items()),
    )
    page = make_page(section.title, f"{paths[0]} (reference) and {paths[1]}", [section])
    text = io.StringIO()
    metrics.write(text, format="ascii.ecsv")
    write_whole(output / "metrics.ecsv", text.getvalue().encode())
    for name, picture in pictures.items():
        write_whole(output / f"{name}.png", picture)
    write_whole(output / "report.html", page.encode())
    count("Wrote the files")
    return metrics, how, [f"{name}.png" for name in pictures]


def _draw(figure: Figure) -> bytes:
    """Return a picture as a PNG file holds it."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
