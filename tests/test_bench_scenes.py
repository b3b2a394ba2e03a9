# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenes of the benchmark: reproducible, apart, and wrong as they say."""

import dataclasses

import astropy.table
import galsim
import numpy as np
import pytest

from benchmarks.engine import scenes, skies
from benchmarks.engine.measure import Judge
from benchmarks.engine.peers import Delivery, FitInputs
from benchmarks.engine.peers._linear import fit_weighted_mean
from benchmarks.engine.scene_list import make_scenes, select_scenes
from lsst.coadd.astroclearnet.simulate import StackFaults, draw_warped_noise, make_catalog, simulate_stack

SMALL = {"n_exposures": 4, "size": 32}


def small_scene(name="few", **values):
    found = next(scene for scene in make_scenes("tuning") if scene.name == name)
    return dataclasses.replace(found, **(SMALL | values))


def simulate(faults=None, **options):
    options = {"n_exposures": 4, "size": 96, "seed": 3, "noise_seed": 1, "gain": 0.0} | options
    stack, truth = simulate_stack(faults=faults, streak=False, unmasked_cosmic_rays=0, **options)
    return stack, truth


def test_a_realisation_is_new_noise_on_the_same_sky():
    scene = small_scene()
    (one, truth), (again, _), (other, other_truth) = scene.make(0), scene.make(0), scene.make(1)
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(truth.image, other_truth.image)
    np.testing.assert_array_equal(truth.signal, other_truth.signal)
    np.testing.assert_array_equal(one.psf, other.psf)
    both = one.good & other.good
    noise = (one.image - truth.signal)[both], (other.image - truth.signal)[both]
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.1
    assert one.image.shape == (4, 32 + 2 * scenes.HALO, 32 + 2 * scenes.HALO)


def test_trail_is_left_in_a_mean_and_not_where_it_is_masked():
    """What the loss of its pixels costs is no light of the trail."""
    scene = small_scene("medium", size=96)
    stack, truth = scene.make(0)
    judge = Judge(scene, 0, stack, truth)
    trail = judge.find_trail()
    assert [bool(one.any()) for one in trail].count(True) == 1
    good = stack.good & ~trail
    masked = dataclasses.replace(stack, good=good, image=np.where(good, stack.image, 0))
    whole, without = (
        fit_weighted_mean(FitInputs(scene=scene, stack=one, truth=truth))[0] for one in (stack, masked)
    )
    assert judge.measure_leak("mean", whole, without)["value"] == pytest.approx(1, abs=0.15)
    assert judge.measure_leak("mean", without, without)["value"] == 0


def test_the_sets_share_no_seed():
    seeds = {name: {scene.seed for scene in make_scenes(name)} for name in scenes.SETS}
    assert not seeds["tuning"] & seeds["test"]
    assert min(seeds["test"]) > 100_000
    for name in scenes.SETS:
        made = make_scenes(name)
        assert len({scene.name for scene in made}) == len(made)
        fields = [scene for scene in made if scene.kind == "field"]
        assert len(fields) >= 6 and {scene.n_exposures for scene in fields} == {8, 16, 33}
        assert all(scene.realisations >= 3 for scene in made)
        assert sum(scene.size == 1024 for scene in made) == 1


def test_scenes_are_chosen_by_name_and_kind():
    chosen = select_scenes("tuning", ("few", "blank"))
    assert [scene.name for scene in chosen] == ["few", "blank"]
    quick = select_scenes("tuning", quick=True)
    assert all(scene.realisations == 1 and scene.size <= 330 and not scene.heavy for scene in quick)
    assert {scene.kind for scene in quick} == set(scenes.KINDS)
    with pytest.raises(ValueError, match="nowhere"):
        select_scenes("tuning", ("nowhere",))
    with pytest.raises(ValueError, match="third"):
        make_scenes("third")


@pytest.mark.parametrize("name", ["few", "isolated few", "psf broad", "gaps", "pairs", "shapes", "blank"])
def test_exposures_show_the_sources_of_the_catalogue(name, monkeypatch):
    monkeypatch.setattr(skies, "SHAPE_SNR", (40.0, 640.0))
    options = {"n_exposures": 1, "snr": (100.0, 1000.0), "coverage": "", "density": 200.0}
    size = 312 if name == "shapes" else 96
    scene = small_scene(name, **(options | {"size": size}))
    _, truth = scene.make(0)
    assert (len(truth.catalog) == 0) == (name == "blank")
    wanted = truth.draw(target_fwhm=5.0)
    inner = np.s_[20:-20, 20:-20]
    difference = np.abs(truth.signal[0] - wanted)[inner].sum()
    # The seeing is not quite that Gaussian.
    assert difference <= 0.35 * wanted[inner].sum()


