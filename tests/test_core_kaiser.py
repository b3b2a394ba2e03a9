# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proper coadd: PSF, flux, white noise, artifacts, order, holes."""

import dataclasses
import functools

import numpy as np
import pytest
import scipy.ndimage

from benchmarks.engine.skies import tabulate
from lsst.coadd.astroclearnet.core import FitOptions, fit_patch
from lsst.coadd.astroclearnet.core.methods._kaiser import KAISER_FILL_STRENGTH, finish_kaiser
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.simulate import simulate_stack

_SIZE = 96
_HALO = 32
_INNER = np.s_[_HALO:-_HALO, _HALO:-_HALO]
_FLUX = 4e4
_X, _Y = 48, 47
"""Pixel of the star, so that its image is the kernel times its flux."""


@functools.cache
def _scene(n=8, gain=3.3, sky_sigma=18.0, **options):
    """One star on a pixel's centre."""
    return simulate_stack(
        n_exposures=n,
        size=_SIZE + 2 * _HALO,
        seed=3,
        catalog=tabulate([{"x": _X + _HALO, "y": _Y + _HALO, "flux": _FLUX}]),
        gain=gain,
        sky_sigma=sky_sigma,
        **options,
    )


def _fit(stack, **options):
    chosen = FitOptions(method="kaiser", cell_size=_SIZE, halo=_HALO, n_threads=1, **options)
    return fit_patch(lambda tile, halo: stack, height=_SIZE, width=_SIZE, options=chosen)


def _clean(**options):
    quiet = dict(streak=False, masked_trail=False, bad_columns=0, cosmic_rays=0, unmasked_cosmic_rays=0)
    return _scene(**{**quiet, **options})


def _star(fit):
    """Cut the star, as large as the kernel of the cell."""
    kernel = fit.coadd_psf[0, 0]
    half = kernel.shape[0] // 2
    return fit.coadd[_Y - half : _Y + half + 1, _X - half : _X + half + 1], kernel


@pytest.mark.parametrize("artifacts", [False, True])
def test_star_is_its_flux_times_the_kernel(artifacts):
    """Profile to 1 per cent of the peak, PSF flux to 0.3 per cent."""
    # Nearly no noise, to see the error of the method and not of the sky.
    stack, truth = _scene(sky_sigma=1.0, gain=0.0) if artifacts else _clean(sky_sigma=1.0, gain=0.0)
    star, kernel = _star(_fit(stack))
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    # Wings outside of the stamp are not in the kernel's sum.
    assert np.sum(star * kernel) / np.sum(kernel**2) == pytest.approx(_FLUX, rel=0.003)
    np.testing.assert_allclose(star / _FLUX, kernel, atol=0.01 * kernel.max())
    y, x = np.indices(kernel.shape) - kernel.shape[0] // 2
    for radius in (2, 4, 6, 8):
        disc = np.hypot(x, y) < radius
        assert star[disc].sum() == pytest.approx(_FLUX * kernel[disc].sum(), rel=0.01)


def test_noise_is_white_and_its_variance_right():
    """Neighbours are not correlated, and the scatter is that of the best
    unbiased weights.
    """
    stack, truth = _clean()
    fit = _fit(stack)
    sky = fit.coadd[:, 70:]
    expected = 1.0 / np.sum(1.0 / truth.sky_sigma**2)
    np.testing.assert_allclose(fit.coadd_variance[:, 70:], expected, rtol=0.03)
    assert sky.std() == pytest.approx(expected**0.5, rel=0.06)
    assert abs(np.corrcoef(sky[:, 1:].ravel(), sky[:, :-1].ravel())[0, 1]) < 0.06
    assert abs(np.corrcoef(sky[1:].ravel(), sky[:-1].ravel())[0, 1]) < 0.06
    assert fit.noise.std() == pytest.approx(fit.coadd_variance.mean() ** 0.5, rel=0.06)


