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

from pathlib import Path

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("compare")
@click.argument("reference", metavar="A.fits", type=_FILE)
@click.argument("other", metavar="B.fits", type=_FILE)
@click.option("--psf-a", type=_FILE, help="FITS stamp of the PSF of A; without it, it is measured on stars.")
@click.option("--psf-b", type=_FILE, help="FITS stamp of the PSF of B.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("comparison"),
    show_default=True,
    help="Folder for metrics.ecsv, planes.png, fluxes.png, psf.png and report.html; files are replaced.",
)
def compare(reference: Path, other: Path, psf_a: Path | None, psf_b: Path | None, output: Path) -> None:
    """Compare two coadds in FITS files, pixel by pixel on the same grid.

    A is the reference: sources are detected in it, and fluxes of B are
    divided by those of A. Extensions IMAGE, VARIANCE and MASK are read as far
    as they exist; else the first image is taken and the noise is measured.
    Both must have the same size, and a unit of flux density or none. The
    radius of the apertures is 1.4 times the FWHM of the broader PSF.

    \b
    Example:
      acn compare deepCoadd.fits acn_coadd.fits -o comparison
    """  # noqa: D301
    from .._metrics import compare_views
    from .._photometry import kernel_fwhm
    from .._plots import make_comparison_figure
    from ..comparison._diagrams import make_flux_figure, make_psf_figure
    from ..comparison._fits import FitsCoaddError, view_from_fits
    from ..comparison._page import Section, make_page, pivot_metrics
    from ._summary import format_metrics

    names = [reference.stem, other.stem]
    if names[0] == names[1]:
        names = [f"A: {names[0]}", f"B: {names[1]}"]
    views = [
        view_from_fits(path, name=name, psf=psf)
        for path, name, psf in ((reference, names[0], psf_a), (other, names[1], psf_b))
    ]
    # Without world coordinates an arcsec means nothing: go by the PSF.
    fwhm = max(kernel_fwhm(view.psf(x=0, y=0)) * view.pixel_scale for view in views)
    try:
        comparison = compare_views(views, aperture_radius=1.4 * fwhm, isolation=4 * fwhm)
    except ValueError as error:
        raise FitsCoaddError(str(error)) from error
    title = "\n".join(
        [f"{reference.name} and {other.name}", *(f"{v.name}: {v.configuration}" for v in views)]
    )
    figures = {
        "planes": make_comparison_figure(views, comparison, title=title),
        "fluxes": make_flux_figure(views, comparison, title=title),
        "psf": make_psf_figure(views, comparison, title=title),
    }
    output.mkdir(parents=True, exist_ok=True)
    comparison.metrics.write(output / "metrics.ecsv", overwrite=True)
    for name, figure in figures.items():
        figure.savefig(output / f"{name}.png")
    section = Section(
        title=f"{names[0]} and {names[1]}",
        tables=[("Metrics", pivot_metrics(comparison.metrics))],
        pictures=[(name, (output / f"{name}.png").read_bytes()) for name in figures],
    )
    page = make_page(section.title, f"{reference} (reference) and {other}", [section])
    (output / "report.html").write_text(page, encoding="utf-8")
    click.echo(format_metrics(comparison.metrics))
    click.echo(f"\nWrote {output}/report.html, metrics.ecsv, {', '.join(f'{name}.png' for name in figures)}.")
