# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures about images, peaks and shapes, where the answer is known."""

import astropy.table
import numpy as np
import pytest
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.ndimage import gaussian_filter
from scipy.signal import oaconvolve

from benchmarks.engine import metrics
from lsst.coadd.astroclearnet._coadds import sample_gaussian
from lsst.coadd.astroclearnet.simulate import SceneConfig, make_catalog, simulate_stack


def draw_point(image, *, x, y, flux, fwhm=2.5):
    """Add a sampled Gaussian of a flux to an image."""
    sigma = fwhm * gaussian_fwhm_to_sigma
    rows, columns = np.indices(image.shape)
    image += flux / (2 * np.pi * sigma**2) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))


def list_sources(rows):
    """Make a table of ``x, y, snr`` with the columns that the figures need."""
    table = astropy.table.Table(rows=rows, names=("x", "y", "snr"), dtype=(float, float, float))
    table["kind"] = "star"
    table["inside"] = table["usable"] = True
    table["pair"] = -1
    return table


def test_psnr_of_a_known_error():
    truth = 2.0 * np.sinh(np.linspace(0, 5, 100).reshape(10, 10))
    image = 2.0 * np.sinh(np.arcsinh(truth / 2.0) + 0.05)
    assert metrics.psnr(image, truth, 2.0) == pytest.approx(20 * np.log10(5 / 0.05))
    assert metrics.psnr(truth, truth, 2.0) == np.inf


def test_ssim_against_its_formula():
    rng = np.random.default_rng(1)
    truth = gaussian_filter(rng.normal(size=(40, 40)), 2) * 30
    image = truth + rng.normal(size=truth.shape)
    assert metrics.ssim(truth, truth, 1.0) == pytest.approx(1.0)
    a, b = np.arcsinh(image), np.arcsinh(truth)
    axis = np.arange(-5, 6)
    window = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 1.5**2)
    window /= window.sum()
    c1, c2 = (0.01 * np.ptp(b)) ** 2, (0.03 * np.ptp(b)) ** 2
    values = []
    for row in range(5, 35):
        for column in range(5, 35):
            p, q = (plane[row - 5 : row + 6, column - 5 : column + 6] for plane in (a, b))
            mean_p, mean_q = np.sum(window * p), np.sum(window * q)
            covariance = np.cov(p.ravel(), q.ravel(), aweights=window.ravel(), ddof=0)
            likeness = (2 * mean_p * mean_q + c1) * (2 * covariance[0, 1] + c2)
            spread = covariance[0, 0] + covariance[1, 1] + c2
            values.append(likeness / ((mean_p**2 + mean_q**2 + c1) * spread))
    assert metrics.ssim(image, truth, 1.0) == pytest.approx(np.mean(values), rel=1e-6)


def test_relative_rms():
    truth = np.arange(1.0, 10.0).reshape(3, 3)
    assert metrics.relative_rms(1.03 * truth, truth) == pytest.approx(0.03)
    image = truth.copy()
    image[0, 0] += 100
    assert metrics.relative_rms(image, truth, region=truth > 2) == 0


def test_sky_of_known_noise_and_pedestal():
    rng = np.random.default_rng(2)
    truth = np.zeros((400, 400))
    draw_point(truth, x=200, y=200, flux=1e5, fwhm=4.0)
    found = []
    for _ in range(40):
        noise = gaussian_filter(rng.normal(size=truth.shape), 2.0, mode="wrap")
        found.append(metrics.sky_statistics(1.2 * truth + noise + 0.05, truth, 1.0))
    # A Gaussian of sum 1 has the sum of squares 1 / (4 pi sigma^2).
    assert found[0].rms == pytest.approx(1 / np.sqrt(4 * np.pi) / 2.0, rel=0.03)
    means = np.array([one.mean for one in found])
    assert means.mean() == pytest.approx(0.05, abs=4 * means.std() / np.sqrt(40))
    # The noise is correlated; the error of the mean has to know it.
    assert np.mean([one.mean_error for one in found]) == pytest.approx(means.std(), rel=0.35)
    assert found[0].mean_error > 3 * found[0].rms / np.sqrt(found[0].n)
    assert 0.95 * truth.size < found[0].n < truth.size


