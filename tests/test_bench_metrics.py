# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures about sources, where the answer is known."""

import dataclasses

import astropy.table
import galsim
import numpy as np
import pytest
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.ndimage import gaussian_filter

from benchmarks.engine import metrics
from lsst.coadd.astroclearnet._coadds import sample_gaussian
from lsst.coadd.astroclearnet.simulate import SceneConfig, make_catalog, simulate_stack

SCALE = 0.168


def lay_grid(*, count, spacing=40, kind="star", snr=100.0, seed=1, radius=0.0):
    """List sources on a square grid, off the centres of pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.divmod(np.arange(count**2), count)
    n = count**2
    table = astropy.table.Table({"kind": np.full(n, kind, dtype="U6"), "snr": np.full(n, float(snr))})
    table["x"] = (columns + 0.5) * spacing + rng.uniform(-0.5, 0.5, n)
    table["y"] = (rows + 0.5) * spacing + rng.uniform(-0.5, 0.5, n)
    table["half_light_radius"] = float(radius)
    table["inside"] = table["isolated"] = table["usable"] = True
    table["pair"] = -1
    return table


def draw(sources, profile, *, size, flux=1.0):
    """Draw one profile (in pixels) at all sources."""
    image = galsim.ImageD(np.zeros((size, size)), xmin=0, ymin=0)
    for source in sources:
        center = galsim.PositionD(float(source["x"]), float(source["y"]))
        box = galsim.BoundsI(*(round(c) + d for c in (center.x, center.y) for d in (-19, 19))) & image.bounds
        profile.withFlux(flux).drawImage(
            image[box], center=center, scale=1, method="no_pixel", add_to_image=True
        )
    return image.array


def make_kernel(profile, size=41):
    kernel = profile.drawImage(nx=size, ny=size, scale=1.0, method="no_pixel", dtype=float).array
    return kernel / kernel.sum()


def test_summary_of_normal_values():
    rng = np.random.default_rng(1)
    samples = 5 + 2 * rng.standard_normal((2000, 200))
    summary = metrics.summarize(samples)
    assert summary.n == samples.size
    assert summary.median == pytest.approx(5, abs=0.02)
    assert summary.scatter == pytest.approx(2, rel=0.01)
    # The errors are what the summaries of many samples scatter by.
    each = [metrics.summarize(sample) for sample in samples]
    medians, scatters = ([getattr(one, name) for one in each] for name in ("median", "scatter"))
    told = [(one.median_error, one.scatter_error) for one in each]
    np.testing.assert_allclose(np.mean(told, axis=0), (np.std(medians), np.std(scatters)), rtol=0.05)


def test_summary_leaves_out_what_was_not_measured():
    assert metrics.summarize([1.0, np.nan, 3.0, np.inf, 2.0]).n == 3
    assert np.isnan(metrics.summarize([np.nan]).median)
    two = metrics.summarize([1.0, 2.0])
    assert two.median == 1.5
    assert np.isnan(two.median_error) and np.isnan(two.scatter)


def test_bins_take_each_source_once():
    sources = lay_grid(count=3)
    sources["kind"] = ["star", "small", "large"] * 3
    sources["snr"] = [6, 6, 6, 20, 20, 20, 100, 100, 5]
    sources["usable"][0] = False
    rows = {(row["kind"], row["snr_low"]): row for row in metrics.bin_values(np.arange(9.0), sources)}
    assert [rows["any", low]["n"] for low in (3, 6, 20, 100)] == [1, 2, 3, 2]
    assert rows["star", 6]["n"] == 0
    assert rows["galaxy", 20]["median"] == 4.5
    assert rows["small", 100]["median"] == 7
    assert rows["large", 3]["median"] == 8


def test_unit_is_the_noise_of_the_weighted_mean():
    assert metrics.coadd_unit(np.array([2.0, 2.0, 2.0, 2.0])) == pytest.approx(1.0)
    assert metrics.coadd_unit(np.array([3.0, 4.0])) == pytest.approx(2.4)


@pytest.fixture(scope="module")
def small_scene():
    """Two stars and two Gaussian galaxies through Gaussian PSFs."""
    template = make_catalog(SceneConfig(density=0.0, pair_density=0.0))
    catalog = astropy.table.Table({name: [template[name].dtype.type()] * 4 for name in template.colnames})
    catalog["type"] = np.array(["star", "star", "galaxy", "galaxy"], dtype="U6")
    catalog["x"], catalog["y"] = [30.3, 99.0, 70.0, 75.0], [29.8, 60.0, 69.5, 33.0]
    catalog["flux"] = [5000.0, 900.0, 2000.0, 1500.0]
    # Half of the light of a Gaussian is within 1.1774 sigma.
    catalog["half_light_radius"] = [0.0, 0.0, 0.30, 0.60]
    catalog["sersic_n"], catalog["pair"], catalog["g1"], catalog["g2"] = 0.5, -1, 0.0, 0.0
    catalog["saturated"] = False
    stack, truth = simulate_stack(n_exposures=4, size=110, catalog=catalog, bad_columns=0, cosmic_rays=0)
    widths = (3.0, 3.5, 4.0, 5.0)
    psf = np.stack([sample_gaussian(width, 41) for width in widths]).astype(np.float32)
    return dataclasses.replace(stack, psf=psf, good=np.ones_like(stack.good)), truth, np.array(widths)


def test_signal_to_noise_of_gaussians(small_scene):
    stack, truth, widths = small_scene
    sources = metrics.select_sources(truth, stack, halo=10)
    radius = np.array(sources["half_light_radius"]) / SCALE / 1.17741
    width = np.hypot(widths[:, None] * gaussian_fwhm_to_sigma, radius)
    # A Gaussian of flux 1 has the sum of squares 1 / (4 pi sigma^2).
    power = np.sum(1 / (4 * np.pi * width**2 * truth.sky_sigma[:, None] ** 2), axis=0)
    np.testing.assert_allclose(sources["snr"], sources["flux"] * power**0.5, rtol=0.01)
    np.testing.assert_allclose(sources["snr"][:2], sources["flux"][:2] * power[0] ** 0.5, rtol=1e-3)
    assert sources["kind"].tolist() == ["star", "star", "small", "large"]
    assert sources["x"][0] == pytest.approx(20.3)


def test_signal_to_noise_where_half_is_masked(small_scene):
    stack, truth, _ = small_scene
    sources = metrics.select_sources(truth, stack, halo=10)
    weight = truth.sky_sigma**-2.0
    good = stack.good.copy()
    good[1, 20:40, 20:40] = False
    masked = metrics.select_sources(truth, dataclasses.replace(stack, good=good), halo=10)
    share = 1 - weight[1] / weight.sum()
    assert masked["snr"][0] == pytest.approx(sources["snr"][0] * share**0.5, rel=1e-6)
    assert masked["snr"][2] == sources["snr"][2]


def test_usable_sources_are_inside_and_alone(small_scene):
    stack, truth, _ = small_scene
    assert metrics.select_sources(truth, stack, halo=10)["usable"].tolist() == [True, False, True, True]
    crowded = dataclasses.replace(truth, catalog=truth.catalog.copy())
    crowded.catalog["x"][2], crowded.catalog["y"][2] = 35.0, 30.0
    sources = metrics.select_sources(crowded, stack, halo=10)
    assert sources["isolated"].tolist() == [False, True, False, True]


def test_truth_at_another_psf(small_scene):
    _, truth, _ = small_scene
    expected = truth.draw(target_fwhm=4.2)
    image = metrics.truth_at_psf(truth, sample_gaussian(4.2, 41))
    np.testing.assert_allclose(image, expected, atol=3e-4 * expected.max())
    inner = metrics.truth_at_psf(truth, sample_gaussian(4.2, 41), halo=10)
    np.testing.assert_array_equal(inner, image[10:-10, 10:-10])


def test_fluxes_relative_to_the_truth():
    psf = galsim.Gaussian(fwhm=2.5)
    sources = lay_grid(count=4)
    truth = draw(sources, psf, size=160, flux=1000.0)
    table = metrics.measure_fluxes(0.97 * truth, truth, sources, psf=make_kernel(psf))
    np.testing.assert_allclose(table["psf_truth"], 1000.0, rtol=1e-3)
    # All but exp(-r^2 / 2 sigma^2) of a Gaussian is within r.
    within = 1 - np.exp(-0.5 * (metrics.DELIVERED_RADIUS / (2.5 * gaussian_fwhm_to_sigma)) ** 2)
    np.testing.assert_allclose(table["aperture_truth"], 1000.0 * within, rtol=1e-3)
    np.testing.assert_allclose(table["aperture_error"], -0.03, atol=1e-6)
    np.testing.assert_allclose(table["psf_error"], -0.03, atol=1e-6)


def test_fluxes_beyond_the_edge_are_not_measured():
    sources = lay_grid(count=1)
    sources["x"] = 60.0
    image = np.ones((40, 40))
    table = metrics.measure_fluxes(image, image, sources, psf=sample_gaussian(2.5, 19))
    assert np.isnan(table["aperture"][0]) and np.isnan(table["psf"][0])
    assert np.isnan(metrics.look_up(image, sources)[0])


def test_apertures_of_a_mean_coadd_scatter_as_the_ideal_ones():
    rng = np.random.default_rng(2)
    sources = lay_grid(count=30, spacing=16)
    light, gain, n, sigma = 12.0, 2.0, 9, 15.0
    truth = np.full((480, 480), light)
    exposures = truth + rng.normal(size=(n, 480, 480)) * np.sqrt(sigma**2 + light / gain)
    table = metrics.measure_fluxes(exposures.mean(0), truth, sources, psf=sample_gaussian(2.5, 19))
    unit = metrics.coadd_unit(np.full(n, sigma))
    ideal = metrics.ideal_aperture_sigma(table["aperture_truth"], unit=unit, gain=gain, n_exposures=n)
    scatter = metrics.summarize((table["aperture"] - table["aperture_truth"]) / ideal)
    assert scatter.scatter == pytest.approx(1.0, abs=4 * scatter.scatter_error)
    # Pixels on the rim of a large aperture hardly matter.
    large = metrics.ideal_aperture_sigma(np.zeros(1), unit=2.0, radius=50.0)
    np.testing.assert_allclose(large, 2 * 50 * np.sqrt(np.pi), rtol=0.005)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_pulls_with_correlated_noise(scale):
    """They are right where the error is, though it is not that of pixels
    which err independently, and tell by what factor it is wrong.
    """
    rng = np.random.default_rng(4)
    psf = galsim.Gaussian(fwhm=2.5)
    sources = lay_grid(count=16, spacing=32)
    truth = draw(sources, psf, size=512, flux=300.0)
    kernel = make_kernel(psf)
    width, reach = 2.5 * gaussian_fwhm_to_sigma, 1.2
    # Of noise of variance 1 whose correlation is exp(-d^2 / (4 reach^2)).
    variance = (4 * np.pi * width**2) ** 2 * reach**2 / (width**2 + reach**2)
    claimed = np.full(truth.shape, variance / scale**2)
    pulls = []
    for _ in range(3):
        noise = gaussian_filter(rng.standard_normal(truth.shape), reach, mode="wrap")
        image = truth + noise * np.sqrt(4 * np.pi) * reach
        fluxes = metrics.measure_fluxes(image, truth, sources, psf=kernel)
        sigma = np.sqrt(metrics.look_up(claimed, sources))
        pulls.append(metrics.pulls(fluxes["psf"], fluxes["psf_truth"], sigma))
    summary = metrics.summarize(pulls)
    assert summary.median == pytest.approx(0, abs=4 * summary.median_error)
    assert summary.scatter == pytest.approx(scale, abs=4 * summary.scatter_error + 0.03)


def test_independent_pixels_make_the_error_of_white_noise():
    sources, variance = lay_grid(count=2), np.full((80, 80), 4.0)
    found = metrics.independent_sigma(variance, sources, psf=sample_gaussian(2.5, 19))
    np.testing.assert_allclose(found, 2 * np.sqrt(4 * np.pi) * 2.5 * gaussian_fwhm_to_sigma, rtol=1e-3)
    sources["x"] = 100.0
    assert np.isnan(metrics.independent_sigma(variance, sources, psf=sample_gaussian(2.5, 19))).all()


@pytest.mark.parametrize("reach", [0.0, 1.2])
def test_errors_of_apertures_are_their_scatter(reach):
    """With white noise they are those of independent pixels; with correlated
    noise these are too small.
    """
    rng = np.random.default_rng(6)
    sources = lay_grid(count=30, spacing=16)
    shape = (480, 480)

    def draw_noise():
        white = rng.standard_normal(shape)
        return gaussian_filter(white, reach, mode="wrap") * np.sqrt(4 * np.pi) * reach if reach else white

    image = 3.0 * draw_noise()
    # What a source adds to the variance counts once.
    variance = np.full(shape, 9.0)
    good = np.ones(shape, dtype=bool)
    correlated, independent = metrics.aperture_sigma(variance, 3.0 * draw_noise(), good, sources)
    flux = metrics.measure_fluxes(image, np.zeros(shape), sources, psf=sample_gaussian(2.5, 19))["aperture"]
    np.testing.assert_allclose(independent, 3 * np.sqrt(np.pi) * metrics.DELIVERED_RADIUS, rtol=1e-3)
    assert np.std(flux / correlated) == pytest.approx(1, abs=0.1)
    assert np.std(flux / independent) == pytest.approx(1 if reach == 0 else 3.7, rel=0.12)
    for source in sources:
        variance[round(source["y"]), round(source["x"])] += 1000.0
    with_light, _ = metrics.aperture_sigma(variance, 3.0 * draw_noise(), good, sources)
    np.testing.assert_allclose(with_light**2 - correlated**2, 1000.0, rtol=0.25)


def test_look_up_takes_the_nearest_pixel():
    sources = lay_grid(count=1)
    sources["x"], sources["y"] = 3.4, 1.6
    assert metrics.look_up(np.arange(20.0).reshape(4, 5), sources)[0] == 2 * 5 + 3


def test_pulls_without_an_error():
    assert np.isnan(metrics.pulls([2.0], [1.0], [0.0]))[0]
    assert metrics.pulls([2.0], [1.0], [0.5])[0] == 2.0


@pytest.mark.parametrize("snr", [20.0, 60.0, 500.0])
@pytest.mark.parametrize(
    "psf",
    [galsim.Gaussian(fwhm=2.0), galsim.Gaussian(fwhm=2.5), galsim.Moffat(beta=3.5, fwhm=4.2)],
    ids=["sharp", "gaussian", "moffat"],
)
def test_width_of_stars_in_noise(psf, snr):
    kernel = make_kernel(psf)
    sources = lay_grid(count=24, spacing=40, snr=snr)
    truth = draw(sources, psf, size=960, flux=snr / np.sum(kernel**2) ** 0.5)
    image = truth + np.random.default_rng(5).standard_normal(truth.shape)
    shapes = metrics.measure_shapes(image, truth, sources, psf=kernel)
    (row,) = metrics.bin_values(shapes["fwhm_ratio"], sources, bins=((20, np.inf),), kinds=("star",))
    assert row["n"] > 0.95 * len(sources)
    assert row["median"] == pytest.approx(1.0, abs=0.004 + 2.5 * row["median_error"])


def test_width_and_place_of_changed_stars():
    psf = galsim.Gaussian(fwhm=2.5)
    sources = lay_grid(count=3)
    truth = draw(sources, psf, size=120)
    moved = sources.copy()
    moved["x"] += 0.1
    moved["y"] -= 0.05
    image = draw(moved, galsim.Gaussian(fwhm=2.6), size=120)
    shapes = metrics.measure_shapes(image, truth, sources, psf=make_kernel(psf))
    np.testing.assert_allclose(shapes["fwhm"], 2.6, rtol=1e-3)
    np.testing.assert_allclose(shapes["fwhm_ratio"], 1.04, rtol=1e-3)
    np.testing.assert_allclose(shapes["dx"], 0.1, atol=1e-3)
    np.testing.assert_allclose(shapes["dy"], -0.05, atol=1e-3)


def test_ellipticity_of_galaxies():
    sources = lay_grid(count=3, kind="large", radius=0.5)
    axes = (3.0, 2.0)

    def distortion(a, b):
        return (a**2 - b**2) / (a**2 + b**2)

    def profile(a, b):
        # Shear by q = b / a along the axes, at the same area.
        return galsim.Gaussian(sigma=(a * b) ** 0.5).shear(q=b / a, beta=0 * galsim.degrees)

    truth, image = (draw(sources, profile(*pair), size=120) for pair in (axes, (2.8, 2.2)))
    shapes = metrics.measure_shapes(image, truth, sources, psf=sample_gaussian(2.5, 19))
    expected = distortion(*axes) - distortion(2.8, 2.2)
    np.testing.assert_allclose(shapes["e1"], distortion(2.8, 2.2), atol=2e-3)
    np.testing.assert_allclose(shapes["ellipticity_error"], expected, atol=2e-3)
    np.testing.assert_allclose(shapes["rounding"], expected, atol=2e-3)


def test_shapes_of_faint_or_blended_sources_are_not_measured():
    sources = lay_grid(count=2, snr=19.0)
    sources["snr"][1], sources["snr"][2], sources["usable"][2] = 21.0, 21.0, False
    truth = draw(sources, galsim.Gaussian(fwhm=2.5), size=80)
    shapes = metrics.measure_shapes(truth, truth, sources, psf=sample_gaussian(2.5, 19))
    assert np.isfinite(shapes["fwhm"]).tolist() == [False, True, False, False]


def test_lumps_of_galaxies():
    galaxy = galsim.Convolve(galsim.Exponential(half_light_radius=3.0), galsim.Gaussian(fwhm=2.5))
    sources = lay_grid(count=4, kind="large", radius=0.5)
    truth = draw(sources, galaxy, size=160, flux=1000.0)
    assert np.nanmax(metrics.profile_rms(1.3 * truth, truth, sources)) == pytest.approx(0, abs=1e-12)
    rows, columns = np.indices(truth.shape)
    lumpy = truth * (1 + 0.2 * (-1.0) ** (rows + columns))
    np.testing.assert_allclose(metrics.profile_rms(lumpy, truth, sources), 0.2, rtol=0.03)
    sources["kind"][0], sources["snr"][1] = "star", 29.0
    assert np.isnan(metrics.profile_rms(truth, truth, sources)).sum() == 2


def test_lumps_of_noise():
    galaxy = galsim.Gaussian(fwhm=7.0)
    sources = lay_grid(count=12, kind="large", radius=0.5)
    sources["x"], sources["y"] = np.rint(sources["x"]), np.rint(sources["y"])
    truth = draw(sources, galaxy, size=480, flux=1000.0)
    image = truth + np.random.default_rng(6).normal(0, 0.5, truth.shape)
    lumps = metrics.profile_rms(image, truth, sources)
    profile = make_kernel(galaxy, 21) * 1000.0
    inner = profile[profile > 0.3 * profile.max()]
    expected = 0.5 * np.sqrt(np.mean(1 / inner**2))
    assert np.sqrt(np.mean(lumps**2)) == pytest.approx(expected, rel=0.05)
