# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unequal and few exposures, and what must not be trusted."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import scipy.ndimage

from benchmarks.simulated_patch import HALO, SimulatedPatch, simulate_patch
from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core.patch._trust import TrustLimits, find_loss_change, find_untrusted
from lsst.coadd.astroclearnet.simulate import SceneConfig

SIZE = 120


def join(*patches):
    """Put the exposures of several observations of one sky together."""
    stacks, truths = [patch.stack for patch in patches], [patch.truth for patch in patches]
    names = ("image", "variance", "good", "psf")
    stack = CellStack(
        **{name: np.concatenate([getattr(stack, name) for stack in stacks]) for name in names},
        labels=tuple(f"{k}: {label}" for k, stack in enumerate(stacks) for label in stack.labels),
    )
    truth = dataclasses.replace(
        truths[0],
        sky_sigma=np.concatenate([truth.sky_sigma for truth in truths]),
        psfs=tuple(psf for truth in truths for psf in truth.psfs),
        artifacts=np.concatenate([truth.artifacts for truth in truths]),
    )
    return SimulatedPatch(stack=stack, truth=truth)


def find(fit, saturated=None):
    return find_untrusted(
        saturated=np.zeros(fit.n_image.shape, bool) if saturated is None else saturated,
        n_image=fit.n_image,
        misfit=fit.misfit,
        chi2=fit.local_chi2,
        history=fit.history,
        seeing=fit.seeing,
        psf_change=fit.psf_change,
        cell_size=SIZE,
        limits=TrustLimits(),
    )


def put_star(*, x, y, flux):
    """Simulate a patch whose source nearest to a place is a star there."""
    catalog = simulate_patch(size=SIZE, n_exposures=8, seed=6).truth.catalog.copy()
    x, y = HALO + x, HALO + y
    row = int(np.argmin(np.hypot(catalog["x"] - x, catalog["y"] - y)))
    catalog["x"][row], catalog["y"][row], catalog["flux"][row], catalog["type"][row] = x, y, flux, "star"
    return simulate_patch(size=SIZE, n_exposures=8, seed=6, catalog=catalog, scene=SceneConfig())


@functools.cache
def deep_and_shallow():
    deep = simulate_patch(size=SIZE, n_exposures=1, seed=4, sky_sigma=6.0, streak=False, masked_trail=False)
    shallow = simulate_patch(size=SIZE, n_exposures=9, seed=4, noise_seed=5, sky_sigma=40.0)
    joined = join(deep, shallow)
    return joined, joined.fit(cell_size=SIZE)


def test_one_deep_and_many_shallow_exposures():
    """The deep one decides, by its weight; the others do no harm."""
    patch, fit = deep_and_shallow()
    by_label = {exposure.label: exposure for exposure in fit.exposures}
    weights = {label: exposure.weight for label, exposure in by_label.items()}
    assert weights.pop("0: exposure=0") > 20 * max(weights.values())
    truth = patch.truth.image[patch.inner]
    residual = (fit.coadd - truth) / np.sqrt(fit.coadd_variance)
    dark = truth < 0.3 * patch.coadd_sigma
    assert residual[dark].std() == pytest.approx(1, abs=0.1)
    assert abs(residual[dark].mean()) < 0.1
    bright = truth > 20 * patch.coadd_sigma
    assert np.median(fit.coadd[bright] / truth[bright]) == pytest.approx(1, abs=0.02)
    for exposure in by_label.values():
        assert exposure.chi2 == pytest.approx(1, abs=0.2)


@functools.cache
def two_visits():
    patch = simulate_patch(size=SIZE, n_exposures=2, seed=4, unmasked_cosmic_rays=3)
    return patch, patch.fit(cell_size=SIZE)


def test_two_visits_only():
    """Artifacts of one of two are clipped, and what is left of the two is
    marked where it is one.
    """
    patch, fit = two_visits()
    artifacts = patch.truth.artifacts[:, *patch.inner]
    strong = artifacts & (patch.stack.image[:, *patch.inner] > 8 * patch.truth.sky_sigma[:, None, None])
    assert strong.sum() > 10
    assert (fit.n_rejected > 0)[strong.any(0)].mean() > 0.85
    untrusted = np.any(list(find(fit).values()), axis=0)
    assert untrusted[fit.n_image < 2].all()
    truth = patch.truth.image[patch.inner]
    residual = (fit.coadd - truth) / np.sqrt(fit.coadd_variance)
    trusted = ~untrusted & (truth < 3 * patch.coadd_sigma)
    assert residual[trusted].std() == pytest.approx(1, abs=0.1)
    assert trusted.mean() > 0.7


