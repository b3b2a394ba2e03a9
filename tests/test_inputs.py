# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of the inputs of a patch: collected, selected, registered."""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from _inputs_data import change, make_config
from _pipelines import execute, load
from conftest import DATA_ID

from lsst.coadd.astroclearnet._assemble_config import AssembleAcnCoaddConfig
from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddTask, UnusableInputsError
from lsst.coadd.astroclearnet.core import Plane
from lsst.coadd.astroclearnet.inputs._input import CoaddInput
from lsst.coadd.astroclearnet.inputs._prepare import prepare_inputs
from lsst.coadd.astroclearnet.inputs._scratch import Scratch
from lsst.daf.butler import Butler, DatasetType
from lsst.images import Box, Mask, MaskPlane, MaskSchema
from lsst.images.fields import ChebyshevField
from lsst.pipe.base import InMemoryDatasetHandle

pytestmark = pytest.mark.usefixtures("hasty_filling")

LOG = logging.getLogger("test_inputs")


def prepare(patch, inputs=None, config=None, band="i"):
    return prepare_inputs(
        patch.inputs if inputs is None else inputs,
        config=config or make_config(),
        geometry=patch.geometry,
        band=band,
        halo=10,
        pixel_scale=0.168,
        scratch=Scratch(),
        log=LOG,
    )


def test_sky_that_is_still_there_is_told(small_patch, caplog):
    """Of the exposure that has it, and of no other."""

    def add(image):
        image.image.array[:] += 20 * np.sqrt(np.median(image.variance.array))

    inputs = [change(small_patch.inputs[0], add), *small_patch.inputs[1:]]
    prepare(small_patch, inputs)
    told = [record.getMessage() for record in caplog.records if "subtract it first" in record.getMessage()]
    assert len(told) == 1 and told[0].startswith(f"The sky of {inputs[0].label} is +")


# Selection of visit images by what they carry themselves.


def with_statistics(one, **values):
    good = {
        "psfSigma": 2.0,
        "pixelScale": 0.168,
        "nPsfStar": 50,
        "psfStarDeltaE1Median": 0.001,
        "psfStarDeltaE2Median": 0.001,
        "psfStarScaledDeltaSizeScatter": 0.01,
        "psfTraceRadiusDelta": 0.1,
        "psfApFluxDelta": 0.1,
        "psfApCorrSigmaScaledDelta": 0.1,
        "starEMedian": 0.1,
        "starUnNormalizedEMedian": 0.1,
    }

    def put(image):
        for name, value in {**good, **values}.items():
            setattr(image.summary_stats, name, value)

    return change(one, put)


def test_cuts_take_the_statistics_that_a_visit_image_carries(small_patch, caplog):
    bad = [{"psfApFluxDelta": 0.3}, {"nPsfStar": 3}, {"starEMedian": 0.5}, {}]
    inputs = [with_statistics(one, **values) for one, values in zip(small_patch.inputs, bad, strict=True)]
    with caplog.at_level(logging.INFO):
        warped, records = prepare(small_patch, inputs)
    assert [one.visit for one in warped] == [29330]
    reasons = [record.reason for record in records]
    for reason, field in zip(
        reasons, ("max_psf_ap_flux_delta", "min_n_psf_star", "max_star_e"), strict=False
    ):
        assert f"select.{field} is" in reason
        assert f"out: {reason}" in caplog.text
    assert reasons[3] == "" and records[3].kept and not any(record.bad for record in records)
    assert records[0].psf_fwhm == pytest.approx(2.0 * 2.3548, rel=1e-3)
    assert records[0].physical_filter == "HSC-I"


def test_best_visits_by_the_seeing_of_the_images_themselves(small_patch):
    _, everything = prepare(small_patch)
    widths = {record.visit: record.psf_fwhm for record in everything}
    warped, records = prepare(small_patch, config=make_config(select={"n_visits_max": 2}))
    best = sorted(sorted(widths, key=widths.get)[:2])
    assert [one.visit for one in warped] == best
    for record in records:
        assert record.kept == (record.visit in best)
        assert ("select.n_visits_max is 2" in record.reason) == (record.visit not in best)
        # Known before any pixel is read, from the PSF at another place.
        assert record.psf_fwhm == pytest.approx(widths[record.visit], rel=0.05)


