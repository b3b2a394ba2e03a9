# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The noise of each exposure, measured where its variance plane is wrong."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.core.statistic._understated_noise import _medians_of_others
from lsst.coadd.astroclearnet.simulate import simulate_stack


@pytest.fixture(scope="module")
def simulated():
    """Eight exposures of 256 px with all the simulator's artifacts."""
    return simulate_stack(n_exposures=8, size=256, seed=4)


def _with_variance(stack: CellStack, factor) -> CellStack:
    factor = np.broadcast_to(np.asarray(factor, np.float32), len(stack.image))
    return dataclasses.replace(stack, variance=stack.variance * factor[:, None, None])


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_variance_plane_off(simulated, factor):
    """All planes off by one factor: it comes back, to the pooled error."""
    stack, truth = simulated
    statistic = compute_statistic(_with_variance(stack, factor))
    assert statistic.noise_scale.numpy() * factor == pytest.approx(1.0, abs=0.04)
    assert statistic.sky_variance.numpy() == pytest.approx(truth.sky_sigma**2, rel=0.06)
    assert statistic.variance[3].median() == pytest.approx(truth.sky_sigma[3] ** 2, rel=0.06)


def test_one_exposure_off(simulated):
    """One wrong plane among eight is found, and the others are left alone."""
    stack, _ = simulated
    factor = np.ones(8)
    factor[5] = 0.5
    scale = compute_statistic(_with_variance(stack, factor)).noise_scale.numpy()
    assert scale[5] == pytest.approx(2.0, rel=0.15)
    assert np.delete(scale, 5) == pytest.approx(1.0, abs=0.1)


def _warp(white: np.ndarray, dy: float, dx: float, kind: str) -> np.ndarray:
    """Shift noise as resampling does."""
    if kind == "quintic":
        return scipy.ndimage.shift(white, (dy, dx), order=5, mode="grid-wrap")
    offset = np.arange(-3, 4)

    def lanczos(shift: float) -> np.ndarray:
        weight = np.sinc(offset - shift) * np.sinc((offset - shift) / 3) * (np.abs(offset - shift) < 3)
        return weight / weight.sum()

    return scipy.signal.convolve(white, np.outer(lanczos(dy), lanczos(dx)), mode="same")


@pytest.mark.parametrize("kind", ["lanczos3", "quintic"])
def test_noise_of_resampling(simulated, kind):
    """Interpolated noise keeps its power at the scale of the PSF, although
    the variance of its pixels, which the plane tells, is lower.
    """
    stack, truth = simulated
    rng = np.random.default_rng(3)
    image, variance = np.zeros_like(stack.image), np.zeros_like(stack.variance)
    for t, sigma in enumerate(truth.sky_sigma):
        noise = _warp(rng.normal(0, sigma, image.shape[1:]), *rng.uniform(0.25, 0.75, 2), kind)
        image[t], variance[t] = noise, noise[8:-8, 8:-8].var()
    assert np.mean(variance[:, 0, 0] / truth.sky_sigma**2) < 0.8
    image[~stack.good] = 0
    statistic = compute_statistic(dataclasses.replace(stack, image=image, variance=variance))
    assert np.mean(statistic.sky_variance.numpy() / truth.sky_sigma**2) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_exposures(n):
    """One exposure tells nothing; of two and three at least the sum."""
    stack, _ = simulate_stack(n_exposures=n, size=256, seed=1)
    scale = compute_statistic(stack).noise_scale.numpy()
    # Each of three is known to 4 per cent.
    assert scale == pytest.approx(1.0, abs=1e-6 if n == 1 else 0.08)
    scale = compute_statistic(_with_variance(stack, 1.4)).noise_scale.numpy()
    expected = 1.0 if n == 1 else 1 / 1.4
    assert scale == pytest.approx(expected, abs=1e-6 if n == 1 else 0.1)


