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

import astropy.wcs
import galsim
import numpy as np
import pytest

from lsst.coadd.astroclearnet.core import InputExposure, InvalidExposureError, Plane
from lsst.coadd.astroclearnet.core._register import cut_stack, warp_exposure

PATCH = {"x0": 8000, "y0": -350, "height": 400, "width": 420}
"""The patch: its origin is far from (0, 0), and negative in y."""

SIZE = 480
"""Side of the frames, in native pixels."""


@dataclasses.dataclass
class AstropyMap:
    """World coordinates by astropy; pixels count from an origin."""

    wcs: astropy.wcs.WCS

    def pixel_to_sky(self, *, x, y):
        return self.wcs.all_pix2world(x, y, 0)

    def sky_to_pixel(self, *, ra, dec):
        return self.wcs.all_world2pix(ra, dec, 0, quiet=True)


def make_wcs(*, x, y, scale, rotation=0.0, sip=0.0, flip=False):
    """Tangent plane with (150, 2) deg at pixel x, y; scale in arcsec."""
    wcs = astropy.wcs.WCS(naxis=2)
    suffix = "-SIP" if sip else ""
    wcs.wcs.ctype = ["RA---TAN" + suffix, "DEC--TAN" + suffix]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [x + 1, y + 1]
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.cd = np.array([[-c, s], [s, c]]) * scale / 3600 @ np.diag([1, -1 if flip else 1])
    if sip:
        a, b = np.zeros((2, 4, 4))
        a[2, 0], a[1, 1], b[0, 2], b[3, 0] = sip, -0.5 * sip, 0.7 * sip, 1e-3 * sip
        wcs.sip = astropy.wcs.Sip(a, b, None, None, wcs.wcs.crpix)
    return AstropyMap(wcs)


def patch_wcs():
    return make_wcs(x=PATCH["x0"] + 210, y=PATCH["y0"] + 200, scale=0.168)


GRIDS = {
    "same": {"scale": 0.168},
    "rotated": {"scale": 0.168, "rotation": 33.0},
    "flipped": {"scale": 0.168, "rotation": 91.0, "flip": True},
    "coarser": {"scale": 0.262, "rotation": -10.0},
    "finer": {"scale": 0.13, "rotation": 5.0},
    "distorted": {"scale": 0.2, "rotation": 20.0, "sip": 4e-5},
}
"""Native grids; the distortion moves corners by several pixels."""


def make_exposure(grid="rotated", *, profile=None, image=None, x0=-37, y0=1211, **fields):
    """An exposure centred on the patch, but for a shift of 0.3 pixels."""
    wcs = make_wcs(x=x0 + SIZE / 2 + 0.3, y=y0 + SIZE / 2, **GRIDS[grid])
    profile = profile or galsim.Gaussian(fwhm=3.5)

    def psf(*, x, y):
        stamp = profile.drawImage(nx=61, ny=61, scale=1, dtype=float).array
        return stamp / stamp.sum()

    image = np.zeros((SIZE, SIZE), np.float32) if image is None else image
    fields = {
        "visit": 1,
        "detector": 2,
        "physical_filter": "HSC-I",
        "image": image,
        "variance": np.ones(image.shape, np.float32),
        "flags": np.zeros(image.shape, np.uint32),
        "x0": x0,
        "y0": y0,
        "psf": psf,
        "wcs": wcs,
        **fields,
    }
    return InputExposure(**fields)


def warp(exposure, bad=Plane.BAD | Plane.COSMIC_RAY, **patch):
    return warp_exposure(exposure, wcs=patch_wcs(), bad=bad, **{**PATCH, **patch})


def draw(image, profile, *, x, y, flux):
    """Add a star to an array, at array coordinates."""
    canvas = galsim.Image(image, xmin=0, ymin=0)
    stamp = (profile * flux).drawImage(nx=75, ny=75, scale=1, center=galsim.PositionD(x, y), dtype=float)
    common = stamp.bounds & canvas.bounds
    canvas[common] += stamp[common]


def model_at(kernel, *, x, y, radius):
    """Kernel shifted by a part of a pixel, on a stamp."""
    image = galsim.InterpolatedImage(galsim.Image(kernel.astype(float), scale=1), x_interpolant="lanczos15")
    size = 2 * radius + 1
    return image.drawImage(nx=size, ny=size, scale=1, method="no_pixel", offset=(x, y), dtype=float).array


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


def test_psf_follows_the_detector():
    """The PSF is asked for at the native position of a patch position."""
    asked = []

    def psf(*, x, y):
        asked.append((x, y))
        return galsim.Gaussian(fwhm=3.5).drawImage(nx=41, ny=41, scale=1).array

    exposure = make_exposure("rotated", psf=psf)
    warped = warp(exposure)
    asked.clear()
    ra, dec = exposure.wcs.pixel_to_sky(x=np.array([40.0]), y=np.array([1500.0]))
    x, y = patch_wcs().sky_to_pixel(ra=ra, dec=dec)
    warped.psf(x=x[0], y=y[0])
    assert asked[-1] == pytest.approx((40, 1500), abs=1e-4)


def test_psf_off_the_frame_is_that_of_its_nearest_point():
    """A cell may have its centre where the frame has already ended."""
    asked = []

    def psf(*, x, y):
        asked.append((x, y))
        return galsim.Gaussian(fwhm=3.5).drawImage(nx=41, ny=41, scale=1).array

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