def test_kept_signals_are_those_drawn(tmp_path):
    scene = small_scene(number=91)
    drawn, _ = scene.make(0)
    scenes.keep_signals(tmp_path)
    try:
        for _ in range(2):
            scenes._signal.cache_clear()
            kept, _ = scene.make(0)
            np.testing.assert_array_equal(kept.image, drawn.image)
    finally:
        scenes._kept.clear()
        scenes._signal.cache_clear()
    assert len(list(tmp_path.glob("*.npy"))) == 1


@pytest.mark.parametrize("size", [0.98, 1.02])
def test_a_wrong_psf_is_wrong_by_what_it_says(size):
    right, _ = simulate(size=32)
    wrong, _ = simulate(StackFaults(psf_size=size), size=32)
    np.testing.assert_array_equal(wrong.image, right.image)
    for one, two in zip(right.psf, wrong.psf, strict=True):
        mine, other = (
            galsim.hsm.FindAdaptiveMom(galsim.Image(kernel.astype(float))).moments_sigma
            for kernel in (two, one)
        )
        assert mine / other == pytest.approx(size, abs=2e-3)
    np.testing.assert_allclose(wrong.psf.sum((1, 2)), 1.0, rtol=1e-5)


def test_flux_scales_are_off_about_their_mean():
    right, _ = simulate()
    wrong, _ = simulate(StackFaults(flux_scale=0.05))
    ratios = [
        (w[g].astype(float) @ r[g]) / (r[g].astype(float) @ r[g])
        for w, r, g in zip(wrong.image, right.image, right.good, strict=True)
    ]
    assert np.mean(ratios) == pytest.approx(1.0, abs=1e-5)
    assert np.std(ratios) == pytest.approx(0.05, rel=1e-3)


def test_astrometry_moves_the_exposures_about_their_mean():
    offsets = StackFaults(astrometry=0.1).draw_offsets(3, 16)
    np.testing.assert_allclose(offsets.mean(0), 0.0, atol=1e-12)
    assert np.sqrt((offsets**2).sum(1).mean()) == pytest.approx(0.1)
    catalog = skies.tabulate([{"x": 48.0, "y": 47.0, "flux": 1e5}])
    options = {"catalog": catalog, "n_exposures": 3}
    _, right = simulate(**options)
    _, wrong = simulate(StackFaults(astrometry=0.5), **options)
    wanted = StackFaults(astrometry=0.5).draw_offsets(3, 3)
    for one, two, offset in zip(right.signal, wrong.signal, wanted, strict=True):
        places = [
            galsim.hsm.FindAdaptiveMom(galsim.Image(image.astype(float))).moments_centroid
            for image in (one, two)
        ]
        moved = places[1] - places[0]
        np.testing.assert_allclose((moved.x, moved.y), offset, atol=5e-3)


def test_sky_and_variance_are_off_by_what_they_say():
    right, truth = simulate()
    wrong, _ = simulate(StackFaults(sky_offset=0.5, variance_factor=0.7))
    np.testing.assert_allclose(wrong.variance, 0.7 * right.variance, rtol=1e-5)
    for k, sigma in enumerate(truth.sky_sigma):
        good = right.good[k]
        np.testing.assert_allclose((wrong.image - right.image)[k][good], 0.5 * sigma, rtol=1e-3)


def test_warped_noise_is_correlated_and_its_variance_that_of_pixels():
    rng = np.random.default_rng(2)
    draws = [draw_warped_noise(rng, height=64, width=80) for _ in range(40)]
    pulls = np.array([noise / np.sqrt(variance) for noise, variance in draws])
    assert pulls.std() == pytest.approx(1.0, abs=0.01)
    assert np.mean([variance.mean() for _, variance in draws]) < 0.95
    lag = np.mean(pulls[:, :, 1:] * pulls[:, :, :-1])
    assert lag > 0.04
    # A sum over many pixels has the noise of the grid it came from.
    sums = np.array([noise.sum() for noise, _ in draws]) / np.sqrt(64 * 80)
    assert 0.7 < sums.std() < 1.3


@pytest.mark.parametrize("fault", [{"psf_size": 0.0}, {"flux_scale": -1.0}, {"variance_factor": -0.1}])
def test_an_impossible_fault_is_refused(fault):
    with pytest.raises(ValueError, match=next(iter(fault))):
        StackFaults(**fault)


def test_a_varying_psf_is_that_of_the_place():
    _, truth = simulate(psf_variation=0.1, size=64)
    middle = truth.kernels(x=31.5, y=31.5)
    np.testing.assert_allclose(middle, simulate(size=64)[1].kernels(x=31.5, y=31.5), atol=1e-6)
    assert np.abs(truth.kernels(x=0.0, y=60.0) - middle).max() > 1e-3
    with pytest.raises(ValueError, match="gaussian"):
        simulate(size=32, psf_kinds=("gaussian",))


