# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recipe that learns from the stack itself."""

import dataclasses
import functools

import galsim.hsm
import numpy as np
import pytest
import scipy.ndimage
import torch
from astropy.stats import gaussian_sigma_to_fwhm

from benchmarks.engine.skies import tabulate
from lsst.coadd.astroclearnet.core import FitOptions, fit_patch
from lsst.coadd.astroclearnet.core.methods._fit import make_fitter
from lsst.coadd.astroclearnet.core.methods._self_halves import Half, split_cell
from lsst.coadd.astroclearnet.core.methods._self_inputs import update_by_statistic
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.simulate import simulate_stack

_HALO = 32
_SIZE = 96
_INNER = np.s_[_HALO:-_HALO, _HALO:-_HALO]
_X, _Y = 48.3, 47.6


@functools.cache
def _scene(n=8, seed=3):
    """Stars, artifacts and an unmasked streak."""
    stars = [(_X + _HALO, _Y + _HALO, 4e4), (35.2, 130.1, 1.5e4), (136.7, 30.4, 6e3)]
    stars += [(140.0, 118.0, 2e3), (20.0, 25.0, 900.0)]
    catalog = tabulate([{"x": x, "y": y, "flux": flux} for x, y, flux in stars])
    return simulate_stack(n_exposures=n, size=_SIZE + 2 * _HALO, seed=seed, catalog=catalog)


def _options(**options):
    return FitOptions(recipe="self", cell_size=_SIZE, halo=_HALO, n_threads=1, **options)


def _fit(stack, **options):
    return fit_patch(lambda tile, halo: stack, height=_SIZE, width=_SIZE, options=_options(**options))


@functools.cache
def _quick():
    """Fit four exposures after next to no training."""
    return _fit(_scene(n=4)[0], self_steps=3, seed=5)


@functools.cache
def _taught():
    """Train on the scene; return the fitter, and the rows of history."""
    fitter = make_fitter(_options(self_steps=100))
    assert fitter.learns
    return fitter, fitter.prepare([_scene()[0]], lambda line: None)


@functools.cache
def _fitted():
    return _crop(_taught()[0].fit(_scene()[0], np.random.default_rng(1)))


def _crop(fit):
    return dataclasses.replace(fit, latent=fit.latent[_INNER], coadd=fit.coadd[_INNER])


@functools.cache
def _mean():
    options = FitOptions(method="mean", cell_size=_SIZE, halo=_HALO, n_threads=1)
    return fit_patch(lambda tile, halo: _scene()[0], height=_SIZE, width=_SIZE, options=options)


def _disc(image, radius=12.0):
    y, x = np.indices(image.shape)
    return float(image[np.hypot(x - _X, y - _Y) < radius].sum())


def _fwhm(image):
    cut = galsim.Image(image[32:65, 32:65].astype(float))
    return gaussian_sigma_to_fwhm * galsim.hsm.FindAdaptiveMom(cut).moments_sigma


@pytest.mark.parametrize("plane", ["latent", "coadd"])
def test_star_keeps_flux_and_gets_the_target_psf(plane):
    """A bright star has its true flux, and the width the PSF says."""
    image = getattr(_fitted(), plane)
    # The noise in the disc of the coadd is 0.4 per cent of the star.
    tolerance = 0.01 if plane == "latent" else 0.015
    assert _disc(image) == pytest.approx(_disc(_scene()[1].image[_INNER]), rel=tolerance)
    assert _fwhm(image) == pytest.approx(2.5, rel=0.03)


def test_latent_is_quiet_and_not_negative():
    """Away from the star the latent has far less noise than the mean."""
    y, x = np.indices((_SIZE, _SIZE))
    sky = np.hypot(x - _X, y - _Y) > 24
    assert _fitted().latent.min() >= 0.0
    assert _fitted().latent[sky].std() < 0.15 * _mean().coadd[sky].std()


def test_streak_is_gone():
    """What no mask tells leaves nothing in the latent."""
    truth = _scene()[1]
    y, x = np.indices((_SIZE, _SIZE))
    trail = truth.artifacts[:, *_INNER].any(0) & (np.hypot(x - _X, y - _Y) > 24)
    assert trail.sum() > 200
    sigma = np.sum(1.0 / truth.sky_sigma**2) ** -0.5
    error = (_fitted().latent - truth.image[_INNER])[trail]
    assert abs(error.mean()) < 0.1 * sigma and error.max() < 2.0 * sigma


