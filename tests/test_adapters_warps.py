# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Warps: visits that come on the grid of the tract already."""

from __future__ import annotations

import _afw_stand_ins as fake
import numpy as np
import pytest
from _adapter_scenes import NEEDS_AFW, SCALE
from _warp_scenes import BOX, DATA_ID, GAP, SHAPE, X0, Y0, TractMap, cut, make_planes, make_warp
from astropy.stats import gaussian_sigma_to_fwhm

from lsst.coadd.astroclearnet.adapters import FaultyDetector, make_adapter
from lsst.coadd.astroclearnet.core import InvalidExposureError, Plane, UncalibratedExposureError
from lsst.images import Box

pytestmark = pytest.mark.usefixtures("stand_ins")


def test_warp_is_cut_and_not_resampled():
    image, _, planes = make_planes()
    pieces = cut(make_warp())
    assert [(piece.visit, piece.detector, piece.label) for piece in pieces] == [
        (1228, 50, "visit=1228 detector=50"),
        (1228, 51, "visit=1228 detector=51"),
    ]
    first, second = pieces
    assert (first.x0, first.y0, *first.image.shape) == (5010, -30, 60, 60)
    assert (second.x0, second.y0, *second.image.shape) == (5090, -30, 60, 60)
    np.testing.assert_array_equal(first.image, image[10:70, 10:70])
    np.testing.assert_array_equal(second.image, image[10:70, 90:150])
    np.testing.assert_array_equal(first.good, ~planes["SAT"][10:70, 10:70])
    assert second.good.all() and first.physical_filter == "HSC-R2"


def test_every_pixel_with_data_belongs_to_one_detector():
    image, *_ = make_planes()
    pieces = cut(make_warp(), box=Box.factory[-60:60, 4900:5300])
    assert sum(np.count_nonzero(piece.image) for piece in pieces) == np.count_nonzero(np.isfinite(image))


def test_outlines_are_those_of_the_detectors():
    outlines = [piece.outline for piece in cut(make_warp())]
    for outline, first in zip(outlines, (X0, X0 + GAP.stop), strict=True):
        np.testing.assert_allclose(outline.min(axis=0), (first - 0.5, Y0 - 0.5), atol=1e-3)
        np.testing.assert_allclose(outline.max(axis=0), (first + 69.5, Y0 + 79.5), atol=1e-3)


def test_psf_is_that_of_the_warp_and_nearest_where_it_has_none():
    """The centre of a cell may lie in the gap, where a CoaddPsf fails."""
    first, second = cut(make_warp())
    for x in (5030.0, 5080.0, 5400.0):
        kernel = first.psf(x=x, y=0.0)
        assert kernel.shape == (31, 31) and kernel.sum() == pytest.approx(1, abs=1e-6)
        assert np.unravel_index(kernel.argmax(), kernel.shape) == (15, 15)
    assert second.psf_fwhm == pytest.approx(4.0, rel=0.03)


def test_psf_may_lack_values_in_a_whole_corner():
    """As a CoaddPsf does outside of a polygon of validity."""
    psf = fake.GaussianPsf(fwhm=4.0, covers=lambda x, y: x > X0 + 55 and y > 0)
    first = cut(make_warp(Psf=psf), box=Box.factory[-60:60, 4900:5300])[0]
    assert first.psf(x=5001.0, y=-39.0).sum() == pytest.approx(1, abs=1e-6)


def test_psf_without_a_value_anywhere_costs_its_detector():
    first, second = cut(make_warp(Psf=fake.GaussianPsf(covers=lambda x, y: x > X0 + GAP.stop)))
    assert isinstance(first, FaultyDetector) and (first.detector, second.detector) == (50, 51)
    assert "PSF of visit=1228 detector=50 has no value" in str(first.error)
    assert second.image.shape == (60, 60)


