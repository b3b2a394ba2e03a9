# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backgrounds of ExposureF, which are datasets of their own."""

from __future__ import annotations

import _afw_stand_ins as fake
import numpy as np
import pytest
from _adapter_scenes import DATA_ID, LABEL, NEEDS_AFW, SHAPE, Afw, Scene, StandIns, make_exposure, make_row

from lsst.coadd.astroclearnet.adapters import InputExtras
from lsst.coadd.astroclearnet.adapters._afw import SUMMARY_PARTS, ExposureFAdapter
from lsst.coadd.astroclearnet.core import (
    InvalidExposureError,
    SkippedExposureError,
    UncalibratedExposureError,
)

pytestmark = pytest.mark.usefixtures("stand_ins")


def test_backgrounds_are_divided_by_their_ratio():
    """Illumination corrections flatten backgrounds and stars differently."""
    library, scene = StandIns(), Scene(background=6.0, sky_correction=1.0)
    extras = library.extras(scene, revert=True, apply=True)
    ratio = fake.Afw(array=np.full(SHAPE, 2.0, np.float32))
    extras = InputExtras(**{**vars(extras), "background_ratio": ratio})
    exposure = library.adapter().adapt(library.make(scene), data_id=DATA_ID, extras=extras)
    np.testing.assert_allclose(exposure.image, 30 * (2 + 6 / 2 - 1 / 2), rtol=1e-6)


def test_backgrounds_in_counts_of_images_in_njy():
    """As visit_image_background: the row of the detector calibrates it."""
    x = np.linspace(20.0, 40.0, SHAPE[1])
    library, scene = StandIns(), Scene(calibration=(1.0, 0.0), background=6.0, sky_correction=1.0)
    image = library.make(scene)
    image.metadata["BUNIT"] = "nJy"
    extras = library.extras(scene, revert=True, apply=True)
    row = make_row(PhotoCalib=fake.PhotoCalib(np.broadcast_to(x, SHAPE)))
    extras = InputExtras(**{**vars(extras), "visit_summary_row": row})
    others = frozenset(SUMMARY_PARTS) - {"photo_calib"}
    adapter = ExposureFAdapter(replace=others, calibrate_backgrounds=True)
    exposure = adapter.adapt(image, data_id=DATA_ID, extras=extras)
    np.testing.assert_allclose(exposure.image, np.broadcast_to(2 + 5 * x, SHAPE), rtol=1e-5)
    np.testing.assert_allclose(exposure.variance, 4)
    bare = InputExtras(**{**vars(extras), "visit_summary_row": make_row(PhotoCalib=None)})
    with pytest.raises(SkippedExposureError, match="no photometric calibration in its row"):
        adapter.adapt(image, data_id=DATA_ID, extras=bare)
    for metadata, text in (({}, "not said"), ({"BUNIT": "electron"}, "electron")):
        image.metadata = metadata
        with pytest.raises(UncalibratedExposureError, match=f"unit of {LABEL} is {text}.*calibrate_backgro"):
            adapter.adapt(image, data_id=DATA_ID, extras=extras)


@pytest.mark.parametrize("calibration", [None, fake.PhotoCalib(np.nan)])
def test_calibration_of_backgrounds_is_asked_for_only_with_a_background(calibration):
    """Its failure is no reason to lose a detector that is in nJy already."""
    row = make_row(PhotoCalib=calibration)
    others = frozenset(SUMMARY_PARTS) - {"photo_calib"}
    adapter = ExposureFAdapter(replace=others, calibrate_backgrounds=True)
    for none in (None, []):
        extras = InputExtras(visit_summary_row=row, background_revert=none, background_apply=none)
        exposure = adapter.adapt(make_exposure(), data_id=DATA_ID, extras=extras)
        np.testing.assert_allclose(exposure.image, 60)


def test_background_of_another_size_is_an_error():
    class BackgroundList(list):
        def getImage(self):
            return fake.Afw(array=np.zeros((3, 3), np.float32))

    extras = InputExtras(background_apply=BackgroundList([None]))
    with pytest.raises(InvalidExposureError, match=f"background of {LABEL} has shape .3, 3."):
        ExposureFAdapter().adapt(make_exposure(), data_id=DATA_ID, extras=extras)


def test_empty_background_changes_nothing():
    """As in makeDirectWarp: a list of no backgrounds has no image."""
    exposure = ExposureFAdapter().adapt(
        make_exposure(), data_id=DATA_ID, extras=InputExtras(background_apply=[], background_revert=[])
    )
    np.testing.assert_allclose(exposure.image, 60)


def test_background_with_afw():
    image = pytest.importorskip("lsst.afw.image", reason=NEEDS_AFW)
    import lsst.afw.math
    import lsst.afw.table

    exposure_f = Afw().make(Scene())
    level = exposure_f.image.clone()
    level.array[:, :] = 0.5
    background = lsst.afw.math.makeBackground(level, lsst.afw.math.BackgroundControl(4, 4))
    backgrounds = lsst.afw.math.BackgroundList()
    styles = (lsst.afw.math.Interpolate.AKIMA_SPLINE, lsst.afw.math.REDUCE_INTERP_ORDER)
    backgrounds.append((background, *styles, lsst.afw.math.ApproximateControl.UNKNOWN, 0, 0, False))
    extras = InputExtras(background_apply=backgrounds)
    exposure = ExposureFAdapter().adapt(exposure_f, data_id=DATA_ID, extras=extras)
    np.testing.assert_allclose(exposure.image, 30 * 1.5, rtol=1e-4)
    catalog = lsst.afw.table.ExposureCatalog(lsst.afw.table.ExposureTable.makeMinimalSchema())
    row = catalog.addNew()
    row.setPhotoCalib(image.PhotoCalib(2.0))
    extras = InputExtras(background_apply=backgrounds, visit_summary_row=row)
    adapter = ExposureFAdapter(replace=frozenset(), calibrate_backgrounds=True)
    exposure_f.metadata["BUNIT"] = "nJy"
    exposure = adapter.adapt(exposure_f, data_id=DATA_ID, extras=extras)
    np.testing.assert_allclose(exposure.image, 30 * (2 - 2 * 0.5), rtol=1e-4)