def test_held_out_loss_falls():
    """The history tells a loss of pixels that the encoder never learned from,
    and it falls as the other does.
    """
    rows = _taught()[1]
    assert {row["stage"] for row in rows} == {"self"}
    assert rows[0]["step"] == 0 and rows[-1]["step"] == 100
    held_out = [row["held_out_loss"] for row in rows]
    assert np.isfinite(held_out).all()
    assert held_out[-1] < held_out[0]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["chi2"] == pytest.approx(1.0, abs=0.05)


def test_order_of_exposures_does_not_matter():
    """Exposures in another order give the same bits."""
    stack, _ = _scene(n=4)
    order = [2, 0, 3, 1]
    planes = {name: getattr(stack, name)[order] for name in ("image", "variance", "good", "psf")}
    shuffled = dataclasses.replace(stack, **planes, labels=tuple(stack.labels[k] for k in order))
    fits = [_quick(), _fit(shuffled, self_steps=3, seed=5)]
    np.testing.assert_array_equal(fits[0].latent, fits[1].latent)
    np.testing.assert_array_equal(fits[0].coadd_variance, fits[1].coadd_variance)


def test_seed_decides():
    """The same seed gives the same bits, another one another training, and
    torch's own generator is left alone.
    """
    stack, _ = _scene(n=4)
    state = torch.get_rng_state()
    fits = [_quick(), *(_fit(stack, self_steps=3, seed=seed) for seed in (5, 6))]
    np.testing.assert_array_equal(fits[0].latent, fits[1].latent)
    assert not np.array_equal(fits[0].latent, fits[2].latent)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_one_cell_taught_serves_another():
    """An encoder trained on one stack restores a star of other exposures."""
    stack, truth = _scene(n=6, seed=4)
    latent = _crop(_taught()[0].fit(stack, np.random.default_rng(1))).latent
    assert _disc(latent) == pytest.approx(_disc(truth.image[_INNER]), rel=0.01)
    assert _fwhm(latent) == pytest.approx(2.5, rel=0.04)


def test_halves_are_apart():
    """What is predicted is never given, and both halves are used both ways."""
    statistic = compute_statistic(_scene(n=4)[0])
    seen = []

    class Recorded(Half):
        def __init__(self, cell, *, given, target, **others):
            seen.append((tuple(given), tuple(target)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsst.coadd.astroclearnet.core.methods._self_halves.Half", Recorded)
        split_cell(statistic, 5, _options(), np.random.default_rng(1))
    # Four exposures have three splits.
    assert 4 <= len(seen) <= 6 and len(set(seen)) == len(seen)
    for given, target in seen:
        assert sorted(given + target) == [0, 1, 2, 3]
        assert (target, given) in seen


def test_held_out_sky_is_away_from_the_rest():
    """The filters of the loss do not reach what is held out."""
    statistic = compute_statistic(_scene(n=2)[0])
    half = split_cell(statistic, 1, _options(), np.random.default_rng(1))[0]
    held_out, learned = half._held_out.numpy() > 0, half._learned.numpy() > 0
    assert scipy.ndimage.distance_transform_edt(~learned)[held_out].min() > 8
    assert 0.02 < held_out.mean() < 0.1 and learned.mean() > 0.75


def test_updates_on_the_statistic_restore_a_star():
    """Multiplicative updates need nothing but the statistic."""
    stack, truth = _scene()
    statistic = compute_statistic(stack)
    latent = statistic.grid.crop(update_by_statistic(statistic)).numpy()[_INNER]
    assert latent.min() >= 0
    assert _disc(latent) == pytest.approx(_disc(truth.image[_INNER]), rel=0.02)


def test_one_exposure_cannot_teach():
    """A single exposure is still restored, and the log says how."""
    stack, truth = simulate_stack(
        n_exposures=1,
        size=_SIZE + 2 * _HALO,
        seed=3,
        catalog=_scene()[1].catalog,
        streak=False,
        unmasked_cosmic_rays=0,
    )
    lines = []
    fit = fit_patch(
        lambda tile, halo: stack, height=_SIZE, width=_SIZE, options=_options(), report=lines.append
    )
    assert any("no cell has two exposures" in line for line in lines)
    assert _disc(fit.latent) == pytest.approx(_disc(truth.image[_INNER]), rel=0.05)
