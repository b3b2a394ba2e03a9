# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real galaxies as the sky: what the engine makes of shapes nobody designed.

``python -m benchmarks.real_galaxies`` takes the largest galaxies of the Hubble
eXtreme Deep Field, whose picture (NASA, ESA; public domain) comes with
scikit-image (``pip install -e '.[bench]'``), observes them from the ground at
five brightnesses, and compares planes and peers. ``--catalog FILE`` takes
galaxies of a catalogue in GalSim's format instead, e.g. those of COSMOS that
``galsim_download_cosmos`` brings. ``--out FILE`` writes the table, and a
picture beside it. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
import platform
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import galsim
import matplotlib
import numpy as np
import scipy.ndimage
import torch

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from lsst.coadd.astroclearnet.core import PatchFit
from lsst.coadd.astroclearnet.simulate import PIXEL_SCALE

from .engine import metrics
from .engine.skies import SHAPE_SNR, flux_at, tabulate
from .simulated_patch import HALO, SimulatedPatch, simulate_patch

_N_EXPOSURES = 16
_SPACING = 54
"""Distance between galaxies, in pixels."""

_SHRINK = 3.0
"""Pixels of the picture in one of ours, so that its galaxies have 0.6 to 1.4
arcsec across and are drawn finer than any PSF sees."""

_LEVEL, _LEAST_AREA = 0.02, 300
"""Light at which a galaxy of the picture ends, relative to white, and the
least number of its pixels."""

_PEERS = {
    "engine, `acn_latent`": ({}, "latent"),
    "engine, `acn_coadd`": ({}, "coadd"),
    "`recipe=self`, latent": ({"recipe": "self"}, "latent"),
    "`method=mm`, latent": ({"method": "mm"}, "latent"),
    "clipped mean": ({"method": "mean"}, "coadd"),
}
"""Options of the fit, and the plane that is measured."""

_SHOWN, _ROWS = (80.0, 320.0), 10
"""S/N of the galaxies that are drawn, and rows of the picture."""


def read_deep_field() -> list[tuple[np.ndarray, float]]:
    """Cut the galaxies out of the Hubble eXtreme Deep Field.

    Returns
    -------
    `list`
        Images of single galaxies, and their pixels in arcsec. The picture is
        taken for sRGB: shapes are real, profiles as its makers toned them.
    """
    from skimage.data import hubble_deep_field

    tone = hubble_deep_field().mean(2) / 255.0
    light = np.where(tone < 0.04045, tone / 12.92, ((tone + 0.055) / 1.055) ** 2.4)
    light -= np.median(light)
    labels, _ = scipy.ndimage.label(scipy.ndimage.gaussian_filter(light, 1.0) > _LEVEL)
    found = []
    for number, box in enumerate(scipy.ndimage.find_objects(labels), start=1):
        own = labels[box] == number
        inside = all(s.start > 8 and s.stop < n - 8 for s, n in zip(box, labels.shape, strict=True))
        if own.sum() >= _LEAST_AREA and inside:
            wide = tuple(slice(s.start - 4, s.stop + 4) for s in box)
            near = scipy.ndimage.binary_dilation(labels[wide] == number, iterations=3)
            others = (labels[wide] > 0) & (labels[wide] != number)
            found.append((light[wide] * (near & ~others), PIXEL_SCALE / _SHRINK))
    return found


