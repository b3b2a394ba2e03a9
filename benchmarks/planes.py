# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far the planes of a patch can be trusted.

``python -m benchmarks.planes`` prints three tables: what the size of the cells
changes in both products, what repeated observations of one sky scatter
relative to the variances that are written, and how many of them it takes to
see that in a single pixel of the latent. ``--quick`` takes fewer stacks,
``--out FILE`` writes the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from lsst.coadd.astroclearnet.core import PatchFit
from lsst.coadd.astroclearnet.simulate import SceneConfig

from .simulated_patch import simulate_patch

_SIDE, _SMALLER = 400, (200, 100)
"""Sides of a patch that is one cell, and of the cells compared with it."""

_STACKS = {3: (9, 11, 12, 13), 6: (5, 8, 21, 35), 8: (15, 25), 12: (5, 6, 22), 33: (4,)}
"""Seeds for each number of exposures."""

_CHANGE = 0.1
"""Change in sigma that is called one."""

_BRIGHTNESS = (-1.0, 0.3, 1.0, 3.0, 10.0, 30.0, np.inf)
"""Bins of true brightness, in sigma of the sky of the mean coadd."""

_SKIES, _SKY_SIDE = ((8, 11), (8, 12), (16, 13), (33, 14)), 200
"""Exposures and seed of each sky that is observed again and again, and the
side of the patch."""

_NUMBERS, _SMALL_SIDE = (8, 16, 32, 64, 128, 256), 128
"""Numbers of observations of the first of them from which the scatter of
single pixels is told, on a smaller patch."""

_SCENE = SceneConfig(density=140, separation=16, star_mag=(18.0, 24.0))

_PLANES = ("acn_coadd", "acn_latent")


def _planes(fit: PatchFit) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Image and variance of each of `_PLANES`."""
    return (fit.coadd, fit.coadd_variance), (fit.latent, fit.latent_variance)


def _compare_cells(stacks: dict[int, tuple[int, ...]]) -> Iterator[str]:
    """Compare cells with one that is the whole patch, in units of the sigma
    of `acn_coadd`.
    """
    yield "| exposures, seed | cells | plane | rms | 99.9 % below | largest | above 0.1 | largest step |"
    yield "|---|---|---|---|---|---|---|---|"
    for n, seeds in stacks.items():
        for seed in seeds:
            patch = simulate_patch(size=_SIDE, n_exposures=n, seed=seed)
            whole = patch.fit(cell_size=_SIDE)
            for size in _SMALLER:
                cells = patch.fit(cell_size=size)
                for name, (one, _), (other, _) in zip(_PLANES, _planes(whole), _planes(cells), strict=True):
                    change = (other - one) / np.sqrt(whole.coadd_variance)
                    yield f"| {n}, {seed} | {size} px | `{name}` | {_describe_change(change, size)} |"


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
    truth, planes = _observe_again(n, seed, numbers[-1], size=_SMALL_SIDE)
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


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planes", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer stacks and observations")
    parser.add_argument("--out", type=Path, help="write the tables to this file, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stacks = {6: _STACKS[6][:1]} if options.quick else _STACKS
    skies, realisations, numbers = (_SKIES[:1], 6, _NUMBERS[:2]) if options.quick else (_SKIES, 16, _NUMBERS)
    lines = []
    for line in _report(stacks, skies, realisations, numbers):
        lines.append(line)
        print(line, flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


def _report(
    stacks: dict[int, tuple[int, ...]],
    skies: tuple[tuple[int, int], ...],
    realisations: int,
    numbers: tuple[int, ...],
) -> Iterator[str]:
    yield from ("## Size of cells", "")
    yield f"Against one cell of {_SIDE} px, in sigma of the sky of `acn_coadd`."
    yield ""
    yield from _compare_cells(stacks)
    yield from ("", "## Variance", "")
    yield f"Scatter of {realisations} observations over the written sigma, by true brightness in sigma of"
    yield "the sky: root of the ratio of the means over all pixels of a bin, and in brackets root of the mean"
    yield "of the ratios of single pixels."
    yield ""
    yield from _compare_scatter(skies, realisations)
    yield from ("", "## Single pixels of empty sky", "")
    yield "In most observations a pixel of the latent is 0 there: its scatter is that of the few where it is"
    yield f"not, which are easily missed. The first sky above, {_SMALL_SIDE} px, truth below"
    yield f"{_BRIGHTNESS[1]:g} sigma: scatter over the written sigma, from the means over all pixels and from"
    yield "the mean of the ratios of single pixels; means over groups of so many observations."
    yield ""
    yield from _compare_numbers(*skies[0], numbers)


if __name__ == "__main__":
    main()
