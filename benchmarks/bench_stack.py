# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Quality of the engine on simulated stacks whose truth is known.

``python benchmarks/bench_stack.py [--quick]`` prints a table of
each method on each scene; ``--csv FILE`` writes it too. One thread. Fluxes are
ratios of sums over discs of 6 pixels (1") of a result and of the true sky
at the same PSF, minus one; the mean coadd is compared with the sky at its
own PSF.
"""

import argparse
import time

import astropy.table
import galsim.hsm
import numpy as np
import scipy.signal
import torch

from lsst.coadd.astroclearnet.core import CellStack, FitOptions, PatchFit, fit_patch
from lsst.coadd.astroclearnet.simulate import StackTruth, simulate_stack

_SCENES = {"few": (8, 256, 11), "sparse": (16, 256, 12), "deep": (33, 384, 13)}
_HALO = 40
_RADIUS = 5.95
_BINS = ((6, 20), (20, 100), (100, 1e9))


def _fit(stack: CellStack, **options) -> tuple[PatchFit, float]:
    """Fit the inner part of a stack, with a halo that it has seen."""
    size = stack.image.shape[-1] - 2 * _HALO
    chosen = FitOptions(cell_size=size, halo=_HALO, n_threads=1, **options)
    start = time.process_time()
    fit = fit_patch(lambda tile, halo: stack, height=size, width=size, options=chosen)
    return fit, time.process_time() - start


def _disc_sums(image: np.ndarray) -> np.ndarray:
    axis = np.arange(-6, 7)
    disc = (np.hypot(axis[:, None], axis) <= _RADIUS).astype(float)
    return scipy.signal.fftconvolve(image, disc, mode="same")


def _star_fwhm(image: np.ndarray, *, x: int, y: int) -> float:
    cut = galsim.Image(image[y - 12 : y + 13, x - 12 : x + 13].astype(float))
    shape = galsim.hsm.FindAdaptiveMom(cut, strict=False)
    return 2.3548 * shape.moments_sigma if shape.error_message == "" else np.nan


def _at_own_psf(truth: StackTruth, kernel: np.ndarray) -> np.ndarray:
    """The true sky at the PSF of a mean coadd."""
    sharp = truth.draw(target_fwhm=1.5)
    axis = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    gaussian = np.exp(-0.5 * (axis / (1.5 / 2.3548)) ** 2)
    size = [n + kernel.shape[0] - 1 for n in sharp.shape]
    narrow = np.fft.rfft2(np.outer(gaussian, gaussian) / gaussian.sum() ** 2, s=size)
    # Both kernels are centred alike, so that the shifts cancel.
    ratio = np.fft.rfft2(kernel, s=size) * narrow.conj() / (np.abs(narrow) ** 2 + 1e-6)
    full = np.fft.irfft2(np.fft.rfft2(sharp, s=size) * ratio, s=size)
    return full[: sharp.shape[0], : sharp.shape[1]]


def _measure(plane: np.ndarray, sky: np.ndarray, stack: CellStack, truth: StackTruth) -> dict[str, float]:
    """Measure one plane against the true sky at its PSF."""
    n = plane.shape[0]
    inner = np.s_[_HALO : _HALO + n, _HALO : _HALO + n]
    unit = float(np.sum(1 / truth.sky_sigma**2) ** -0.5)
    power = sum((k**2).sum() / s**2 for k, s in zip(stack.psf, truth.sky_sigma, strict=True))
    x, y = np.array(truth.catalog["x"]) - _HALO, np.array(truth.catalog["y"]) - _HALO
    flux = np.array(truth.catalog["flux"])
    inside = (np.minimum(x, y) > 12) & (np.maximum(x, y) < n - 13)
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    crowded = ((distance < 14) & (distance > 0) & (flux > 0.1 * flux[:, None])).any(1)
    star = np.array(truth.catalog["type"]) == "star"
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    found, true = _disc_sums(plane), _disc_sums(sky[inner])
    result = {}
    bright = inside & ~crowded & star & (flux * power**0.5 > 100)
    widths = [_star_fwhm(plane, x=column[k], y=row[k]) for k in np.flatnonzero(bright)]
    result["star FWHM px"] = float(np.nanmedian(widths)) if widths else np.nan
    for low, high in _BINS:
        for name, kind in (("stars", star), ("galaxies", ~star)):
            signal_to_noise = flux * power**0.5
            mine = np.flatnonzero(
                inside & ~crowded & kind & (signal_to_noise > low) & (signal_to_noise <= high)
            )
            ratio = [found[row[k], column[k]] / true[row[k], column[k]] - 1 for k in mine]
            label = f"{name} S/N {low}-{high:.0f} %" if high < 1e8 else f"{name} S/N >{low} %"
            result[label] = 100 * float(np.median(ratio)) if ratio else np.nan
    blank = sky[inner] < 0.02 * unit
    result["sky rms nJy"] = float(plane[blank].std())
    result["PSNR dB"] = _psnr(plane / unit, sky[inner] / unit)
    return result


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal to noise of asinh-scaled images."""
    a, b = np.arcsinh(image), np.arcsinh(truth)
    return 20 * np.log10(np.ptp(b) / np.sqrt(np.mean((a - b) ** 2)))


def run(*, quick: bool) -> astropy.table.Table:
    """Fit every scene by every method and tabulate what was measured."""
    rows = []
    scenes = {"few": _SCENES["few"]} if quick else _SCENES
    for scene, (n, size, seed) in scenes.items():
        stack, truth = simulate_stack(n_exposures=n, size=size, seed=seed)
        for method in ("mean", "mm", "acn"):
            fit, seconds = _fit(stack, method=method)
            for name in ("coadd",) if method == "mean" else ("latent", "coadd"):
                sky = _at_own_psf(truth, fit.coadd_psf[0, 0]) if method == "mean" else truth.image
                figures = _measure(getattr(fit, name), sky, stack, truth)
                rows.append(
                    {"scene": scene, "n": n, "plane": f"{method} {name}", **figures, "CPU s": seconds}
                )
    return astropy.table.Table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest scene only")
    parser.add_argument("--csv", help="write the table to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = run(quick=arguments.quick)
    for name, column in table.items():
        if column.dtype.kind == "f":
            table[name].info.format = ".2f"
    table.pprint_all()
    if arguments.csv:
        table.write(arguments.csv, overwrite=True)


if __name__ == "__main__":
    main()