def test_no_sky_at_all():
    sky = metrics.sky_statistics(np.ones((20, 20)), np.ones((20, 20)), 1.0)
    assert sky.n == 0 and np.isnan(sky.rms)


def test_blank_field():
    unit = 3.0
    noise = np.random.default_rng(3).normal(0.6, unit, (600, 600))
    blank = metrics.blank_field(noise, unit, psf=sample_gaussian(4.0, 25))
    assert blank.n_peaks == 0 and 3 < blank.highest < 5.5
    assert blank.rms == pytest.approx(1.0, rel=0.02)
    assert blank.mean == pytest.approx(0.2, abs=4 * blank.mean_error)
    assert blank.mean_error == pytest.approx(1 / 600, rel=0.3)


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_blank_field_with_known_fluxes(fwhm):
    """Stars of 6 sigma count, those of 4 do not, whatever their PSF."""
    psf, kernel = sample_gaussian(fwhm, 31), sample_gaussian(4.0, 25)
    points = np.zeros((300, 300))
    points[40:280:60, 40:280:60] = 6.0 / np.sqrt(np.sum(kernel**2))
    points[70, 70] = 4.0 / np.sqrt(np.sum(kernel**2))
    blank = metrics.blank_field(oaconvolve(points, psf, mode="same"), 1.0, psf=psf)
    assert blank.highest == pytest.approx(6.0, rel=1e-3)
    assert blank.n_peaks == 16
    assert blank.per_10_arcmin2 == pytest.approx(160 / (284 * 0.168 / 60) ** 2)


def test_rings_of_known_height():
    truth = np.zeros((120, 120))
    draw_point(truth, x=60.2, y=59.7, flux=5e4)
    sources = list_sources([(60.2, 59.7, 5000.0), (20.0, 20.0, 90.0)])
    rows, columns = np.indices(truth.shape)
    radius = np.hypot(rows - 59.7, columns - 60.2)
    image = truth + 8.0 * (np.rint(radius) == 9) - 3.0 * (np.rint(radius) == 6)
    image[50:55, 50:55] += 1000.0  # a neighbour that the truth lacks
    image[np.rint(radius) == 1] *= 1.05  # the core is not a ring
    table = metrics.rings(image, truth, sources, sigma=2.0, psf_fwhm=2.5)
    assert table["height"][0] == pytest.approx(4.0) and table["height_radius"][0] == 9
    assert table["depth"][0] == pytest.approx(1.5) and table["depth_radius"][0] == 6
    assert np.isnan(table["height"][1])
    local = metrics.rings(image, truth, sources, sigma=np.where(radius > 7.5, 4.0, 1.0), psf_fwhm=2.5)
    assert (local["height"][0], local["depth"][0]) == (pytest.approx(2.0), pytest.approx(3.0))


def test_streak_that_is_left():
    rows, columns = np.indices((200, 200))
    distance = (columns - 90) * np.sin(0.5) - (rows - 110) * np.cos(0.5)
    streak = 50 * np.exp(-4 * np.log(2) * (distance / 4.2) ** 2)
    artifacts = np.stack([streak, 0 * streak, 0 * streak])
    mean = metrics.ideal_artifact(artifacts, np.array([10.0, 10.0, 20.0]))
    np.testing.assert_allclose(mean, streak * 4 / 9)
    truth = np.zeros_like(streak)
    draw_point(truth, x=100, y=100, flux=1e4)
    assert metrics.streak_leakage(truth + mean, truth, mean) == pytest.approx(1.0)
    assert metrics.streak_leakage(truth, truth, mean) == 0
    # Sharpened by the method, it is the same flux on fewer pixels.
    sharp = 0.1 * 50 * 4 / 9 * 4.2 / 2.5 * np.exp(-4 * np.log(2) * (distance / 2.5) ** 2)
    assert metrics.streak_leakage(truth + sharp, truth, mean) == pytest.approx(0.1, rel=0.01)
    # A star that is wrong is no streak.
    assert metrics.streak_leakage(2 * truth, truth, mean, region=truth < 0.1) == pytest.approx(0, abs=1e-3)
    assert np.isnan(metrics.streak_leakage(truth, truth, 0 * mean))
    reached = metrics.footprint(artifacts)
    assert not reached[1:].any() and reached[0][np.abs(distance) < 9].all()
    assert not reached[0][np.abs(distance) > 11].any()


