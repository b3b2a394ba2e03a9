# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Skies of few counts, and skies that were not taken away alike."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core.cell._diagnose import diagnose
from lsst.coadd.astroclearnet.core.cell._expected_variance import expect_variance
from lsst.coadd.astroclearnet.core.cell._misfit import measure_misfit
from lsst.coadd.astroclearnet.core.clip._sky_planes import find_skies
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.simulate import SceneConfig, simulate_stack

SCENE = SceneConfig(star_mag=(22.0, 25.5), galaxy_mag=(22.0, 27.0), pair_density=0.0)
SIMULATED = {"scene": SCENE, "streak": False, "masked_trail": False, "unmasked_cosmic_rays": 0}


@functools.cache
def count_electrons(*, n, sky, read_noise):
    """Exposures whose variances come from the counts of their pixels; and
    the noiseless ones, both in electrons."""
    stack, truth = simulate_stack(n_exposures=n, size=80, seed=6, **SIMULATED)
    signal = truth.signal * ((sky + read_noise**2) ** 0.5 / 18.0)
    rng = np.random.default_rng(1)
    counts = rng.poisson(signal.clip(0) + sky) + rng.normal(0, read_noise, signal.shape)
    image, variance = counts - sky, counts.clip(0) + read_noise**2
    stack = dataclasses.replace(
        stack,
        image=np.where(stack.good, image, 0).astype(np.float32),
        variance=variance.astype(np.float32),
    )
    return stack, torch.as_tensor(signal)


def test_variance_from_few_counts_is_no_misfit():
    """As of many short exposures in u: the truth fits them."""
    stack, signal = count_electrons(n=40, sky=50.0, read_noise=6.0)
    statistic = compute_statistic(stack)
    misfit, chi2 = measure_misfit(statistic, signal)
    assert abs(float(misfit.median())) < 0.5
    assert float((misfit.abs() > 5).float().mean()) < 0.001
    assert float(chi2.median()) == pytest.approx(1, abs=0.03)
    found = diagnose(statistic, signal)
    level = found.values[:, 1] / (50.0 + 6.0**2) ** 0.5
    assert abs(level.mean()) < 0.01
    assert found.chi2.mean() == pytest.approx(1, abs=0.01)


def test_huge_variance_does_not_tell_of_the_others():
    """It only says that its pixel is not to be used."""
    rng = np.random.default_rng(1)
    noise = torch.as_tensor(rng.normal(size=(2, 50, 50)), dtype=torch.float32)
    variance = torch.ones_like(noise)
    variance[:, 10, 10] = 1e12
    found = expect_variance(
        variance,
        residual=noise,
        model=torch.zeros_like(noise),
        used=torch.ones_like(noise),
        sky_variance=torch.ones(2),
    )
    torch.testing.assert_close(found, variance)


@pytest.mark.parametrize("n", [3, 6, 16])
def test_artifact_is_no_sky_of_its_own(n):
    """Where skies are alike, a trail across one exposure makes no plane of its
    light: what is clipped would then depend on the size of the cell.
    """
    for seed in range(20):
        rng = np.random.default_rng([n, seed])
        residual = torch.as_tensor(rng.normal(size=(n, 160, 160)), dtype=torch.float32)
        good = torch.ones_like(residual)
        plain = find_skies(residual, good, good)
        residual[1, :, 20:25] += 3.0
        spoilt = find_skies(residual, good, good)
        for planes in (plain, spoilt):
            assert max(float(terms.abs().max()) for terms in planes) < 0.02


@functools.cache
def clear_sky(n):
    """Exposures without hidden artifacts, and their noise."""
    stack, truth = simulate_stack(n_exposures=n, size=128, seed=4, **SIMULATED)
    return stack, truth.sky_sigma[:, None, None]


def add_light(stack: CellStack, light: np.ndarray) -> CellStack:
    return dataclasses.replace(stack, image=(stack.image + light * stack.good).astype(np.float32))