@dataclasses.dataclass
class ShortSightedMap:
    """World coordinates that end 30 pixels off the frame."""

    inner: AstropyMap
    x0: int
    y0: int

    def pixel_to_sky(self, *, x, y):
        return self.inner.pixel_to_sky(x=x, y=y)

    def sky_to_pixel(self, *, ra, dec):
        x, y = self.inner.sky_to_pixel(ra=ra, dec=dec)
        off = np.maximum(np.abs(x - self.x0 - SIZE / 2), np.abs(y - self.y0 - SIZE / 2)) > SIZE / 2 + 30
        return np.where(off, np.nan, x), np.where(off, np.nan, y)


def test_a_wcs_need_not_reach_beyond_its_frame():
    """Distortion polynomials may have no inverse there."""
    image = np.random.default_rng(6).normal(size=(SIZE, SIZE)).astype(np.float32)
    exposure = make_exposure("distorted", image=image)
    wider = {"x0": 7800, "y0": -550, "height": 800, "width": 820}
    short = ShortSightedMap(exposure.wcs, exposure.x0, exposure.y0)
    full, cut = (warp(dataclasses.replace(exposure, wcs=wcs), **wider) for wcs in (exposure.wcs, short))
    np.testing.assert_array_equal(cut.good, full.good)
    np.testing.assert_allclose(cut.image, full.image, atol=5e-3)


def test_a_wcs_that_cannot_be_inverted_is_named():
    exposure = make_exposure()

    class Rough(ShortSightedMap):
        def sky_to_pixel(self, *, ra, dec):
            x, y = self.inner.sky_to_pixel(ra=ra, dec=dec)
            return x + np.sin(7 * x), y

    with pytest.raises(InvalidExposureError, match="The WCS of visit=1 detector=2 cannot be followed"):
        warp(dataclasses.replace(exposure, wcs=Rough(exposure.wcs, exposure.x0, exposure.y0)))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.full((21, 21), np.nan), "NaN"),
        (np.zeros((21, 21)), "sums to 0"),
        (np.full((21, 21), 1.1 / 441), "sums to 1.1"),
        (np.full((20, 20), 1 / 400), "odd"),
    ],
)
def test_a_bad_psf_is_named(kernel, message):
    with pytest.raises(InvalidExposureError, match=rf"visit=1 detector=2.*{message}"):
        warp(make_exposure(psf=lambda *, x, y: kernel))


def test_a_psf_slightly_off_is_normalised():
    kernel = 1.03 * galsim.Gaussian(fwhm=3.5).drawImage(nx=41, ny=41, scale=1).array
    assert warp(make_exposure(psf=lambda *, x, y: kernel)).psf(x=8200, y=-150).sum() == pytest.approx(1)


def test_cut_stack():
    """A stack holds the exposures in one order, with its halo, off the patch
    or not."""
    rng = np.random.default_rng(8)
    exposures = [
        make_exposure(
            grid,
            image=rng.normal(size=(SIZE, SIZE)).astype(np.float32),
            visit=visit,
            detector=detector,
        )
        for grid, visit, detector in (("same", 12, 1), ("rotated", 9, 30), ("coarser", 9, 4))
    ]
    masked = make_exposure("same", flags=np.full((SIZE, SIZE), Plane.BAD, np.uint32), visit=1)
    warped = [warp(exposure) for exposure in [*exposures, masked]]
    assert warped[-1] is not None and not warped[-1].good.any()
    cell = {"x0": 7980, "y0": -370, "height": 140, "width": 140}
    stack = cut_stack(warped, bad=Plane.BAD, **cell)
    again = cut_stack(warped[::-1], bad=Plane.BAD, **cell)
    assert stack.labels == ("visit=9 detector=4", "visit=9 detector=30", "visit=12 detector=1")
    for name in ("image", "variance", "good", "psf"):
        np.testing.assert_array_equal(getattr(stack, name), getattr(again, name))
    assert stack.image.dtype == stack.variance.dtype == np.float32
    assert not stack.good[:, :20].any() and not stack.good[:, :, :20].any()
    assert np.all(stack.image[~stack.good] == 0)
    assert np.all(stack.variance > 0)
    np.testing.assert_array_equal(stack.image[2, 20:, 20:], warped[0].image[:120, :120])
    assert cut_stack(warped, bad=Plane.BAD, x0=0, y0=0, height=50, width=50) is None


def test_cut_stack_can_leave_out_more():
    flags = np.zeros((SIZE, SIZE), np.uint32)
    flags[:, :240] = Plane.SUSPECT
    warped = [warp(make_exposure("same", flags=flags))]
    kept = cut_stack(warped, bad=Plane(0), **PATCH)
    left = cut_stack(warped, bad=Plane.SUSPECT, **PATCH)
    assert left.good.sum() == pytest.approx(kept.good.sum() / 2, rel=0.05)


def test_whole_pixel_shift_is_exact():
    """On the same grid the spline returns the pixels themselves."""
    rng = np.random.default_rng(4)
    image = rng.normal(size=(SIZE, SIZE)).astype(np.float32)
    exposure = make_exposure(image=image, x0=3, y0=-9)
    exposure = dataclasses.replace(exposure, wcs=make_wcs(x=240, y=231, scale=0.168))
    warped = warp(exposure)
    # Sky (150, 2) is array element [240, 237] here, and [200, 210] there.
    np.testing.assert_allclose(warped.image, image[40 : 40 + 400, 27 : 27 + 420], atol=2e-4)