def test_a_cell_has_the_psf_in_its_middle():
    scene = small_scene("wide", size=64, cell=32)
    stack, truth = scene.make(0)
    cut = scene.cut(stack, truth, x0=32, y0=0, size=32)
    assert cut.image.shape[1:] == (32 + 2 * scenes.HALO,) * 2
    np.testing.assert_array_equal(cut.image[:, 0, 0], stack.image[:, 0, 32])
    np.testing.assert_array_equal(cut.psf, truth.kernels(x=32 + 55.5, y=55.5))


def test_coverage_leaves_out_what_it_says():
    for name in ("gaps", "half"):
        scene = small_scene(name)
        stack, _ = scene.make(0)
        plan = scenes.coverage_of(scene)
        assert not (stack.good & ~plan).any()
        assert 0.5 < plan.mean() < 1.0
        assert np.all(stack.image[~plan] == 0)


def test_shallow_parts_are_searched_by_their_own_noise():
    """Where half of the exposures end an ideal coadd has as many bright false
    peaks for its noise as elsewhere: a threshold in flux would find all of
    them in that half.
    """
    scene = small_scene("half", size=320, n_exposures=2)
    stack, truth = scene.make(0)
    judge = Judge(scene, 0, stack, truth)
    seen = np.tensordot(truth.sky_sigma**-2.0, scenes.coverage_of(scene), axes=1)
    inner = np.s_[scenes.HALO : -scenes.HALO, scenes.HALO : -scenes.HALO]
    noise = np.random.default_rng(6).normal(size=seen.shape) / np.sqrt(seen)
    image = (judge.true_sky(_deliver(truth.image[inner])) + noise[inner]).astype(np.float32)
    peaks = astropy.table.Table(judge.measure("ideal", _deliver(image))["peaks"])
    false = peaks[peaks["false"]]
    assert len(false) == 100  # the brightest
    assert 0.4 < np.mean(false["x"] < scene.size / 2) < 0.65


def _deliver(image):
    kernel = galsim.Gaussian(fwhm=2.5).drawImage(nx=19, ny=19, scale=1.0, method="no_pixel").array
    return Delivery(plane="coadd", image=image, psf=kernel[None, None], target_fwhm=2.5)


def test_grid_has_isolated_sources_over_the_range_of_snr():
    catalog = skies.grid_sky(5, size=220, halo=40, n=16, snr=(5.0, 500.0))
    x, y = np.array(catalog["x"]), np.array(catalog["y"])
    distance = np.hypot(x[:, None] - x, y[:, None] - y) + 1e3 * np.eye(len(x))
    assert distance.min() > 14
    assert min(x.min(), y.min()) > 40 and max(x.max(), y.max()) < 260
    assert len(catalog) == 100 and np.ptp(np.log10(catalog["flux"])) > 1.8
    assert {*catalog["type"]} == {"star", "galaxy"}


def test_pairs_have_their_separations_and_magnitudes():
    catalog = skies.pair_sky(5, size=320, halo=40)
    assert catalog.colnames == make_catalog(scenes.SceneConfig(density=0, pair_density=0)).colnames
    found = set()
    for pair in range(catalog["pair"].max() + 1):
        one, two = catalog[catalog["pair"] == pair]
        separation = 0.168 * np.hypot(one["x"] - two["x"], one["y"] - two["y"])
        assert one["flux"] == two["flux"]
        found.add((round(float(separation), 3), round(float(one["mag"]), 2)))
    assert found == {(s, m) for s in skies.PAIR_SEPARATIONS for m in skies.PAIR_MAGS}


@pytest.mark.parametrize("shape", skies.SHAPES)
def test_odd_galaxies_have_unit_flux_and_their_radius(shape):
    profile, radius = skies.odd_galaxy(shape, angle=0.7, seed=3)
    blurred = galsim.Convolve(profile, galsim.Gaussian(fwhm=2.5 * 0.168))
    image = blurred.drawImage(nx=61, ny=61, scale=0.168, method="no_pixel").array
    assert image.sum() == pytest.approx(1.0, abs=2e-3)
    assert 2 < radius < 9
    axis = np.arange(61) - 30
    assert image[np.hypot(axis[:, None], axis) < 2.5 * radius + 4].sum() > 0.9


def test_odd_shapes_are_drawn_into_exposures_and_truth():
    profile, radius = skies.odd_galaxy("spiral", angle=0.7, seed=3)
    catalog = skies.tabulate([{"x": 40.0, "y": 41.0, "flux": 1e4, "type": "galaxy"}])
    catalog["profile"] = np.array([profile], dtype=object)
    _, truth = simulate(catalog=catalog, n_exposures=1, size=80)
    flux = float(catalog["flux"][0])
    assert truth.image.sum() == pytest.approx(flux, rel=5e-3)
    assert truth.signal[0].sum() == pytest.approx(flux, rel=0.02)
