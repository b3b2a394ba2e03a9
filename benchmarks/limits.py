# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stacks do to fluxes and PSFs when something is wrong with them.

``python -m benchmarks.limits`` prints tables of stars of known flux: seen
through PSFs that are too narrow or too broad; through few sharp and many broad
ones; in the half of a cell that the sharpest exposures do not cover; in stacks
of which one exposure has another flux scale than it says; on skies that were
not taken away alike; and in deep stacks, also where few of many exposures
see. ``--out FILE`` writes them. Six minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import galsim
import numpy as np
import torch

from lsst.coadd.astroclearnet.comparison._photometry import adaptive_moments
from lsst.coadd.astroclearnet.core import CellStack, FitOptions, PatchFit, fit_patch
from lsst.coadd.astroclearnet.core.methods import _fit

from .print_lines import print_lines

_SIDE, _HALO, _STAMP, _STEP = 168, 24, 61, 42
"""Sides of the cell, of its halo, of PSF stamps and of the grid of stars."""

_FLUXES = (1000.0, 3000.0, 30_000.0)
"""Of the stars, in units of the noise of a pixel."""

_TARGETS = (2.5, 3.5, 5.0)
_WIDTHS = (1.8, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0, 7.0, 8.0)
"""FWHM in pixels."""

_FEW_SHARP = ((3.0, 1, 5.0, 7), (3.0, 2, 7.0, 14), (2.4, 1, 6.0, 32), (3.0, 1, 7.0, 32))
_FEW_SHARP += ((2.4, 1, 7.7, 15), (2.4, 1, 10.0, 15), (2.4, 1, 15.0, 15))
"""FWHM of the sharp exposures, number of them, and both of the broad ones."""

_MIXTURES = ((3.5, 4, 6), (3.0, 4, 6), (3.0, 7, 3))
"""FWHM of the sharp exposures, number of them, and of those of 4.5 px."""

_STRENGTHS = (3e-5, 1e-5, 6e-6, 3e-6)
"""Priors that holes are filled with."""

_SEEING = (4.0, 3.0, 5.0, 4.0, 3.5, 4.5, 4.0, 3.0)
_SCALES = (0.0, 0.3, 0.6, 0.9, 1.1, 2.0)
"""FWHM of exposures, and flux scales of one of them."""

_SKIES = (*((0.0, tilt) for tilt in (0.0, 0.1, 0.2, 0.35, 0.5, 0.7)), (0.5, 0.0), (1.0, 0.0), (0.5, 0.35))
"""Scatter of the levels of skies, and of their slopes per 100 px, in units of
the noise of a pixel."""

_DEPTHS = ((16, 16), (66, 66), (132, 132), (60, 14), (60, 5), (60, 2))
"""Exposures of a stack, and of its right half."""

_FAINTER = 0.03
"""Fluxes of stars on these skies and in deep stacks, relative to those of
`_FLUXES`: S/N 15, 45 and 450 behind twelve exposures."""


def _make_stars() -> list[tuple[float, float, float]]:
    """Return x, y in the stack and flux of stars on a grid, off centre."""
    places = itertools.product(np.arange(_STEP / 2, _SIDE, _STEP), repeat=2)
    fluxes = itertools.cycle(_FLUXES)
    return [(_HALO + x + 0.3, _HALO + y - 0.2, flux) for (y, x), flux in zip(places, fluxes, strict=False)]


_STARS = _make_stars()


def _draw(psf: galsim.GSObject) -> np.ndarray:
    """Draw the stars through a PSF that has the pixel in it."""
    side = _SIDE + 2 * _HALO
    image = galsim.Image(side, side, xmin=0, ymin=0, scale=1.0)
    for x, y, flux in _STARS:
        (flux * psf).drawImage(image, center=(x, y), method="no_pixel", add_to_image=True)
    return image.array


def _make_stack(
    psfs: Sequence[galsim.GSObject], seed: int, *, brightness: float = 1.0
) -> tuple[CellStack, np.ndarray]:
    """Make a stack of noise 1, and what it would be without."""
    kernels = [psf.drawImage(nx=_STAMP, ny=_STAMP, scale=1.0, method="no_pixel").array for psf in psfs]
    light = brightness * np.array([_draw(psf) for psf in psfs])
    image = light + np.random.default_rng(seed).normal(size=light.shape)
    stack = CellStack(
        image=image.astype(np.float32),
        variance=np.ones(light.shape, np.float32),
        good=np.ones(light.shape, bool),
        psf=np.array([kernel / kernel.sum() for kernel in kernels], np.float32),
        labels=tuple(f"exposure {t}" for t in range(len(psfs))),
    )
    return stack, light


