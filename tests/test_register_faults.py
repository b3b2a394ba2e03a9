# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registration of WCS and PSF at their limits, and cutting of cells."""

from __future__ import annotations

import dataclasses
import itertools

import galsim
import numpy as np
import pytest
from _register_data import PATCH, SIZE, AstropyMap, make_exposure, make_wcs, patch_wcs, warp

from lsst.coadd.astroclearnet._coadds import sample_gaussian
from lsst.coadd.astroclearnet.core import InvalidExposureError, Plane
from lsst.coadd.astroclearnet.core.warp._cut_stack import cut_stack
from lsst.coadd.astroclearnet.core.warp._frame import Frame, transform_pixels
from lsst.coadd.astroclearnet.core.warp._grid_map import divide_pixel
from lsst.coadd.astroclearnet.core.warp._resample import GROWTH


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


def test_a_wcs_that_is_not_finite_at_the_edge_is_named():
    """The frame would seem to lie in another part of the sky."""
    exposure = make_exposure()

    class Frayed(ShortSightedMap):
        def pixel_to_sky(self, *, x, y):
            ra, dec = self.inner.pixel_to_sky(x=x, y=y)
            return np.where(np.asarray(x) < self.x0 + 1, np.nan, ra), dec

    wcs = Frayed(exposure.wcs, exposure.x0, exposure.y0)
    with pytest.raises(InvalidExposureError, match="WCS of visit=1 detector=2 is not finite at the edge"):
        warp(dataclasses.replace(exposure, wcs=wcs))


def test_a_frame_that_the_patch_cannot_see_does_not_overlap():
    """Its projection ends; that is no fault of the frame."""
    away = make_exposure()
    away.wcs.wcs.wcs.crval = [330.0, 2.0]
    assert warp(away) is None


def test_a_wcs_that_cannot_be_inverted_is_named():
    exposure = make_exposure()

    class Rough(ShortSightedMap):
        def sky_to_pixel(self, *, ra, dec):
            x, y = self.inner.sky_to_pixel(ra=ra, dec=dec)
            return x + np.sin(7 * x), y

    with pytest.raises(InvalidExposureError, match="The WCS of visit=1 detector=2 cannot be followed"):
        warp(dataclasses.replace(exposure, wcs=Rough(exposure.wcs, exposure.x0, exposure.y0)))


def _place(point, *, x, y, sip=0.0, **grid):
    """A frame with waves on it, one point of which, in fractions of its
    sides, lies at a position of the patch.
    """
    ra, dec = patch_wcs().pixel_to_sky(x=np.array([float(x)]), y=np.array([float(y)]))
    grid = {"scale": 0.168, "sip": sip, **grid}
    offset = np.ravel(make_wcs(x=0, y=0, **grid).sky_to_pixel(ra=ra, dec=dec))
    pixels = np.arange(SIZE)
    exposure = make_exposure(image=_waves(pixels[None], pixels[:, None]).astype(np.float32))
    origin = np.array([exposure.x0, exposure.y0])
    centre = origin - 0.5 + SIZE * np.array(point) - offset
    return dataclasses.replace(exposure, wcs=make_wcs(x=centre[0], y=centre[1], **grid))


def _waves(x, y):
    """Waves that the edges of a frame mirror, as the spline does."""
    return np.cos(24 * np.pi * x / (SIZE - 1)) + np.cos(30 * np.pi * y / (SIZE - 1))


def _on_patch(exposure):
    """Return true pixel indices x, y of the frame at all pixels of the
    patch, and which of them lie on it, off the border that is lost.
    """
    x, y = np.meshgrid(PATCH["x0"] + np.arange(PATCH["width"]), PATCH["y0"] + np.arange(PATCH["height"]))
    x, y = transform_pixels(patch_wcs(), exposure.wcs, x=x, y=y)
    x, y = x - exposure.x0, y - exposure.y0
    limits = GROWTH - 0.5, SIZE - GROWTH - 0.5
    return x, y, (x >= limits[0]) & (x < limits[1]) & (y >= limits[0]) & (y < limits[1])


_REACHING_IN = {
    "corner to corner": {"point": (1, 1), "into": (1, 1)},
    "corner to corner, distorted": {"point": (1, 1), "into": (1, 1), "sip": 4e-5},
    "corner to corner, finer": {"point": (1, 1), "into": (1, 1), "scale": 0.03},
    "corner to side, 30": {"point": (1, 1), "into": (0, 1), "rotation": 30.0},
    "corner to side, 45": {"point": (1, 1), "into": (0, 1), "rotation": 45.0},
    "corner to side, distorted": {"point": (1, 1), "into": (0, 1), "rotation": 45.0, "sip": 4e-5},
    "side to corner, 30": {"point": (1, 0.5), "into": (1, 1), "rotation": 30.0},
    "side to corner, 45": {"point": (1, 0.5), "into": (1, 1), "rotation": 45.0},
}
"""Which point of a frame, in fractions of its sides, reaches into the patch,
and in which direction: from its corner, or from the middle of a side."""


def _reach_in(depth, *, point, into, **grid):
    """A frame that reaches so many pixels into the patch."""
    x = PATCH["x0"] - 0.5 + (into[0] * depth or PATCH["width"] / 2)
    return _place(point, x=x, y=PATCH["y0"] - 0.5 + into[1] * depth, **grid)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6, 8, 10])
