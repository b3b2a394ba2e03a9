# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparison of planes that are partly empty, wrong, restored or crowded."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
from astropy.table import Table
from test_metrics import SIZE, draw_view, gaussian, pick

from lsst.coadd.astroclearnet._coadds import sample_gaussian
from lsst.coadd.astroclearnet.comparison._detect import detect_sources, extract
from lsst.coadd.astroclearnet.comparison._detections import make_residual_rows
from lsst.coadd.astroclearnet.comparison._metrics import compare_views
from lsst.coadd.astroclearnet.comparison._sky import make_sky_rows
from lsst.coadd.astroclearnet.comparison._truth import Truth
from lsst.coadd.astroclearnet.comparison.pictures._diagrams import make_exposure_figure, make_psf_figure
from lsst.coadd.astroclearnet.comparison.pictures._plots import make_comparison_figure


@pytest.fixture(scope="module")
def planes():
    reference, _ = draw_view("deepCoadd", gaussian(4.2), seed=1)
    coadd, _ = draw_view("acn_coadd", gaussian(2.5), seed=2, rms=1.2)
    return reference, coadd


def blank(view, seed):
    """Return the noise of a plane without its sources."""
    noise = np.random.default_rng(seed).normal(0, np.sqrt(view.variance[0, 0]), view.image.shape)
    return dataclasses.replace(view, image=noise.astype(np.float32))


def cover(view, width):
    """Leave data, and a PSF, in the first columns only."""
    bad = view.bad.copy()
    bad[:, width:] = True

    def psf(*, x, y):
        return view.psf(x=x, y=y) if x - view.x0 < width else None

    return dataclasses.replace(view, bad=bad, image=np.where(bad, np.float32(0), view.image), psf=psf)


@pytest.mark.parametrize("width", [40, 120])
def test_patch_at_the_edge_of_a_field_is_measured_with_its_own_psf(planes, width):
    whole = compare_views([blank(view, k) for k, view in enumerate(planes)])
    part = compare_views([cover(blank(view, k), width) for k, view in enumerate(planes)])
    assert part.common_fwhm == pytest.approx(whole.common_fwhm, rel=1e-6)
    for plane in ("deepCoadd", "acn_coadd"):
        depths = [pick(result, "point_source_depth", plane)["value"] for result in (whole, part)]
        assert depths[1] == pytest.approx(depths[0], abs=0.12), plane


