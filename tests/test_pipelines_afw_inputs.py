# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What else the full stack knows of ExposureF, and what may be missing."""

from __future__ import annotations

import numpy as np
import pytest

REASON = "lsst.afw and what reads and writes its images are parts of the full LSST stack and not on PyPI"
for module in ("lsst.afw.image", "lsst.obs.base", "lsst.skymap", "lsst.cell_coadds"):
    pytest.importorskip(module, reason=REASON, exc_type=ImportError)

import _afw_repository as stack  # noqa: E402
from _afw_pipelines import DEFAULTS, execute, load  # noqa: E402

from lsst.coadd.astroclearnet.repository import put_dataset  # noqa: E402
from lsst.daf.butler import Butler  # noqa: E402

FINAL = {"use_visit_summary": True, "apply_background": True}
SUBTRACTED = 5.0
"""Counts that were subtracted from the exposures."""
CLIPPED = np.s_[100:110, 60:75]


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    root = tmp_path_factory.mktemp("afw") / "repo"
    return root, stack.make_repository(root)


def assemble(repo, output, fields, *, inputs=DEFAULTS):
    """Make the mean of the exposures; return it as ExposureF and its table."""
    fields = {"method": "mean", "cell_size": 60, **fields}
    pipeline = load("acn", "assembleAcnCoadd", fields, only=["assembleAcnCoadd"])
    butler = execute(*repo, pipeline, output, inputs=inputs)
    place = repo[1].data_id
    return butler.get("acn_coadd", place, storageClass="ExposureF"), butler.get("acn_coadd_inputs", place)


def put_frame(butler, content, name, storage_class, run, visit, detector):
    put_dataset(
        butler,
        content,
        name,
        storage_class=storage_class,
        dimensions=("instrument", "visit", "detector"),
        data_id={"instrument": "HSC", "visit": visit.id, "detector": detector},
        run=run,
    )


def put_summary(butler, catalog, run, visit):
    put_dataset(
        butler,
        catalog,
        "finalVisitSummary",
        storage_class="ExposureCatalog",
        dimensions=("instrument", "visit"),
        data_id={"instrument": "HSC", "visit": visit.id},
        run=run,
    )


@pytest.fixture(scope="module")
def beside(repo):
    """Add backgrounds, artifact masks and a choice of visits."""
    from lsst.afw.image import ImageF, Mask

    root, sky = repo
    ratio = ImageF(stack.frame_box())
    ratio.array[:, :] = 2.0
    place = {"instrument": "HSC", **sky.data_id}
    with Butler.from_config(str(root), writeable=True) as butler:
        for visit in stack.VISITS[:3]:
            mask = Mask(sky.box)
            mask.addMaskPlane("CLIPPED")
            if visit.id == 103:
                mask.array[CLIPPED] |= mask.getPlaneBitMask("CLIPPED")
            dimensions = ("instrument", "visit", "skymap", "tract", "patch")
            data_id = {name: (place | {"visit": visit.id})[name] for name in dimensions}
            name = "compare_warp_artifact_mask"
            put_dataset(
                butler, mask, name, storage_class="Mask", dimensions=dimensions, data_id=data_id, run="beside"
            )
        for visit in stack.VISITS:
            for detector in stack.DETECTORS:
                background = stack.make_background(SUBTRACTED)
                put_frame(butler, background, "calexpBackground", "Background", "beside", visit, detector)
                name = "background_to_photometric_ratio"
                put_frame(butler, ratio, name, "Image", "beside", visit, detector)
        put_dataset(
            butler,
            {visit.id: 1.0 for visit in stack.VISITS[1:]},
            "deepCoaddVisits",
            storage_class="StructuredDataDict",
            dimensions=tuple(place),
            data_id=place,
            run="beside",
        )
    return ("beside", *DEFAULTS)


