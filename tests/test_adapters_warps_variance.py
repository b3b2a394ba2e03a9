# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variances of warps: what the noise has at low spatial frequency."""

from __future__ import annotations

import _afw_stand_ins as fake
import numpy as np
import pytest
from _adapter_scenes import NEEDS_AFW, SCALE
from _warp_scenes import SHAPE, X0, Y0, TractMap, cut, make_warp, tract_wcs
from scipy.ndimage import map_coordinates

from lsst.coadd.astroclearnet.core.warp._premade_warp import variance_share
from lsst.images import Box

FRAME = (160, 220)
SHIFTS = (np.arange(64) + 0.5) / 64


def turned_wcs(*, scale, turn):
    """A detector around the centre of the warp, with pixels of its own."""
    wcs = tract_wcs(x=(FRAME[1] - 1) / 2, y=(FRAME[0] - 1) / 2)
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    wcs.wcs.pc = [[cosine, -sine], [sine, cosine]]
    wcs.wcs.cdelt = scale * np.array([-SCALE, SCALE]) / 3600
    return wcs


def squared_weights(position, kernel):
    """Sum of the squared weights along one axis."""
    if kernel == "bilinear":
        return np.abs(1 - position % 1) ** 2 + (position % 1) ** 2
    offset = np.arange(-2, 4) - (position % 1)[..., None]
    weights = np.sinc(offset) * np.sinc(offset / 3)
    return np.sum(weights**2, axis=-1) / np.sum(weights, axis=-1) ** 2


def make_interpolated(*, scale, turn, kernel, native_variance):
    """A warp of one detector; its variance is that of single pixels."""
    warp, wcs = make_warp(ccds=1), turned_wcs(scale=scale, turn=turn)
    y, x = np.mgrid[Y0 : Y0 + SHAPE[0], X0 : X0 + SHAPE[1]]
    ra, dec = TractMap().pixel_to_sky(x=x.astype(float), y=y.astype(float))
    native_x, native_y = wcs.all_world2pix(ra, dec, 0)
    area = scale**-2
    moire = squared_weights(native_x, kernel) * squared_weights(native_y, kernel)
    warp.image.array[:] = 0
    warp.variance.array[:] = area**2 * moire * native_variance(native_x, native_y)
    (row,) = warp.getInfo().getCoaddInputs().ccds
    row.Wcs, row.BBox, row.ApCorrMap = fake.FlatWcs(wcs), fake.Box.of(FRAME, x0=0, y0=0), None
    return warp, area * native_variance(native_x, native_y)


def here(array, piece):
    y0, x0 = piece.y0 - Y0, piece.x0 - X0
    return array[y0 : y0 + piece.image.shape[0], x0 : x0 + piece.image.shape[1]]


@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
@pytest.mark.parametrize(("scale", "turn"), [(1.0, 13), (1.3, 70), (0.8, 0.2)])
def test_variance_is_the_power_of_the_noise(stand_ins, scale, turn, kernel):
    """Neither the area of pixels nor the moire of their shifts is in it."""
    warp, _ = make_interpolated(
        scale=scale, turn=turn, kernel=kernel, native_variance=lambda x, y: np.full(x.shape, 4.0)
    )
    assert np.ptp(warp.variance.array) > 0.3 * np.mean(warp.variance.array)
    (piece,) = cut(warp, warp_kernel=kernel)
    covered = piece.variance > 0
    np.testing.assert_allclose(piece.variance[covered], 4.0 / scale**2, rtol=0.003)


def test_noise_of_photons_stays_where_it_is(stand_ins):
    def native_variance(x, y):
        return 4.0 + 100 * np.exp(-((x - 100) ** 2 + (y - 80) ** 2) / 2 / 2.5**2)

    warp, expected = make_interpolated(scale=1.1, turn=20, kernel="lanczos3", native_variance=native_variance)
    (piece,) = cut(warp)
    covered = piece.variance > 0
    np.testing.assert_allclose(piece.variance[covered], here(expected, piece)[covered], rtol=0.005)


