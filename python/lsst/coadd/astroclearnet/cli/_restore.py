# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn restore``: exposures on one grid in, FITS out; no LSST software."""

from __future__ import annotations

__all__ = ("restore",)

import click
from click.core import ParameterSource

from ..core._options import DEVICES, METHODS, RECIPES, FitOptions
from ._progress import Progress

_DEFAULTS = FitOptions()
_NPY = b"\x93NUMPY"  # how a file of numpy.save begins


@click.command("restore")
@click.argument("stack", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="FITS file to make.")
@click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    default=_DEFAULTS.method,
    show_default=True,
    help="acn: the network; mm: multiplicative updates; kaiser, mean: linear coadds (see above).",
)
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default=_DEFAULTS.recipe,
    show_default=True,
    help="Of method acn: where its weights come from.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False),
    help="Of recipe trained: a file of acn train, in the place of the shipped weights.",
)
@click.option(
    "--target-fwhm",
    type=float,
    default=_DEFAULTS.target_fwhm,
    show_default=True,
    help="PSF of the result, in pixels.",
)
@click.option(
    "--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Seed of everything random."
)
@click.option(
    "--cell-size",
    type=int,
    default=_DEFAULTS.cell_size,
    show_default=True,
    help="Largest side of a cell, in pixels.",
)
@click.option(
    "--halo",
    type=int,
    default=_DEFAULTS.halo,
    show_default=True,
    help="Border that is fitted with a cell and cropped, in pixels.",
)
@click.option(
    "--device",
    type=click.Choice(list(DEVICES)),
    default=_DEFAULTS.device,
    show_default=True,
    help="For torch.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def restore(
    stack: str, output: str, overwrite: bool, quiet: bool, **fields: str | float | int | None
) -> None:
    """Restore the sky behind the exposures in STACK.

    STACK is a .npz file (numpy.savez) with the arrays image, variance and
    good, each (n, h, w), and psf, (n, p, p): n exposures on one pixel grid
    and one flux scale, sky subtracted.

    The output has the HDUs LATENT, COADD, VARIANCE, LATENT_VARIANCE,
    PSF_FLUX_ERROR (standard error of a PSF flux about each pixel of COADD;
    like the variances infinite where there are no data), MASK (bits NO_DATA,
    INTERPOLATED, CLIPPED and ACN_UNTRUSTED, numbered by the cards MP_*),
    NOISE (a realization of that of COADD; the cards NOISE_AREA_5 to
    NOISE_AREA_40 tell how many pixels share a value of it), N_IMAGE, PSF and
    PSF_CELLS.
    Methods kaiser and mean make no latent image: LATENT is a copy of COADD,
    and the header says HASLATNT = F.

    \b
    Example:
      acn restore stack.npz -o sky.fits --target-fwhm 2.5
    """  # noqa: D301
    from ..restore import restore as restore_stack

    try:
        options = FitOptions(**fields)  # type: ignore[arg-type]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _refuse_single_array(stack)
    with Progress(quiet=quiet) as progress:
        for line in _find_unused_options(options):
            progress.warn(line)
        restore_stack(
            stack, output, options=options, overwrite=overwrite, report=progress, warn=progress.warn
        )
    if not quiet:
        click.echo(f"Wrote {output}.")


def _find_unused_options(options: FitOptions) -> list[str]:
    """Name the options that were given and that the method does not use."""
    used_by = {"recipe": ("acn",), "weights": ("acn",), "target_fwhm": ("acn", "mm")}
    context = click.get_current_context()
    lines = [
        f"--{name.replace('_', '-')} has no effect with --method {options.method}"
        for name, methods in used_by.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT and options.method not in methods
    ]
    if options.weights and options.method == "acn" and options.recipe != "trained":
        lines.append(f"--weights has no effect with --recipe {options.recipe}")
    return lines


def _refuse_single_array(path: str) -> None:
    """Say what a file of `numpy.save` is, which numpy reads as readily."""
    with open(path, "rb") as file:
        start = file.read(len(_NPY))
    if start == _NPY:
        raise click.ClickException(
            f"{path} is a single array of numpy.save; STACK holds four, written by numpy.savez."
        )
