# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures with something wrong that no mask tells, and odd brightnesses."""

import dataclasses

import numpy as np
import pytest
from _star_stacks import HALO, SIZE, STARS, draw_star, make_stack, measure_fluxes

from lsst.coadd.astroclearnet.core import CellStack, FitOptions, fit_patch
from lsst.coadd.astroclearnet.core.fourier._deliver import residual_response
from lsst.coadd.astroclearnet.core.patch._trust import TrustLimits, find_loss_change
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic


@pytest.mark.parametrize("n", range(3, 9))
@pytest.mark.parametrize("method", ["acn", "kaiser"])
def test_hole_on_a_star_does_not_outvote_the_others(n, method):
    """Half of a detector that is 0, with no mask: it makes all others look
    too bright, and is the one to be left out.
    """
    stack = make_stack([4.0, 3.0, 5.0, 4.0, 3.5, 4.5, 4.0, 3.0][:n])
    stack.image[2, :, :50] = 0.0
    if method == "kaiser":
        chosen = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1, method=method)
        fit = fit_patch(lambda tile, halo: stack, height=SIZE, width=SIZE, options=chosen)
        x, y, _ = np.array(STARS[0]) - (HALO, HALO, 0)
        assert fit.n_image[round(y), round(x)] == n - 1
    else:
        assert measure_fluxes(stack) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    "fwhms",
    [(4.0, 3.0, 5.0), (4.0, 3.0, 5.0, 4.0), (3.0, 4.0, 5.0, 4.0), (3.0, 4.0, 5.0, 4.0, 3.5, 4.5)],
)
def test_faint_exposure_does_not_outvote_sharp_ones(fwhms):
    """Its calibration is wrong: the median is that of a broad exposure then,
    above which the sharp ones stand."""
    stack = make_stack(fwhms)
    image = stack.image.copy()
    image[0] *= 0.3
    assert measure_fluxes(dataclasses.replace(stack, image=image)) == pytest.approx(1.0, abs=0.03)


def test_pixel_far_below_zero_is_left_out():
    """A million sigma, 15 pixels from a star."""
    stack = make_stack(np.linspace(3.0, 5.0, 8))
    clean = measure_fluxes(stack)
    stack.image[2, 40, 45] = -1e6
    assert measure_fluxes(stack) == pytest.approx(clean, abs=0.005)


def _without_the_sharp_ones(stack: CellStack, n_sharp: int, first: int) -> CellStack:
    """Leave out the first exposures from a column on."""
    stack.good[:n_sharp, :, first:] = False
    stack.image[:n_sharp, :, first:] = 0.0
    return stack


@pytest.mark.parametrize("plane", ["latent", "coadd"])
@pytest.mark.parametrize(("sharp", "n_sharp"), [(3.5, 4), (3.0, 4), (3.0, 7)])
def test_star_where_the_sharp_exposures_are_missing(sharp, n_sharp, plane):
    """Others stand for them there, and tell as much as they alone would."""
    stack = make_stack([sharp] * n_sharp + [4.5] * (10 - n_sharp))
    stack = _without_the_sharp_ones(stack, n_sharp, 48)
    assert measure_fluxes(stack, plane=plane)[1] == pytest.approx(1.0, abs=0.015)


