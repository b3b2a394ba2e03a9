# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Simulated skies and exposures: what is drawn is what the truth says."""

from __future__ import annotations

import dataclasses

import galsim
import numpy as np
import pytest
from _simulate_data import BLANK, make_sources, moments

from lsst.coadd.astroclearnet import simulate


def test_catalog_holds_what_the_config_says():
    config = simulate.SceneConfig(seed=3, width=500, height=400, x0=-100, y0=50, saturated_mag=(15.0,))
    catalog = simulate.make_catalog(config)
    assert np.all(catalog["x"] > -100 - 30) and np.all(catalog["x"] < 400 + 30)
    assert np.all(catalog["y"] > 50 - 30) and np.all(catalog["y"] < 450 + 30)
    single = catalog[catalog["pair"] < 0]
    assert len(single) - 1 == round(config.density * 560 * 460 * (0.168 / 60) ** 2)
    stars = single[(single["type"] == "star") & ~single["saturated"]]
    assert 0.2 < len(stars) / len(single) < 0.5
    assert stars["mag"].min() < 19 and stars["mag"].max() > 24.5
    galaxies = single[single["type"] == "galaxy"]
    assert np.all((galaxies["mag"] > 19.5) & (galaxies["mag"] < 27.0))
    assert np.median(galaxies["mag"]) > 24.5
    np.testing.assert_allclose(simulate.mag_from_flux(catalog["flux"]), catalog["mag"])
    assert catalog["saturated"].sum() == 1


def test_pairs_are_close_and_all_others_apart():
    config = simulate.SceneConfig(seed=5, width=500, height=500)
    catalog = simulate.make_catalog(config)
    assert catalog["pair"].max() >= 4
    for pair in range(catalog["pair"].max() + 1):
        one, two = catalog[catalog["pair"] == pair]
        distance = np.hypot(one["x"] - two["x"], one["y"] - two["y"]) * config.pixel_scale
        assert 0.5 <= distance <= 1.0
    x, y = np.array(catalog["x"]), np.array(catalog["y"])
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    same = (catalog["pair"][:, None] == catalog["pair"][None, :]) & (catalog["pair"][:, None] >= 0)
    distance[np.eye(len(x), dtype=bool) | same] = np.inf
    # Half of a pair's distance can be lost on each side.
    assert distance.min() > config.separation - 2 * 0.5 / config.pixel_scale


def test_a_seed_is_a_sky():
    config = simulate.SceneConfig(seed=7)
    assert np.array_equal(simulate.make_catalog(config)["x"], simulate.make_catalog(config)["x"])
    other = dataclasses.replace(config, seed=8)
    assert not np.array_equal(simulate.make_catalog(config)["mag"], simulate.make_catalog(other)["mag"])


@pytest.mark.parametrize(
    ("field", "value"), [("width", 3), ("density", -1.0), ("pixel_scale", 0.0), ("star_fraction", 1.5)]
)
def test_a_bad_scene_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        simulate.SceneConfig(**{field: value})


@pytest.mark.parametrize("fwhm", [2.0, 2.5, 3.5])
def test_truth_has_flux_place_and_width(fwhm):
    catalog = make_sources(x=[1032.3], y=[2028.8], flux=[5000.0])
    image = simulate.draw_truth(catalog, height=61, width=65, x0=1000, y0=2000, target_fwhm=fwhm)
    flux, x, y, second = moments(image)
    assert flux == pytest.approx(5000.0, rel=1e-4)
    assert (x, y) == (pytest.approx(32.3, abs=1e-3), pytest.approx(28.8, abs=1e-3))
    sigma = fwhm / np.sqrt(8 * np.log(2))
    np.testing.assert_allclose(second, np.eye(2) * sigma**2, atol=3e-3)


def test_truth_of_a_galaxy_keeps_its_flux():
    catalog = make_sources(
        type=["galaxy"],
        x=[60.0],
        y=[60.0],
        flux=[1e4],
        half_light_radius=[0.6],
        sersic_n=[1.0],
        g1=[0.2],
        g2=[0.1],
    )
    flux, x, y, second = moments(simulate.draw_truth(catalog, height=121, width=121))
    assert flux == pytest.approx(1e4, rel=5e-3)
    assert (x, y) == (pytest.approx(60, abs=0.01), pytest.approx(60, abs=0.01))
    assert second[0, 0] > second[1, 1] > 0 and second[0, 1] > 0


