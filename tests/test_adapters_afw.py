# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of lsst.afw: visit summaries and other parts that only afw has.

The adapter's own decisions are tested with stand-ins that have the methods
of afw it calls; the calls themselves are tested where afw can be imported.
"""

from __future__ import annotations

import _afw_stand_ins as fake
import numpy as np
import pytest
from _adapter_scenes import (
    DATA_ID,
    LABEL,
    NEEDS_AFW,
    SCALE,
    SHAPE,
    X0,
    Y0,
    Afw,
    Scene,
    make_exposure,
    make_row,
)
from astropy.stats import gaussian_sigma_to_fwhm

from lsst.coadd.astroclearnet.adapters import (
    InputExtras,
    PatchGeometry,
    StatisticTypeError,
    make_adapter,
)
from lsst.coadd.astroclearnet.adapters._afw import SUMMARY_PARTS, ExposureFAdapter, exposure_from_exposure_f
from lsst.coadd.astroclearnet.adapters._afw_models import ExposurePsf, SkyWcsMap
from lsst.coadd.astroclearnet.adapters._afw_summary import visit_statistics
from lsst.coadd.astroclearnet.adapters._output_planes import OUTPUT_PLANES
from lsst.coadd.astroclearnet.core import (
    InvalidExposureError,
    SkippedExposureError,
    UncalibratedExposureError,
)
from lsst.coadd.astroclearnet.core.warp._psf_trend import PsfTrend

pytestmark = pytest.mark.usefixtures("stand_ins")


def adapt(exposure, row=None, replace=SUMMARY_PARTS):
    adapter = ExposureFAdapter(replace=frozenset(replace))
    return adapter.adapt(exposure, data_id=DATA_ID, extras=InputExtras(visit_summary_row=row))


def test_adapter_has_the_options_of_the_config():
    assert make_adapter("afw") == ExposureFAdapter()
    adapter = make_adapter("afw", replace=frozenset(["psf"]), warp_kernel="lanczos5")
    assert adapter == ExposureFAdapter(replace=frozenset(["psf"]), warp_kernel="lanczos5")


def test_kernel_is_centred():
    """The box of afw's kernel need not have the star in its middle."""
    kernel = adapt(make_exposure()).psf(x=X0 + 40, y=Y0 + 30)
    assert kernel.shape == (31, 31)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == (15, 15)


def find_replaced(exposure):
    """Say which parts are those of the row."""
    kernel = exposure.psf(x=X0 + 60, y=Y0 + 40)
    return {
        "psf": bool(kernel.max() < 0.03),
        "wcs": bool(exposure.wcs.pixel_to_sky(x=1000.0, y=1000.0)[0] > 150.5),
        "photo_calib": bool(exposure.image[0, 0] == 4.0),
        "ap_corr": bool(exposure.aperture_corrections),
    }


@pytest.mark.parametrize(
    "replace", [(), *((part,) for part in SUMMARY_PARTS), SUMMARY_PARTS, ("psf", "ap_corr")]
)
def test_each_part_of_the_visit_summary_has_its_switch(replace):
    found = find_replaced(adapt(make_exposure(), make_row(), replace))
    assert found == {part: part in replace for part in SUMMARY_PARTS}


def test_without_a_row_nothing_is_replaced():
    assert not any(find_replaced(adapt(make_exposure())).values())


def test_parts_that_the_row_replaces_may_be_missing():
    bare = make_exposure(Psf=None, Wcs=None, PhotoCalib=None)
    assert all(find_replaced(adapt(bare, make_row())).values())