@pytest.mark.parametrize("radius", [25.0, 90.0])
def test_large_galaxy_is_no_noise(simulated, radius):
    """A galaxy with knots that fills the cell, seen through PSFs that are 3 %
    narrower than they are said to be.
    """
    stack, truth = simulated
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:256, :256] - 128.0
    sky = 600.0 * np.exp(-np.hypot(x, 1.6 * y) / radius)
    knots = sky * (rng.uniform(size=sky.shape) < 0.004) * rng.uniform(1, 30, sky.shape)
    image, variance = np.zeros_like(stack.image), np.zeros_like(stack.variance)
    for t, sigma in enumerate(truth.sky_sigma):
        narrow = scipy.ndimage.zoom(stack.psf[t], 0.97, order=3, grid_mode=False)
        narrow = narrow[: len(narrow) // 2 * 2 - 1, : len(narrow) // 2 * 2 - 1]
        light = scipy.signal.fftconvolve(sky + knots, narrow / narrow.sum(), mode="same")
        variance[t] = sigma**2 + light.clip(0) / 3.3
        image[t] = rng.normal(light, np.sqrt(variance[t]))
    image[~stack.good] = 0
    scale = compute_statistic(dataclasses.replace(stack, image=image, variance=variance)).noise_scale
    assert scale.numpy() == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("factor", [0.25, 0.1, 0.01])
def test_variance_far_too_small(simulated, factor):
    """One exposure that seems deeper than it is does not rule the coadd."""
    stack, truth = simulated
    factors = np.ones(8)
    factors[5] = factor
    statistic = compute_statistic(_with_variance(stack, factors))
    scale = statistic.noise_scale.numpy() * factors
    assert scale[5] == pytest.approx(1.0, rel=0.1)
    assert np.delete(scale, 5) == pytest.approx(1.0, abs=0.1)
    assert statistic.sky_variance.numpy() == pytest.approx(truth.sky_sigma**2, rel=0.12)
    assert (statistic.rejected != compute_statistic(stack).rejected)[5].float().mean() < 0.002


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_crowded_field_is_no_noise(factor):
    """Stars on most of the pixels differ by the seeing of the exposures; one
    exposure that seems deeper than it is shows between them all the same.
    """
    rng, n, side = np.random.default_rng(3), 8, 192
    points = np.zeros((side, side))
    np.add.at(points, tuple(rng.integers(side, size=(2, 800))), 10 ** rng.uniform(1.0, 4.0, 800))
    sigmas = np.linspace(1.3, 2.3, n)
    light = np.array([scipy.ndimage.gaussian_filter(points, sigma, mode="wrap") for sigma in sigmas])
    point = np.zeros((31, 31))
    point[15, 15] = 1.0
    factors = np.ones(n)
    factors[2] = factor
    stack = CellStack(
        image=rng.normal(light, 1.0).astype(np.float32),
        variance=np.broadcast_to(factors[:, None, None], light.shape).astype(np.float32),
        good=np.ones(light.shape, bool),
        psf=np.array([scipy.ndimage.gaussian_filter(point, sigma) for sigma in sigmas], np.float32),
        labels=tuple(f"exposure {t}" for t in range(n)),
    )
    scale = compute_statistic(stack).noise_scale.numpy() * factors
    assert np.delete(scale, 2) == pytest.approx(1.0, abs=0.1)
    assert scale[2] == pytest.approx(1.0, rel=0.2)


def test_medians_of_others_leave_out_one():
    rng = np.random.default_rng(5)
    for n in (3, 4, 9):
        # Equal values, and places that one or none of them sees.
        images = rng.normal(size=(n, 20, 30)).round(1).astype(np.float32)
        images[rng.uniform(size=images.shape) < 0.4] = np.nan
        for t, median in enumerate(_medians_of_others(images, np.arange(n))):
            others = torch.as_tensor(np.sort(np.delete(images, t, 0), axis=0)).double()
            expected = others.nanquantile(0.5, dim=0).numpy()
            np.testing.assert_allclose(median, expected, rtol=1e-6, atol=1e-6)


def test_all_variances_far_too_small(simulated):
    """As of exposures whose gain was left out."""
    stack, truth = simulated
    statistic = compute_statistic(_with_variance(stack, 0.02))
    assert statistic.sky_variance.numpy() == pytest.approx(truth.sky_sigma**2, rel=0.12)


@pytest.mark.parametrize("depth", [0.3, 0.1])
def test_deep_exposure_is_believed(depth):
    """One of three, with a tenth or a hundredth of the others' noise power,
    differs from their median by more than its noise.
    """
    nothing = {"streak": False, "masked_trail": False, "bad_columns": 0, "cosmic_rays": 0}
    stack, _ = simulate_stack(
        n_exposures=3, size=256, seed=6, sky_sigma=1e-3, gain=1e9, unmasked_cosmic_rays=0, **nothing
    )
    sigma = np.array([18.0, depth * 18.0, 18.0])
    variance = np.ones_like(stack.variance) * sigma[:, None, None] ** 2
    image = np.random.default_rng(2).normal(stack.image, np.sqrt(variance))
    scale = compute_statistic(dataclasses.replace(stack, image=image, variance=variance)).noise_scale
    assert scale.numpy() == pytest.approx(1.0, abs=0.15)


def _blank(good: np.ndarray, *, seed: int = 0) -> CellStack:
    """Noise of 1 in pixels that are good, ``(n, h, w)``."""
    n = len(good)
    stack, _ = simulate_stack(n_exposures=n, size=len(good[0]), seed=seed)
    image = np.random.default_rng(seed).normal(size=good.shape).astype(np.float32)
    return dataclasses.replace(stack, image=image * good, variance=np.ones_like(image), good=good)


def _quadrants() -> np.ndarray:
    good = np.zeros((4, 240, 240), bool)
    for k, part in enumerate((np.s_[:130, :130], np.s_[:130, 110:], np.s_[110:, :130], np.s_[110:, 110:])):
        good[(k, *part)] = True
    return good


def _dithers(n: int, seed: int) -> np.ndarray:
    good = np.zeros((n, 240, 240), bool)
    for one, (y, x) in zip(good, np.random.default_rng(seed).integers(-170, 170, (n, 2)), strict=True):
        one[max(0, y) : 240 + min(0, y), max(0, x) : 240 + min(0, x)] = True
    return good


def _ends(n: int, *which: tuple[int, slice]) -> np.ndarray:
    good = np.ones((n, 240, 240), bool)
    for exposure, columns in which:
        good[exposure, :, columns] = False
    return good


@pytest.mark.parametrize(
    "good",
    [
        pytest.param(_quadrants(), id="quadrants"),
        pytest.param(_ends(2, (0, np.s_[130:]), (1, np.s_[:110])), id="little overlap"),
        pytest.param(_ends(2, (0, np.s_[80:])), id="one on a third"),
        pytest.param(_ends(6, *((k, np.s_[100:]) for k in range(5))), id="one left"),
        pytest.param(_ends(8, *((k, np.s_[205:]) for k in range(7))), id="one on the edge"),
        *(pytest.param(_dithers(n, n), id=f"{n} dithers") for n in (2, 3, 4, 5, 8)),
    ],
)
def test_exposures_that_see_different_parts(good):
    """An exposure that is alone is fitted by the model, noise and all: its
    residuals say nothing of its noise.
    """
    statistic = compute_statistic(_blank(good))
    assert statistic.noise_scale.numpy() == pytest.approx(1.0, abs=0.15)
    assert float(statistic.rejected.sum()) < 1e-3 * good.sum()


@pytest.mark.parametrize("kind", ["photons", "moire"])
def test_variance_plane_that_scatters_is_right_in_the_mean(simulated, kind):
    """As that of a few electrons of sky, or with waves from resampling."""
    stack, truth = simulated
    image = np.random.default_rng(1).normal(size=stack.image.shape) * truth.sky_sigma[:, None, None]
    y, x = np.indices(image.shape[1:])
    level = {
        "photons": np.random.default_rng(2).poisson(60, image.shape) / 60,
        "moire": 1.0 + 0.25 * np.sin(0.3 * x) * np.cos(0.4 * y) * np.ones((len(image), 1, 1)),
    }[kind]
    variance = (truth.sky_sigma[:, None, None] ** 2 * level).astype(np.float32)
    image = (image * stack.good).astype(np.float32)
    statistic = compute_statistic(dataclasses.replace(stack, image=image, variance=variance))
    assert statistic.noise_scale.numpy() == pytest.approx(1.0, abs=0.03)
    assert statistic.sky_variance.numpy() == pytest.approx(truth.sky_sigma**2, rel=0.06)
