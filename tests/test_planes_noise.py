# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repeated observations of one sky: variance, noise plane, correlation."""

from __future__ import annotations

import functools
import types

import numpy as np
import pytest
import scipy.ndimage

from benchmarks.simulated_patch import simulate_patch
from lsst.coadd.astroclearnet.core.patch._correlation import NoiseCorrelation, measure_noise_correlation
from lsst.coadd.astroclearnet.simulate import SceneConfig

N = 16
"""Realizations: their scatter is known to 2 % where many pixels count."""

VARIANCES = ("latent_variance", "coadd_variance", "psf_flux_variance")
SCENE = SceneConfig(density=140, separation=16, star_mag=(18.0, 24.0))


@functools.cache
def repeated():
    """Fit one sky, observed again and again with new noise and artifacts."""
    patch, fits = None, []
    for k in range(N):
        signal = None if patch is None else patch.truth.signal
        patch = simulate_patch(size=128, n_exposures=8, seed=11, noise_seed=k, signal=signal, scene=SCENE)
        fits.append(patch.fit(cell_size=128, seed=k))
    planes = {
        name: np.array([getattr(fit, name) for fit in fits])
        for name in (*VARIANCES, "latent", "coadd", "noise")
    }
    truth = patch.truth.image[patch.inner]
    psf = fits[0].coadd_psf.mean((0, 1))
    return types.SimpleNamespace(truth=truth / patch.coadd_sigma, sources=patch.sources, psf=psf, **planes)


def pull(plane, selected):
    """Return the scatter of a plane relative to what its variance says."""
    data = repeated()
    scatter = getattr(data, plane).var(axis=0, ddof=1)
    predicted = getattr(data, f"{plane}_variance").mean(axis=0)
    return float(np.sqrt(np.mean(scatter[selected] / predicted[selected])))


def by_brightness(low, high):
    """Select pixels by their true brightness, in sigma of the sky."""
    return (repeated().truth > low) & (repeated().truth <= high)


@pytest.mark.parametrize(("low", "high"), [(-1, 0.3), (0.3, 1), (1, 3), (3, 10), (10, 30), (30, 1e9)])
def test_variance_of_the_coadd_predicts_its_scatter(low, high):
    assert pull("coadd", by_brightness(low, high)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("low", "high"), [(0.3, 1), (1, 3), (3, 10), (10, 30), (30, 1e9)])
def test_variance_of_the_latent_predicts_its_scatter(low, high):
    """To a sixth: it scatters little, and by more than a Gaussian at times."""
    assert pull("latent", by_brightness(low, high)) == pytest.approx(1, abs=0.17)


def test_variance_of_the_latent_is_right_for_the_whole_sky():
    """A pixel of the sky is 0 most of the time, so that single pixels of few
    observations scatter by less; their mean does not.
    """
    data, sky = repeated(), by_brightness(-1, 0.3)
    scatter, told = data.latent.var(axis=0, ddof=1)[sky].mean(), data.latent_variance.mean(axis=0)[sky].mean()
    assert np.sqrt(scatter / told) == pytest.approx(1, abs=0.1)


def test_noise_plane_is_noise_as_the_variance_says():
    data = repeated()
    assert (data.noise**2 / data.coadd_variance).mean() == pytest.approx(1, abs=0.1)
    assert abs(data.noise.mean()) < 0.02 * data.noise.std()
    sky = by_brightness(-1, 0.3)
    # About 2000 independent places on the sky: an error of 0.023 for each of
    # 120 pairs, the largest of which comes near three times that by chance.
    others = np.corrcoef([plane[sky] for plane in data.noise]) - np.eye(N)
    assert np.abs(others).max() < 0.1
    own = [
        np.corrcoef(noise[sky], coadd[sky])[0, 1] for noise, coadd in zip(data.noise, data.coadd, strict=True)
    ]
    assert np.abs(own).max() < 0.1


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (1, 10), (10, 1e9)])
def test_noise_plane_scatters_like_the_coadd(low, high):
    """On sources too, where it is what the encoder makes of more noise."""
    data, selected = repeated(), by_brightness(low, high)
    told = (data.noise**2).mean(axis=0)[selected] / data.coadd_variance.mean(axis=0)[selected]
    assert np.sqrt(told.mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("low", "high"), [(1, 25), (25, 1e9)])