def _run(stack: CellStack, **options) -> PatchFit:
    chosen = FitOptions(cell_size=_SIDE, halo=_HALO, n_threads=1, **options)
    return fit_patch(lambda tile, halo: stack, height=_SIDE, width=_SIDE, options=chosen)


def _fluxes(image: np.ndarray, fwhm: float) -> np.ndarray:
    """Fluxes with the declared PSF over the true ones, of all stars."""
    y, x = np.mgrid[_HALO : _HALO + _SIDE, _HALO : _HALO + _SIDE]
    sigma = fwhm * galsim.Gaussian(fwhm=1.0).sigma
    found = []
    for star_x, star_y, flux in _STARS:
        squared = (x - star_x) ** 2 + (y - star_y) ** 2
        profile = np.exp(-0.5 * squared / sigma**2) / (2 * np.pi * sigma**2)
        near = squared < (3 * fwhm) ** 2
        found.append((image * profile)[near].sum() / (profile[near] ** 2).sum() / flux)
    return np.array(found)


def _width(image: np.ndarray, chosen: np.ndarray) -> float:
    """Mean FWHM of bright stars, in pixels."""
    half, widths = 12, []
    for (x, y, flux), wanted in zip(_STARS, chosen, strict=True):
        if wanted and flux > _FLUXES[0]:
            column, row = round(x) - _HALO, round(y) - _HALO
            stamp = image[row - half : row + half + 1, column - half : column + half + 1]
            moments = adaptive_moments(stamp)
            widths.append(np.nan if moments is None else moments.fwhm)
    return float(np.mean(widths))


def _find_sky(column: float) -> np.ndarray:
    """Pixels without a star, to the right of a column of the stack."""
    y, x = np.mgrid[_HALO : _HALO + _SIDE, _HALO : _HALO + _SIDE]
    sky = x > column
    for star_x, star_y, _ in _STARS:
        sky &= np.hypot(x - star_x, y - star_y) > 13
    return sky


def _compare_widths() -> Iterator[str]:
    everything = np.ones(len(_STARS), bool)
    yield "| exposures | " + " | ".join(f"target {target:g} px" for target in _TARGETS) + " |"
    yield "|---" * (1 + len(_TARGETS)) + "|"
    for kind, width in [*itertools.product(("Gaussian",), _WIDTHS), ("Kolmogorov", 5.5), ("Kolmogorov", 7.0)]:
        stack, _ = _make_stack([getattr(galsim, kind)(fwhm=width)] * 8, seed=1)
        cells = []
        for target in _TARGETS:
            fit = _run(stack, target_fwhm=target)
            coadd, latent = (100 * (_fluxes(image, target) - 1).mean() for image in (fit.coadd, fit.latent))
            broad = 100 * (_width(fit.coadd, everything) / target - 1)
            cells.append(f"{coadd:+.1f}, {latent:+.1f}; {broad:+.1f}")
        yield f"| {kind} {width:g} px, together {fit.seeing[0, 0, 0]:.2f} | " + " | ".join(cells) + " |"


def _compare_few_sharp() -> Iterator[str]:
    yield "| exposures | together | like all of | flux, coadd and latent | FWHM |"
    yield "|---|---|---|---|---|"
    for sharp, n_sharp, broad, n_broad in _FEW_SHARP:
        psfs = [galsim.Kolmogorov(fwhm=sharp)] * n_sharp + [galsim.Kolmogorov(fwhm=broad)] * n_broad
        stack, _ = _make_stack(psfs, seed=1)
        fit = _run(stack)
        coadd, latent = (100 * (_fluxes(image, 2.5) - 1).mean() for image in (fit.coadd, fit.latent))
        wide = 100 * (_width(fit.coadd, np.ones(len(_STARS), bool)) / 2.5 - 1)
        together, alike = fit.seeing[0, 0]
        yield (
            f"| {n_sharp} of {sharp:g} px, {n_broad} of {broad:g} px | {together:.2f} px | {alike:.2f} px | "
            f"{coadd:+.1f}, {latent:+.1f} % | {wide:+.1f} % |"
        )