@pytest.mark.parametrize("n", [5, 8])
def test_levels_of_the_sky_are_no_artifacts(n):
    """They scatter by the noise of a pixel: the coadd gets their mean."""
    stack, sigma = clear_sky(n)
    levels = np.random.default_rng(3).permutation(np.linspace(-1.5, 1.5, n))[:, None, None] * sigma
    right, found = (compute_statistic(one, halo=20) for one in (stack, add_light(stack, levels)))
    assert found.rejected.float().mean() < 0.01
    mean = float((levels / sigma**2).sum() / (1 / sigma**2).sum())
    change = [one.wiener(one.data, strength=0.1, fwhm=4.0)[20:108, 20:108] for one in (right, found)]
    coadd_sigma = float((1 / sigma**2).sum() ** -0.5)
    assert float((change[1] - change[0]).median()) == pytest.approx(mean, abs=0.2 * coadd_sigma)


@pytest.mark.parametrize("half", [False, True], ids=["whole", "halves"])
def test_skies_that_tilt_are_no_artifacts(half):
    """They are no noise either: the coadd gets the mean of the planes."""
    n, size = 8, 160
    stack, truth = simulate_stack(n_exposures=n, size=size, seed=4, **SIMULATED)
    if half:  # some exposures end in the middle
        good = stack.good.copy()
        good[:3, :80], good[3:5, :, 80:] = False, False
        stack = dataclasses.replace(stack, good=good, image=np.where(good, stack.image, 0.0))
    sigma = truth.sky_sigma[:, None, None]
    y, x = np.indices((size, size)) / (size / 2) - 1.0
    slopes = np.random.default_rng(3).permutation(np.linspace(-0.8, 0.8, 2 * n)).reshape(2, n, 1, 1)
    planes = sigma * (slopes[0] * y + slopes[1] * x)
    right, found = (compute_statistic(one, halo=20) for one in (stack, add_light(stack, planes)))
    assert found.rejected.float().mean() < 0.005
    assert found.noise_scale.numpy() == pytest.approx(right.noise_scale.numpy(), abs=0.05)
    if not half:
        mean = (planes / sigma**2).sum(0) / (1 / sigma**2).sum()
        change = [one.wiener(one.data, strength=0.1, fwhm=4.0) for one in (right, found)]
        error = ((change[1] - change[0]).numpy()[:size, :size] - mean)[30:-30, 30:-30]
        coadd_sigma = float((1 / sigma**2).sum() ** -0.5)
        assert abs(error).max() < 0.5 * coadd_sigma


def test_plane_of_one_sky_is_not_allowed_for():
    """What several have is found to its error; a bright artifact, a hole and
    a stack of pixels in a line do no harm."""
    n, size = 8, 120
    rng = np.random.default_rng(2)
    residual = 3.0 * rng.normal(size=(n, size, size))
    y, x = np.indices((size, size)) / (size / 2) - 1.0
    slopes = np.linspace(-0.6, 0.6, n)
    good = np.ones_like(residual)
    good[1, 70:] = good[2, :, 1:] = good[3, 1:] = 0
    good[4] = 0
    residual[5, 50:60, 100:110] = 1000.0
    one = 3.0 * (np.arange(n) == 6)[:, None, None] * y
    all_of_them = 3.0 * slopes[:, None, None] * (y - 0.5 * x)
    arrays = residual, good, one, all_of_them
    residual, good, one, all_of_them = (torch.as_tensor(some, dtype=torch.float32) for some in arrays)
    variance = torch.full_like(residual, 9.0)
    rows, columns = find_skies(residual + all_of_them, good, variance)
    whole = [0, 5, 6, 7]
    error = (rows + columns - all_of_them)[whole]
    # What all have in common does not count.
    assert float((error - error.mean(0)).abs().max()) < 0.15 * 3.0
    assert float((rows + columns)[2:5].abs().max()) < 3.0
    rows, columns = find_skies(residual + one, good, variance)
    assert float((rows + columns).abs().max()) < 0.3 * 3.0


def test_light_all_over_one_exposure_is_still_an_artifact():
    """A ghost that is larger than the cell."""
    stack, sigma = clear_sky(8)
    light = np.zeros((8, 1, 1))
    light[5] = 1.5 * sigma[5]
    rejected = compute_statistic(add_light(stack, light), halo=20).rejected.numpy()
    assert rejected[5].mean() > 0.8 * stack.good[5].mean()
    assert np.delete(rejected, 5, axis=0).mean() < 0.01
