# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Simulated visits: camera, PSF models, exposures and their artifacts."""

from __future__ import annotations

import dataclasses

import astropy.table
import astropy.wcs
import galsim
import numpy as np
import pytest
from _simulate_data import BLANK, make_grid_wcs, make_sources, moments, psf_flux

from lsst.coadd.astroclearnet import simulate


def test_detectors_of_a_visit_fit_together():
    """One sky position is one place in the focal plane on all detectors."""
    pointing = {"ra": 150.0, "dec": 2.0, "rotation": 0.7}
    right, left = simulate.DETECTORS[50], simulate.DETECTORS[58]
    wcs = {d.id: simulate.detector_wcs(d, **pointing) for d in (right, left, simulate.DETECTORS[49])}
    sky = wcs[50].all_pix2world([2047.0, 2047.0], [100.0, 4000.0], 0)
    found = np.array(wcs[58].all_world2pix(*sky, 0, tolerance=1e-8))
    place = right.rotation @ (np.array([[2047.0, 2047.0], [100.0, 4000.0]]) - right.center[:, None])
    place += [[right.offset_x - left.offset_x], [right.offset_y - left.offset_y]]
    np.testing.assert_allclose(found, left.rotation.T @ place + left.center[:, None], atol=1e-5)
    # The last column of 50 lies a chip gap before the first column of 58.
    np.testing.assert_allclose(found[0], -75.0, atol=3.0)
    for detector, turned in ((50, True), (49, False)):
        jacobian = wcs[detector].pixel_scale_matrix
        assert (jacobian[1, 1] < 0) == turned
        assert np.linalg.det(jacobian) < 0


def test_distortion_changes_the_pixel_area():
    wcs = simulate.detector_wcs(simulate.DETECTORS[50], ra=150.0, dec=2.0, rotation=0.0)
    corner = astropy.wcs.utils.proj_plane_pixel_area(wcs)
    x, y = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    ra, dec = wcs.all_pix2world(x, y, 0)
    east, north = (ra[1:] - ra[0]) * np.cos(np.deg2rad(dec[0])), dec[1:] - dec[0]
    area = abs(east[0] * north[1] - east[1] * north[0])
    r2 = 4.41e3**2 + 1.02e3**2
    assert area / corner == pytest.approx(1 - 4 * 1.1e-10 * r2, rel=3e-4)


@pytest.mark.parametrize("detector", [49, 50])
def test_pointing_hits_its_pixel(detector):
    chosen = simulate.DETECTORS[detector]
    ra, dec = simulate.point_at(chosen, x=300.0, y=900.0, ra=150.25, dec=2.23, rotation=-0.8)
    wcs = simulate.detector_wcs(chosen, ra=ra, dec=dec, rotation=-0.8)
    x, y = wcs.all_world2pix(150.25, 2.23, 0, tolerance=1e-8)
    assert (float(x), float(y)) == (pytest.approx(300.0, abs=1e-4), pytest.approx(900.0, abs=1e-4))


def test_psf_model_varies_and_has_its_seeing():
    psf = simulate.make_piff_psf(np.random.default_rng(1), fwhm=0.7, beta=4.0, x=1000.0, y=2000.0)
    area = {}
    for x in (1000.0, 1400.0):
        kernel = psf.draw(x, 2000.0, stamp_size=51, center=True).array
        assert kernel.sum() == pytest.approx(1.0, abs=2e-3)
        area[x] = 1.0 / (kernel**2).sum()
    expected = galsim.Moffat(beta=4.0, fwhm=0.7).drawImage(nx=51, ny=51, scale=0.168).array
    assert area[1000.0] == pytest.approx(1.0 / (expected**2).sum(), rel=0.01)
    assert 1e-3 < abs(area[1400.0] / area[1000.0] - 1) < 0.1


@pytest.fixture(scope="module")
def survey():
    """A survey of six small visits, and its exposures."""
    scene = dataclasses.replace(BLANK, seed=2, density=60.0, margin=40, saturated_mag=(15.3,))
    config = simulate.SurveyConfig(
        scene=scene, n_visits=6, gap_visits=(4,), trail_visits=(0,), streak_visits=(1,), dead_visits=(3,)
    )
    wcs, catalog = make_grid_wcs(scene), simulate.make_catalog(scene)
    exposures = [
        simulate.simulate_exposure(plan, detector, config=config, catalog=catalog, grid_wcs=wcs)
        for plan in simulate.plan_visits(config, wcs)
        for detector in plan.detectors
    ]
    return config, wcs, catalog, exposures