def test_variance_knows_the_photons_of_the_star():
    """Realizations of the noise scatter as the variance says, star or sky."""
    stack, _ = _clean(n=4)
    statistic = compute_statistic(stack, halo=_HALO, fill_strength=KAISER_FILL_STRENGTH)
    fits = [finish_kaiser(stack, statistic, generator=np.random.default_rng(seed)) for seed in range(40)]
    noise = np.stack([fit.noise[_INNER] for fit in fits])
    fit = _fit(stack)
    core = np.s_[_Y - 2 : _Y + 3, _X - 2 : _X + 3]
    assert (noise[:, *core] ** 2).mean() == pytest.approx(fit.coadd_variance[core].mean(), rel=0.15)
    assert fit.coadd_variance[core].mean() > 2 * fit.coadd_variance[:10].mean()
    psf = fit.coadd_psf[0, 0]
    fluxes = scipy.ndimage.correlate(noise, psf[None]) / np.sum(psf**2)
    for place in (core, np.s_[12:40, 12:40]):
        told = fit.psf_flux_variance[place].mean()
        assert (fluxes[:, *place] ** 2).mean() == pytest.approx(told, rel=0.2)


def test_has_no_latent_of_its_own():
    """Both products are the same image, at one PSF that is no Gaussian."""
    fit = _fit(_clean()[0])
    np.testing.assert_array_equal(fit.latent, fit.coadd)
    np.testing.assert_array_equal(fit.latent_variance, fit.coadd_variance)
    np.testing.assert_array_equal(fit.latent_psf, fit.coadd_psf)
    assert fit.coadd.min() < 0


def test_streak_and_cosmic_rays_are_gone():
    """Away from the star nothing but noise is left."""
    stack, truth = _scene()
    fit = _fit(stack)
    y, x = np.indices(fit.coadd.shape)
    away = np.hypot(x - _X, y - _Y) > 20
    assert (np.abs(fit.coadd) / fit.coadd_variance**0.5)[away].max() < 6
    on_trail = truth.artifacts[:, *_INNER].any(0) & away
    assert on_trail.sum() > 200
    sigma = fit.coadd_variance[on_trail].mean() ** 0.5
    assert fit.coadd[on_trail].mean() < 5 * sigma / on_trail.sum() ** 0.5 + 0.1 * sigma


def test_order_of_exposures_does_not_matter():
    """Exposures in another order give the same bits."""
    stack, _ = _scene(n=4)
    order = [2, 0, 3, 1]
    planes = {name: getattr(stack, name)[order] for name in ("image", "variance", "good", "psf")}
    shuffled = dataclasses.replace(stack, **planes, labels=tuple(stack.labels[k] for k in order))
    fits = [_fit(s) for s in (stack, shuffled)]
    for name in ("coadd", "coadd_variance", "noise", "coadd_psf"):
        np.testing.assert_array_equal(getattr(fits[0], name), getattr(fits[1], name))


def test_partial_coverage_and_holes():
    """Noise rises where half of the exposures miss; what nobody saw is 0,
    if it is no small hole.
    """
    stack, _ = _clean()
    good = stack.good.copy()
    good[::2, :, 110:] = False
    hole, small = np.s_[20:34, 8:22], np.s_[80:84, 10:14]
    good[:, *_INNER][:, *hole] = good[:, *_INNER][:, *small] = False
    fit = _fit(dataclasses.replace(stack, good=good, image=np.where(good, stack.image, 0).astype(np.float32)))
    half = np.s_[:, 84:]
    # Only nearly white: the exposures that miss had PSFs of their own.
    assert abs(np.corrcoef(fit.coadd[:, 84:-1].ravel(), fit.coadd[:, 85:].ravel())[0, 1]) < 0.2
    assert fit.coadd[half].std() == pytest.approx(fit.coadd_variance[half].mean() ** 0.5, rel=0.15)
    assert fit.coadd_variance[half].mean() > 1.6 * np.median(fit.coadd_variance[:60, :30])
    assert (fit.coadd[hole] == 0).all() and fit.filled.sum() == 16 and fit.filled[small].all()
    assert np.abs(fit.coadd[small]).max() < 3 * fit.coadd_variance[small].max() ** 0.5
    assert (fit.coadd_variance[hole] > 0).all()
    star, kernel = _star(fit)
    assert np.sum(star * kernel) / np.sum(kernel**2) == pytest.approx(_FLUX, rel=0.01)


def test_one_exposure():
    """The proper coadd of one exposure has its noise, at a symmetric PSF."""
    stack, truth = _clean(n=1)
    fit = _fit(stack)
    assert fit.coadd[:, 70:].std() == pytest.approx(truth.sky_sigma[0], rel=0.06)
    star, kernel = _star(fit)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    assert np.sum(star * kernel) / np.sum(kernel**2) == pytest.approx(_FLUX, rel=0.01)
