# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later
"""Injected stars and galaxies: the planes hold what their PSF says."""

from __future__ import annotations

import functools

import galsim
import numpy as np
import pytest

from benchmarks.simulated_patch import simulate_patch
from lsst.coadd.astroclearnet.simulate import SceneConfig

RADIUS = 9
"""Half the side of what is looked at of a source, in pixels."""

STARS = SceneConfig(
    star_fraction=1.0, density=60, separation=26, star_mag=(17.5, 22.5), pair_density=0, margin=0
)
"""Stars at random places and of random brightness, far from each other."""

FAINT = SceneConfig(
    star_fraction=1.0, density=90, separation=24, star_mag=(23.3, 24.3), pair_density=0, margin=0
)
"""The same, with peaks of 6 to 18 errors of a pixel."""

GALAXIES = SceneConfig(star_fraction=0.0, density=35, separation=30, galaxy_mag=(18.5, 21.5), pair_density=0)


@functools.cache
def fitted(kind: str):
    """Fit a patch of four cells; each cell has the PSFs of its centre."""
    settings = {
        "constant": {"scene": STARS, "seed": 1},
        "varying": {"scene": STARS, "seed": 7, "psf_variation": 0.05},
        "galaxies": {"scene": GALAXIES, "seed": 3},
    }[kind]
    patch = simulate_patch(size=240, n_exposures=8, **settings)
    return patch, patch.fit(cell_size=120)


@functools.cache
def faint(seed):
    patch = simulate_patch(size=360, n_exposures=8, seed=seed, scene=FAINT)
    return patch, patch.fit(cell_size=120)


def stars(patch, fit, plane, *, above=20):
    """Yield flux, stamp, PSF at its place and error for each star whose peak
    is above so many errors.

    The PSF is the attached one of its cell, a Gaussian, moved to the star.
    """
    image, kernels = getattr(fit, plane), getattr(fit, f"{plane}_psf")
    for source in patch.sources:
        x, y = round(source["x"]), round(source["y"])
        if min(x, y) < RADIUS + 1 or max(x, y) >= patch.size - RADIUS - 1:
            continue
        kernel = kernels[y // 120, x // 120]
        moments = galsim.hsm.FindAdaptiveMom(galsim.Image(kernel.astype(float)))
        profile = galsim.Gaussian(sigma=moments.moments_sigma).shift(source["x"] - x, source["y"] - y)
        size = 2 * RADIUS + 1
        psf = profile.drawImage(nx=size, ny=size, scale=1, method="no_pixel", dtype=float).array
        stamp = image[y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1].astype(float)
        error = np.sqrt(fit.coadd_variance[y, x])
        if source["flux"] * psf.max() > above * error:
            yield source["flux"], stamp, psf, error


@pytest.mark.parametrize("plane", ["latent", "coadd"])
@pytest.mark.parametrize("kind", ["constant", "varying"])
def test_every_star_has_the_attached_profile(kind, plane):
    """No pixel is off by more than 3 % of the peak, and the noise."""
    patch, fit = fitted(kind)
    found = list(stars(patch, fit, plane))
    assert len(found) >= 15
    widths, fluxes = [], []
    for flux, stamp, psf, error in found:
        amplitude = (stamp * psf).sum() / (psf**2).sum()
        peak = amplitude * psf.max()
        assert np.abs(stamp - amplitude * psf).max() < 0.03 * peak + 4 * error
        expected, measured = (
            galsim.hsm.FindAdaptiveMom(galsim.Image(image)).moments_sigma for image in (psf, stamp)
        )
        if peak > 100 * error:
            assert measured == pytest.approx(expected, rel=0.03)
        widths.append(measured / expected)
        fluxes.append(amplitude / flux)
    assert np.median(widths) == pytest.approx(1, abs=0.015)
    # With varying PSFs a cell has those of its centre.
    assert np.median(fluxes) == pytest.approx(1, abs=0.01 if kind == "constant" else 0.02)


@pytest.mark.parametrize("plane", ["latent", "coadd"])
def test_faint_stars_together_have_the_attached_profile(plane):
    """Each is too noisy to say."""
    found = [one for seed in (102, 103) for one in stars(*faint(seed), plane, above=0)]
    assert len(found) > 60
    mean = sum(stamp for _, stamp, _, _ in found)
    expected = sum(flux * psf for flux, _, psf, _ in found)
    scale = mean.sum() / expected.sum()
    assert scale == pytest.approx(1, abs=0.04)
    assert np.abs(mean / scale - expected).max() < 0.03 * expected.max()
    widths = [galsim.hsm.FindAdaptiveMom(galsim.Image(image)).moments_sigma for image in (mean, expected)]
    assert widths[0] == pytest.approx(widths[1], rel=0.03)


def test_attached_psf_is_centred_and_normalised():
    _, fit = fitted("constant")
    for kernels in (fit.latent_psf, fit.coadd_psf):
        for kernel in kernels.reshape(-1, *kernels.shape[2:]):
            assert kernel.sum(dtype=float) == pytest.approx(1, abs=1e-5)
            y, x = np.indices(kernel.shape) - kernel.shape[0] // 2
            assert abs((kernel * x).sum()) < 1e-4 and abs((kernel * y).sum()) < 1e-4


@pytest.mark.parametrize(("plane", "tolerance"), [("latent", 0.05), ("coadd", 0.03)])
def test_galaxies_keep_flux_and_size(plane, tolerance):
    """Against the noiseless sky at the same PSF, in apertures."""
    patch, fit = fitted("galaxies")
    truth, image = patch.truth.image[patch.inner], getattr(fit, plane)
    yy, xx = np.indices(image.shape)
    ratios, concentrations = [], []
    for source in patch.sources:
        distance = np.hypot(xx - source["x"], yy - source["y"])
        if not 14 < source["x"] < patch.size - 15 or not 14 < source["y"] < patch.size - 15:
            continue
        true, got = ([plane[distance < radius].sum() for radius in (3, 12)] for plane in (truth, image))
        if true[1] < 60 * patch.coadd_sigma * 12:
            continue
        ratios.append(got[1] / true[1])
        concentrations.append((got[0] / got[1]) / (true[0] / true[1]))
    assert len(ratios) >= 5
    assert np.median(ratios) == pytest.approx(1, abs=tolerance)
    assert np.median(concentrations) == pytest.approx(1, abs=0.05)