@pytest.fixture
def peaks_scene():
    """Five sources of known height and two false peaks."""
    truth = np.zeros((160, 160))
    heights = (10.0, 5.0, 4.0, 2.0, 0.5)
    for k, height in enumerate(heights):
        draw_point(truth, x=20 + 28 * k, y=40, flux=height)
    draw_point(truth, x=80, y=110, flux=1000.0)
    image = truth.copy()
    draw_point(image, x=30, y=80, flux=3.0)
    draw_point(image, x=130, y=80, flux=1.0)
    # A bump on the wing of the bright star, and one beyond the border.
    draw_point(image, x=86, y=110, flux=20.0, fwhm=1.0)
    draw_point(image, x=5, y=80, flux=50.0)
    sources = list_sources([(20 + 28 * k, 40.0, 2 * h) for k, h in enumerate(heights)] + [(80, 110, 2000)])
    return image, truth, sources


def test_peaks_are_what_they_are(peaks_scene):
    image, truth, sources = peaks_scene
    peaks = metrics.find_peaks(image, truth, sources)
    peaks = peaks[peaks["value"] > 0.01]
    false = peaks[peaks["false"]]
    assert sorted(zip(false["x"], false["y"], strict=True)) == [(30, 80), (130, 80)]
    assert sorted(peaks["source"][peaks["source"] >= 0]) == [0, 1, 2, 3, 5]
    # Two Gaussians in a row: F / (2 pi (s1^2 + s2^2)).
    variance = (4.0**2 + 2.5**2) * gaussian_fwhm_to_sigma**2
    first = peaks[peaks["source"] == 0]
    assert first["value"][0] == pytest.approx(10.0 / (2 * np.pi * variance), rel=0.01)
    half = metrics.find_peaks(image, truth, sources, sigma=np.full(image.shape, 2.0))
    assert half["value"].max() == pytest.approx(peaks["value"].max() / 2)


def test_completeness_at_matched_false_rates(peaks_scene):
    image, truth, sources = peaks_scene
    peaks = metrics.find_peaks(image, truth, sources)
    strict = metrics.completeness(peaks, sources, area=2.0, snr=(1.5, 1e9))
    assert (strict.n, strict.completeness, strict.false_per_arcmin2) == (5, 0.8, 0.0)
    # Without the highest false peak all would have been found.
    of_share = metrics.share_error(np.array([1, 1, 1, 1, 0], dtype=bool))
    assert strict.error == pytest.approx(np.hypot(of_share, 0.2))
    loose = metrics.completeness(peaks, sources, area=2.0, snr=(1.5, 1e9), false_rate=0.5)
    assert (loose.completeness, loose.false_per_arcmin2) == (1.0, 0.5)
    # Two images share one threshold, that of the worse one.
    blank = metrics.find_peaks(truth, truth, sources)
    both = metrics.completeness([peaks, blank], [sources, sources], area=4.0, snr=(1.5, 1e9))
    assert both.n == 10 and both.threshold == strict.threshold
    sources["pair"][1], sources["inside"][2] = 0, False
    assert metrics.completeness(peaks, sources, area=2.0, snr=(1.5, 1e9)).n == 3


@pytest.mark.parametrize(("separation", "angle"), [(3.0, 0.0), (3.6, 0.7), (5.0, 2.0)])
def test_dip_between_two_points(separation, angle):
    image = np.zeros((60, 60))
    step = 0.5 * separation * np.array([np.cos(angle), np.sin(angle)])
    one, two = np.array([30.3, 29.6]) - step, np.array([30.3, 29.6]) + step
    for x, y in (one, two):
        draw_point(image, x=x, y=y, flux=100.0)
    table = metrics.measure_pairs(image, np.array([[*one, *two]]))
    t = np.linspace(-0.5, 1.5, 20001) * separation
    sigma = 2.5 * gaussian_fwhm_to_sigma
    line = np.exp(-0.5 * (t / sigma) ** 2) + np.exp(-0.5 * ((t - separation) / sigma) ** 2)
    middle = 2 * np.exp(-0.5 * (separation / 2 / sigma) ** 2)
    assert table["separation"][0] == pytest.approx(separation)
    assert table["dip"][0] == pytest.approx(1 - middle / line.max(), abs=0.01)
    assert table["resolved"][0]