def test_detector_whose_wcs_cannot_be_followed_is_lost_alone(stand_ins, monkeypatch):
    """How much the interpolation left of its variance is not known."""
    from lsst.coadd.astroclearnet.adapters import FaultyDetector
    from lsst.coadd.astroclearnet.core import InvalidExposureError
    from lsst.coadd.astroclearnet.core.warp._grid_map import GridMap

    fit = GridMap.fit

    def fail_once(patch, frame, **box):
        if frame.label.endswith("detector=50"):
            raise InvalidExposureError(f"The WCS of {frame.label} cannot be followed.")
        return fit(patch, frame, **box)

    monkeypatch.setattr(GridMap, "fit", fail_once)
    first, second = cut(make_warp())
    assert isinstance(first, FaultyDetector) and "visit=1228 detector=50" in str(first.error)
    np.testing.assert_allclose(second.variance, 4.0, rtol=1e-3)


def test_share_of_the_variance_is_that_of_interpolated_noise():
    """Measured on noise that is shifted by all parts of a pixel."""
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(512, 512))
    y, x = np.mgrid[10:500:1.03, 10:500:1.03]

    def mean_share(kernel):
        return np.mean(variance_share(kernel, SHIFTS)) ** 2

    assert map_coordinates(noise, (y, x), order=1).var() == pytest.approx(mean_share("bilinear"), rel=0.02)
    # A sinc of infinite length would keep all of it.
    shares = [mean_share(f"lanczos{order}") for order in (2, 3, 5, 9)]
    assert shares == sorted(shares) and 0.65 < shares[0] and 0.9 < shares[-1] < 1
    np.testing.assert_allclose(variance_share("lanczos3", np.array([0.0, 1.0])), 1)
    with pytest.raises(ValueError, match="'spline' is not known"):
        variance_share("spline", SHIFTS)


def warp_with_afw(*, scale, turn, kernel):
    """Noise of variance 100 that the warper itself has put on the tract."""
    image = pytest.importorskip("lsst.afw.image", reason=NEEDS_AFW)
    import lsst.afw.detection
    import lsst.afw.geom
    import lsst.afw.math
    import lsst.afw.table
    import lsst.geom

    def sky_wcs(x, y, **options):
        return lsst.afw.geom.makeSkyWcs(
            crpix=lsst.geom.Point2D(x, y),
            crval=lsst.geom.SpherePoint(150, 2, lsst.geom.degrees),
            cdMatrix=lsst.afw.geom.makeCdMatrix(**options),
        )

    def box(x0, y0, side):
        return lsst.geom.Box2I(lsst.geom.Point2I(x0, y0), lsst.geom.Extent2I(side, side))

    size = lsst.geom.arcseconds * SCALE
    side = int(700 / scale)
    native = image.ExposureF(
        box(0, 0, side), sky_wcs(side / 2, side / 2, scale=size * scale, orientation=turn * lsst.geom.degrees)
    )
    native.image.array[:] = np.random.default_rng(8).normal(0, 10, (side, side))
    native.variance.array[:] = 100
    tract = sky_wcs(X0 + 80, Y0 + 40, scale=size)
    warp = lsst.afw.math.Warper(kernel).warpExposure(tract, native, destBBox=box(X0 - 120, Y0 - 160, 400))
    schema = lsst.afw.table.ExposureTable.makeMinimalSchema()
    schema.addField("ccd", type=np.int32, doc="Number of the detector.")
    ccds = lsst.afw.table.ExposureCatalog(schema)
    row = ccds.addNew()
    row["ccd"] = 50
    row.setWcs(native.wcs)
    row.setBBox(native.getBBox())
    visits = lsst.afw.table.ExposureCatalog(lsst.afw.table.ExposureTable.makeMinimalSchema())
    warp.getInfo().setCoaddInputs(image.CoaddInputs(visits, ccds))
    warp.setPsf(lsst.afw.detection.GaussianPsf(31, 31, 2.0))
    warp.metadata["BUNIT"] = "nJy"
    return warp


@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3", "lanczos5"])
@pytest.mark.parametrize(("scale", "turn"), [(1.0, 13), (1.3, 70), (0.8, 0.2)])
def test_variance_with_afw(scale, turn, kernel):
    warp = warp_with_afw(scale=scale, turn=turn, kernel=kernel)
    (piece,) = cut(warp, box=Box.factory[Y0 - 160 : Y0 + 240, X0 - 120 : X0 + 280], warp_kernel=kernel)
    assert piece.image.shape == (400, 400) and piece.good.all()
    np.testing.assert_allclose(piece.variance, 100 / scale**2, rtol=0.01)
    sums = piece.image.reshape(20, 20, 20, 20).sum(axis=(1, 3))
    assert sums.var() / 20**2 == pytest.approx(100 / scale**2, rel=0.2)
