# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of PSF fluxes in catalogues."""

import numpy as np
import pytest
from astropy.table import Table

from lsst.coadd.astroclearnet.correct_acn_flux_errors import ColumnsMissingError, CorrectAcnFluxErrorsTask
from lsst.images import YX, Box, Image
from lsst.images.cells import CellField, CellGrid, CellGridBounds, CellIJ

BOX = Box.factory[200:230, 5000:5040]


@pytest.fixture
def error():
    """An image of errors, each pixel with a value of its own."""
    return Image(np.arange(1200, dtype=np.float32).reshape(30, 40), bbox=BOX)


def make_catalog(**columns):
    places = {"slot_Centroid_x": [5003.4, 5038.6], "slot_Centroid_y": [201.6, 229.4]}
    return Table(
        {**places, "base_PsfFlux_instFlux": [100.0, 200.0], "base_PsfFlux_instFluxErr": [20.0, 599.5]}
        | columns
    )


def correct(catalog, error, corrections=None, **config):
    task = CorrectAcnFluxErrorsTask(config=CorrectAcnFluxErrorsTask.ConfigClass(**config))
    result = task.run(catalog=catalog, psf_flux_error=error, aperture_corrections=corrections or {})
    return task, result.output_catalog


def test_error_is_that_of_the_nearest_pixel(error):
    task, catalog = correct(make_catalog(), error)
    np.testing.assert_array_equal(catalog["base_PsfFlux_instFluxErr"], [2 * 40 + 3, 29 * 40 + 39])
    np.testing.assert_array_equal(catalog["base_PsfFlux_instFlux"], [100, 200])
    assert dict(task.metadata) | {"n_sources": 2, "n_corrected": 2} == dict(task.metadata)
    assert task.metadata["median_ratio"] == pytest.approx((83 / 20 + 1199 / 599.5) / 2)


@pytest.fixture
def corrections():
    """1.1 in the left half of the image, not known in the right half."""
    grid = CellGrid(bbox=BOX, cell_shape=YX(30, 20))
    bounds = CellGridBounds(grid=grid, bbox=BOX, missing=frozenset({CellIJ(i=0, j=1)}))
    return {"base_PsfFlux_instFlux": CellField(bounds, np.array([[1.1, np.nan]]))}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"base_PsfFlux_flag_apCorr": [False, False]}, [91.3, 1199]),
        ({"base_PsfFlux_flag_apCorr": [True, True]}, [83, 1199]),
        ({}, [83, 1199]),
    ],
)
def test_aperture_correction_multiplies_the_error_where_it_was_applied(error, corrections, columns, expected):
    _, catalog = correct(make_catalog(**columns), error, corrections)
    np.testing.assert_allclose(catalog["base_PsfFlux_instFluxErr"], expected)


def test_aperture_correction_of_another_flux_is_not_applied(error, corrections):
    catalog = make_catalog(other_instFluxErr=[1.0, 1.0], other_flag_apCorr=[False, False])
    _, catalog = correct(catalog, error, corrections, flux="other")
    np.testing.assert_array_equal(catalog["other_instFluxErr"], [83, 1199])


@pytest.mark.parametrize(
    ("x", "y"), [(np.nan, 210.0), (5003.0, np.inf), (4999.4, 210.0), (5003.0, 229.6), (1e30, 210.0)]
)
def test_source_without_a_place_on_the_image_has_no_error(error, x, y):
    task, catalog = correct(make_catalog(slot_Centroid_x=[x, 5001.0], slot_Centroid_y=[y, 200.0]), error)
    assert np.isnan(catalog["base_PsfFlux_instFluxErr"][0]) and catalog["base_PsfFlux_instFluxErr"][1] == 1
    assert task.metadata["n_corrected"] == 1


def test_nothing_to_correct(error):
    task, catalog = correct(make_catalog()[:0], error)
    assert len(catalog) == 0 and task.metadata["n_sources"] == 0


def test_columns_are_those_of_the_configuration(error):
    catalog = make_catalog(other_instFluxErr=[1.0, 1.0])
    _, catalog = correct(catalog, error, flux="other")
    np.testing.assert_array_equal(catalog["other_instFluxErr"], [83, 1199])
    np.testing.assert_array_equal(catalog["base_PsfFlux_instFluxErr"], [20, 599.5])
    with pytest.raises(
        ColumnsMissingError, match="no place_x nor place_y nor none_instFluxErr: set flux"
    ) as e:
        correct(catalog, error, centroid="place", flux="none")
    assert e.value.metadata["reason"] == str(e.value)