def test_survey_has_what_was_planned(survey):
    _, _, _, exposures = survey
    visits = [exposure.plan.index for exposure in exposures]
    assert visits == [0, 1, 2, 3, 4, 4, 5]
    assert [exposure.detector.id for exposure in exposures] == [50, 49, 50, 50, 50, 58, 50]
    marked = [exposure.planes.get("STREAK", np.zeros(1)).sum() > 100 for exposure in exposures]
    assert marked == [True] + [False] * 6
    assert exposures[1].artifacts.mean() > 10 * exposures[2].artifacts.mean()
    assert np.isnan(exposures[3].image).sum() == exposures[3].planes["NO_DATA"].sum() == 240
    # The pointings differ, and so do zero points, seeing and sky.
    plans = [exposure.plan for exposure in exposures]
    for name in ("ra", "rotation", "fwhm", "calibration", "sky"):
        assert len({getattr(plan, name) for plan in plans}) == 6


def test_half_a_visit_and_a_gap(survey):
    config, wcs, _, exposures = survey

    def coverage(index):
        scene = config.scene
        x, y = np.meshgrid(scene.x0 + np.arange(0, 200, 5), scene.y0 + np.arange(0, 200, 5))
        seen = np.zeros(x.shape, dtype=bool)
        for exposure in exposures:
            if exposure.plan.index == index:
                px, py = exposure.wcs.all_world2pix(*wcs.all_pix2world(x, y, 0), 0, tolerance=1e-4)
                height, width = exposure.image.shape
                seen |= (px >= exposure.x0) & (px < exposure.x0 + width) & (py >= exposure.y0) & (
                    py < exposure.y0 + height
                )  # fmt: skip
        return seen.mean()

    assert coverage(0) == 1.0
    assert 0.25 < coverage(2) < 0.75
    assert 0.5 < coverage(4) < 0.8  # 75 of 200 pixels are gap


def test_exposure_noise_is_what_its_variance_says(survey):
    _, _, _, exposures = survey
    for exposure in exposures:
        height, width = exposure.image.shape
        to_njy = np.polynomial.chebyshev.chebgrid2d(
            np.linspace(-1, 1, height), np.linspace(-1, 1, width), exposure.calibration
        )
        spoiled = np.any([marked for name, marked in exposure.planes.items() if name != "DETECTED"], axis=0)
        blank = ~(spoiled | exposure.artifacts | exposure.planes["DETECTED"])
        chi = (exposure.image - exposure.signal / to_njy)[blank] / np.sqrt(exposure.variance[blank])
        assert chi.std() == pytest.approx(1.0, abs=0.02)
        assert np.median(exposure.image[blank] - (exposure.signal / to_njy)[blank]) == pytest.approx(
            0.0, abs=5 * np.sqrt(np.median(exposure.variance[blank]) / blank.sum())
        )


def test_exposure_stars_are_the_piff_model_at_their_place(survey):
    """Position, flux and PSF of a star agree through WCS and zero point."""
    config, wcs, _, _ = survey
    config = dataclasses.replace(
        config, cosmic_rays=0, unmasked_cosmic_rays=0, trail_visits=(), streak_visits=(), dead_visits=()
    )
    xs, ys = (
        grid.ravel() for grid in np.meshgrid(1020.3 + np.arange(4) * 53.1, 2021.6 + np.arange(4) * 52.7)
    )
    stars = make_sources(x=xs, y=ys, flux=[simulate.flux_from_mag(19.5)] * len(xs))
    pulls = []
    for plan in simulate.plan_visits(config, wcs)[:2]:
        exposure = simulate.simulate_exposure(
            plan, plan.detectors[0], config=config, catalog=stars, grid_wcs=wcs
        )
        x, y = exposure.wcs.all_world2pix(*wcs.all_pix2world(xs, ys, 0), 0, tolerance=1e-7)
        pulls += [measure_star(exposure, config, *place) for place in zip(x, y, strict=True)]
    pulls = np.array([pull for pull in pulls if pull is not None])
    assert len(pulls) > 20
    assert abs(pulls.mean()) < 4 / np.sqrt(len(pulls))
    assert (pulls**2).mean() < 2.5


