# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registration: what happens to flux, position, PSF, noise and masks."""

from __future__ import annotations

import dataclasses

import galsim
import numpy as np
import pytest
import scipy.ndimage
from _register_data import GRIDS, PATCH, SIZE, draw, make_exposure, make_wcs, model_at, patch_wcs, warp

from lsst.coadd.astroclearnet.core import Plane


@pytest.mark.parametrize("grid", GRIDS)
def test_stars_keep_flux_position_and_psf(grid):
    """Stars on the native grid arrive where and as bright as they should."""
    # 0.6 arcsec, as on a good night at a scale of 0.168 arcsec; the coarse
    # camera sees 0.8 arcsec.
    seeing = {"coarser": 0.8, "finer": 0.6}.get(grid, 0.6)
    profile = galsim.Moffat(beta=4.0, fwhm=seeing / GRIDS[grid]["scale"]).shear(g1=0.06, g2=-0.03)
    exposure = make_exposure(grid, profile=profile)
    rng = np.random.default_rng(5)
    stars = rng.uniform(-0.5, 0.5, (9, 2)) + np.stack(
        np.meshgrid(np.linspace(150, 330, 3), np.linspace(150, 330, 3)), axis=-1
    ).reshape(-1, 2)
    for x, y in stars:
        draw(exposure.image, profile, x=x, y=y, flux=1e5)
    warped = warp(exposure)

    radius = 30
    sky = exposure.wcs.pixel_to_sky(x=stars[:, 0] + exposure.x0, y=stars[:, 1] + exposure.y0)
    n_checked = 0
    for x, y in np.transpose(patch_wcs().sky_to_pixel(ra=sky[0], dec=sky[1])):
        column, row = round(x), round(y)
        rows = slice(row - warped.y0 - radius, row - warped.y0 + radius + 1)
        columns = slice(column - warped.x0 - radius, column - warped.x0 + radius + 1)
        if rows.start < 0 or columns.start < 0:
            continue
        star = warped.image[rows, columns].astype(float)
        if star.shape != (2 * radius + 1,) * 2 or not warped.good[rows, columns].all():
            continue
        n_checked += 1
        model = 1e5 * model_at(warped.psf(x=x, y=y), x=x - column, y=y - row, radius=radius)
        moments = galsim.hsm.FindAdaptiveMom(galsim.Image(star, xmin=column - radius, ymin=row - radius))
        assert moments.moments_centroid.x == pytest.approx(x, abs=0.01)
        assert moments.moments_centroid.y == pytest.approx(y, abs=0.01)
        assert np.abs(star - model).max() < 0.01 * model.max()
        offsets = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        distance = np.hypot(offsets[0] - (y - row), offsets[1] - (x - column))
        for aperture in (6, 12, 25):
            inside = distance < aperture
            assert star[inside].sum() == pytest.approx(model[inside].sum(), rel=1e-3)
        truth = profile.drawImage(nx=301, ny=301, scale=1).array
        scale = 0.168 / GRIDS[grid]["scale"]
        native = np.hypot(*(np.mgrid[-150:151, -150:151])) < 25 * scale
        assert star[distance < 25].sum() == pytest.approx(1e5 * truth[native].sum(), rel=1e-3)
    assert n_checked >= 4


