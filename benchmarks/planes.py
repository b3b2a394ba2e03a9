# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far the planes of a patch can be trusted.

``python -m benchmarks.planes`` prints five tables: what the size of the cells
changes in both products, also where PSFs vary, what repeated observations of
one sky scatter relative to the variances that are written, how many of them it
takes to see that in a single pixel of the latent, and how much of faint stars
the PSF of ``acn_coadd`` finds. ``--quick`` takes fewer stacks, ``--out FILE``
writes the tables.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import galsim
import numpy as np
import torch

from lsst.coadd.astroclearnet.core import PatchFit
from lsst.coadd.astroclearnet.simulate import SceneConfig

from .print_lines import print_lines
from .simulated_patch import HALO, SimulatedPatch, simulate_patch

_SIDE, _SMALLER = 400, (200, 100)
"""Sides of a patch that is one cell, and of the cells compared with it."""

_STACKS = {3: (9, 11, 12, 13), 6: (5, 8, 21, 35), 8: (15, 25), 12: (5, 6, 22), 16: (3,), 33: (4,)}
"""Seeds for each number of exposures."""

_VARIATIONS, _VARYING = (0.005, 0.01, 0.03), {8: (15,), 16: (3,), 33: (4,)}
"""Largest relative change of the size and of the shears of PSFs from the
middle of a patch to the edge of its halo, and stacks for it, as `_STACKS`."""

_CHANGE = 0.1
"""Change in sigma that is called one."""

_BRIGHTNESS = (-1.0, 0.3, 1.0, 3.0, 10.0, 30.0, np.inf)
"""Bins of true brightness, in sigma of the sky of the mean coadd."""

_SKIES = ((8, 11), (8, 12), (16, 13), (33, 14))
"""Exposures and seed of each sky that is observed again and again."""

_NUMBERS = (8, 16, 32, 64, 128, 256)
"""Numbers of observations of the first of them from which the scatter of
single pixels is told."""

_SKY_SIDE, _OFTEN_SIDE = 200, 128
"""Sides of a sky, and of the one that is observed so often."""

_STARS = SceneConfig(
    star_fraction=1.0, density=110, separation=22, star_mag=(23.0, 25.8), pair_density=0, margin=0
)
_STARS_SIDE, _STARS_SEEDS, _STARS_N = 300, tuple(range(300, 312)), 16
"""Skies of faint stars far from each other: side, seeds and exposures."""

_TARGETS, _SIGNAL_TO_NOISE = (2.5, 3.0, 3.5, 4.0), (4.5, 6.0, 8.0, 10.0, 14.0, 20.0)
"""FWHM of the PSF of `acn_coadd` in pixels, and limits of the S/N of stars."""

_REACH = 9
"""Pixels from the centre of a star to the edge of what is looked at of it."""

_SCENE = SceneConfig(density=140, separation=16, star_mag=(18.0, 24.0))

_PLANES = ("acn_coadd", "acn_latent")