def test_record_without_a_wcs_costs_its_detector():
    """Which pixels are those of the detector is not known."""
    warp = make_warp()
    warp.getInfo().getCoaddInputs().ccds[0].Wcs = None
    check_first_is_lost(cut(warp), "record of visit=1228 detector=50 in its warp has no WCS")


def check_first_is_lost(pieces, text):
    first, second = pieces
    assert isinstance(first, FaultyDetector) and first.detector == 50 and text in str(first.error)
    np.testing.assert_array_equal(second.image, make_planes()[0][10:70, 90:150])


def test_aperture_corrections_are_those_of_the_detectors():
    """In the record they are in pixels of the detector, which begin at 0."""
    first, second = cut(make_warp())
    (field,) = first.aperture_corrections.values()
    assert field(x=X0 + 12.0, y=Y0 + 30.0) == pytest.approx(12 + 100 * 30, abs=0.1)
    assert field(x=X0 - 12.0, y=Y0 + 500.0) == pytest.approx(100 * 79, abs=0.1)
    assert second.aperture_corrections == {}


def test_pixel_of_an_overlap_is_that_of_the_last_detector():
    """It was copied over those of the others."""
    warp = make_warp()
    first, last = warp.getInfo().getCoaddInputs().ccds
    last.Wcs, last.BBox = first.Wcs, fake.Box.of((80, 70), x0=30, y0=0)
    pieces = cut(warp)
    assert [piece.detector for piece in pieces] == [50, 51]
    # The last one begins at 30, and grows by two pixels.
    assert pieces[0].x0 + pieces[0].image.shape[1] == pieces[1].x0 == X0 + 28


@pytest.mark.parametrize(("metadata", "text"), [({}, "is not said"), ({"BUNIT": "adu"}, "is adu")])
def test_warp_that_is_not_in_njy_is_an_error(metadata, text):
    with pytest.raises(UncalibratedExposureError, match=f"warp of visit=1228 {text}.*nJy"):
        cut(make_warp(metadata=metadata))


@pytest.mark.parametrize(
    ("changes", "name"), [({"Psf": None}, "PSF"), ({"info": {"CoaddInputs": None}}, "record of its inputs")]
)
def test_warp_that_lacks_a_part_is_an_error(changes, name):
    with pytest.raises(InvalidExposureError, match=f"warp of visit=1228 has no {name}"):
        cut(make_warp(**changes))


def test_warp_elsewhere_gives_nothing():
    assert cut(make_warp(), box=Box.factory[1000:1100, 5000:5100]) == []


def test_detector_without_data_is_left_out():
    assert [piece.detector for piece in cut(make_warp(), box=Box.factory[-30:30, 5095:5150])] == [51]


def test_unknown_plane_is_named_once_by_each_adapter(caplog):
    warp = make_warp()
    warp.mask.MaskPlaneDict = fake.PLANES | {"HOME_MADE": 11}
    for count in (1, 2):
        adapter = make_adapter("afw")
        for _ in range(2):
            adapter.adapt_warp(warp, data_id=DATA_ID, wcs=TractMap(), box=BOX, bad=Plane.SATURATED)
        assert [record.getMessage().split()[2] for record in caplog.records] == ["HOME_MADE"] * count


def test_artifacts_are_left_out():
    clipped = np.zeros((60, 140), bool)
    clipped[5:9, 20:30] = True
    piece = cut(make_warp())[0].with_artifacts(clipped, x0=5010, y0=-30)
    assert not piece.good[5:9, 20:30].any()
    assert (piece.flags[5:9, 20:30] & Plane.CLIPPED != 0).all()
    assert np.count_nonzero(piece.flags & Plane.CLIPPED) == 40


def test_summary_is_the_mean_width_of_the_detectors():
    summary = make_adapter("afw").summarize_warp(make_warp(), data_id=DATA_ID)
    assert summary.psf_fwhm == pytest.approx(4.5 * SCALE, rel=0.03)


def test_images_have_no_class_for_warps():
    with pytest.raises(InvalidExposureError, match="visit=1228: lsst.images has no class for warps"):
        make_adapter("images").adapt_warp(None, data_id=DATA_ID, wcs=TractMap(), box=BOX, bad=Plane.BAD)


