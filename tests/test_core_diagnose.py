# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the residuals say of each exposure, and of each pixel."""

import functools

import numpy as np
import pytest
import scipy.ndimage
import torch

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core._diagnosis import PARAMETERS
from lsst.coadd.astroclearnet.core.cell._diagnose import diagnose, summarize
from lsst.coadd.astroclearnet.core.cell._misfit import measure_misfit
from lsst.coadd.astroclearnet.core.patch._trust import (
    TrustLimits,
    describe_psfs,
    find_loss_change,
    find_untrusted,
)
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.simulate import simulate_stack

SIZE = 128


@functools.cache
def scene():
    """Exposures without artifacts, and their noiseless models."""
    stack, truth = simulate_stack(
        n_exposures=6, size=SIZE, seed=4, streak=False, cosmic_rays=0, unmasked_cosmic_rays=0, bad_columns=0
    )
    return stack, truth.signal


def diagnose_changed(change):
    """Diagnose exposures of which the first was changed."""
    stack, signal = scene()
    image = stack.image.copy()
    image[0] = change(image[0])
    changed = CellStack(
        image=image * stack.good, variance=stack.variance, good=stack.good, psf=stack.psf, labels=stack.labels
    )
    statistic = compute_statistic(changed)
    return diagnose(statistic, torch.as_tensor(signal)), statistic, torch.as_tensor(signal)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("flux_scale", lambda image: 1.05 * image, 1.05),
        ("sky", lambda image: image + 2.0, 2.0),
        ("shift_x", lambda image: scipy.ndimage.shift(image, (0, 0.08), order=5), 0.08),
        ("shift_y", lambda image: scipy.ndimage.shift(image, (-0.08, 0), order=5), -0.08),
    ],
)
def test_each_fault_is_found_and_nothing_else(name, change, expected):
    found, *_ = diagnose_changed(change)
    column = PARAMETERS.index(name)
    assert found.values[0, column] == pytest.approx(expected, abs=4 * found.errors[0, column] + 0.01)
    neutral = np.array([1.0, 0.0, 0.0, 0.0])
    pulls = (found.values - neutral) / found.errors
    pulls[0, column] = 0
    # The other exposures were not touched, nor the other parameters.
    assert np.abs(pulls).max() < 5
    assert np.abs(pulls[1:]).mean() < 1.5


def test_errors_are_those_of_the_scatter():
    """Over many exposures the pulls have unit width."""
    stack, signal = scene()
    rng = np.random.default_rng(1)
    pulls = []
    for _ in range(20):
        image = signal + rng.normal(size=signal.shape) * np.sqrt(stack.variance)
        noisy = CellStack(
            image=image.astype(np.float32),
            variance=stack.variance,
            good=np.ones_like(stack.good),
            psf=stack.psf,
            labels=stack.labels,
        )
        statistic = compute_statistic(noisy, clip_sigma=50)
        found = diagnose(statistic, torch.as_tensor(signal))
        pulls.append((found.values - [1.0, 0.0, 0.0, 0.0]) / found.errors)
    # Errors allow for a model error of bright sources that is not there.
    scatter = np.std(pulls, axis=(0, 1))
    assert (scatter < 1.15).all() and (scatter[1] > 0.85)


def test_without_signal_only_the_sky_is_known():
    rng = np.random.default_rng(1)
    stack, _ = scene()
    shape = stack.image.shape
    empty = CellStack(
        image=rng.normal(3.0, 10.0, shape).astype(np.float32),
        variance=np.full(shape, 100.0, np.float32),
        good=np.ones(shape, bool),
        psf=stack.psf,
        labels=stack.labels,
    )
    found = diagnose(compute_statistic(empty), torch.zeros(shape))
    assert np.isnan(found.values[:, [0, 2, 3]]).all()
    np.testing.assert_allclose(found.values[:, 1], 3.0, atol=0.5)
    whole = summarize([(found.values[0], found.errors[0]), (found.values[1], found.errors[1])])
    assert np.isnan(whole["flux_scale"]) and whole["sky"] == pytest.approx(3.0, abs=0.4)
    assert whole["sky_error"] == pytest.approx(found.errors[0, 1] / np.sqrt(2), rel=0.01)


def test_true_model_fits_everywhere():
    _, statistic, model = diagnose_changed(lambda image: image)
    misfit, chi2 = (plane.numpy() for plane in measure_misfit(statistic, model))
    assert np.abs(misfit).max() < 5 and misfit.std() == pytest.approx(1, abs=0.15)
    assert chi2.max() < 1.7 and np.median(chi2) == pytest.approx(1, abs=0.1)


