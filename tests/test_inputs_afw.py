# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same patch from visit images, from exposures and from warps.

Exposures and warps are stand-ins for those of lsst.afw, made of the same
pixels; what is made of them must be the same.
"""

from __future__ import annotations

import dataclasses

import _afw_stand_ins as fake
import numpy as np
import pytest
from _inputs_data import change, make_config

from lsst.coadd.astroclearnet.adapters import InputExtras, exposure_from_visit_image
from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddTask, UnusableInputsError
from lsst.coadd.astroclearnet.core import Plane
from lsst.coadd.astroclearnet.core.warp._frame import Frame
from lsst.coadd.astroclearnet.core.warp._grid_map import GridMap
from lsst.coadd.astroclearnet.core.warp._premade_warp import find_gain
from lsst.coadd.astroclearnet.core.warp._register import WarpPlan
from lsst.images import get_legacy_visit_image_mask_planes

pytestmark = pytest.mark.usefixtures("hasty_filling", "stand_ins")

WARPS = {"image_model": "afw", "inputs": "warps"}
LEGACY = {plane.name: name for name, plane in get_legacy_visit_image_mask_planes().items()}


class Wcs:
    """A SkyWcs made of a map of the core."""

    def __init__(self, sky_map):
        self.sky_map = sky_map

    def pixelToSkyArray(self, x, y, degrees=False):
        return self.sky_map.pixel_to_sky(x=x, y=y)

    def skyToPixelArray(self, ra, dec, degrees=False):
        return self.sky_map.sky_to_pixel(ra=ra, dec=dec)


class Psf:
    """A Psf made of a model of the core."""

    def __init__(self, model, covers=lambda x, y: True):
        self.model, self.covers = model, covers

    def computeKernelImage(self, position):
        if not self.covers(*position):
            import lsst.pex.exceptions

            raise lsst.pex.exceptions.Exception("no input images at that point")
        array = self.model(x=position[0], y=position[1])
        return fake.Afw(array=array, X0=-(array.shape[1] // 2), Y0=-(array.shape[0] // 2))


def label(physical):
    return fake.Afw(
        bandLabel="i", physicalLabel=physical, hasBandLabel=lambda: True, hasPhysicalLabel=lambda: True
    )


def make_exposure_f(one):
    """An ExposureF with the counts of a visit image."""
    image = one.exposure_or_handle
    core = exposure_from_visit_image(image, data_id=one.data_id)
    planes = {LEGACY.get(name, name): image.mask.get(name) for name in image.mask.schema.names}
    bits = {name: n for n, name in enumerate(planes)}
    return fake.Exposure(
        image=image.image.array.copy(),
        variance=image.variance.array.copy(),
        mask=fake.Mask(planes, image.bbox.shape, bits=bits),
        x0=core.x0,
        y0=core.y0,
        Psf=Psf(core.psf),
        Wcs=Wcs(core.wcs),
        PhotoCalib=fake.PhotoCalib(image.photometric_scaling.render(image.bbox, dtype=np.float32).array),
        Filter=label(core.physical_filter),
    )


def size_of(array):
    return {"height": array.shape[0], "width": array.shape[1]}


def make_warp(one, geometry, *, border, kernel):
    """An ExposureF on the grid of the patch, as makeDirectWarp makes it."""
    core = exposure_from_visit_image(one.exposure_or_handle, data_id=one.data_id)
    box, native = geometry.outer_bbox, core.image.shape
    place = {"x0": box.x.start - border, "y0": box.y.start - border}
    shape = (box.y.size + 2 * border, box.x.size + 2 * border)
    bad = make_config().bad_plane_bits
    plan = WarpPlan.make(core, wcs=geometry.wcs, height=shape[0], width=shape[1], bad=bad, **place)
    warped = plan.warp()
    here, there = warped.slices_within(height=shape[0], width=shape[1], **place)
    image, variance = np.full(shape, np.nan, np.float32), np.full(shape, np.inf, np.float32)
    flags = np.full(shape, np.uint32(Plane.NO_DATA))
    covered = (warped.flags[here] & np.uint32(Plane.NO_DATA)) == 0
    image[there][covered] = warped.image[here][covered]
    grid = GridMap.fit(geometry.wcs, Frame.of(core), x0=warped.x0, y0=warped.y0, **size_of(warped.image))
    gain = find_gain(grid, kernel=kernel, **size_of(warped.image))
    variance[there][covered] = (warped.variance * gain)[here][covered]
    flags[there] = warped.flags[here]
    names = {"NO_DATA": Plane.NO_DATA, "SAT": Plane.SATURATED, "BAD": Plane.BAD, "EDGE": Plane.DETECTION_EDGE}
    names |= {"CR": Plane.COSMIC_RAY, "INTRP": Plane.INTERPOLATED, "STREAK": Plane.STREAK}
    planes = {name: (flags & np.uint32(plane)) != 0 for name, plane in names.items()}
    row = fake.Record(
        {"ccd": core.detector, "visit": core.visit, "filter": core.physical_filter},
        Wcs=Wcs(core.wcs),
        Psf=Psf(core.psf),
        BBox=fake.Box.of(native, x0=core.x0, y0=core.y0),
        ApCorrMap=None,
    )
    return fake.Exposure(
        image=image,
        variance=variance,
        mask=fake.Mask(planes, shape, bits={name: n for n, name in enumerate(planes)}),
        **place,
        metadata={"BUNIT": "nJy"},
        info={"CoaddInputs": fake.Afw(ccds=[row], visits=[])},
        Psf=Psf(warped.psf, covers=lambda x, y: box.contains(x=int(x), y=int(y))),
        Wcs=Wcs(geometry.wcs),
        PhotoCalib=fake.PhotoCalib(1.0),
        Filter=label(core.physical_filter),
    )


def split_in_two(warp, *, detectors):
    """Records of two detectors, each one half of that of a warp."""
    (row,) = warp.getInfo().getCoaddInputs().ccds
    x, y = row.BBox.x, row.BBox.y
    ends = (x.begin, (x.begin + x.end) // 2, x.end)
    for detector, begin, end in zip(detectors, ends[:-1], ends[1:], strict=True):
        fields = {name: row.__dict__[name] for name in ("Wcs", "Psf", "ApCorrMap")}
        box = fake.Box(x=fake.Interval(begin, end - 1), y=y)
        yield fake.Record({**row.columns, "ccd": detector}, BBox=box, **fields)


def run(patch, images, **fields):
    return AssembleAcnCoaddTask(config=make_config(**fields)).run(
        inputs=images, geometry=patch.geometry, band="i"
    )


@pytest.fixture(scope="module")
def expected(small_patch):
    return run(small_patch, small_patch.inputs)


def assert_same(result, expected, *, sigma):
    """Pixels agree but for few that are clipped in one case only."""
    np.testing.assert_array_equal(result.inputs_table["kept"], expected.inputs_table["kept"])
    for name in ("visit", "detector", "physical_filter"):
        np.testing.assert_array_equal(result.inputs_table[name], expected.inputs_table[name])
    weight = np.asarray(result.inputs_table["weight"]), np.asarray(expected.inputs_table["weight"])
    np.testing.assert_allclose(*weight, rtol=0.01)
    difference = (result.coadd.image.array - expected.coadd.image.array) / np.sqrt(
        expected.coadd.variance.array
    )
    assert np.mean(np.abs(difference) > sigma) < 2e-3
    differs = result.n_image.array.astype(int) != expected.n_image.array
    assert differs.mean() < 2e-3


def test_exposures_of_afw_give_the_same_coadd(small_patch, expected):
    inputs = [dataclasses.replace(one, exposure_or_handle=make_exposure_f(one)) for one in small_patch.inputs]
    assert_same(run(small_patch, inputs, image_model="afw"), expected, sigma=0.01)


def test_warps_give_the_same_coadd(small_patch, expected):
    """They are cut to the patch, and told apart by detector again."""
    inputs = []
    for one in small_patch.inputs:
        data_id = {key: value for key, value in one.data_id.items() if key != "detector"}
        warp = make_warp(one, small_patch.geometry, border=100, kernel="lanczos5")
        inputs.append(dataclasses.replace(one, exposure_or_handle=warp, data_id=data_id))
    result = run(small_patch, inputs, **WARPS, warp_kernel="lanczos5")
    assert_same(result, expected, sigma=0.01)
    polygons = [coadd.provenance.inputs["polygon"] for coadd in (result.coadd, expected.coadd)]
    for one, other in zip(*polygons, strict=True):
        assert one.area == pytest.approx(other.area, rel=1e-3)


def test_part_of_a_warp_of_an_excluded_detector_is_left_out(small_patch, caplog):
    """Only the record of its inputs says which part that is."""
    one = small_patch.inputs[0]
    warp = make_warp(one, small_patch.geometry, border=20, kernel="lanczos3")
    left, right = split_in_two(warp, detectors=(9, 10))
    warp.getInfo().CoaddInputs.ccds[:] = [left, right]
    data_id = {key: value for key, value in one.data_id.items() if key != "detector"}
    inputs = [dataclasses.replace(one, exposure_or_handle=warp, data_id=data_id)]
    with caplog.at_level("INFO"):
        table = run(small_patch, inputs, **WARPS, select={"exclude_detectors": [9]}).inputs_table
    reason = "detector 9 is in select.exclude_detectors"
    assert list(table["detector"]) == [9, 10] and list(table["kept"]) == [False, True]
    assert list(table["reason"]) == [reason, ""]
    assert f"Leaving visit={data_id['visit']} detector=9 out: {reason}" in caplog.text


@pytest.mark.parametrize("excluded", [False, True])
def test_detector_of_a_warp_that_cannot_be_used_is_dropped_alone(small_patch, caplog, excluded):
    one = small_patch.inputs[0]
    warp = make_warp(one, small_patch.geometry, border=20, kernel="lanczos3")
    left, right = split_in_two(warp, detectors=(9, 10))
    left.Wcs = None
    warp.getInfo().CoaddInputs.ccds[:] = [left, right]
    data_id = {key: value for key, value in one.data_id.items() if key != "detector"}
    inputs = [dataclasses.replace(one, exposure_or_handle=warp, data_id=data_id)]
    fields = {**WARPS, "select": {"exclude_detectors": [9] if excluded else []}}
    table = run(small_patch, inputs, **fields, on_bad_input="raise" if excluded else "drop").inputs_table
    assert list(table["detector"]) == [9, 10] and list(table["kept"]) == [False, True]
    text = (
        "select.exclude_detectors" if excluded else "record of visit=29324 detector=9 in its warp has no WCS"
    )
    assert text in table["reason"][0] and ("Dropping visit=29324 detector=9" in caplog.text) != excluded
    if not excluded:
        with pytest.raises(UnusableInputsError, match="on_bad_input is 'raise'.*detector=9"):
            run(small_patch, inputs, **fields, on_bad_input="raise")


def test_exposures_of_an_older_stack_are_used(small_patch, caplog):
    """afw fills in what their files lack: NaN, which says nothing of them,
    and not more where another input has a value.
    """
    known = {"psfSigma": 2.0, "pixelScale": 0.168, "nPsfStar": 50, "psfTraceRadiusDelta": 0.1}
    known |= {"psfStarDeltaE1Median": 0.001, "psfStarDeltaE2Median": 0.001}
    lacking = ("psfStarScaledDeltaSizeScatter", "psfApFluxDelta", "starEMedian", "starUnNormalizedEMedian")
    inputs = []
    for one in small_patch.inputs:
        exposure_f = make_exposure_f(one)
        exposure_f.Info.SummaryStats = fake.Afw(**known, **dict.fromkeys(lacking, np.nan))
        inputs.append(dataclasses.replace(one, exposure_or_handle=exposure_f))
    assert run(small_patch, inputs, image_model="afw").inputs_table["kept"].all()
    (record,) = [one for one in caplog.records if "that have no value of them" in one.getMessage()]
    assert record.levelname == "WARNING" and all(name in record.getMessage() for name in lacking)
    inputs[0].exposure_or_handle.Info.SummaryStats.starEMedian = 0.9
    table = run(small_patch, inputs, image_model="afw").inputs_table
    assert list(table["kept"]) == [False, True, True, True]


def test_warp_that_is_not_calibrated_is_an_error(small_patch):
    one = small_patch.inputs[0]
    warp = make_warp(one, small_patch.geometry, border=20, kernel="lanczos3")
    del warp.metadata["BUNIT"]
    inputs = [dataclasses.replace(one, exposure_or_handle=warp)]
    with pytest.raises(UnusableInputsError, match="warp of visit=29324.*must be nJy"):
        run(small_patch, inputs, **WARPS)


def test_row_of_a_visit_summary_without_calibration_leaves_its_detector_out(small_patch, caplog):
    """The others are used; it is no fault, and said in the log."""
    inputs = []
    for n, one in enumerate(small_patch.inputs):
        exposure_f = make_exposure_f(one)
        parts = {name: exposure_f.__dict__[name] for name in ("Psf", "Wcs", "PhotoCalib")}
        if n == 1:
            parts["PhotoCalib"] = None
        row = fake.Record(
            {"id": one.data_id["detector"], "psfSigma": 2.0, "pixelScale": 0.168}, ApCorrMap={}, **parts
        )
        inputs.append(
            dataclasses.replace(one, exposure_or_handle=exposure_f, extras=InputExtras(visit_summary_row=row))
        )
    with caplog.at_level("INFO"):
        result = run(small_patch, inputs, image_model="afw", use_visit_summary=True, on_bad_input="raise")
    table = result.inputs_table
    assert list(table["kept"]) == [True, False, True, True]
    text = "visit=29326 detector=49 has no photometric calibration in its row of the visit summary."
    assert table["reason"][1] == text
    (record,) = [record for record in caplog.records if text in record.getMessage()]
    assert record.levelname == "INFO"


def test_two_units_and_two_libraries_of_numbers_are_one(small_patch, expected):
    """A varying calibration and its inverse leave no trace."""

    def halve(image):
        x = np.linspace(0.5, 1.5, image.bbox.shape[1], dtype=np.float32)
        image.image.array /= x
        image.variance.array /= x**2

    one, *rest = small_patch.inputs
    changed = make_exposure_f(change(one, halve))
    scale = np.linspace(0.5, 1.5, changed.image.array.shape[1], dtype=np.float32)
    changed.PhotoCalib.scale = changed.PhotoCalib.scale * scale
    others = [dataclasses.replace(other, exposure_or_handle=make_exposure_f(other)) for other in rest]
    inputs = [dataclasses.replace(one, exposure_or_handle=changed), *others]
    assert_same(run(small_patch, inputs, image_model="afw"), expected, sigma=0.01)