def test_noise_where_the_sharp_exposures_are_missing():
    """It is eight times what it would be with them: by the loss of resolution,
    not of a half of the weight.
    """
    images, side = [], SIZE + 2 * HALO
    for seed in range(4):
        stack = make_stack([3.0] * 7 + [4.5] * 3, stars=())
        stack.image[:] = np.random.default_rng(seed).normal(size=stack.image.shape)
        statistic = compute_statistic(_without_the_sharp_ones(stack, 7, side // 2))
        response = residual_response(statistic.den, statistic.grid, fwhm=2.5)
        images.append(statistic.grid.crop(statistic.grid.inverse(statistic.data * response)).numpy())
    left, right = np.s_[:, 8:-8, 8:36], np.s_[:, 8:-8, 60:-8]
    rise = np.std(np.array(images)[right]) / np.std(np.array(images)[left])
    inflation = statistic.grid.crop(statistic.inflation).numpy()
    assert inflation[40:-40, 12:32] == pytest.approx(1.0, abs=0.01)
    assert rise > 5.0
    assert inflation[40:-40, 64:84] == pytest.approx(rise, rel=0.25)


def _scatter(fwhms, where, hide) -> np.ndarray:
    """Scatter of `acn_coadd` over its written sigma, by column of blank
    observations that an array of what is good ``(n, h, w)`` is taken from.
    """
    coadds, variances = [], []
    for seed in range(10):
        stack = make_stack(fwhms, stars=())
        stack.image[:] = np.random.default_rng(seed).normal(size=stack.image.shape)
        hide(stack.good)
        stack.image[~stack.good] = 0.0
        chosen = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1, seed=seed)
        fit = fit_patch(lambda tile, halo, stack=stack: stack, height=SIZE, width=SIZE, options=chosen)
        coadds.append(fit.coadd[:, where])
        variances.append(fit.coadd_variance[:, where])
    return (np.var(coadds, axis=0, ddof=1).mean(0) / np.mean(variances, axis=(0, 1))) ** 0.5


def _end(n: int, column: int):
    """Let the first exposures end at a column of the patch."""

    def hide(good: np.ndarray) -> None:
        good[:n, :, HALO + column :] = False

    return hide


@pytest.mark.parametrize("n_left", [2, 4])
def test_star_that_few_of_many_exposures_see_is_not_clipped(n_left):
    """At the end of a deep field, where the model takes longer to know it."""
    stars = ((68.3, 47.8, 20_000.0), STARS[0])
    stack = make_stack(np.linspace(3.0, 5.0, 24), stars=stars)
    stack.good[n_left:, :, HALO + 30 :] = False
    stack.image[~stack.good] = 0.0
    assert not compute_statistic(stack, halo=HALO).rejected.any()
    assert measure_fluxes(stack, stars=stars) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize(("n", "n_left"), [(24, 2), (60, 2), (60, 1)])
def test_star_that_the_broadest_of_many_see_keeps_its_light(n, n_left):
    stars = ((68.3, 47.8, 3000.0), STARS[0])
    stack = make_stack(np.linspace(5.0, 3.0, n), stars=stars)
    stack.good[n_left:, :, HALO + 30 :] = False
    stack.image[~stack.good] = 0.0
    assert not compute_statistic(stack, halo=HALO).rejected[:, :, HALO + 30 :].any()
    assert measure_fluxes(stack, stars=stars) == pytest.approx(1.0, abs=0.06)


def test_wings_of_a_saturated_star_stay_in_deep_stacks():
    """Its core is in no exposure, and larger in the sharper ones."""
    star = (47.3, 48.2, 20_000.0)
    fwhms = np.linspace(3.0, 5.0, 24)
    stack = make_stack(fwhms, stars=(star,))
    light = np.array([star[2] * draw_star(*star[:2], fwhm) for fwhm in fwhms])
    stack.good[light > 100.0] = False
    stack.image[~stack.good] = 0.0
    assert not stack.good.any(0).all()
    assert not compute_statistic(stack, halo=HALO).rejected.any()


@pytest.mark.parametrize("sharp", [3.0, 3.5])
def test_sigma_where_the_sharp_exposures_are_missing(sharp):
    fwhms = [sharp] * 4 + [4.5] * 6
    assert _scatter(fwhms, np.s_[34:], _end(4, 24)).mean() == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("n_left", [8, 2])
def test_sigma_of_a_star_whose_own_photons_are_its_noise(n_left):
    """Of fewer exposures they are fewer, as those of the sky."""
    star = (61.6, 47.8, 20_000.0)
    variances = []
    for n in (16, n_left):
        stack = make_stack([3.8] * 16, stars=(star,), gain=20.0)
        stack.good[n:, :, 48:] = False
        stack.image[~stack.good] = 0.0
        chosen = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1)
        fit = fit_patch(lambda tile, halo, stack=stack: stack, height=SIZE, width=SIZE, options=chosen)
        core = np.hypot(*(np.indices(fit.coadd.shape) + HALO - np.array([47.8, 61.6])[:, None, None])) < 2
        variances.append([fit.coadd_variance[core].mean(), fit.latent_variance[core].mean()])
    rise = np.divide(variances[1], variances[0]) * n_left / 16
    assert (rise > 0.45).all() and (rise < 1.2).all()


def test_sigma_beside_the_end_of_coverage():
    """The fill of what is beyond adds its error to the last pixels."""
    fwhms = np.linspace(3.2, 4.6, 16)
    scatter = _scatter(fwhms, np.s_[16:24], _end(16, 24))
    assert scatter.mean() == pytest.approx(1.0, abs=0.2) and scatter.max() < 1.5


@pytest.mark.parametrize(
    ("fwhms", "missing"), [((3.4, 4.4), [0]), ((3.4, 4.4), [1]), ((3.2, 3.8, 4.6), [0, 1])]
)
def test_sigma_in_a_masked_column(fwhms, missing):
    """Of five pixels, where one exposure is left: as noisy as it says, and so
    is what lies beside it.
    """

    def hide(good: np.ndarray) -> None:
        good[missing, :, HALO + 20 : HALO + 25] = False

    scatter = _scatter(fwhms, np.s_[14:31], hide)
    assert scatter.min() > 0.7 and scatter.max() < 1.2