def test_noise_plane_tells_the_errors_of_fluxes(low, high):
    """The sum over a star is known better than its pixels say: they scatter
    with its centroid and width as well. The noise plane holds all that.
    """
    data = repeated()
    rows, columns = (np.round(data.sources[axis]).astype(int) for axis in "yx")
    peaks = data.truth[rows, columns]
    chosen = (peaks > low) & (peaks <= high)
    fluxes, noise = (
        scipy.ndimage.gaussian_filter(plane, (0, 1.1, 1.1))[:, rows[chosen], columns[chosen]]
        for plane in (data.coadd, data.noise)
    )
    assert chosen.sum() > 4
    assert fluxes.var(axis=0, ddof=1).mean() == pytest.approx((noise**2).mean(), rel=0.3)


@pytest.mark.parametrize(("low", "high"), [(-1, 0.3), (1, 6), (6, 1e9)])
def test_variance_of_psf_fluxes_predicts_their_scatter(low, high):
    """About blank places, and at the sources by their brightness."""
    data, inner = repeated(), np.s_[:, 4:-4, 4:-4]
    fluxes = scipy.ndimage.correlate(data.coadd, data.psf[None]) / np.sum(data.psf**2)
    scatter, told = (plane[inner] for plane in (fluxes, data.psf_flux_variance))
    chosen = by_brightness(low, high)[inner[1:]]
    if low > 0:
        places = np.zeros(data.truth.shape, bool)
        places[*(np.round(data.sources[axis]).astype(int) for axis in "yx")] = True
        chosen &= places[inner[1:]]
    assert chosen.sum() > 4
    ratio = scatter.var(axis=0, ddof=1)[chosen] / told.mean(axis=0)[chosen]
    # Of 16 observations of few sources.
    assert np.sqrt(ratio.mean()) == pytest.approx(1, abs=0.15 if low > 0 else 0.1)


def test_variance_of_pixels_does_not_tell_that_of_psf_fluxes():
    """As if they erred independently it would be too small by far."""
    data, sky = repeated(), by_brightness(-1, 0.3)
    weights = (data.psf / np.sum(data.psf**2)) ** 2
    naive = scipy.ndimage.correlate(data.coadd_variance.mean(axis=0), weights)
    assert np.sqrt((data.psf_flux_variance.mean(axis=0)[sky] / naive[sky]).mean()) > 1.5


def test_told_correlation_is_that_of_the_scatter():
    """What the metadata say of the noise plane holds for the coadd."""
    data = repeated()
    sky = by_brightness(-1, 0.3)
    variance = data.coadd_variance.mean(axis=0)
    scatter = data.coadd - data.coadd.mean(axis=0)
    true, told = (
        np.mean([measure_noise_correlation(plane, variance, sky).table for plane in planes], axis=0)
        for planes in (scatter, data.noise)
    )
    np.testing.assert_allclose(told[8:13, 8:13], true[8:13, 8:13], atol=0.03)
    # The noise of a sum over many pixels, from it and from the variance.
    sums = scatter.reshape(N, 8, 16, 8, 16).sum((2, 4))
    dark = sky.reshape(8, 16, 8, 16).mean((1, 3)) > 0.9
    expected = NoiseCorrelation(table=told).area(16) * variance.reshape(8, 16, 8, 16).sum((1, 3))
    ratio = sums.var(axis=0, ddof=1)[dark].mean() / expected[dark].mean()
    assert ratio == pytest.approx(1, abs=0.15)


def test_correlation_of_known_noise():
    """White noise through a kernel has the correlation of the kernel."""
    rng = np.random.default_rng(1)
    white = rng.normal(size=(300, 400))
    sigma = np.linspace(1, 3, 400)
    noise = sigma * (white + np.roll(white, 1, axis=1)) / np.sqrt(2)
    good = np.ones(noise.shape, bool)
    good[100:150] = False
    found = measure_noise_correlation(np.where(good, noise, 0), np.broadcast_to(sigma**2, noise.shape), good)
    assert found.at(x=1, y=0) == pytest.approx(0.5, abs=0.01)
    assert abs(found.at(x=0, y=1)) < 0.01 and abs(found.at(x=2, y=0)) < 0.01
    assert found.area(1) == pytest.approx(1) and found.area(2) == pytest.approx(1.5, abs=0.01)
    assert found.area(100) == pytest.approx(2, abs=0.1)
    assert np.isnan(measure_noise_correlation(0 * noise, np.ones(noise.shape), good).area(5))