FIELDS = {
    "Psf": ("psf", "PSF"),
    "Wcs": ("wcs", "WCS"),
    "PhotoCalib": ("photo_calib", "photometric calibration"),
    "ApCorrMap": ("ap_corr", "aperture corrections"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_row_that_lacks_a_part_skips_the_detector(field):
    """As makeDirectWarp does: its calibration failed, which is no fault."""
    part, name = FIELDS[field]
    row = make_row(**{field: None})
    with pytest.raises(SkippedExposureError, match=f"{LABEL} has no {name} in its row of the visit summary"):
        adapt(make_exposure(), row)
    others = set(SUMMARY_PARTS) - {part}
    assert not find_replaced(adapt(make_exposure(), row, others))[part]


@pytest.mark.parametrize("scale", [np.nan, 0.0])
def test_calibration_of_a_row_that_is_not_finite_skips_the_detector(scale):
    row = make_row(PhotoCalib=fake.PhotoCalib(scale))
    with pytest.raises(
        SkippedExposureError, match=f"photometric calibration of {LABEL} in its row.*not finite"
    ):
        adapt(make_exposure(), row)


@pytest.mark.parametrize("scale", [np.nan, 0.0, np.inf])
def test_calibration_of_the_exposure_that_is_not_finite_is_an_error(scale):
    with pytest.raises(UncalibratedExposureError, match=f"calibration of {LABEL} is not finite"):
        adapt(make_exposure(PhotoCalib=fake.PhotoCalib(scale)))


@pytest.mark.parametrize("scale", [2.0, np.linspace(0.9, 1.1, SHAPE[1])])
def test_pixels_in_njy_are_not_calibrated_again_by_a_row(scale):
    """visit_image with a summary that calibrates counts: silently wrong by a
    factor of what a count is.
    """
    row = make_row(PhotoCalib=fake.PhotoCalib(scale))
    calibrated = {"metadata": {"BUNIT": "nJy"}, "PhotoCalib": fake.PhotoCalib(1.0)}
    with pytest.raises(UncalibratedExposureError, match=f"{LABEL} is in nJy.*use_visit_summary_photo_calib"):
        adapt(make_exposure(**calibrated), row)
    others = set(SUMMARY_PARTS) - {"photo_calib"}
    np.testing.assert_array_equal(adapt(make_exposure(**calibrated), row, others).image, 2)
    same = make_row(PhotoCalib=fake.PhotoCalib(1.0))
    np.testing.assert_array_equal(adapt(make_exposure(**calibrated), same).image, 2)
    for unit in ("adu", "electron", None):
        counts = make_exposure(metadata={"BUNIT": unit}, PhotoCalib=fake.PhotoCalib(1.0))
        np.testing.assert_allclose(adapt(counts, row).image, np.broadcast_to(2 * scale, SHAPE), rtol=1e-6)


def test_missing_wcs_is_named():
    with pytest.raises(InvalidExposureError, match=f"{LABEL} has no WCS"):
        adapt(make_exposure(Wcs=None))


@pytest.mark.parametrize("python", [False, True])
def test_psf_that_cannot_be_evaluated(python):
    """Models in C++ raise errors of pex, those in Python any."""
    import lsst.pex.exceptions

    error = IndexError("no star") if python else lsst.pex.exceptions.Exception("no input at this point")
    psf = fake.GaussianPsf(error=error)
    with pytest.raises(InvalidExposureError, match=f"PSF of {LABEL} has no value at x=90.*no (star|input)"):
        adapt(make_exposure(Psf=psf))


def test_filter_may_be_unknown():
    """A coadd has a band, and no physical filter."""
    band_only = fake.Afw(
        hasPhysicalLabel=lambda: False, hasBandLabel=lambda: True, bandLabel="r", physicalLabel=None
    )
    adapter = ExposureFAdapter()
    for filter_label, band in ((band_only, "r"), (None, None)):
        exposure_f = make_exposure(Filter=filter_label)
        assert adapt(exposure_f).physical_filter == "HSC-R2"  # that of the data id
        assert adapter.find_band(exposure_f) == band


def test_planes_of_our_own_coadds_are_no_news(caplog):
    """A process that has read a coadd has its planes in all masks."""
    bits = fake.PLANES | {plane.name: 10 + n for n, plane in enumerate(OUTPUT_PLANES)}
    adapt(make_exposure(mask=fake.Mask({}, SHAPE, bits=bits)))
    assert not caplog.records


def test_column_of_text_is_no_fault_of_the_summary():
    row = make_row({"psfSigma": 2.0, "pixelScale": 0.2, "band": "r"})
    with pytest.raises(StatisticTypeError, match="'band' is not a number .'r'.*select.min_visit_values"):
        visit_statistics(fake.Catalog([row]), ["band"])


def test_summary_of_a_row():
    row = make_row({"psfSigma": 2.0, "pixelScale": 0.2, "nPsfStar": 30, "meanVar": 5.0})
    adapter, extras = ExposureFAdapter(), InputExtras(visit_summary_row=row)
    summary = adapter.summarize(None, data_id=DATA_ID, extras=extras, names=["nPsfStar", "starEMedian"])
    assert summary.psf_fwhm == pytest.approx(2 * 0.2 * gaussian_sigma_to_fwhm)
    assert summary.statistics == {"psfSigma": 2.0, "pixelScale": 0.2, "nPsfStar": 30.0}


def test_summary_of_a_row_without_sizes_measures_its_psf():
    summary = ExposureFAdapter().summarize(
        None, data_id=DATA_ID, extras=InputExtras(visit_summary_row=make_row({"psfSigma": np.nan}))
    )
    assert summary.psf_fwhm == pytest.approx(7.0 * SCALE, rel=0.03)


def test_visit_statistics_are_means_over_detectors_with_a_wcs():
    """One that failed has no WCS; NaN among the others is left out."""
    catalog = fake.Catalog(
        make_row(
            {
                "id": n,
                "psfSigma": sigma,
                "pixelScale": 0.2,
                "effTime": time,
                "nPsfStar": 0,
                "starEMedian": np.nan,
            },
            **parts,
        )
        for n, sigma, time, parts in (
            (1, 2.0, 10.0, {}),
            (2, 3.0, np.nan, {}),
            (3, np.nan, 30.0, {}),
            (4, 99.0, 99.0, {"Wcs": None}),
        )
    )
    names = ["effTime", "no_such_column", "nPsfStar", "starEMedian"]
    statistics = visit_statistics(catalog, names)
    assert statistics.psf_fwhm == pytest.approx(2.5 * 0.2 * gaussian_sigma_to_fwhm)
    assert statistics.means == {"effTime": 20.0, "nPsfStar": 0.0} and statistics.measured == {"effTime"}
    catalog[1].columns |= {"nPsfStar": 9, "starEMedian": 0.1}
    assert visit_statistics(catalog, names).measured == {"effTime", "nPsfStar", "starEMedian"}
    assert catalog.find(3)["psfSigma"] != catalog.find(3)["psfSigma"]
    assert catalog.find(7) is None


def test_with_afw():
    pytest.importorskip("lsst.afw.image", reason=NEEDS_AFW)
    exposure = exposure_from_exposure_f(Afw().make(Scene()), data_id=DATA_ID)
    kernel = exposure.psf(x=120, y=30)
    assert kernel.shape == (31, 31) and kernel[15, 15] == kernel.max()
    assert isinstance(exposure.psf, ExposurePsf) and isinstance(exposure.wcs, SkyWcsMap)


def test_psf_that_varies_with_afw():
    """Its kernels differ from place to place, and its trend is theirs."""
    math = pytest.importorskip("lsst.afw.math", reason=NEEDS_AFW)
    algorithms = pytest.importorskip("lsst.meas.algorithms", reason=NEEDS_AFW)
    from lsst.afw.detection import GaussianPsf
    from lsst.geom import Point2D

    narrow, wide = (GaussianPsf(31, 31, sigma).computeKernelImage(Point2D(0, 0)) for sigma in (1.6, 2.4))
    parts = [math.FixedKernel(narrow), math.FixedKernel(wide)]
    shares = [math.PolynomialFunction2D(terms) for terms in ([0.7, -2e-4, 1e-4], [0.3, 2e-4, -1e-4])]
    model = algorithms.PcaPsf(math.LinearCombinationKernel(parts, shares), Point2D(500, 500))
    exposure_f = Afw().make(Scene())
    exposure_f.setPsf(model)
    psf = exposure_from_exposure_f(exposure_f, data_id=DATA_ID).psf
    difference = wide.array - narrow.array
    np.testing.assert_allclose(psf(x=1000, y=200), narrow.array + 0.48 * difference, atol=1e-9)
    outline = np.array([[0, 0], [2000, 0], [2000, 2000], [0, 2000]], float)
    trend = PsfTrend.fit(psf, outline=outline, x0=600, y0=100, height=300, width=400)
    expected = np.array([2e-4, -1e-4])[:, None, None] * difference
    np.testing.assert_allclose(trend(x=800, y=200), expected, atol=1e-9)


def test_visit_summary_with_afw():
    image = pytest.importorskip("lsst.afw.image", reason=NEEDS_AFW)
    import lsst.afw.table

    exposure_f = Afw().make(Scene())
    schema = lsst.afw.table.ExposureTable.makeMinimalSchema()
    for name in ("psfSigma", "pixelScale"):
        schema.addField(name, type=float, doc=name)
    catalog = lsst.afw.table.ExposureCatalog(schema)
    row = catalog.addNew()
    row.setId(50)
    row["psfSigma"], row["pixelScale"] = 2.0, 0.2
    row.setPsf(exposure_f.getPsf())
    row.setWcs(exposure_f.getWcs())
    row.setPhotoCalib(image.PhotoCalib(2.0))
    row.setApCorrMap(image.ApCorrMap())
    found = catalog.find(50)
    extras = InputExtras(visit_summary_row=found)
    adapter = ExposureFAdapter()
    np.testing.assert_allclose(adapter.adapt(exposure_f, data_id=DATA_ID, extras=extras).image, 4)
    summary = adapter.summarize(exposure_f, data_id=DATA_ID, extras=extras, names=["starEMedian"])
    assert summary.psf_fwhm == pytest.approx(2 * 0.2 * gaussian_sigma_to_fwhm)
    assert set(summary.statistics) == {"psfSigma", "pixelScale"}
    assert visit_statistics(catalog).psf_fwhm == pytest.approx(2 * 0.2 * gaussian_sigma_to_fwhm)
    exposure_f.metadata["BUNIT"] = "nJy"
    with pytest.raises(UncalibratedExposureError, match=f"{LABEL} is in nJy"):
        adapter.adapt(exposure_f, data_id=DATA_ID, extras=extras)
    row.setPhotoCalib(image.PhotoCalib(1.0))
    np.testing.assert_array_equal(adapter.adapt(exposure_f, data_id=DATA_ID, extras=extras).image, 2)
    row.setApCorrMap(None)
    with pytest.raises(SkippedExposureError, match="aperture corrections"):
        adapter.adapt(exposure_f, data_id=DATA_ID, extras=extras)


def test_geometry_from_a_sky_map():
    skymap = pytest.importorskip("lsst.skymap", reason=NEEDS_AFW)
    config = skymap.ringsSkyMap.RingsSkyMap.ConfigClass()
    config.numRings, config.pixelScale, config.projection = 120, 0.168, "TAN"
    config.tractOverlap = 1 / 60
    sky_map = skymap.ringsSkyMap.RingsSkyMap(config)
    geometry = PatchGeometry.from_sky_map(sky_map, skymap="hsc_rings", tract=9813, patch=40)
    patch = sky_map[9813][40]
    assert (geometry.outer_bbox.x.start, geometry.outer_bbox.y.start) == tuple(patch.getOuterBBox().getMin())
    assert (geometry.index.x, geometry.index.y) == tuple(patch.getIndex())
    ra, dec = geometry.wcs.pixel_to_sky(x=np.array([15000.0]), y=np.array([16000.0]))
    expected = sky_map[9813].getWcs().pixelToSkyArray(np.array([15000.0]), np.array([16000.0]), degrees=True)
    np.testing.assert_allclose((ra, dec), expected, atol=1e-9)