def test_good_fit_is_trusted():
    patch = simulate_patch(size=SIZE, n_exposures=8, seed=9)
    fit = patch.fit(cell_size=SIZE)
    reasons = find(fit)
    assert not reasons["not_converged"].any()
    assert np.any(list(reasons.values()), axis=0).mean() < 0.005


def test_short_fit_has_not_converged():
    """Multiplicative updates that stop too early are told from those that
    have come to rest.
    """
    patch = simulate_patch(size=SIZE, n_exposures=6, seed=9)
    early = patch.fit(cell_size=SIZE, method="mm", mm_iterations=12)
    assert find(early)["not_converged"].all()
    late = patch.fit(cell_size=SIZE, method="mm", mm_iterations=100)
    assert not find(late)["not_converged"].any()


@pytest.mark.parametrize(
    "options",
    [{"method": "mm", "mm_iterations": n} for n in (1, 2, 4)]
    + [{"recipe": "self", "self_steps": 1}, {"recipe": "paper", "paper_steps": 1}],
    ids=str,
)
def test_fit_of_a_few_steps_has_not_converged(options):
    """Nothing says that it would not change any more."""
    patch = simulate_patch(size=SIZE, n_exposures=3, seed=9)
    assert find(patch.fit(cell_size=SIZE, **options))["not_converged"].all()


@pytest.mark.parametrize(
    ("options", "stage"),
    [({"recipe": "self", "self_steps": 20}, "self"), ({"recipe": "paper", "paper_steps": 20}, "paper")],
)
def test_history_of_training_tells_how_it_changed(options, stage):
    """Has as many steps as that takes; more are not fewer."""
    patch = simulate_patch(size=SIZE, n_exposures=3, seed=9)
    history = patch.fit(cell_size=SIZE, **options).history
    assert sum(row["stage"] == stage for row in history) >= 10
    assert np.isfinite(find_loss_change(history)[-1, -1])


def test_last_stage_decides():
    """A long stage before does not hide that the last was short."""
    rows = [
        {"cell_i": 0, "cell_j": 0, "stage": stage, "step": step, "loss": 1.0}
        for stage, n in (("mm", 20), ("self", 3))
        for step in range(n)
    ]
    assert find_loss_change(rows)[0, 0] == np.inf and find_loss_change(rows[:20])[0, 0] == 0
    assert not find_loss_change([{**row, "stage": "statistic"} for row in rows[20:]])