def measure_star(exposure, config, x: float, y: float) -> float | None:
    """Return the error of the flux of a star in sigma; None at an edge."""
    left, bottom = round(x) - 15, round(y) - 15
    cut = np.s_[
        bottom - exposure.y0 : bottom - exposure.y0 + 31, left - exposure.x0 : left - exposure.x0 + 31
    ]
    image = exposure.image[cut]
    if (
        left < exposure.x0
        or bottom < exposure.y0
        or image.shape != (31, 31)
        or exposure.planes["BAD"][cut].any()
    ):
        return None
    kernel = exposure.psf.draw(x, y, image=galsim.ImageD(31, 31, xmin=left, ymin=bottom)).array
    height, width = exposure.image.shape
    place = 2 * (y - exposure.y0) / height - 1, 2 * (x - exposure.x0) / width - 1
    to_njy = np.polynomial.chebyshev.chebval2d(*place, exposure.calibration)
    # The sky's variance and the source's own: a pixel's noisy one biases.
    variance = np.median(exposure.variance) + np.maximum(exposure.signal[cut], 0) / to_njy / config.gain
    flux, error = psf_flux(image, variance, kernel)
    return (flux - simulate.flux_from_mag(19.5) / to_njy) / error


def test_saturation_bleeds_along_columns_and_is_marked(survey):
    config, wcs, catalog, exposures = survey
    star = catalog[catalog["saturated"]]
    for exposure in exposures:
        x, y = exposure.wcs.all_world2pix(*wcs.all_pix2world(star["x"], star["y"], 0), 0, tolerance=1e-6)
        column, row = round(float(x[0])) - exposure.x0, round(float(y[0])) - exposure.y0
        height, width = exposure.image.shape
        if not (0 <= column < width and 0 <= row < height):
            continue
        assert exposure.planes["SATURATED"][row, column]
        rows, columns = np.nonzero(exposure.planes["SATURATED"])
        assert np.ptp(rows) > np.ptp(columns)
        allowed = (config.full_well + 1) / config.gain
        assert np.nanmax(exposure.image) <= allowed


def test_cosmic_rays_are_repaired_where_they_are_marked(survey):
    _, _, _, exposures = survey
    for exposure in exposures:
        marked = exposure.planes["COSMIC_RAY"] & ~exposure.planes["DETECTED"] & ~exposure.artifacts
        marked &= ~exposure.planes.get("STREAK", np.zeros_like(marked))
        marked &= ~exposure.planes.get("NO_DATA", np.zeros_like(marked))
        assert exposure.planes["COSMIC_RAY"].any()
        assert np.all(exposure.planes["INTERPOLATED"][exposure.planes["COSMIC_RAY"]])
        sigma = np.sqrt(np.nanmedian(exposure.variance))
        assert np.all(np.abs(exposure.image[marked]) < 6 * sigma)
        hidden = exposure.artifacts & ~exposure.planes["DETECTED"]
        assert np.nanmax(exposure.image[hidden]) > 10 * sigma or not hidden.any()


def test_mean_psf_lies_between_its_exposures(survey):
    config, wcs, _, exposures = survey
    x, y = config.scene.x0 + 99.5, config.scene.y0 + 99.5
    mean = simulate.mean_psf(exposures, x=x, y=y, grid_wcs=wcs)
    image = mean.drawImage(nx=51, ny=51, scale=0.168, method="no_pixel", dtype=float).array
    flux, cx, cy, _ = moments(image)
    assert flux == pytest.approx(1.0, abs=0.01)
    assert (cx, cy) == (pytest.approx(25.0, abs=0.02), pytest.approx(25.0, abs=0.02))
    area = 1.0 / (image**2).sum()
    each = [1.0 / (e.psf.draw(1000, 2000, stamp_size=51, center=True).array ** 2).sum() for e in exposures]
    assert min(each) < area < max(each)


def test_sky_catalog_agrees_with_the_wcs(survey):
    config, wcs, catalog, _ = survey
    table = simulate.sky_catalog(catalog, wcs)
    x, y = wcs.all_world2pix(table["ra"], table["dec"], 0)
    np.testing.assert_allclose(x, catalog["x"], atol=1e-6)
    np.testing.assert_allclose(y, catalog["y"], atol=1e-6)
    assert "ra" not in catalog.colnames
