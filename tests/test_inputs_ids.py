# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs whose data ids or smaller parts are not as they should be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from _inputs_data import change, make_config

from lsst.coadd.astroclearnet.adapters import exposure_from_visit_image
from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddTask
from lsst.images.fields import ChebyshevField

pytestmark = pytest.mark.usefixtures("hasty_filling")


def run(patch, inputs, **fields):
    task = AssembleAcnCoaddTask(config=make_config(**fields))
    return task.run(inputs=inputs, geometry=patch.geometry, band="i"), task.metadata


def test_input_that_is_there_twice_is_an_error_before_reading(small_patch):
    """Not after half an hour of registration."""

    class Unread:
        dataId = small_patch.inputs[0].data_id

        def get(self, **options):
            raise AssertionError("read too early")

    first, *rest = small_patch.inputs
    unread = dataclasses.replace(first, exposure_or_handle=Unread())
    with pytest.raises(ValueError, match="more than once: visit=29324 detector=50. Give each"):
        run(small_patch, [unread, *rest, unread])


def test_exposure_of_another_data_id_is_dropped(small_patch, caplog):
    one = small_patch.inputs[1]
    other = exposure_from_visit_image(one.exposure_or_handle, data_id={"visit": 7, "detector": 1})
    wrong = dataclasses.replace(one, exposure_or_handle=other)
    table = run(small_patch, [small_patch.inputs[0], wrong, *small_patch.inputs[2:]])[0].inputs_table
    text = "visit=29326 detector=49 holds an exposure that calls itself visit=7 detector=1"
    assert list(table["kept"]) == [True, False, True, True] and text in table["reason"][1]
    assert f"Dropping visit=29326 detector=49: {text}" in caplog.text


def test_night_need_not_be_known(small_patch):
    inputs = [
        dataclasses.replace(one, data_id={**one.data_id, "day_obs": None}) for one in small_patch.inputs
    ]
    result, _ = run(small_patch, inputs)
    assert list(result.coadd.provenance.inputs["day_obs"]) == [0] * 4


def test_aperture_correction_that_cannot_be_evaluated_is_left_out(small_patch, caplog):
    """It is no reason to lose a cell, nor the exposure."""

    class Broken:
        unit = None

        def __call__(self, *, x, y):
            raise RuntimeError("no value here")

    name = "base_PsfFlux_instFlux"
    first, second, *rest = small_patch.inputs
    field = ChebyshevField(first.exposure_or_handle.bbox, np.array([[0.9]]))
    inputs = [
        change(first, lambda image: image.aperture_corrections.__setitem__(name, field)),
        change(second, lambda image: image.aperture_corrections.__setitem__(name, Broken())),
        *rest,
    ]
    result, metadata = run(small_patch, inputs, cell_size=100)
    assert result.inputs_table["kept"].all() and metadata["n_failed_cells"] == 0
    (record,) = [one for one in caplog.records if "cannot be evaluated" in one.getMessage()]
    assert f"{name} of visit=29326 detector=49 cannot be evaluated (RuntimeError: no" in record.getMessage()