def test_sources_where_there_are_no_data_are_not_missed(planes):
    light, (x, y, is_star) = draw_view("truth", gaussian(2.5))
    truth = Truth(x=x, y=y, is_star=is_star, view=light)
    whole, part = (
        compare_views([view, planes[1]], truth=truth) for view in (planes[0], cover(planes[0], SIZE // 2))
    )
    for name in ("completeness_snr_20_100", "completeness_snr_100"):
        rows = [pick(result, name, "deepCoadd") for result in (whole, part)]
        assert [row["value"] for row in rows] == [1, 1]
        assert 0.4 * rows[0]["n"] < rows[1]["n"] < 0.6 * rows[0]["n"]


def test_noise_of_a_shallow_part_is_no_missing_light(planes):
    """The noise of the reference is four times as large in a half."""
    rng = np.random.default_rng(3)
    sigma = np.where(np.arange(SIZE) < SIZE // 2, 1.0, 4.0) * np.ones((SIZE, 1))
    light, _ = draw_view("deepCoadd", gaussian(4.2))
    image = light.image + rng.normal(0, sigma)
    uneven = dataclasses.replace(light, image=image.astype(np.float32), variance=np.float32(sigma**2))
    latent, _ = draw_view("latent", gaussian(2.5))
    result = compare_views([uneven, latent])
    for name in ("missed_rate", "false_positive_rate"):
        assert pick(result, name, "latent")["n"] <= 2
    # Light that is missing is seen all the same.
    weaker = dataclasses.replace(latent, image=latent.image - 10 * draw_spots(latent.image.shape))
    assert pick(compare_views([uneven, weaker]), "missed_rate", "latent")["n"] >= 20


def draw_spots(shape):
    """Return spots of peak 1 between the sources of `draw_view`."""
    spots = np.zeros(shape)
    spots[46:-20:44, 46:-20:44] = 1
    spots = scipy.ndimage.gaussian_filter(spots, 2.0)
    return spots / spots.max()


@pytest.mark.parametrize("factor", [1 / 1.1, 1.1, 1.2])
def test_stars_do_not_hide_that_the_psf_of_the_reference_is_wrong(planes, factor):
    kernel = sample_gaussian(4.2 * factor, 41)
    wrong = dataclasses.replace(planes[0], psf=lambda *, x, y: kernel)
    result = compare_views([wrong, planes[1]])
    row = pick(result, "star_over_psf_fwhm", "deepCoadd")
    assert row["value"] == pytest.approx(1 / factor, abs=0.015) and row["n"] >= 10
    assert pick(result, "star_fwhm", "acn_coadd")["n"] >= 10
    # The medians are within the figure.
    low, high = make_psf_figure([wrong, planes[1]], result, title="").axes[0].get_ylim()
    assert low < row["value"] < high


def test_restored_reference_borrows_the_noise_of_the_other_plane(planes):
    light, (x, y, is_star) = draw_view("latent", gaussian(2.5))
    latent = dataclasses.replace(light, image=np.where(light.image > 0.01, light.image, np.float32(0)))
    result = compare_views([latent, planes[0]])
    usual = compare_views([planes[0], latent])
    assert result.noise_plane == "deepCoadd" and result.sky_rms == pytest.approx(1, rel=0.05)
    n = [pick(result, f"flux_ratio_{name}", "deepCoadd")["n"] for name in ("snr_6_20", "snr_20_100")]
    m = [pick(usual, f"flux_ratio_{name}", "latent")["n"] for name in ("snr_6_20", "snr_20_100")]
    assert np.all(np.abs(np.array(n) - m) <= 5) and n[0] > 8 and n[1] > 10
    assert pick(result, "false_positive_rate", "deepCoadd")["n"] <= 1
    figure = make_comparison_figure([latent, planes[0]], result, title="")
    assert any("sky rms of deepCoadd = " in axis.get_xlabel() for axis in figure.axes)


def test_error_of_the_mean_sky_is_that_of_correlated_noise(planes):
    means, errors, widths, width_errors = [], [], [], []
    sky = np.ones((SIZE, SIZE), bool)
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0, 1, (SIZE, SIZE))
        image = scipy.ndimage.gaussian_filter(noise, 1.5, mode="wrap").astype(np.float32)
        view = dataclasses.replace(planes[0], image=image)
        sources = dataclasses.replace(detect_sources(view, threshold=50.0), sky=sky)
        rows = {row[0]: row for row in make_sky_rows(view, sources, 1.0, radius=6.0)}
        means.append(rows["sky_mean"][2])
        errors.append(rows["sky_mean"][3])
        widths.append(rows["sky_rms"][2])
        width_errors.append(rows["sky_rms"][3])
    assert np.median(errors) == pytest.approx(np.std(means), rel=0.35)
    assert 0.7 < np.median(width_errors) / np.std(widths) < 2


def test_halo_of_a_bright_star_may_cover_the_image(planes):
    size = 900
    y, x = np.mgrid[:size, :size] - size / 2
    image = 1e5 / (1 + (x**2 + y**2) / 400) + np.random.default_rng(1).normal(0, 3, (size, size))
    nothing = np.zeros(image.shape, bool)
    view = dataclasses.replace(
        planes[0],
        image=image.astype(np.float32),
        variance=np.full(image.shape, 9.0, np.float32),
        bad=nothing,
        saturated=nothing,
    )
    assert len(detect_sources(view, threshold=5.0).x) >= 1
    residual = np.full(image.shape, 100.0)
    nowhere = dataclasses.replace(detect_sources(blank(planes[0], 1), threshold=50.0), footprint=None)
    sigma = np.ones(image.shape)
    rows = make_residual_rows(view, -residual, nowhere, sigma=sigma, threshold=5.0, radius=4.0)
    assert rows[0][2] > 0


def test_halo_may_have_many_peaks():
    y, x = np.mgrid[:600, :600] - 300.0
    noise = np.random.default_rng(1).normal(0, 1, x.shape)
    image = (15 / (1 + (x**2 + y**2) / 150**2) + noise).astype(np.float32)
    found = extract(image, 3.0, filter_kernel=None, minarea=3, deblend_cont=0.001, clean=False)
    assert len(found) > 1024


def test_of_a_blend_that_is_not_resolved_one_source_is_found(planes):
    reference, (x, y, is_star) = draw_view("deepCoadd", gaussian(4.2), seed=1)
    # Every star is two, 1 px apart: nobody can tell.
    x, y = np.concatenate([x, x[is_star] + 1.0]), np.concatenate([y, y[is_star]])
    noiseless, _ = draw_view("truth", gaussian(2.5))
    truth = Truth(x=x, y=y, is_star=np.ones(len(x), bool), view=noiseless)
    result = compare_views([reference, dataclasses.replace(reference, name="same")], truth=truth)
    row = pick(result, "completeness_snr_20_100", "deepCoadd")
    singles = np.count_nonzero(~is_star) / len(x)
    assert row["value"] == pytest.approx(2 / 3, abs=0.08) and singles < 0.4


def test_dropped_exposures_have_no_values_that_were_not_measured():
    rows = [(30, 2, True, 1.1, 0.6), (20, 1, True, 0.9, 0.7), (25, 1, False, np.nan, 2.5)]
    inputs = Table(rows=rows, names=("visit", "detector", "kept", "chi2", "psf_fwhm_arcsec"))
    chi2, width = make_exposure_figure(inputs, title="a patch").axes
    crosses = [line for line in chi2.lines if line.get_marker() == "x"]
    drawn = [line for line in crosses if line.get_transform() == chi2.transData]
    assert not np.any(np.isfinite(np.concatenate([line.get_ydata() for line in drawn])))
    foot = [line for line in crosses if line not in drawn]
    assert [list(line.get_ydata()) for line in foot] == [[0.0]]
    assert list(width.lines[1].get_ydata()) == [2.5]