@pytest.mark.parametrize("plane", ["latent", "coadd"])
@pytest.mark.parametrize(("noise", "written"), [(1e4, 1e8), (1.0, 1e20), (30.0, 900.0)])
def test_exposure_of_almost_no_weight_changes_nothing(plane, noise, written):
    """Very noisy, or with the variance by which some say: do not use."""
    stack = make_stack([4.0, 3.0, 5.0], sigmas=[noise, 1.0, 1.0])
    stack.variance[0] = written
    others = [1, 2]
    alone = dataclasses.replace(
        stack,
        **{name: getattr(stack, name)[others] for name in ("image", "variance", "good", "psf")},
        labels=("b", "c"),
    )
    assert measure_fluxes(stack, plane=plane) == pytest.approx(measure_fluxes(alone, plane=plane), abs=0.006)


def test_bright_core_in_a_dark_sky_is_fitted_by_mm():
    """Its photon noise is a thousand times that of the sky."""
    stars = ((47.2, 48.1, 5e4),)
    stack = make_stack([3.5] * 6, stars=stars, gain=3.0)
    assert measure_fluxes(stack, stars=stars, method="mm") == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("fwhm", [1.6, 1.8, 2.0, 2.5])
def test_every_target_keeps_the_flux(fwhm):
    stack = make_stack([3.0, 3.5, 3.0, 3.5, 3.0, 3.5])
    assert measure_fluxes(stack, target_fwhm=fwhm) == pytest.approx(1.0, abs=0.012)


def test_paper_recipe_cannot_be_sharper_than_its_latent():
    with pytest.raises(ValueError, match=r"target_fwhm must be at least 2.0 with recipe='paper'"):
        FitOptions(recipe="paper", target_fwhm=1.8)


def test_exposures_without_any_noise_are_fitted():
    """All 0, as of a field that the simulator left empty."""
    stack = make_stack([3.0, 3.5, 4.0], stars=())
    stack.image[:] = 0.0
    chosen = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1)
    fit = fit_patch(lambda tile, halo: stack, height=SIZE, width=SIZE, options=chosen)
    assert np.abs(fit.coadd).max() < 1e-6 and fit.latent.max() < 1e-6


@pytest.mark.parametrize("fwhms", [(3.0, 3.0, 3.0), (4.0, 4.0, 4.0), (3.0, 4.0, 5.0)])
def test_seeing_is_that_of_all_exposures_together(fwhms):
    chosen = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1, method="kaiser")
    stack = make_stack(fwhms)
    fit = fit_patch(lambda tile, halo: stack, height=SIZE, width=SIZE, options=chosen)
    assert fit.seeing.shape == (1, 1, 2)
    assert min(fwhms) * 0.99 < fit.seeing[0, 0, 0] < max(fwhms) * 1.01
    if len(set(fwhms)) == 1:
        assert fit.seeing[0, 0, 0] == pytest.approx(fwhms[0], rel=0.02)
        # The stars here lack the wings of the atmosphere.
        assert 0.85 < fit.seeing[0, 0, 1] / fwhms[0] < 0.95


def test_one_sharp_exposure_does_not_make_a_stack_sharp():
    """Bright stars lose 4 % of their light with such a one: not trusted."""
    chosen = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1, method="kaiser")
    alone, mixed = (
        fit_patch(lambda tile, halo, fwhms=fwhms: make_stack(fwhms), height=SIZE, width=SIZE, options=chosen)
        for fwhms in ([2.4] * 3, [2.4] + [10.0] * 15)
    )
    assert alone.seeing[0, 0, 0] == pytest.approx(2.4, rel=0.02)
    assert mixed.seeing[0, 0, 0] < 3 < TrustLimits().max_seeing < mixed.seeing[0, 0, 1] < 10


@pytest.mark.parametrize("method", ["acn", "mm", "kaiser", "mean"])
def test_one_good_pixel_is_no_division_by_zero(method):
    """It makes an image of next to nothing, that is not trusted."""
    stack = make_stack([3.0, 4.0], stars=())
    good = np.zeros_like(stack.good)
    good[:, 47, 50] = True
    one = dataclasses.replace(stack, good=good, image=np.zeros_like(stack.image))
    options = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1, method=method, mm_iterations=20)
    fit = fit_patch(lambda tile, halo: one, height=SIZE, width=SIZE, options=options)
    assert (fit.n_image > 0).sum() == 1 and np.isfinite(fit.coadd).all()
    changes = find_loss_change(fit.history)
    assert set(changes) == ({(0, 0)} if method == "mm" else set())
    assert all(change > 0.01 for change in changes.values())