def test_pairs_below_sparrows_limit_are_not_resolved():
    image = np.zeros((60, 60))
    separation = 1.9 * 2.5 * gaussian_fwhm_to_sigma
    for x in (30.0, 30.0 + separation):
        draw_point(image, x=x, y=30.0, flux=100.0)
    # A bright neighbour outside of the pair makes no second peak.
    draw_point(image, x=40.0, y=30.0, flux=1000.0)
    pairs = np.array([[30.0, 30.0, 30.0 + separation, 30.0]])
    table = metrics.measure_pairs(image, pairs)
    assert table["dip"][0] == 0 and not table["resolved"][0]


def test_pairs_of_a_catalogue():
    sources = list_sources([(10, 11, 9), (20, 21, 9), (12, 13, 9), (50, 51, 9), (52, 53, 9)])
    sources["pair"] = [4, -1, 4, 2, 2]
    np.testing.assert_array_equal(metrics.pair_positions(sources), [[50, 51, 52, 53], [10, 11, 12, 13]])
    sources["inside"][3] = False
    np.testing.assert_array_equal(metrics.pair_positions(sources), [[10, 11, 12, 13]])
    sources["pair"] = -1
    assert metrics.pair_positions(sources).shape == (0, 4)
    assert len(metrics.measure_pairs(np.zeros((9, 9)), np.zeros((0, 4)))) == 0


@pytest.fixture(scope="module")
def clean_stack():
    """Five exposures without artifacts, with masked columns."""
    catalog = make_catalog(SceneConfig(seed=3, width=160, height=160, star_mag=(20.0, 25.0)))
    return simulate_stack(
        n_exposures=5,
        size=160,
        catalog=catalog,
        streak=False,
        masked_trail=False,
        unmasked_cosmic_rays=0,
        cosmic_rays=0,
    )


def test_chi2_of_the_truth_is_one(clean_stack):
    stack, truth = clean_stack
    chi2 = metrics.exposure_chi2(truth.image[20:140, 20:140], stack, latent_fwhm=2.5, halo=20)
    assert chi2.chi2 == pytest.approx(np.ones(5), abs=5 * np.sqrt(2 / chi2.n_pixels.min()))
    assert chi2.mean == pytest.approx(1.0, abs=5 * np.sqrt(2 / chi2.n_pixels.sum()))
    assert np.all(chi2.n_pixels < 80 * 80) and np.all(chi2.n_pixels >= 80 * 78)


def test_chi2_grows_with_the_error_of_the_latent(clean_stack):
    stack, truth = clean_stack
    latent = truth.image[20:140, 20:140]
    exact, offset = (
        metrics.exposure_chi2(latent + error, stack, latent_fwhm=2.5, halo=20) for error in (0.0, 9.0)
    )
    # An offset c adds c^2 / sigma^2, in the mean over the noise.
    np.testing.assert_allclose(offset.chi2 - exact.chi2, (9.0 / truth.sky_sigma) ** 2, atol=0.08)
    brighter = metrics.exposure_chi2(1.3 * latent, stack, latent_fwhm=2.5, halo=20)
    assert np.all(brighter.chi2_sources > 2 * exact.chi2_sources)
    assert exact.chi2_sources == pytest.approx(np.ones(5), abs=0.35)


def test_chi2_leaves_out_what_was_rejected(clean_stack):
    stack, truth = clean_stack
    latent = truth.image[20:140, 20:140].copy()
    latent[50:60, 50:60] += 500.0
    rejected = np.zeros_like(stack.good)
    rejected[:, 45:105, 45:105] = True
    far = metrics.exposure_chi2(latent, stack, latent_fwhm=2.5, halo=20, rejected=rejected)
    assert far.mean == pytest.approx(1.0, abs=5 * np.sqrt(2 / far.n_pixels.sum()))
    assert metrics.exposure_chi2(latent, stack, latent_fwhm=2.5, halo=20).mean > 2
