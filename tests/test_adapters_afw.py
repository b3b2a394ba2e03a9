# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of lsst.afw on their way in.

The adapter's own decisions are tested with stand-ins that have the methods
of afw it calls; the calls themselves are tested where afw can be imported.
"""

from __future__ import annotations

import sys
import types

import galsim
import numpy as np
import pytest

from lsst.coadd.astroclearnet.adapters import PatchGeometry, make_adapter
from lsst.coadd.astroclearnet.adapters._afw import ExposureFAdapter, exposure_from_exposure_f
from lsst.coadd.astroclearnet.adapters._afw_models import ExposurePsf, SkyWcsMap
from lsst.coadd.astroclearnet.core import InvalidExposureError, Plane

DATA_ID = {"instrument": "HSC", "visit": 1228, "detector": 50, "physical_filter": "HSC-I"}
SHAPE = (60, 80)
PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8, "HOME_MADE": 11}


class Afw(types.SimpleNamespace):
    """Stand-in for an afw object: a getter for each field."""

    def __getattr__(self, name):
        field = name.removeprefix("get")
        if name.startswith("get") and field in self.__dict__:
            return lambda: self.__dict__[field]
        raise AttributeError(name)


class FakeWcs:
    """A flat sky; arrays must come in flat, as afw needs them."""

    def __init__(self, ra0=150.0):
        self.ra0 = ra0

    def pixelToSkyArray(self, x, y, degrees=False):
        assert degrees and x.ndim == y.ndim == 1
        return self.ra0 - x * 1e-4, 2 + y * 1e-4

    def skyToPixelArray(self, ra, dec, degrees=False):
        assert degrees and ra.ndim == dec.ndim == 1
        return (self.ra0 - ra) * 1e4, (dec - 2) * 1e4


class FakePhotoCalib:
    def __init__(self, scale):
        self.scale = scale

    def getInstFluxAtZeroMagnitude(self):
        return 3.63e12 / self.scale if self.scale else np.inf

    def calibrateImage(self, masked_image):
        image, variance = masked_image.image.array, masked_image.variance.array
        return Afw(image=Afw(array=image * self.scale), variance=Afw(array=variance * self.scale**2))


class FakePsf:
    """A Gaussian on a box that is not centred on the star."""

    def __init__(self, fwhm=3.5, error=None):
        self.fwhm, self.error = fwhm, error

    def computeKernelImage(self, position):
        if self.error is not None:
            raise self.error
        stamp = galsim.Gaussian(fwhm=self.fwhm).drawImage(nx=31, ny=31, scale=1, dtype=float).array
        return Afw(array=stamp[1:, :-3] / stamp[1:, :-3].sum(), X0=-15, Y0=-14)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """Give what the adapter imports where the real modules are missing."""
    try:
        import lsst.geom
        import lsst.pex.exceptions  # noqa: F401
    except ModuleNotFoundError:
        import lsst.pex

        geom, exceptions = types.ModuleType("lsst.geom"), types.ModuleType("lsst.pex.exceptions")
        geom.Point2D = lambda x, y: (x, y)
        exceptions.Exception = type("Exception", (Exception,), {})
        for parent, module in ((lsst, geom), (lsst.pex, exceptions)):
            monkeypatch.setattr(parent, module.__name__.rpartition(".")[2], module, raising=False)
            monkeypatch.setitem(sys.modules, module.__name__, module)


def make_exposure(**changes):
    image = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    mask = np.zeros(SHAPE, np.int32)
    mask[1, 1], mask[2, 2], mask[3, 3], mask[4, 4] = (
        1 << PLANES[n] for n in ("SAT", "CR", "NO_DATA", "EDGE")
    )
    mask[5, 5] = 1 << PLANES["DETECTED"] | 1 << PLANES["HOME_MADE"]
    planes = {
        "image": Afw(array=image),
        "variance": Afw(array=np.full(SHAPE, 2, np.float32)),
        "mask": Afw(array=mask, MaskPlaneDict=PLANES),
    }
    fields = {
        "Psf": FakePsf(),
        "Wcs": FakeWcs(),
        "PhotoCalib": FakePhotoCalib(30.0),
        "Filter": Afw(physicalLabel="HSC-I2", hasPhysicalLabel=lambda: True),
        "Info": Afw(ApCorrMap=None),
        "X0": 100,
        "Y0": 7,
        **changes,
    }
    return Afw(maskedImage=Afw(**planes), **planes, **fields)


def test_exposure_is_calibrated():
    exposure = exposure_from_exposure_f(make_exposure(), data_id=DATA_ID)
    assert exposure.image[1, 2] == 30 * (SHAPE[1] + 2)
    np.testing.assert_array_equal(exposure.variance, 2 * 900)
    assert (exposure.x0, exposure.y0) == (100, 7)
    assert exposure.physical_filter == "HSC-I2"
    unrepaired = Plane.COSMIC_RAY | Plane.UNREPAIRED
    expected = [0, Plane.SATURATED, unrepaired, Plane.NO_DATA, Plane.DETECTION_EDGE, 0, 0]
    assert exposure.flags[np.arange(7), np.arange(7)].tolist() == [int(plane) for plane in expected]
    assert make_adapter("afw") == ExposureFAdapter()


def test_kernel_is_centred():
    kernel = exposure_from_exposure_f(make_exposure(), data_id=DATA_ID).psf(x=140, y=30)
    assert kernel.shape == (31, 31)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == (15, 15)


def test_positions_keep_their_shape():
    wcs = exposure_from_exposure_f(make_exposure(), data_id=DATA_ID).wcs
    x, y = np.meshgrid(np.arange(4.0), np.arange(3.0))
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    assert ra.shape == (3, 4)
    np.testing.assert_allclose(wcs.sky_to_pixel(ra=ra, dec=dec), (x, y), atol=1e-6)
    assert np.shape(wcs.pixel_to_sky(x=1.0, y=2.0)[0]) == ()


def test_row_of_the_visit_summary_takes_over():
    row = Afw(Psf=FakePsf(fwhm=5), Wcs=FakeWcs(ra0=151), PhotoCalib=FakePhotoCalib(2.0), ApCorrMap={})
    bare = make_exposure(Psf=None, Wcs=None, PhotoCalib=None)
    exposure = exposure_from_exposure_f(bare, data_id=DATA_ID, visit_summary_row=row)
    assert exposure.image[0, 3] == 6
    assert exposure.wcs.pixel_to_sky(x=0.0, y=0.0)[0] == 151
    old = exposure_from_exposure_f(make_exposure(), data_id=DATA_ID)
    assert exposure.psf(x=140, y=30).max() < 0.6 * old.psf(x=140, y=30).max()


@pytest.mark.parametrize("field", ["Psf", "Wcs", "PhotoCalib"])
def test_missing_parts_are_named(field):
    name = {"Psf": "PSF", "Wcs": "WCS", "PhotoCalib": "photometric calibration"}[field]
    with pytest.raises(InvalidExposureError, match=f"visit=1228 detector=50 has no {name};"):
        exposure_from_exposure_f(make_exposure(**{field: None}), data_id=DATA_ID)
    parts = {"Psf": FakePsf(), "Wcs": FakeWcs(), "PhotoCalib": FakePhotoCalib(2.0), "ApCorrMap": {}}
    parts[field] = None
    with pytest.raises(
        InvalidExposureError, match=f"detector=50 has no {name} in its row of the visit summary"
    ):
        exposure_from_exposure_f(make_exposure(), data_id=DATA_ID, visit_summary_row=Afw(**parts))


@pytest.mark.parametrize("scale", [np.nan, 0.0, np.inf])
def test_calibration_that_is_not_finite(scale):
    with pytest.raises(InvalidExposureError, match="calibration of visit=1228 detector=50 is not finite"):
        exposure_from_exposure_f(make_exposure(PhotoCalib=FakePhotoCalib(scale)), data_id=DATA_ID)


def test_psf_that_cannot_be_evaluated():
    import lsst.pex.exceptions

    psf = FakePsf(error=lsst.pex.exceptions.Exception("no input at this point"))
    with pytest.raises(InvalidExposureError, match=r"PSF of visit=1228 detector=50 has no value at x=140"):
        exposure_from_exposure_f(make_exposure(Psf=psf), data_id=DATA_ID)


def test_filter_may_be_unknown():
    """A coadd has a band, and no physical filter."""
    band_only = Afw(hasPhysicalLabel=lambda: False)
    for filter_label in (band_only, None):
        exposure = exposure_from_exposure_f(make_exposure(Filter=filter_label), data_id=DATA_ID)
        assert exposure.physical_filter == "HSC-I"


NEEDS_AFW = "lsst.afw is part of the full LSST stack and is not on PyPI"


def make_real_exposure():
    """An exposure of the full stack, made by afw itself."""
    image = pytest.importorskip("lsst.afw.image", reason=NEEDS_AFW)
    import lsst.afw.detection
    import lsst.afw.geom
    import lsst.geom

    box = lsst.geom.Box2I(lsst.geom.Point2I(100, 7), lsst.geom.Extent2I(SHAPE[1], SHAPE[0]))
    wcs = lsst.afw.geom.makeSkyWcs(
        crpix=lsst.geom.Point2D(120, 30),
        crval=lsst.geom.SpherePoint(150, 2, lsst.geom.degrees),
        cdMatrix=lsst.afw.geom.makeCdMatrix(0.168 * lsst.geom.arcseconds),
    )
    exposure = image.ExposureF(box, wcs)
    exposure.image.array[:], exposure.variance.array[:] = 3, 2
    exposure.mask.array[5, 6] |= image.Mask.getPlaneBitMask("SAT")
    exposure.setPsf(lsst.afw.detection.GaussianPsf(31, 31, 1.5))
    exposure.setPhotoCalib(image.PhotoCalib(30.0))
    exposure.setFilter(image.FilterLabel(band="i", physical="HSC-I"))
    return exposure


def test_with_afw():
    exposure = exposure_from_exposure_f(make_real_exposure(), data_id=DATA_ID)
    np.testing.assert_allclose(exposure.image, 90)
    np.testing.assert_allclose(exposure.variance, 1800)
    assert (exposure.x0, exposure.y0) == (100, 7)
    assert exposure.flags[5, 6] == Plane.SATURATED and np.count_nonzero(exposure.flags) == 1
    kernel = exposure.psf(x=120, y=30)
    assert kernel.shape == (31, 31) and kernel[15, 15] == kernel.max()
    assert isinstance(exposure.psf, ExposurePsf) and isinstance(exposure.wcs, SkyWcsMap)
    ra, dec = exposure.wcs.pixel_to_sky(x=np.array([[120.0]]), y=np.array([[30.0]]))
    assert (ra[0, 0], dec[0, 0]) == pytest.approx((150, 2), abs=1e-9)
    np.testing.assert_allclose(exposure.wcs.sky_to_pixel(ra=ra, dec=dec), ([[120]], [[30]]), atol=1e-5)


def test_visit_summary_row_with_afw():
    exposure_f = make_real_exposure()
    import lsst.afw.image
    import lsst.afw.table

    catalog = lsst.afw.table.ExposureCatalog(lsst.afw.table.ExposureTable.makeMinimalSchema())
    row = catalog.addNew()
    row.setId(50)
    row.setPsf(exposure_f.getPsf())
    row.setWcs(exposure_f.getWcs())
    row.setPhotoCalib(lsst.afw.image.PhotoCalib(2.0))
    exposure = exposure_from_exposure_f(exposure_f, data_id=DATA_ID, visit_summary_row=row)
    np.testing.assert_allclose(exposure.image, 6)


def test_geometry_from_a_sky_map():
    skymap = pytest.importorskip("lsst.skymap", reason=NEEDS_AFW)
    config = skymap.RingsSkyMap.ConfigClass()
    config.numRings, config.pixelScale, config.projection = 120, 0.168, "TAN"
    config.tractOverlap = 1 / 60
    sky_map = skymap.RingsSkyMap(config)
    geometry = PatchGeometry.from_sky_map(sky_map, skymap="hsc_rings", tract=9813, patch=40)
    patch = sky_map[9813][40]
    assert (geometry.outer_bbox.x.start, geometry.outer_bbox.y.start) == tuple(patch.getOuterBBox().getMin())
    assert (geometry.index.x, geometry.index.y) == tuple(patch.getIndex())
    ra, dec = geometry.wcs.pixel_to_sky(x=np.array([15000.0]), y=np.array([16000.0]))
    expected = sky_map[9813].getWcs().pixelToSkyArray(np.array([15000.0]), np.array([16000.0]), degrees=True)
    np.testing.assert_allclose((ra, dec), expected, atol=1e-9)