def test_pixels_of_inputs_that_are_not_selected_are_not_read(small_repo, small_patch, monkeypatch):
    """Handles are asked for components first."""
    asked = []
    with Butler.from_config(str(small_repo), collections="HSC/defaults") as butler:
        refs = sorted(butler.query_datasets("calexp"), key=lambda ref: ref.dataId["visit"])
        handles = [butler.getDeferred(ref) for ref in refs]
        real = type(handles[0]).get

        def get(self, *, component=None, **options):
            asked.append((self.dataId["visit"], component))
            return real(self, component=component, **options)

        monkeypatch.setattr(type(handles[0]), "get", get)
        inputs = [
            CoaddInput(exposure_or_handle=handle, data_id=dict(handle.dataId.mapping)) for handle in handles
        ]
        warped, _ = prepare(small_patch, inputs, make_config(select={"n_visits_max": 1}))
    assert [visit for visit, component in asked if component is None] == [warped[0].visit]
    assert {"summary_stats", "psf"} <= {component for _, component in asked}


def test_excluded_detector(small_patch):
    _, records = prepare(small_patch, config=make_config(select={"exclude_detectors": [49]}))
    assert [record.kept for record in records] == [record.detector != 49 for record in records]
    assert any(not record.kept for record in records)


# What is asked for in the configuration.


def test_detector_that_is_skipped_is_no_fault(small_patch, caplog):
    """However many: they do not count towards max_bad_fraction."""
    skip = "has no row in its visit summary"
    inputs = [dataclasses.replace(one, skip=skip) for one in small_patch.inputs[:3]]
    task = AssembleAcnCoaddTask(config=make_config(on_bad_input="raise"))
    with caplog.at_level(logging.INFO):
        result = task.run(inputs=[*inputs, small_patch.inputs[3]], geometry=small_patch.geometry, band="i")
    table = result.inputs_table
    assert list(table["kept"]) == [False, False, False, True]
    assert set(table["reason"][:3]) == {skip}
    assert f"Leaving visit=29324 detector=50 out: {skip}" in caplog.text
    assert not [record for record in caplog.records if "29324" in record.getMessage() and record.levelno > 20]


def test_two_physical_filters_of_a_band_may_mix(small_patch):
    """HSC-R and HSC-R2 are both r; here two names of i."""

    def rename(image):
        image._obs_info = image.obs_info.model_copy(update={"physical_filter": "HSC-I2"})

    first, *rest = small_patch.inputs
    other = change(first, rename, data_id={**first.data_id, "physical_filter": "HSC-I2"})
    result = AssembleAcnCoaddTask(config=make_config()).run(
        inputs=[other, *rest], geometry=small_patch.geometry, band="i"
    )
    table = result.inputs_table
    assert table["kept"].all()
    assert list(table["physical_filter"]) == ["HSC-I2", "HSC-I", "HSC-I", "HSC-I"]
    assert list(result.coadd.provenance.inputs["physical_filter"]) == ["HSC-I2", "HSC-I", "HSC-I", "HSC-I"]
    assert result.coadd.band == "i" and result.n_image.array.max() == 4


def test_interpolated_pixels_are_used_or_left_out(small_patch):
    used, _ = prepare(small_patch)
    left_out, _ = prepare(small_patch, config=make_config(use_interpolated=False))
    for one, other in zip(used, left_out, strict=True):
        repaired = (one.flags & np.uint32(Plane.INTERPOLATED)) != 0
        bad = (one.flags & np.uint32(Plane.BAD | Plane.SATURATED | Plane.STREAK)) != 0
        assert one.good[repaired & ~bad].all() and (repaired & ~bad).any()
        assert not other.good[repaired].any()


def test_bad_planes_may_be_spelt_as_in_either_library(small_patch):
    config = make_config(bad_planes=["SAT", "SUSPECT", "EDGE", "CR"])
    same = make_config(bad_planes=["SATURATED", "SUSPECT", "DETECTION_EDGE", "COSMIC_RAY"])
    assert config.bad_plane_bits == same.bad_plane_bits
    assert Plane.NO_DATA in config.bad_plane_bits and Plane.BAD not in config.bad_plane_bits
    default = AssembleAcnCoaddConfig()
    stack = Plane.NO_DATA | Plane.BAD | Plane.SATURATED | Plane.DETECTION_EDGE
    assert stack in default.bad_plane_bits and Plane.INTERPOLATED not in default.bad_plane_bits