def test_missing_source_is_a_misfit():
    """A source that the model lacks stands out, where it is."""
    _, statistic, model = diagnose_changed(lambda image: image)
    stack, _ = scene()
    place = (40, 90)
    without = model.clone()
    radius = stack.psf.shape[1] // 2
    kernel = torch.as_tensor(stack.psf)
    # Ten times the noise of a star in all the exposures together.
    noise = np.sum(kernel.square().sum((1, 2)).numpy() / statistic.sky_variance.numpy()) ** -0.5
    area = [slice(middle - radius, middle + radius + 1) for middle in place]
    without[:, area[0], area[1]] -= 10 * noise * kernel
    misfit = measure_misfit(statistic, without)[0].numpy()
    assert np.unravel_index(misfit.argmax(), misfit.shape) == pytest.approx(place, abs=1)
    assert misfit.max() == pytest.approx(10, abs=3)


def untrusted(**changes):
    plain = np.ones((40, 60), np.float32)
    given = {"saturated": plain > 2, "n_image": 4 * plain, "misfit": 0 * plain, "chi2": plain, "history": []}
    given |= {"seeing": np.full((2, 3, 2), 4.0), "psf_change": np.zeros((2, 3))}
    return find_untrusted(**{**given, **changes}, cell_size=20, limits=TrustLimits())


def test_each_reason_marks_what_it_concerns():
    assert not any(plane.any() for plane in untrusted().values())
    saturated = np.zeros((40, 60), bool)
    saturated[20, 30] = True
    halo = untrusted(saturated=saturated)["saturated"]
    assert halo[20, 40] and not halo[20, 41] and not halo[28, 38]
    few = np.full((40, 60), 4)
    few[3, 4], few[3, 5], few[3, 6] = 0, 1, 2
    assert np.argwhere(untrusted(n_image=few)["few_inputs"]).tolist() == [[3, 4], [3, 5]]
    chi2 = np.ones((40, 60))
    chi2[:20, :20], chi2[30, 30] = 1.8, 4.0
    found = untrusted(chi2=chi2)
    assert found["not_converged"][:20, :20].all() and found["not_converged"].sum() == 400
    assert np.argwhere(found["misfit"]).tolist() == [[30, 30]]
    misfit = np.zeros((40, 60))
    misfit[7, 8], misfit[7, 9] = -6, 4
    assert np.argwhere(untrusted(misfit=misfit)["misfit"]).tolist() == [[7, 8]]


@pytest.mark.parametrize(
    ("fwhm", "marked"),
    [((1.8, 1.8), 400), ((2.1, 2.1), 0), ((5.4, 5.4), 0), ((5.8, 5.8), 400), ((np.nan, np.nan), 0)]
    # Sharp and broad ones together.
    + [((1.8, 3.0), 400), ((2.7, 5.8), 400), ((2.7, 5.4), 0), ((5.8, 5.4), 400)],
)
def test_psfs_that_the_latent_cannot_do_justice_to(fwhm, marked):
    seeing = np.full((2, 3, 2), 4.0)
    seeing[1, 2] = fwhm
    found = untrusted(seeing=seeing)["seeing"]
    assert found[20:, 40:].sum() == found.sum() == marked
    texts = list(describe_psfs(seeing, np.zeros((2, 3)), TrustLimits()))
    assert len(texts) == bool(marked) and all("in 1 of 6 cells" in text for text in texts)


def test_psfs_that_change_too_much_in_a_cell():
    change = np.array([[0.0, 0.29, np.nan], [0.1, 0.31, 0.0]])
    found = untrusted(psf_change=change)["psf_change"]
    assert found[20:, 20:40].sum() == found.sum() == 400
    (text,) = describe_psfs(np.full((2, 3, 2), 4.0), change, TrustLimits())
    assert "within 1 of 6 cells (by up to 0.31 of it" in text and "Make cells smaller" in text


def rows(losses, cell, stage="mm"):
    return [
        {"cell_i": cell[0], "cell_j": cell[1], "stage": stage, "step": 5 * k, "loss": loss}
        for k, loss in enumerate(losses)
    ]


def test_fits_that_still_change_have_not_converged():
    falling = rows(2.0 + 0.9 ** np.arange(20.0) * 20, (1, 2))
    at_rest = rows(0.5 + 0.5 ** np.arange(20.0), (0, 0))
    statistic = rows([9.0, 5.0, 1.0], (0, 1), stage="statistic")
    change = find_loss_change([*falling, *at_rest, *statistic])
    assert set(change) == {(1, 2), (0, 0)} and change[0, 0] < 0.01 < 0.1 < change[1, 2]
    found = untrusted(history=[*falling, *at_rest, *statistic])["not_converged"]
    assert found[20:, 40:].all() and found.sum() == 400
    # Training that all cells have in common concerns all of them.
    assert untrusted(history=rows(2.0 + 0.9 ** np.arange(20.0) * 20, (-1, -1)))["not_converged"].all()