def _planes(fit: PatchFit) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Image and variance of each of `_PLANES`."""
    return (fit.coadd, fit.coadd_variance), (fit.latent, fit.latent_variance)


def _compare_cells(stacks: dict[int, tuple[int, ...]], variations: Sequence[float]) -> Iterator[str]:
    """Compare cells with one that is the whole patch, in units of the sigma
    of `acn_coadd`.
    """
    titles = ("PSFs", "exposures, seed", "cells", "plane", "rms", "99.9 % below", "largest", "above 0.1")
    yield f"| {' | '.join(titles)} | largest step |"
    yield "|---" * (1 + len(titles)) + "|"
    for variation, n in itertools.product(variations, stacks):
        for seed in stacks[n]:
            patch = simulate_patch(size=_SIDE, n_exposures=n, seed=seed, psf_variation=variation)
            whole = patch.fit(cell_size=_SIDE)
            stack = f"{100 * variation:g} % | {n}, {seed}" if variation else f"constant | {n}, {seed}"
            for size in _SMALLER:
                cells = patch.fit(cell_size=size)
                for name, (one, _), (other, _) in zip(_PLANES, _planes(whole), _planes(cells), strict=True):
                    change = (other - one) / np.sqrt(whole.coadd_variance)
                    yield f"| {stack} | {size} px | `{name}` | {_describe_change(change, size)} |"


def _describe_change(change: np.ndarray, size: int) -> str:
    absolute = np.abs(change)
    rms, most = np.sqrt(np.mean(change**2)), np.percentile(absolute, 99.9)
    steps = (
        image[border] - image[border - 1]
        for image in (change, change.T)
        for border in range(size, _SIDE, size)
    )
    step = max(np.abs(one).max() for one in steps)
    share = np.mean(absolute > _CHANGE)
    return f"{rms:.4f} | {most:.3f} | {absolute.max():.2f} | {100 * share:.3f} % | {step:.3f}"


def _compare_scatter(skies: tuple[tuple[int, int], ...], realisations: int) -> Iterator[str]:
    """Scatter of repeated observations over what the variance says, by
    brightness: root of the ratio of their means, and in brackets root of the
    mean of the ratio of each pixel.
    """
    bins = list(zip(_BRIGHTNESS[:-1], _BRIGHTNESS[1:], strict=True))
    titles = " | ".join(f"{low:g} to {high:g}" if low > 0 else f"below {high:g}" for low, high in bins)
    yield f"| exposures, seed | plane | {titles} |"
    yield "|---|---|" + "---|" * len(bins)
    found: dict[str, list[list[float]]] = {name: [] for name in _PLANES}
    for n, seed in skies:
        truth, planes = _observe_again(n, seed, realisations, size=_SKY_SIDE)
        for name, products in zip(_PLANES, zip(*planes, strict=True), strict=True):
            cells, ratios = [], []
            for low, high in bins:
                ratio, each = _pull(products, (truth > low) & (truth <= high))
                ratios.append(ratio)
                cells.append(f"{ratio:.2f} ({each:.2f})")
            found[name].append(ratios)
            yield f"| {n}, {seed} | `{name}` | {' | '.join(cells)} |"
    for name, ratios in found.items():
        yield f"| median | `{name}` | {' | '.join(f'{value:.2f}' for value in np.median(ratios, axis=0))} |"


def _pull(products: Sequence[tuple[np.ndarray, np.ndarray]], chosen: np.ndarray) -> tuple[float, float]:
    """Scatter over the written sigma for images with their variances: from
    the means over the chosen pixels, and from the mean of their ratios.
    """
    scatter = np.var([image[chosen] for image, _ in products], axis=0, ddof=1)
    told = np.mean([variance[chosen] for _, variance in products], axis=0)
    return float(np.sqrt(scatter.mean() / told.mean())), float(np.sqrt(np.mean(scatter / told)))


def _compare_numbers(n: int, seed: int, numbers: tuple[int, ...]) -> Iterator[str]:
    """Scatter of the latent on empty sky over the written sigma, as it comes
    out of more and more observations.
    """
    truth, planes = _observe_again(n, seed, numbers[-1], size=_OFTEN_SIDE)
    latents = [products[_PLANES.index("acn_latent")] for products in planes]
    sky = truth <= _BRIGHTNESS[1]
    yield "| observations | ratio of the means | mean of the ratios |"
    yield "|---|---|---|"
    for number in numbers:
        groups = [latents[start : start + number] for start in range(0, len(latents), number)]
        ratio, each = np.mean([_pull(group, sky) for group in groups], axis=0)
        yield f"| {number} | {ratio:.2f} | {each:.2f} |"


def _observe_again(n: int, seed: int, realisations: int, *, size: int) -> tuple[np.ndarray, list]:
    """Return the truth in sigma of the sky, and for each observation images
    and variances of `_PLANES`.
    """
    patch, planes = None, []
    for k in range(realisations):
        signal = None if patch is None else patch.truth.signal
        patch = simulate_patch(size=size, n_exposures=n, seed=seed, noise_seed=k, signal=signal, scene=_SCENE)
        planes.append(_planes(patch.fit(cell_size=size, seed=k)))
    return patch.truth.image[patch.inner] / patch.coadd_sigma, planes


def _compare_targets(seeds: tuple[int, ...]) -> Iterator[str]:
    """PSF fluxes of faint stars in `acn_coadd` for several target PSFs."""
    patches = [
        simulate_patch(size=_STARS_SIDE, n_exposures=_STARS_N, seed=seed, noise_seed=k, scene=_STARS)
        for k, seed in enumerate(seeds)
    ]
    bins = list(itertools.pairwise(_SIGNAL_TO_NOISE))
    yield f"| target | sky | {' | '.join(f'{low:g} to {high:g}' for low, high in bins)} |"
    yield "|---|---|" + "---|" * len(bins)
    for fwhm in _TARGETS:
        images = [patch.fit(cell_size=_STARS_SIDE, target_fwhm=fwhm).coadd for patch in patches]
        sky = np.mean([_sky_noise(*both) for both in zip(patches, images, strict=True)])
        pairs = zip(patches, images, strict=True)
        signal_to_noise, flux = np.concatenate([_star_fluxes(*both, fwhm) for both in pairs]).T
        cells = []
        for low, high in bins:
            chosen = (signal_to_noise > low) & (signal_to_noise <= high)
            mean = np.average(flux[chosen], weights=signal_to_noise[chosen] ** 2)
            error = flux[chosen].std() / chosen.sum() ** 0.5
            cells.append(f"{100 * (mean - 1):+.1f} +- {100 * error:.1f} %")
        yield f"| {fwhm:g} px | {sky:.2f} | {' | '.join(cells)} |"


def _sky_noise(patch: SimulatedPatch, image: np.ndarray) -> float:
    """Scatter beside the stars, in sigma of the mean coadd."""
    dark = patch.truth.image[patch.inner] < 0.02 * patch.coadd_sigma
    return float(image[dark].std() / patch.coadd_sigma)


def _star_fluxes(patch: SimulatedPatch, image: np.ndarray, fwhm: float) -> np.ndarray:
    """S/N of each star for the optimal filter, and its flux with a Gaussian
    PSF relative to the true one, ``(k, 2)``.
    """
    middle, size = HALO + patch.size / 2, 2 * _REACH + 1
    power = (patch.truth.kernels(x=middle, y=middle) ** 2).sum((1, 2))
    sensitivity = float(np.sum(power / patch.truth.sky_sigma**2) ** 0.5)
    rows = []
    for star in patch.sources:
        x, y = round(star["x"]), round(star["y"])
        if min(x, y) <= _REACH or max(x, y) >= patch.size - _REACH - 1:
            continue
        profile = galsim.Gaussian(fwhm=fwhm).shift(star["x"] - x, star["y"] - y)
        psf = profile.drawImage(nx=size, ny=size, scale=1, method="no_pixel", dtype=float).array
        stamp = image[y - _REACH : y + _REACH + 1, x - _REACH : x + _REACH + 1]
        flux = (stamp * psf).sum() / (psf**2).sum()
        rows.append((star["flux"] * sensitivity, flux / star["flux"]))
    return np.array(rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planes", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer stacks and observations")
    parser.add_argument("--out", type=Path, help="write the tables to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stacks = {8: _STACKS[8][:1]} if options.quick else _STACKS
    skies, realisations, numbers = (_SKIES[:1], 6, _NUMBERS[:2]) if options.quick else (_SKIES, 16, _NUMBERS)
    seeds = _STARS_SEEDS[:2] if options.quick else _STARS_SEEDS
    print_lines(_report(stacks, skies, realisations, numbers, seeds), options.out)


def _report(
    stacks: dict[int, tuple[int, ...]],
    skies: tuple[tuple[int, int], ...],
    realisations: int,
    numbers: tuple[int, ...],
    seeds: tuple[int, ...],
) -> Iterator[str]:
    yield from ("## Size of cells", "")
    yield f"Against one cell of {_SIDE} px, in sigma of `acn_coadd` in the same pixel. PSFs are the same all"
    yield "over the patch, or their size and shears change by up to so much from its middle to the edge of"
    yield "its halo, in each exposure in its own way."
    yield ""
    yield from _compare_cells(stacks, [0.0])
    yield ""
    yield from _compare_cells({n: seeds for n, seeds in _VARYING.items() if n in stacks}, _VARIATIONS)
    yield from ("", "## Variance", "")
    yield f"Scatter of {realisations} observations over the written sigma, by true brightness in sigma of"
    yield "the sky: root of the ratio of the means over all pixels of a bin, and in brackets root of the mean"
    yield "of the ratios of single pixels."
    yield ""
    yield from _compare_scatter(skies, realisations)
    yield from ("", "## Single pixels of empty sky", "")
    yield "In most observations a pixel of the latent is 0 there: its scatter is that of the few where it is"
    yield f"not, which are easily missed. The first sky above, {_OFTEN_SIDE} px, truth below"
    yield f"{_BRIGHTNESS[1]:g} sigma: scatter over the written sigma, from the means over all pixels and from"
    yield "the mean of the ratios of single pixels; means over groups of so many observations."
    yield ""
    yield from _compare_numbers(*skies[0], numbers)
    yield from ("", "## Faint stars", "")
    yield f"Flux with the declared PSF in `acn_coadd`, less the true one, by S/N: {_STARS_N} exposures,"
    yield f"{len(seeds)} skies of {_STARS_SIDE} px, means weighted with the square of S/N. Sky noise in units"
    yield "of that of an ideal mean coadd."
    yield ""
    yield from _compare_targets(seeds)


if __name__ == "__main__":
    main()