def find_few(n_image):
    plain = np.zeros(n_image.shape)
    found = find_untrusted(
        saturated=plain > 0,
        n_image=n_image,
        misfit=plain,
        chi2=plain,
        history=[],
        seeing=np.full((n_image.shape[0] // 40, n_image.shape[1] // 40, 2), 4.0),
        psf_change=np.zeros((n_image.shape[0] // 40, n_image.shape[1] // 40)),
        cell_size=40,
        limits=TrustLimits(),
    )
    return found["few_inputs"]


def test_what_is_beside_a_gap_is_not_trusted():
    """Small holes are filled from around: only they themselves are marked."""
    n_image = np.full((80, 120), 4)
    n_image[20:31, 50:61] = n_image[70, 3] = n_image[78:, 100] = 0
    assert (find_few(n_image) == (n_image == 0)).all()
    n_image[40:60, 60:80] = 0
    few = find_few(n_image)
    assert few[40:60, 55:85].all() and not few[40:60, 80 + 5 :].any() and not few[40:60, : 60 - 5].any()
    assert not few[36, 56] and few[35, 70] and few[20:31, 50:61].all() and few[18:20, 50:61].sum() == 0
    ends = np.full((80, 120), 4)
    ends[:, :2] = 0  # the coverage ends there, however little of the patch is beyond
    few = find_few(ends)
    assert few[:, :7].all() and not few[:, 7:].any()
    assert not find_few(np.full((80, 120), 2)).any()


def test_light_from_beyond_the_end_of_the_coverage_is_not_trusted():
    """There a star just outside is what the fit makes of its wing."""
    patch = put_star(x=57.0, y=60.0, flux=1e5)
    good = patch.stack.good.copy()
    good[:, :, : HALO + 60] = False
    stack = dataclasses.replace(patch.stack, good=good, image=patch.stack.image * good)
    fit = dataclasses.replace(patch, stack=stack).fit(cell_size=SIZE)
    seen = fit.n_image > 0
    assert not seen[:, :60].any()
    wrong = seen & (np.abs(fit.coadd - patch.truth.image[patch.inner]) > 4 * np.sqrt(fit.coadd_variance))
    near = np.hypot(*(np.indices(seen.shape) - [[[60]], [[57]]])) < 20
    assert wrong[near].sum() > 5
    untrusted = np.any(list(find(fit).values()), axis=0)
    assert not (wrong & near & ~untrusted).any()
    assert untrusted[:, 70:].mean() < 0.1


def test_wrong_psf_is_a_misfit():
    """No latent explains a star that is narrower than the PSF: it is not to
    be trusted there, but on the sky around.
    """
    patch = simulate_patch(size=SIZE, n_exposures=8, seed=9, scene=SceneConfig(star_mag=(18, 20), density=70))
    broad = [dataclasses.replace(psf, profile=psf.profile.dilate(1.4)) for psf in patch.truth.psfs]
    wrong = dataclasses.replace(patch, truth=dataclasses.replace(patch.truth, psfs=tuple(broad)))
    fit = wrong.fit(cell_size=SIZE)
    truth = patch.truth.image[patch.inner]
    bright = truth > 50 * patch.coadd_sigma
    dark = scipy.ndimage.distance_transform_edt(truth < patch.coadd_sigma) > 25
    untrusted = np.any(list(find(fit).values()), axis=0)
    assert bright.sum() > 20 and dark.mean() > 0.1
    assert untrusted[bright].mean() > 0.5
    assert untrusted[dark].mean() < 0.05


@pytest.mark.parametrize(("radius", "least"), [(2, 0.9), (4, 0.6)])
def test_core_of_a_saturated_star_is_filled(radius, least):
    """Its wings tell what is missing, the less the larger the hole."""
    patch = put_star(x=60.0, y=60.0, flux=2e6)
    distance = np.hypot(*(np.indices(patch.stack.good.shape[1:]) - HALO - 60))
    good = patch.stack.good & (distance > radius)
    # No hole is what lies beyond the end of the coverage, however little
    # of it is in the patch.
    good[:, :, : HALO + 20] = False
    good[:, :, -(HALO + 4) :] = False
    stack = dataclasses.replace(patch.stack, good=good, image=patch.stack.image * good)
    fit = dataclasses.replace(patch, stack=stack).fit(cell_size=SIZE)
    hole = distance[patch.inner] <= radius
    assert fit.filled[hole].all()
    for end in (np.s_[:, :20], np.s_[:, -4:]):
        assert not fit.filled[end].any() and not fit.latent[end].any()
    assert not (fit.filled & (fit.n_image > 0)).any()
    truth = patch.truth.image[patch.inner]
    for plane in (fit.latent, fit.coadd):
        assert least < plane[hole].sum() / truth[hole].sum() < 1.1
        assert plane[hole].min() >= 0


def test_saturated_star_and_its_halo():
    """Where the core was masked in all exposures nothing is trusted that is
    wrong.
    """
    patch = simulate_patch(size=SIZE, n_exposures=8, seed=12)
    catalog = patch.truth.catalog.copy()
    row = int(np.argmin(np.hypot(catalog["x"] - HALO - 60, catalog["y"] - HALO - 60)))
    catalog["x"][row], catalog["y"][row], catalog["flux"][row] = HALO + 60.0, HALO + 60.0, 2e6
    catalog["type"][row] = "star"
    patch = simulate_patch(size=SIZE, n_exposures=8, seed=12, catalog=catalog)
    lost = patch.stack.image > 4000
    stack = dataclasses.replace(
        patch.stack, good=patch.stack.good & ~lost, image=np.where(lost, 0, patch.stack.image)
    )
    fit = dataclasses.replace(patch, stack=stack).fit(cell_size=SIZE)
    saturated = lost.mean(axis=0)[patch.inner] > 0.1
    assert saturated.sum() > 40
    truth = patch.truth.image[patch.inner]
    wrong = np.abs(fit.latent - truth) > np.hypot(6 * patch.coadd_sigma, 0.2 * truth)
    untrusted = np.any(list(find(fit, saturated).values()), axis=0)
    near = np.hypot(*(np.indices(wrong.shape) - 60)) < 40
    assert wrong[near].any()
    assert untrusted[near & wrong].mean() > 0.95
    assert untrusted.mean() < 0.15