@pytest.mark.parametrize("grid", GRIDS)
def test_kernel_of_a_warped_psf(grid):
    """Kernels have sum 1, an odd size and a star on the central pixel."""
    warped = warp(make_exposure(grid, profile=galsim.Gaussian(fwhm=0.6 / GRIDS[grid]["scale"])))
    kernel = warped.psf(x=8200, y=-160)
    assert kernel.dtype == np.float32
    assert kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    moments = galsim.hsm.FindAdaptiveMom(galsim.Image(kernel.astype(float)))
    assert moments.moments_centroid.x == pytest.approx(kernel.shape[1] // 2 + 1, abs=1e-3)
    assert moments.moments_centroid.y == pytest.approx(kernel.shape[0] // 2 + 1, abs=1e-3)
    # A Gaussian of 0.6 arcsec with the native pixel, seen at 0.168 arcsec.
    sigma = np.hypot(0.6 / 2.3548, GRIDS[grid]["scale"] / np.sqrt(12)) / 0.168
    assert moments.moments_sigma == pytest.approx(sigma, rel=0.02)
    assert warped.psf_fwhm == pytest.approx(2.3548 * sigma, rel=0.03)


def make_noted_psf():
    """Make a PSF, and a list of the positions that it was asked for at."""
    asked = []

    def psf(*, x, y):
        asked.append((x, y))
        return galsim.Gaussian(fwhm=3.5).drawImage(nx=41, ny=41, scale=1).array

    return psf, asked


def test_psf_follows_the_detector():
    """The PSF is asked for at the native position of a patch position."""
    psf, asked = make_noted_psf()
    exposure = make_exposure("rotated", psf=psf)
    warped = warp(exposure)
    asked.clear()
    ra, dec = exposure.wcs.pixel_to_sky(x=np.array([40.0]), y=np.array([1500.0]))
    x, y = patch_wcs().sky_to_pixel(ra=ra, dec=dec)
    warped.psf(x=x[0], y=y[0])
    assert asked[-1] == pytest.approx((40, 1500), abs=1e-4)


def test_psf_off_the_frame_is_that_of_its_nearest_point():
    """A cell may have its centre where the frame has already ended."""
    psf, asked = make_noted_psf()
    exposure = make_exposure("same", psf=psf)
    warp(exposure).psf(x=7000, y=-150)
    x, y = asked[-1]
    first, last = exposure.x0, exposure.x0 + SIZE - 1
    assert x in (first, last)  # right ascension runs against x on both grids
    assert exposure.y0 < y < exposure.y0 + SIZE - 1


@pytest.mark.parametrize("grid", ["rotated", "coarser", "distorted"])
def test_variance_is_the_noise_power_at_low_frequency(grid):
    """Sums over blocks scatter as the variance says."""
    rng = np.random.default_rng(11)
    ratios = []
    for _ in range(6):
        image = rng.normal(0, 3, (SIZE, SIZE)).astype(np.float32)
        warped = warp(make_exposure(grid, image=image, variance=np.full(image.shape, 9, np.float32)))
        size = 12
        rows, columns = (side // size * size for side in warped.image.shape)
        cells = (rows // size, size, columns // size, size)
        full = warped.good[:rows, :columns].reshape(cells).all(axis=(1, 3))
        sums = warped.image[:rows, :columns].reshape(cells).sum(axis=(1, 3))[full]
        expected = warped.variance[:rows, :columns].reshape(cells).sum(axis=(1, 3))[full]
        ratios.append(np.mean(sums**2 / expected))
        # The scatter of single pixels is lower; it is not what is meant.
        assert warped.image[warped.good].std() < 0.97 * np.sqrt(np.median(warped.variance[warped.good]))
    # About 6 x 1100 blocks: 2 % is one sigma.
    assert np.mean(ratios) == pytest.approx(1, abs=0.06)


def test_surface_brightness_scales_with_pixel_area():
    """A flat sky keeps its flux per solid angle, and variance likewise."""
    warped = warp(make_exposure("coarser", image=np.full((SIZE, SIZE), 50, np.float32)))
    area = (0.168 / 0.262) ** 2
    np.testing.assert_allclose(warped.image[warped.good], 50 * area, rtol=2e-5)
    np.testing.assert_allclose(warped.variance[warped.good], area, rtol=2e-5)


def test_a_masked_cosmic_ray_leaves_nothing():
    """What is masked cannot ring into its neighbours."""
    rng = np.random.default_rng(3)
    image = rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32)
    flags = np.zeros(image.shape, np.uint32)
    clean = warp(make_exposure(image=image.copy(), flags=flags.copy()))
    for row in range(100, 380, 40):
        image[row, row : row + 25] = 1e6
        flags[row, row : row + 25] = Plane.COSMIC_RAY
    hit = warp(make_exposure(image=image, flags=flags))
    assert np.abs(hit.image).max() < 10
    assert np.abs(hit.image - clean.image)[hit.good].max() < 1
    lost = clean.good & ~hit.good
    assert 0 < lost.sum() < 7 * 25 * 5 * 3
    assert np.all(hit.flags[lost] & Plane.COSMIC_RAY)


def test_an_unmasked_plane_is_carried_and_kept():
    """Planes that are not left out reach the patch, and stay good."""
    flags = np.zeros((SIZE, SIZE), np.uint32)
    flags[200:280, 200:280] = Plane.SUSPECT
    warped = warp(make_exposure("same", flags=flags))
    suspect = (warped.flags & Plane.SUSPECT) != 0
    assert suspect.sum() == pytest.approx(80 * 80, rel=0.03)
    assert warped.good[suspect].all()


@pytest.mark.parametrize("scale", [0.084, 0.056])
def test_pixels_larger_than_those_of_the_detector_see_all_of_them(scale):
    """Sums keep flux and noise, and the PSF is that of the stars."""
    grid = {"scale": scale, "rotation": 15.0}
    profile = galsim.Gaussian(fwhm=0.6 / scale).shear(g1=0.1)
    wcs = make_wcs(x=240.3, y=239.8, **grid)
    images = np.random.default_rng(3).normal(0, 3, (5, SIZE, SIZE)).astype(np.float32)
    star = np.zeros((SIZE, SIZE), np.float32)
    draw(star, profile, x=240.3, y=239.8, flux=1e5)
    fields = {
        "profile": profile,
        "wcs": wcs,
        "x0": 0,
        "y0": 0,
        "variance": np.full(star.shape, 9, np.float32),
    }
    warped = warp(make_exposure(image=star, **fields))

    row, column, radius = 200 + PATCH["y0"] - warped.y0, 210 + PATCH["x0"] - warped.x0, 10
    stamp = warped.image[row - radius : row + radius + 1, column - radius : column + radius + 1]
    kernel = warped.psf(x=PATCH["x0"] + 210, y=PATCH["y0"] + 200).astype(float)
    middle = len(kernel) // 2
    kernel = kernel[middle - radius : middle + radius + 1, middle - radius : middle + radius + 1]
    np.testing.assert_allclose(stamp, 1e5 * kernel, atol=1e-3 * stamp.max())
    assert stamp.sum() == pytest.approx(1e5, rel=1e-3)

    # A flux is as uncertain as the variance says, as on the detector.
    errors = []
    for image in images:
        noise = warp(make_exposure(image=image, **fields))
        filtered = scipy.ndimage.convolve(noise.image.astype(float), kernel)
        inside = scipy.ndimage.binary_erosion(noise.good, iterations=radius)
        errors.append(np.mean(filtered[inside] ** 2) / np.mean(noise.variance[inside]))
    assert np.mean(errors) / np.sum(kernel**2) == pytest.approx(1, abs=0.12)
    assert np.median(noise.variance[noise.good]) == pytest.approx(9 * (0.168 / scale) ** 2, rel=0.01)


def test_masks_reach_all_that_a_large_pixel_sees():
    """What is left out may not come in at the side of a pixel."""
    image = np.zeros((SIZE, SIZE), np.float32)
    fields = {"wcs": make_wcs(x=240.3, y=239.8, scale=0.028, rotation=15.0), "x0": 0, "y0": 0}
    image[10:470:20, 10:470:20] = 1.0
    everywhere = warp(make_exposure(image=image, **fields))
    masked = warp(make_exposure(image=image, flags=np.where(image > 0, Plane.BAD, 0), **fields))
    seen = np.abs(everywhere.image - masked.image)
    assert seen.max() > 1
    assert 0.5 * masked.good.size < masked.good.sum()
    assert seen[masked.good].max() < 0.1 * seen.max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_left_out(value):
    image = np.zeros((SIZE, SIZE), np.float32)
    image[240, 200:220] = value
    warped = warp(make_exposure(image=image))
    assert np.isfinite(warped.image).all()
    assert np.abs(warped.image).max() < 1e-3
    assert ((warped.flags & Plane.NO_DATA) != 0)[150:250, 150:250].any()


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_pixels_without_a_positive_variance_are_left_out(value):
    variance = np.ones((SIZE, SIZE), np.float32)
    variance[230:250, 230:250] = value
    warped = warp(make_exposure("same", variance=variance))
    hole = ~warped.good[100:300, 100:300]
    assert 20 * 20 <= hole.sum() <= 26 * 26
    np.testing.assert_allclose(warped.variance[warped.good], 1, rtol=1e-3)


def test_a_frame_ends_where_its_pixels_end():
    """Beyond the frame there is no data, and just inside it there is."""
    warped = warp(make_exposure("rotated"), x0=7800, y0=-550, height=800, width=820)
    assert warped.good.sum() == pytest.approx((SIZE - 4) ** 2, rel=0.01)
    assert np.all(warped.image[~warped.good] == 0)
    assert np.all((warped.flags[~warped.good] & Plane.NO_DATA) != 0)


def test_a_frame_elsewhere_does_not_overlap():
    exposure = make_exposure()
    assert warp(exposure, x0=20000) is None
    other_side = make_wcs(x=0, y=0, scale=0.168)
    other_side.wcs.wcs.crval = [330.0, -2.0]
    assert warp(dataclasses.replace(exposure, wcs=other_side)) is None
    beside = make_wcs(x=0, y=0, scale=0.168)
    beside.wcs.wcs.crval = [240.0, 2.0]
    assert warp(dataclasses.replace(exposure, wcs=beside)) is None


def test_a_frame_may_touch_the_patch_with_a_corner():
    """A few pixels of overlap are no reason to fail."""
    full = warp(make_exposure("distorted"), x0=7800, y0=-550, height=800, width=820)
    rows, columns = np.nonzero(full.good)
    row = rows.max()
    corner = {"x0": full.x0 + columns[rows == row][0] - 3, "y0": full.y0 + row - 2, "height": 6, "width": 6}
    tiny = warp(make_exposure("distorted"), **corner)
    assert 0 < tiny.good.sum() < 36