def test_visits_and_artifacts_that_the_stack_found(repo, beside):
    fields = {**FINAL, "use_artifact_masks": True, "use_selected_visits": True}
    exposure, table = assemble(repo, "u/test/masks", fields, inputs=beside)
    reasons = {visit: set(table[table["visit"] == visit]["reason"]) for visit in (101, 102, 103, 104)}
    assert reasons[101] == {"its visit is not among the selected visits"}
    assert reasons[104] == {"its visit has no artifact mask"}
    assert set(table["visit"][table["kept"]]) == {102, 103}
    clipped = (exposure.mask.array & exposure.mask.getPlaneBitMask("CLIPPED")) != 0
    assert clipped[CLIPPED].all() and np.count_nonzero(clipped) == clipped[CLIPPED].size


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"apply_background_ratio": True}, stack.SKY / 2),
        ({"revert_background": True}, SUBTRACTED),
        ({"revert_background": True, "apply_background_ratio": True}, (stack.SKY + SUBTRACTED) / 2),
    ],
    ids=["ratio", "revert", "both"],
)
def test_backgrounds_of_the_stack(repo, beside, request, fields, level):
    """What is left of the sky, in counts, shows which were used, and how."""
    output = f"u/test/{request.node.callspec.id}"
    exposure, _ = assemble(repo, output, {**FINAL, **fields}, inputs=beside)
    plain, _ = assemble(repo, f"{output}-plain", FINAL)
    expected = level * np.average([visit.scale for visit in stack.VISITS])
    assert np.median(exposure.image.array - plain.image.array) == pytest.approx(expected, rel=0.05)


def _break(exposure, row, place):
    """Take from an exposure or its row what a calibration may fail to give;
    return what the table of the inputs says then.
    """
    from lsst.afw.image import PhotoCalib

    match place:
        case (101, 10):
            row.setPsf(None)
            return "has no PSF in its row of the visit summary"
        case (101, 11):
            row.setWcs(None)
            return "has no WCS in its row of the visit summary"
        case (102, 10):
            row.setPhotoCalib(None)
            return "has no photometric calibration in its row of the visit summary"
        case (102, 11):
            row.setPhotoCalib(PhotoCalib(np.nan))
            return "in its row of the visit summary is not finite"
        case (103, 10):
            row.setApCorrMap(None)
            return "has no aperture corrections in its row of the visit summary"
    # The row has what the exposure lacks.
    exposure.setPsf(None)
    exposure.setWcs(None)
    exposure.info.setApCorrMap(None)
    return ""


def test_calibrations_that_failed_are_named(repo):
    root, sky = repo
    expected = {}
    with Butler.from_config(str(root), writeable=True) as butler:
        for visit in stack.VISITS:
            summary = stack.make_visit_summary(sky, visit)
            for detector in stack.DETECTORS:
                exposure = stack.make_detector_image(sky, visit, detector)
                place = visit.id, detector
                expected[place] = _break(exposure, summary.find(detector), place)
                put_frame(butler, exposure, "calexp", "ExposureF", "broken", visit, detector)
            put_summary(butler, summary, "broken", visit)
    exposure, table = assemble(repo, "u/test/broken", FINAL, inputs=("broken", *DEFAULTS))
    for row in table:
        reason = expected[row["visit"], row["detector"]]
        assert row["kept"] == (not reason) and reason in row["reason"]
        assert np.isfinite(row["psf_fwhm_pixel"])
    assert np.isfinite(exposure.image.array).all()


def test_patch_that_is_half_covered(repo):
    """Cells without data have no PSF, and nothing is left of their pixels."""
    from lsst.afw.detection import InvalidPsfError
    from lsst.geom import Box2D, Extent2D

    root, sky = repo
    with Butler.from_config(str(root), writeable=True) as butler:
        for visit in (stack.VISITS[0], stack.VISITS[3]):
            put_summary(butler, stack.make_visit_summary(sky, visit), "half", visit)
            exposure = stack.make_detector_image(sky, visit, 10)
            put_frame(butler, exposure, "calexp", "ExposureF", "half", visit, 10)
            put_frame(butler, stack.make_background(stack.SKY), "skyCorr", "Background", "half", visit, 10)
    exposure, table = assemble(repo, "u/test/half", FINAL, inputs=("half", "skymaps"))
    assert table["kept"].all() and set(table["detector"]) == {10}
    no_data = (exposure.mask.array & exposure.mask.getPlaneBitMask("NO_DATA")) != 0
    assert not no_data[:, 140:180].any() and no_data[:, :100].all()
    assert (exposure.image.array[:, :100] == 0).all()
    middle = Box2D(sky.box).getCenter()
    assert exposure.psf.computeKernelImage(middle + Extent2D(60, 0)).array.sum() == pytest.approx(1)
    with pytest.raises(InvalidPsfError):
        exposure.psf.computeKernelImage(middle - Extent2D(90, 0))