@pytest.mark.parametrize("image_model", ["images", "afw"])
def test_own_planes_of_a_site_reach_the_adapter(image_model):
    config = make_config(image_model=image_model, extra_bad_planes=["GLINT"])
    assert config.make_adapter().planes.extra_bad == {"GLINT"}
    assert config.bad_plane_bits == make_config(image_model=image_model).bad_plane_bits


@pytest.mark.parametrize(("names", "warns"), [(["GHOSTS"], True), ([], False)])
def test_own_plane_that_no_input_has_is_named(small_patch, caplog, names, warns):
    prepare(small_patch, small_patch.inputs[:1], config=make_config(extra_bad_planes=names))
    text = "No input has the mask plane GHOSTS of extra_bad_planes"
    assert (text in caplog.text) == warns


def test_planes_that_are_passed_on_may_be_left_out_too():
    for name in ("ITL_DIP", "INJECTED", "INJECTED_CORE", "FAKE"):
        assert not Plane[name] & AssembleAcnCoaddConfig().bad_plane_bits
        assert Plane[name] in make_config(bad_planes=[name]).bad_plane_bits


@pytest.mark.parametrize("apply", [False, True])
def test_backgrounds_of_visit_images(small_patch, apply):
    """A sky correction lowers the coadd by what it says, calibrated."""

    def add(image):
        level = ChebyshevField(image.bbox, np.array([[3.0]]), unit=image.unit)
        image.backgrounds.add("skyCorr", level)

    inputs = [change(one, add) for one in small_patch.inputs]
    plain, _ = prepare(small_patch, inputs)
    changed, _ = prepare(small_patch, inputs, make_config(apply_background=apply))
    for one, other, original in zip(plain, changed, inputs, strict=True):
        difference = (one.image - other.image)[one.good]
        scaling = original.exposure_or_handle.photometric_scaling
        expected = 3.0 * float(np.mean(scaling.render().array)) if apply else 0.0
        assert np.median(difference) == pytest.approx(expected, rel=0.02)


def test_background_that_is_not_there_is_a_fault(small_patch):
    config = make_config(revert_background=True, on_bad_input="raise")
    with pytest.raises(UnusableInputsError, match="visit=29324.*which background was subtracted"):
        prepare(small_patch, config=config)
    config = make_config(apply_background=True, background_name="other", on_bad_input="raise")
    with pytest.raises(UnusableInputsError, match="no background 'other'; there is: none"):
        prepare(small_patch, config=config)


def make_artifacts(box):
    mask = Mask(0, schema=MaskSchema([MaskPlane("CLIPPED", "Artifact.")]), bbox=box)
    clipped = np.zeros(box.shape, bool)
    clipped[40:60, 70:90] = True
    mask.set("CLIPPED", clipped)
    return mask


def test_artifact_masks_are_left_out_and_marked(small_patch):
    box = small_patch.geometry.outer_bbox
    first, *rest = small_patch.inputs
    handle = InMemoryDatasetHandle(make_artifacts(box), visit=29324)
    result = AssembleAcnCoaddTask(config=make_config()).run(
        inputs=[dataclasses.replace(first, artifact_mask=handle), *rest],
        geometry=small_patch.geometry,
        band="i",
    )
    here = np.s_[40:60, 70:90]
    plain, _ = prepare(small_patch)
    warped, _ = prepare(small_patch, [dataclasses.replace(first, artifact_mask=handle), *rest])
    place = plain[0].slices_within(x0=box.x.start + 70, y0=box.y.start + 40, height=20, width=20)[0]
    assert plain[0].good[place].any() and not warped[0].good[place].any()
    assert result.coadd.mask.get("CLIPPED")[here].all()
    assert result.coadd.mask.get("REJECTED")[here].all()