def _compare_mixtures() -> Iterator[str]:
    right = np.array([x > _HALO + _SIDE / 2 + 10 for x, *_ in _STARS])
    sky = _find_sky(_HALO + _SIDE / 2 + 15)
    yield "| exposures | prior | flux, coadd and latent | FWHM | scatter | noise realization |"
    yield "|---|---|---|---|---|---|"
    for (sharp, n_sharp, n_broad), strength in itertools.product(_MIXTURES, _STRENGTHS):
        fits = []
        for seed in range(4):
            psfs = [galsim.Gaussian(fwhm=sharp)] * n_sharp + [galsim.Gaussian(fwhm=4.5)] * n_broad
            stack, _ = _make_stack(psfs, seed)
            stack.good[:n_sharp, :, _HALO + _SIDE // 2 :] = False
            stack.image[~stack.good] = 0.0
            _fit._TrainedFitter.fill_strength = strength
            fits.append(_run(stack, seed=seed + 1))
        coadds, latents = np.array([fit.coadd for fit in fits]), np.array([fit.latent for fit in fits])
        fluxes = [
            100 * np.mean([_fluxes(one, 2.5)[right] - 1 for one in images]) for images in (coadds, latents)
        ]
        broad = 100 * (np.mean([_width(one, right) for one in coadds]) / 2.5 - 1)
        written = np.mean([fit.coadd_variance[sky] for fit in fits])
        scatter = (coadds.var(0, ddof=1)[sky].mean() / written) ** 0.5
        noise = (np.mean([fit.noise[sky] ** 2 for fit in fits]) / written) ** 0.5
        yield (
            f"| {n_sharp} of {sharp:g} px (left half), {n_broad} of 4.5 px | {strength:g} | "
            f"{fluxes[0]:+.1f}, {fluxes[1]:+.1f} % | {broad:+.1f} % | {scatter:.2f} | {noise:.2f} |"
        )
    _fit._TrainedFitter.fill_strength = _fit.FILL_STRENGTH


def _compare_scales() -> Iterator[str]:
    yield "| exposures | " + " | ".join(f"times {scale:g}" for scale in _SCALES) + " |"
    yield "|---" * (1 + len(_SCALES)) + "|"
    for n in range(3, 9):
        stack, light = _make_stack([galsim.Gaussian(fwhm=fwhm) for fwhm in _SEEING[:n]], seed=2)
        for which, kind in enumerate(("4 px", "3 px, the sharpest", "5 px, the broadest")):
            cells = []
            for scale in _SCALES:
                image = stack.image.copy()
                image[which] += (scale - 1) * light[which]
                wrong = CellStack(
                    image=image, variance=stack.variance, good=stack.good, psf=stack.psf, labels=stack.labels
                )
                found = _fluxes(_run(wrong).coadd, 2.5)
                cells.append(f"{found.mean():.2f}, {found[np.argmax(np.abs(found - 1))]:.2f}")
            yield f"| {n}, that of {kind} | " + " | ".join(cells) + " |"


def _compare_skies() -> Iterator[str]:
    yield "| levels, slopes | clipped | noise scale | faint | medium | bright |"
    yield "|---|---|---|---|---|---|"
    y, x = np.mgrid[: _SIDE + 2 * _HALO, : _SIDE + 2 * _HALO] - (_SIDE / 2 + _HALO)
    inner = np.s_[_HALO : _HALO + _SIDE, _HALO : _HALO + _SIDE]
    bright = np.array([flux for *_, flux in _STARS])
    for level, slope in _SKIES:
        clipped, scales, found = [], [], []
        for seed in range(6):
            psfs = [galsim.Gaussian(fwhm=fwhm) for fwhm in np.linspace(3.0, 5.0, 12)]
            stack, _ = _make_stack(psfs, seed, brightness=_FAINTER)
            random = np.random.default_rng(100 + seed).normal(size=(3, 12, 1, 1))
            skies = level * random[0] + slope / 100 * (random[1] * y + random[2] * x)
            stack.image[:] += skies
            fit = _run(stack)
            clipped.append(fit.n_rejected.mean() / len(psfs))
            scales += [exposure.noise_scale for exposure in fit.exposures]
            found.append(_fluxes((fit.coadd - skies.mean(0)[inner]) / _FAINTER, 2.5) - 1)
        found = np.array(found)
        cells = []
        for flux in _FLUXES:
            each = 100 * found[:, bright == flux]
            cells.append(f"{each.mean():+.1f} ± {each.std() / each.size**0.5:.1f} %")
        noise = f"{min(scales):.2f} to {max(scales):.2f}"
        row = (f"{level:g}, {slope:g}", f"{100 * np.mean(clipped):.1f} %", noise, *cells)
        yield "| " + " | ".join(row) + " |"


def _compare_depths() -> Iterator[str]:
    yield "| exposures | clipped | scatter | FWHM | faint | medium | bright |"
    yield "|---|---|---|---|---|---|---|"
    right = np.array([x > _HALO + _SIDE / 2 for x, *_ in _STARS])
    sky, bright = _find_sky(_HALO + _SIDE // 2), np.array([flux for *_, flux in _STARS])
    for n, n_right in _DEPTHS:
        psfs = [galsim.Gaussian(fwhm=fwhm) for fwhm in np.linspace(3.0, 5.0, n)]
        # Those that reach the right half have the seeing of all.
        order = np.random.default_rng(n_right).permutation(n)
        brightness = _FAINTER * (12 / n_right) ** 0.5
        clipped, scatter, found, widths = [], [], [], []
        for seed in range(4):
            stack, _ = _make_stack([psfs[k] for k in order], seed, brightness=brightness)
            stack.good[n_right:, :, _HALO + _SIDE // 2 :] = False
            stack.image[~stack.good] = 0.0
            fit = _run(stack)
            clipped.append(fit.n_rejected[:, _SIDE // 2 :].mean() / n_right)
            scatter.append(np.mean(fit.coadd[sky] ** 2 / fit.coadd_variance[sky]))
            found.append(_fluxes(fit.coadd / brightness, 2.5) - 1)
            widths.append(_width(fit.coadd, right & (bright == max(_FLUXES))) / 2.5 - 1)
        cells = []
        for flux in _FLUXES:
            each = 100 * np.array(found)[:, right & (bright == flux)]
            cells.append(f"{each.mean():+.1f} ± {each.std() / each.size**0.5:.1f} %")
        row = (f"{n_right} of {n}", f"{100 * np.mean(clipped):.2f} %", f"{np.mean(scatter) ** 0.5:.2f}")
        yield "| " + " | ".join((*row, f"{100 * np.mean(widths):+.1f} %", *cells)) + " |"


def _report() -> Iterator[str]:
    yield from ("## Width of the PSF", "")
    yield "Eight exposures alike. Fluxes with the declared PSF, in per cent above the true ones, in"
    yield "`acn_coadd` and `acn_latent`; FWHM of the stars above the declared. Cells below 2.0 or above"
    yield "5.5 px together are not trusted."
    yield from ("", *_compare_widths(), "", "## Few sharp exposures among broad ones", "")
    yield "Kolmogorov profiles. FWHM of the PSF of all together, and of the one that would show as much if"
    yield "all had it: cells are not trusted where the first is below 2.0 px or either above 5.5. Fluxes and"
    yield "FWHM as above."
    yield from ("", *_compare_few_sharp(), "", "## Half of a cell without its sharpest exposures", "")
    yield "That half: fluxes and FWHM as above; scatter of the sky of `acn_coadd` between four observations,"
    yield f"and of its noise realization, over the written sigma. The prior in use is {_fit.FILL_STRENGTH:g}."
    yield from ("", *_compare_mixtures(), "", "## One exposure of another flux scale", "")
    yield "Fluxes in `acn_coadd` over the true ones: mean, and that of the worst star. Times 0 is a hole that"
    yield "no mask tells."
    yield from ("", *_compare_scales(), "", "## Skies that were not taken away alike", "")
    yield "Twelve exposures of 3 to 5 px, noise 1. Scatter of the levels of their skies and of the slopes,"
    yield "per 100 px; pixels clipped; factors found for the variances; PSF fluxes in `acn_coadd` above the"
    yield "true ones, of stars of S/N 15, 45 and 450, without the mean of the skies."
    yield from ("", *_compare_skies(), "", "## Many exposures, and few of many", "")
    yield "Exposures of 3 to 5 px, of which some reach the right half. That half: pixels clipped; scatter of"
    yield "the sky of `acn_coadd` over its sigma; FWHM of the bright stars above the declared, and PSF fluxes"
    yield "above the true ones, of stars of S/N 15, 45 and 450 there."
    yield from ("", *_compare_depths())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the tables to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_lines(_report(), options.out)


if __name__ == "__main__":
    main()