def make_real_warp():
    """The same with lsst.afw itself; its PSF has a value everywhere."""
    image = pytest.importorskip("lsst.afw.image", reason=NEEDS_AFW)
    import lsst.afw.detection
    import lsst.afw.geom
    import lsst.afw.math
    import lsst.afw.table
    import lsst.geom

    def sky_wcs(x, y):
        return lsst.afw.geom.makeSkyWcs(
            crpix=lsst.geom.Point2D(x, y),
            crval=lsst.geom.SpherePoint(150, 2, lsst.geom.degrees),
            cdMatrix=lsst.afw.geom.makeCdMatrix(SCALE * lsst.geom.arcseconds),
        )

    def box(x0, y0, width, height):
        return lsst.geom.Box2I(lsst.geom.Point2I(x0, y0), lsst.geom.Extent2I(width, height))

    schema = lsst.afw.table.ExposureTable.makeMinimalSchema()
    schema.addField("ccd", type=np.int32, doc="Number of the detector.")
    schema.addField("visit", type=np.int64, doc="Number of the visit.")
    schema.addField("filter", type=str, size=32, doc="Physical filter.")
    ccds = lsst.afw.table.ExposureCatalog(schema)
    psf = lsst.afw.detection.GaussianPsf(31, 31, 4.0 / gaussian_sigma_to_fwhm)
    for n, first in enumerate((X0, X0 + GAP.stop)):
        row = ccds.addNew()
        row["ccd"], row["visit"], row["filter"] = 50 + n, 1228, "HSC-R2"
        row.setWcs(sky_wcs(X0 + 80 - first, 40))
        row.setPsf(psf)
        row.setBBox(box(0, 0, 70, 80))
        field = lsst.afw.math.ChebyshevBoundedField(box(0, 0, 70, 80), np.array([[1.0 + n]]))
        corrections = image.ApCorrMap()
        corrections["base_PsfFlux_instFlux"] = field
        row.setApCorrMap(corrections)
    visits = lsst.afw.table.ExposureCatalog(lsst.afw.table.ExposureTable.makeMinimalSchema())
    warp = image.ExposureF(box(X0, Y0, SHAPE[1], SHAPE[0]), sky_wcs(X0 + 80, Y0 + 40))
    pixels, variance, planes = make_planes()
    warp.image.array[:, :], warp.variance.array[:, :] = pixels, variance
    for name, marked in planes.items():
        warp.mask.array[marked] |= warp.mask.getPlaneBitMask(name)
    warp.metadata["BUNIT"] = "nJy"
    warp.setPsf(psf)
    warp.getInfo().setCoaddInputs(image.CoaddInputs(visits, ccds))
    return warp


def test_with_afw():
    image, _, planes = make_planes()
    warp = make_real_warp()
    first, second = cut(warp)
    assert (first.detector, second.detector) == (50, 51) and first.physical_filter == "HSC-R2"
    np.testing.assert_array_equal(first.image, image[10:70, 10:70])
    np.testing.assert_array_equal(second.image, image[10:70, 90:150])
    np.testing.assert_array_equal(first.good, ~planes["SAT"][10:70, 10:70])
    assert first.psf_fwhm == pytest.approx(4.0, rel=0.03)
    for n, piece in enumerate((first, second)):
        assert piece.aperture_corrections["base_PsfFlux_instFlux"](x=5050.0, y=0.0) == 1.0 + n
    summary = make_adapter("afw").summarize_warp(warp, data_id=DATA_ID)
    assert summary.psf_fwhm == pytest.approx(4.0 * SCALE, rel=0.03)


def test_record_without_a_wcs_with_afw():
    warp = make_real_warp()
    warp.getInfo().getCoaddInputs().ccds[0].setWcs(None)
    check_first_is_lost(cut(warp), "record of visit=1228 detector=50 in its warp has no WCS")