def read_catalog(path: Path, number: int, rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Read some galaxies of a catalogue in GalSim's format: as they are, with
    the PSF of their telescope.
    """
    catalog = galsim.RealGalaxyCatalog(str(path.name), dir=str(path.parent))
    images = [catalog.getGalImage(int(k)) for k in rng.permutation(catalog.nobjects)]
    fits = [
        im for im in images if max(im.array.shape) * im.scale < _SPACING * PIXEL_SCALE and im.array.sum() > 0
    ]
    return [(image.array, image.scale) for image in fits[:number]]


def _make_patch(galaxies: Sequence[tuple[np.ndarray, float]], seed: int, **settings) -> SimulatedPatch:
    """Lay every galaxy at every S/N on a grid, each turned another way."""
    rng = np.random.default_rng([seed, 17])
    count = int(np.ceil(np.sqrt(len(galaxies) * len(SHAPE_SNR))))
    rows, profiles = [], []
    for place in range(len(galaxies) * len(SHAPE_SNR)):
        (image, scale), snr = galaxies[place // len(SHAPE_SNR)], SHAPE_SNR[place % len(SHAPE_SNR)]
        profile = galsim.InterpolatedImage(galsim.Image(image, scale=scale), flux=1.0)
        profile = profile.rotate(rng.uniform(0, 360) * galsim.degrees)
        radius = galsim.Image(image, scale=scale).calculateHLR() / PIXEL_SCALE
        flux = flux_at(snr, n=_N_EXPOSURES, radius=radius)
        row, column = divmod(place, count)
        x, y = HALO + _SPACING * (np.array([column, row]) + 0.5) + rng.uniform(-0.5, 0.5, 2)
        rows.append(
            {"x": x, "y": y, "flux": flux, "type": "galaxy", "half_light_radius": radius * PIXEL_SCALE}
        )
        profiles.append(profile)
    catalog = tabulate(rows)
    catalog["nominal"] = np.tile(SHAPE_SNR, len(galaxies))
    catalog["profile"] = np.array(profiles, dtype=object)
    return simulate_patch(
        size=count * _SPACING, n_exposures=_N_EXPOSURES, seed=seed, stamp_size=61, catalog=catalog, **settings
    )


def _stamps(patch: SimulatedPatch) -> Iterator[tuple[float, tuple[slice, slice]]]:
    """Nominal S/N and place of each galaxy in the patch."""
    half = _SPACING // 2
    for source in patch.truth.catalog:
        row, column = round(source["y"]) - HALO, round(source["x"]) - HALO
        stamp = np.s_[max(row - half, 0) : row + half, max(column - half, 0) : column + half]
        yield float(source["nominal"]), stamp


def _measure(patch: SimulatedPatch, fit: PatchFit, plane: str) -> list[tuple[float, metrics.ShapeErrors]]:
    truth = metrics.truth_at_psf(patch.truth, getattr(fit, f"{plane}_psf")[0, 0], halo=HALO)
    image, sigma = getattr(fit, plane), np.sqrt(np.median(fit.coadd_variance))
    return [
        (snr, metrics.shape_errors(image[stamp], truth[stamp], sigma=float(sigma)))
        for snr, stamp in _stamps(patch)
    ]


def _observe(
    galaxies: Sequence[tuple[np.ndarray, float]], observations: int, seed: int
) -> tuple[SimulatedPatch, dict[str, PatchFit], dict[str, list[tuple[float, metrics.ShapeErrors]]]]:
    """Observe, fit and measure.

    Returns
    -------
    patch, fits
        The first observation, and what each peer made of it.
    errors
        Nominal S/N and errors of all galaxies in all observations, by peer.
    """
    patches = [_make_patch(galaxies, seed, noise_seed=number) for number in range(observations)]
    first: dict[str, PatchFit] = {}
    errors: dict[str, list[tuple[float, metrics.ShapeErrors]]] = {name: [] for name in _PEERS}
    for patch in patches:
        fits = {
            str(options): patch.fit(cell_size=patch.size, **options)
            for options in {str(options): options for options, _ in _PEERS.values()}.values()
        }
        for name, (options, plane) in _PEERS.items():
            errors[name] += _measure(patch, fits[str(options)], plane)
            first.setdefault(name, fits[str(options)])
    return patches[0], first, errors


def _tabulate(errors: dict[str, list[tuple[float, metrics.ShapeErrors]]], number: int) -> Iterator[str]:
    """Make the table of so many different galaxies."""
    yield "| plane | S/N | rms | flux | with false structure |"
    yield "|---|---|---|---|---|"
    for name, found in errors.items():
        for wanted in SHAPE_SNR:
            some = [error for snr, error in found if snr == wanted]
            rms = np.median([one.relative_rms for one in some])
            # Observations follow one another, each with the same galaxies.
            galaxy = np.arange(len(some)) % number
            flux = metrics.summarize([100 * one.flux_error for one in some], galaxy)
            false = np.array([one.has_false for one in some])
            error = metrics.share_error(false, galaxy)
            yield (
                f"| {name} | {wanted:g} | {rms:.3f} | {flux.median:+.2f} +- {flux.median_error:.2f} % | "
                f"{100 * false.mean():.0f} +- {100 * error:.0f} % |"
            )


def _draw(path: Path, patch: SimulatedPatch, fits: dict[str, PatchFit]) -> None:
    """Draw some galaxies: mean coadd, both products, truth, and what the
    latent has wrong.
    """
    fit = fits["engine, `acn_latent`"]
    truth = metrics.truth_at_psf(patch.truth, fit.latent_psf[0, 0], halo=HALO)
    columns = {
        "clipped mean": fits["clipped mean"].coadd,
        "acn_coadd": fit.coadd,
        "acn_latent": fit.latent,
        "truth": truth,
        "latent - truth": fit.latent - truth,
    }
    shown = [(snr, stamp) for snr, stamp in _stamps(patch) if snr in _SHOWN][:_ROWS]
    size = 1.5 * len(columns), 1.5 * len(shown)
    figure, axes = plt.subplots(len(shown), len(columns), figsize=size, layout="constrained", squeeze=False)
    for row, (snr, stamp) in zip(axes, shown, strict=True):
        top = truth[stamp].max()
        for axis, (title, image) in zip(row, columns.items(), strict=True):
            values = image[stamp] / top
            if title == "latent - truth":
                axis.imshow(values, vmin=-0.1, vmax=0.1, cmap="RdBu_r", origin="lower")
            else:
                axis.imshow(np.arcsinh(values / 0.05), vmin=-1, vmax=3.7, cmap="magma", origin="lower")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"S/N {snr:g}", fontsize=8)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=8)
    side = _SPACING * PIXEL_SCALE
    figure.suptitle(
        f"boxes of {side:.1f} arcsec; asinh of flux over 1/20 of the true peak; differences to 10 % of it",
        fontsize=8,
    )
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _describe(number: int, source: str, options: argparse.Namespace) -> str:
    return (
        f"{number} galaxies of {source}, each at every S/N, {options.observations} observations of "
        f"{_N_EXPOSURES} exposures; seed {options.seed}; {platform.machine()}. Medians: rms of the "
        "difference to the truth at the PSF of the plane over that of the truth, above 1 % of its peak; "
        "flux of the whole galaxy against the true one; share with a peak or a dip that the truth has not."
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_galaxies", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--catalog", type=Path, help="galaxies of this catalogue in GalSim's format")
    parser.add_argument("--number", type=int, default=20, help="how many galaxies, the largest first")
    parser.add_argument("--observations", type=int, default=3, help="how often they are observed")
    parser.add_argument("--seed", type=int, default=9100, help="of places, PSFs and noise")
    parser.add_argument("--out", type=Path, help="write the table to this file, and a picture beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.catalog:
        rng = np.random.default_rng(options.seed)
        galaxies = read_catalog(options.catalog, options.number, rng)
    else:
        galaxies = sorted(read_deep_field(), key=lambda one: -np.count_nonzero(one[0]))[: options.number]
    source = options.catalog.name if options.catalog else "the Hubble eXtreme Deep Field"
    lines = ["# Real galaxies", "", *textwrap.wrap(_describe(len(galaxies), source, options), 100), ""]
    patch, fits, errors = _observe(galaxies, options.observations, options.seed)
    lines += _tabulate(errors, len(galaxies))
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
        _draw(options.out.with_suffix(".png"), patch, fits)


if __name__ == "__main__":
    main()