def test_drawing_through_a_distortion_conserves_flux_and_turns_shapes():
    """The moments of a galaxy follow the Jacobian; a star's are the PSF's."""
    matrix = np.array([[-0.95, 0.20], [0.18, 1.03]])

    def to_image(x, y):
        return tuple(matrix @ np.stack([np.asarray(x) - 60, np.asarray(y) - 60]) + 60)

    psf = galsim.Gaussian(fwhm=0.5)
    shape = {"half_light_radius": [0.5], "sersic_n": [1.0], "g1": [0.3], "g2": [0.0]}
    galaxy = make_sources(type=["galaxy"], x=[60.0], y=[60.0], flux=[1000.0], **shape)
    options = {"height": 121, "width": 121, "psf": lambda *, x, y: psf, "method": "no_pixel"}
    flux, _, _, straight = moments(simulate.draw_scene(galaxy, **options))
    mapped_flux, _, _, mapped = moments(simulate.draw_scene(galaxy, to_image=to_image, **options))
    assert mapped_flux == pytest.approx(flux, rel=2e-3)
    own = np.eye(2) * (psf.sigma / 0.168) ** 2
    np.testing.assert_allclose(mapped, matrix @ (straight - own) @ matrix.T + own, rtol=0.02, atol=0.05)
    star = make_sources(x=[60.0], y=[60.0], flux=[1000.0])
    flux, _, _, second = moments(simulate.draw_scene(star, to_image=to_image, **options))
    assert flux == pytest.approx(1000.0, rel=1e-3)
    np.testing.assert_allclose(second, own, atol=0.01)


def test_stack_is_reproducible_and_masks_are_empty():
    options = {"n_exposures": 3, "size": 80, "seed": 4}
    (one, truth), (two, _) = simulate.simulate_stack(**options), simulate.simulate_stack(**options)
    for name in ("image", "variance", "good", "psf"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert np.all(one.image[~one.good] == 0)
    assert not np.any(truth.artifacts & ~one.good)
    other, _ = simulate.simulate_stack(**(options | {"seed": 5}))
    assert not np.array_equal(one.image, other.image)


def test_stack_noise_is_what_the_variance_says():
    stack, truth = simulate.simulate_stack(n_exposures=4, size=120, scene=BLANK, unmasked_cosmic_rays=0)
    clean = stack.good & ~truth.artifacts
    chi = stack.image[clean] / np.sqrt(stack.variance[clean])
    assert chi.mean() == pytest.approx(0.0, abs=4 / np.sqrt(chi.size))
    assert chi.std() == pytest.approx(1.0, abs=0.01)
    # The streak is in the data, and only the truth tells.
    assert truth.artifacts.any(axis=(1, 2)).sum() == 1
    assert stack.image[truth.artifacts].mean() > truth.sky_sigma.mean()
    np.testing.assert_array_equal(truth.image, 0.0)


def test_stack_stars_are_its_psf_and_have_their_flux():
    catalog = make_sources(x=[60.0], y=[60.0], flux=[2e5])
    stack, truth = simulate.simulate_stack(
        n_exposures=6, size=121, seed=2, catalog=catalog, streak=False, masked_trail=False, bad_columns=0,
        cosmic_rays=0, unmasked_cosmic_rays=0, gain=0.0, sky_sigma=1e-3,
    )  # fmt: skip
    stamp = stack.image[:, 40:81, 40:81] / 2e5
    # Beyond the stamp of the kernel lie up to 3 per cent (Kolmogorov, 0.9").
    np.testing.assert_allclose(stamp.sum(axis=(1, 2)), 1.0, atol=0.04)
    stamp /= stamp.sum(axis=(1, 2), keepdims=True)
    assert np.abs(stamp - stack.psf).max() < 1e-3 * stack.psf.max()
    for kernel in stack.psf:
        _, x, y, _ = moments(kernel.astype(float))
        assert (x, y) == (pytest.approx(20, abs=1e-3), pytest.approx(20, abs=1e-3))
    assert truth.psf_fwhm.min() == 0.5 and truth.psf_fwhm.max() == 0.9


def test_stack_of_another_truth_psf():
    _, truth = simulate.simulate_stack(n_exposures=1, size=64, seed=3)
    np.testing.assert_array_equal(truth.draw(target_fwhm=2.5), truth.image)
    wide = truth.draw(target_fwhm=4.0)
    assert wide.max() < truth.image.max()


@pytest.mark.parametrize("options", [{"n_exposures": 0}, {"stamp_size": 40}])
def test_a_bad_stack_is_refused(options):
    with pytest.raises(ValueError, match="n_exposures must be positive and stamp_size odd"):
        simulate.simulate_stack(size=32, **options)