def test_artifact_mask_is_read_once_for_a_visit_and_not_in_vain(small_patch):
    """Detectors of a visit share it; far from the patch it is not needed."""
    reads = []

    class Handle(InMemoryDatasetHandle):
        def get(self, **options):
            reads.append(self.dataId["visit"])
            return super().get(**options)

    box = small_patch.geometry.outer_bbox
    first, second, *_ = small_patch.inputs
    masks = {visit: Handle(make_artifacts(box), visit=visit) for visit in (29324, 29326)}
    other = change(first, lambda image: np.negative(image.image.array, out=image.image.array))
    inputs = [
        dataclasses.replace(first, artifact_mask=masks[29324]),
        dataclasses.replace(other, artifact_mask=masks[29324], data_id={**first.data_id, "detector": 99}),
        dataclasses.replace(second, artifact_mask=masks[29326]),
    ]
    warped, _ = prepare(small_patch, inputs)
    plain, _ = prepare(small_patch, [dataclasses.replace(one, artifact_mask=None) for one in inputs])
    assert reads == [29324, 29326]
    lost = [int((one.good & ~new.good).sum()) for one, new in zip(plain, warped, strict=True)]
    assert len(lost) == 3 and min(lost) > 0 and lost[0] == lost[1]
    away = Box.factory[box.y.start + 700 : box.y.stop + 700, box.x.start : box.x.stop]
    elsewhere = SimpleNamespace(geometry=dataclasses.replace(small_patch.geometry, outer_bbox=away))
    assert prepare(elsewhere, inputs)[0] == [] and len(reads) == 2


def test_selected_visits_and_artifact_masks_of_a_repository(fresh_repo, small_patch):
    """Datasets of other tasks: read, applied, and told in the table."""
    box, visits = small_patch.geometry.outer_bbox, [29324, 29326, 29328]
    with Butler.from_config(str(fresh_repo), writeable=True, run="HSC/runs/demo") as butler:
        patch_dimensions = ("instrument", "skymap", "tract", "patch")
        for name, storage_class, more in (
            ("deepCoaddVisits", "StructuredDataDict", "band"),
            ("compare_warp_artifact_mask", "MaskV2", "visit"),
        ):
            butler.registry.registerDatasetType(
                DatasetType(name, (*patch_dimensions, more), storage_class, universe=butler.dimensions)
            )
        place = {key: value for key, value in DATA_ID.items() if key != "band"} | {"instrument": "HSC"}
        butler.put(dict.fromkeys(visits, True), "deepCoaddVisits", place | {"band": "i"})
        for visit in visits[:2]:
            butler.put(make_artifacts(box), "compare_warp_artifact_mask", place | {"visit": visit})
    config = {"use_selected_visits": True, "use_artifact_masks": True, "require_artifact_masks": False}
    butler, _ = execute(fresh_repo, load("mean", assembleMeanCoadd=config), "u/selected")
    table = butler.get("deepCoadd_inputs", DATA_ID)
    assert list(table["kept"]) == [visit in visits for visit in table["visit"]]
    reasons = set(table["reason"][~table["kept"]])
    assert reasons == {"its visit is not among the selected visits"}
    coadd = butler.get("deepCoadd", DATA_ID)
    assert coadd.mask.get("CLIPPED")[40:60, 70:90].all()
    # The third visit has no mask, and the fourth is not used.
    n_image = butler.get("deepCoadd_nImage", DATA_ID).array
    assert n_image[40:60, 70:90].max() == 1 and n_image.max() == 3


def test_box_of_artifacts_may_be_smaller_than_the_patch(small_patch):
    """It has no border, where the patch has a halo."""
    outer = small_patch.geometry.outer_bbox
    box = Box.factory[outer.y.start + 20 : outer.y.start + 90, outer.x.start + 5 : outer.x.start + 120]
    one = dataclasses.replace(small_patch.inputs[0], artifact_mask=make_artifacts(box))
    plain, _ = prepare(small_patch, small_patch.inputs[:1])
    warped, _ = prepare(small_patch, [one])
    lost = plain[0].good & ~warped[0].good
    y, x = np.nonzero(lost)
    assert (y + warped[0].y0).min() == box.y.start + 40 and (y + warped[0].y0).max() == box.y.start + 59
    assert (x + warped[0].x0).min() == box.x.start + 70 and (x + warped[0].x0).max() == box.x.start + 89