@pytest.mark.parametrize("case", _REACHING_IN)
def test_few_pixels_of_overlap_are_resampled(case, depth):
    """All that the frame has on the patch arrives, from its true position."""
    exposure = _reach_in(depth, **_REACHING_IN[case])
    x, y, expected = _on_patch(exposure)
    assert expected.any() or depth < 5
    warped = warp(exposure)
    good, image = np.zeros(expected.shape, bool), np.zeros(expected.shape, np.float32)
    if warped is not None:
        here, there = warped.slices_within(**PATCH)
        good[there], image[there] = warped.good[here], warped.image[here]
    np.testing.assert_array_equal(good, expected)
    y_by, y_bx = np.gradient(y)
    x_by, x_bx = np.gradient(x)
    area = np.abs(x_bx * y_by - x_by * y_bx)
    # Of large pixels the mean over equal parts is taken.
    shifts = divide_pixel(1 if warped is None else warped.psf.divisions)
    parts = [
        _waves(x + dx * x_bx + dy * x_by, y + dx * y_bx + dy * y_by)
        for dy, dx in itertools.product(shifts, repeat=2)
    ]
    np.testing.assert_allclose(image[good], (area * np.mean(parts, axis=0))[good], atol=2e-3)


@pytest.mark.parametrize("rotation", [30.0, 45.0])
@pytest.mark.parametrize("gap", [1, 20, 100])
def test_a_rotated_frame_beside_the_patch_does_not_overlap(gap, rotation):
    """The box around it does; its WCS is not to blame."""
    exposure = _reach_in(-gap, point=(1, 0.5), into=(1, 1), rotation=rotation)
    assert (Frame.of(exposure).outline(patch_wcs()).max(axis=0) > (PATCH["x0"] + 5, PATCH["y0"] + 5)).all()
    assert warp(exposure) is None


@pytest.mark.parametrize("case", ["corner to corner", "side to corner, 30", "corner to side, 45"])
def test_a_wcs_that_cannot_be_inverted_is_named_for_few_pixels(case):
    exposure = _reach_in(6, **_REACHING_IN[case])

    class Jagged(AstropyMap):
        def sky_to_pixel(self, *, ra, dec):
            x, y = super().sky_to_pixel(ra=ra, dec=dec)
            return x + 0.2 * np.sin(7 * x), y

    with pytest.raises(InvalidExposureError, match="The WCS of visit=1 detector=2 cannot be followed"):
        warp(dataclasses.replace(exposure, wcs=Jagged(exposure.wcs.wcs)))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.full((21, 21), np.nan), "NaN"),
        (np.zeros((21, 21)), "sums to 0"),
        (np.full((21, 21), 1.1 / 441), "sums to 1.1"),
        (np.full((20, 20), 1 / 400), "odd"),
        (np.roll(sample_gaussian(4.0, 21), 2, axis=1), r"lies \+2\.0, \+0\.0 pixels"),
    ],
)
def test_a_bad_psf_is_named(kernel, message):
    with pytest.raises(InvalidExposureError, match=rf"visit=1 detector=2.*{message}"):
        warp(make_exposure(psf=lambda *, x, y: kernel))


def test_a_psf_without_a_value_at_the_centre_has_a_width():
    """A hole costs the cells in it, not the exposure."""
    exposure = make_exposure()
    centre = exposure.x0 + SIZE / 2, exposure.y0 + SIZE / 2

    def psf(*, x, y):
        if np.hypot(x - centre[0], y - centre[1]) < 30:
            raise InvalidExposureError("It has no value there.")
        return exposure.psf(x=x, y=y)

    holed = warp(dataclasses.replace(exposure, psf=psf))
    assert holed.psf_fwhm == pytest.approx(warp(exposure).psf_fwhm, rel=0.01)
    place = {"x": PATCH["x0"] + PATCH["width"] / 2, "y": PATCH["y0"] + PATCH["height"] / 2}
    with pytest.raises(InvalidExposureError, match="no value there"):
        holed.psf(**place)


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


def test_cell_where_a_psf_has_no_value_does_without_the_exposure(caplog):
    """The others are used; one bad corner must not stop a patch."""

    class Cornered:
        def __call__(self, *, x, y):
            if x < PATCH["x0"] + 100:
                raise InvalidExposureError("The PSF of visit=1 detector=2 has NaN or infinite pixels.")
            return np.ones((1, 1), np.float32)

    good = warp(make_exposure(image=np.ones((SIZE, SIZE), np.float32)))
    bad = dataclasses.replace(good, visit=2, label="visit=2 detector=2", psf=Cornered())
    cell = {"y0": PATCH["y0"] + 150, "height": 50, "width": 50}
    left = cut_stack([good, bad], bad=Plane.BAD, x0=PATCH["x0"] + 50, **cell)
    right = cut_stack([good, bad], bad=Plane.BAD, x0=PATCH["x0"] + 150, **cell)
    assert left.labels == ("visit=1 detector=2",) and len(right.labels) == 2
    assert "Not used in the cell around x=8075 y=-175: The PSF of visit=1" in caplog.text
