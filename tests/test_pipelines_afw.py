# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pipelines on ExposureF, visit summaries and sky maps of the full stack."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.stats import gaussian_sigma_to_fwhm

from lsst.coadd.astroclearnet.adapters import NO_DATA_VARIANCE
from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddTask
from lsst.images import Box

REASON = "lsst.afw and what reads and writes its images are parts of the full LSST stack and not on PyPI"
for module in ("lsst.afw.image", "lsst.obs.base", "lsst.skymap", "lsst.cell_coadds"):
    pytest.importorskip(module, reason=REASON, exc_type=ImportError)

import _afw_repository as stack  # noqa: E402
from _afw_pipelines import QUICK, execute, load, measure_fluxes  # noqa: E402


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    root = tmp_path_factory.mktemp("afw") / "repo"
    return root, stack.make_repository(root)


def assemble(repo, output, method):
    """Make coadds of the exposures with the calibration of the summaries."""
    fields = {**QUICK, "method": method, "use_visit_summary": True, "apply_background": True}
    pipeline = load("acn", "assembleAcnCoadd", fields, only=["assembleAcnCoadd"])
    return execute(*repo, pipeline, output)


@pytest.fixture(scope="module")
def output(repo):
    return assemble(repo, "u/test/visits", "mm")


@pytest.fixture(scope="module")
def exposure(repo, output):
    """The coadd as other tasks of the stack read it."""
    return output.get("acn_coadd", repo[1].data_id, storageClass="ExposureF")


def test_place_and_unit_are_those_of_the_sky_map(repo, exposure):
    import lsst.geom

    sky = repo[1]
    assert exposure.getBBox() == sky.box
    for corner in lsst.geom.Box2D(sky.box).getCorners():
        separation = exposure.wcs.pixelToSky(corner).separation(sky.tract_wcs.pixelToSky(corner))
        assert separation.asArcseconds() < 1e-6
    assert exposure.getPhotoCalib().getCalibrationMean() == 1 and exposure.metadata["BUNIT"] == "nJy"
    assert exposure.filter.bandLabel == stack.BAND


@pytest.mark.parametrize("method", ["mm", "mean"])
def test_stars_have_their_fluxes(repo, output, method):
    """Those of the visit summary's calibration, WCS and PSF: all others would
    be wrong by far. The iterations of 'mm' are too few for its PSF.
    """
    if method == "mean":
        output = assemble(repo, "u/test/mean", method)
    exposure = output.get("acn_coadd", repo[1].data_id, storageClass="ExposureF")
    measured, true = measure_fluxes(exposure, repo[1], fit=method == "mean")
    np.testing.assert_allclose(measured, true, rtol=0.02, atol=5 * stack.SKY_NOISE * 25 / 2)
    assert np.average(measured / true, weights=true) == pytest.approx(1, abs=0.01)


def test_psf_is_that_of_the_target(repo, exposure):
    import lsst.geom

    middle = lsst.geom.Box2D(repo[1].box).getCenter()
    kernel = exposure.psf.computeKernelImage(middle)
    assert kernel.array.sum() == pytest.approx(1, abs=1e-3)
    radius = exposure.psf.computeShape(middle).getDeterminantRadius()
    assert radius * gaussian_sigma_to_fwhm == pytest.approx(
        AssembleAcnCoaddTask.ConfigClass().target_fwhm, rel=0.05
    )


def patch_pixels(sky, visit_id, rows, columns, detector):
    """Return array indices, on the patch, of pixels of a detector."""
    import lsst.geom

    visit = next(visit for visit in stack.VISITS if visit.id == visit_id)
    wcs, corner = stack.make_frame_wcs(sky, visit, detector), stack.frame_box().getMin()
    place = lsst.geom.Point2D(corner.getX() + columns, corner.getY() + rows)
    found = sky.tract_wcs.skyToPixel(wcs.pixelToSky(place))
    assert sky.box.contains(lsst.geom.Point2I(found))
    return round(found.getY()) - sky.box.getMinY(), round(found.getX()) - sky.box.getMinX()


@pytest.mark.parametrize(
    ("visit_id", "row", "column", "present", "absent"),
    [
        (stack.SATURATED_VISIT, 155, 85, {"SAT", "REJECTED", "INEXACT_PSF"}, {"NO_DATA", "CR", "BAD"}),
        (stack.RAY_VISIT, 201, 65, {"CR", "INTRP"}, {"NO_DATA", "SAT"}),
        (stack.SUSPECT_VISIT, 125, 95, {"SUSPECT"}, {"NO_DATA", "SAT", "CR"}),
    ],
)
def test_mask_planes_are_those_of_the_inputs(repo, exposure, visit_id, row, column, present, absent):
    y, x = patch_pixels(repo[1], visit_id, row, column, 10)
    names = set(exposure.mask.interpret(int(exposure.mask.array[y, x])).split(","))
    assert present <= names and not absent & names


def test_no_pixel_is_without_a_value(repo, output, exposure):
    no_data = (exposure.mask.array & exposure.mask.getPlaneBitMask("NO_DATA")) != 0
    assert np.isfinite(exposure.image.array).all()
    assert (exposure.variance.array > 0).all() and no_data.mean() < 0.05
    assert (exposure.variance.array[no_data] == np.float32(NO_DATA_VARIANCE)).all()
    error = output.get("acn_coadd_psf_flux_error", repo[1].data_id)
    assert (error.bbox.x.start, error.bbox.y.start) == tuple(exposure.getXY0())
    assert (error.array[no_data] == np.float32(NO_DATA_VARIANCE**0.5)).all()
    assert error.array[~no_data].max() < 1e5 and error.array.min() > 0
    # Four visits of the same depth, or fewer.
    depth = stack.SKY_NOISE**2 / np.median(exposure.variance.array[~no_data])
    assert 100 > depth > 1


def test_table_of_inputs(repo, output):
    table = output.get("acn_coadd_inputs", repo[1].data_id)
    assert len(table) == len(stack.VISITS) * len(stack.DETECTORS) and table["kept"].all()
    for visit in stack.VISITS:
        rows = table[table["visit"] == visit.id]
        np.testing.assert_allclose(rows["psf_fwhm_pixel"], visit.sigma * gaussian_sigma_to_fwhm, rtol=0.03)
        assert set(rows["physical_filter"]) == {"HSC-I"}


def test_aperture_corrections_are_those_of_the_summary(repo, output):
    coadd = output.get("acn_coadd", repo[1].data_id)
    field = coadd.aperture_corrections["base_PsfFlux_instFlux"]
    values = field.render(dtype=np.float64).array
    np.testing.assert_allclose(values[np.isfinite(values)], stack.APERTURE_CORRECTION, rtol=1e-5)


def test_parts_and_cutouts_are_read_alone(repo, output, exposure):
    """As tasks do that need the WCS, or a corner, of a coadd alone."""
    import lsst.geom

    place = repo[1].data_id
    box = lsst.geom.Box2I(repo[1].box.getMin() + lsst.geom.Extent2I(10, 20), lsst.geom.Extent2I(40, 30))
    part = output.get("acn_coadd", place, storageClass="ExposureF", parameters={"bbox": Box.from_legacy(box)})
    assert part.getBBox() == box
    np.testing.assert_array_equal(part.image.array, exposure[box].image.array)
    wcs = output.get("acn_coadd.sky_projection", place, storageClass="Wcs")
    assert wcs.pixelToSky(lsst.geom.Point2D(0, 0)) == exposure.wcs.pixelToSky(lsst.geom.Point2D(0, 0))
