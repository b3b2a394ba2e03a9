# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of fluxes in catalogues."""

import types

import numpy as np
import pytest
from astropy.table import Table

from lsst.coadd.astroclearnet.adapters import find_apertures
from lsst.coadd.astroclearnet.correct_acn_flux_errors import ColumnsMissingError, CorrectAcnFluxErrorsTask
from lsst.coadd.astroclearnet.flux_errors import aperture_flux_error, noise_area, variance_between_sources
from lsst.images import YX, Box, Image, Mask, MaskPlane, MaskSchema
from lsst.images.cells import CellField, CellGrid, CellGridBounds, CellIJ

BOX = Box.factory[200:230, 5000:5040]
AREAS = {"noise_area_5": 6.0, "noise_area_10": 5.0, "noise_area_20": 4.5, "noise_area_40": 4.25}
PSF, APERTURE = "base_PsfFlux_instFluxErr", "base_CircularApertureFlux_12_0_instFluxErr"


@pytest.fixture
def error():
    """An image of errors, each pixel with a value of its own."""
    return Image(np.arange(1200, dtype=np.float32).reshape(30, 40), bbox=BOX)


@pytest.fixture
def coadd():
    """What the task reads of a coadd: variance 4, nothing in one corner;
    corrected by 1.1 in the left half, not known in the right half.
    """
    mask = Mask(0, schema=MaskSchema([MaskPlane("NO_DATA", "Nothing.")]), bbox=BOX)
    empty = np.zeros((30, 40), dtype=bool)
    empty[25:, :5] = True
    mask.set("NO_DATA", empty)
    bounds = CellGridBounds(
        grid=CellGrid(bbox=BOX, cell_shape=YX(30, 20)), bbox=BOX, missing=frozenset({CellIJ(i=0, j=1)})
    )
    field = CellField(bounds, np.array([[1.1, np.nan]]))
    return types.SimpleNamespace(
        bbox=BOX,
        mask=mask,
        variance=Image(np.where(empty, 1e12, 4.0).astype(np.float32), bbox=BOX),
        metadata=dict(AREAS),
        aperture_corrections={"base_PsfFlux_instFlux": field},
    )


def make_catalog(**columns):
    places = {"slot_Centroid_x": [5003.4, 5038.6], "slot_Centroid_y": [201.6, 229.4]}
    fluxes = {"base_PsfFlux_instFlux": [100.0, 200.0], PSF: [20.0, 599.5], APERTURE: [50.0, 100.0]}
    return Table(places | fluxes | columns)


def correct(catalog, coadd, error, **config):
    task = CorrectAcnFluxErrorsTask(config=CorrectAcnFluxErrorsTask.ConfigClass(**config))
    return task, task.run(catalog=catalog, coadd=coadd, psf_flux_error=error).output_catalog


def test_error_of_the_psf_flux_is_that_of_the_nearest_pixel(coadd, error):
    task, catalog = correct(make_catalog(), coadd, error)
    np.testing.assert_array_equal(catalog[PSF], [2 * 40 + 3, 29 * 40 + 39])
    np.testing.assert_array_equal(catalog["base_PsfFlux_instFlux"], [100, 200])
    assert (task.metadata["n_sources"], task.metadata["n_placed"]) == (2, 2)
    assert task.metadata["base_PsfFlux_ratio"] == pytest.approx((83 / 20 + 1199 / 599.5) / 2)


def test_places_without_data_do_not_count_in_what_is_told(coadd, error):
    """The stack puts sky objects there."""
    places = {"slot_Centroid_x": [5003.4, 5002.0], "slot_Centroid_y": [201.6, 228.0]}
    task, catalog = correct(make_catalog(**places), coadd, error)
    assert catalog[PSF][1] == 28 * 40 + 2
    assert task.metadata["base_PsfFlux_ratio"] == pytest.approx(83 / 20)


def test_apertures_get_the_correlation_of_the_noise_of_the_sky(coadd, error):
    """Not what sources add to the variance, which counts as it did."""
    coadd.variance.array[0:5, 0:7] = 100.0
    _, catalog = correct(make_catalog(), coadd, error)
    side = np.sqrt(np.pi) * 12
    # The areas above are 4 + 10 / side from 10 pixels on.
    added = (4 + 10 / side - 1) * np.pi * 12**2 * 4.0
    np.testing.assert_allclose(catalog[APERTURE], np.sqrt([50**2 + added, 100**2 + added]))


def test_apertures_stay_where_nothing_is_known_of_the_correlation(coadd, error, caplog):
    coadd.metadata.clear()
    _, catalog = correct(make_catalog(), coadd, error)
    np.testing.assert_array_equal(catalog[APERTURE], [50, 100])
    assert "errors of base_CircularApertureFlux_12_0 stay" in caplog.text


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"base_PsfFlux_flag_apCorr": [False, False]}, [91.3, 1199]),
        ({"base_PsfFlux_flag_apCorr": [True, True]}, [83, 1199]),
        ({}, [83, 1199]),
    ],
)
def test_aperture_correction_multiplies_the_error_where_it_was_applied(coadd, error, columns, expected):
    _, catalog = correct(make_catalog(**columns), coadd, error)
    np.testing.assert_allclose(catalog[PSF], expected)
    np.testing.assert_array_equal(catalog[APERTURE], correct(make_catalog(), coadd, error)[1][APERTURE])


def test_fluxes_with_their_neighbours_have_the_correction_of_those_without(coadd, error):
    """``proxies`` in lsst/obs_subaru d4a8abe config/forcedPhotCoadd.py:36."""
    columns = {f"undeblended_{name}": [20.0, 599.5] for name in (PSF, APERTURE)}
    columns |= {"undeblended_base_PsfFlux_flag_apCorr": [False, False]}
    _, catalog = correct(make_catalog(**columns), coadd, error)
    np.testing.assert_allclose(catalog[f"undeblended_{PSF}"], [91.3, 1199])
    np.testing.assert_array_equal(catalog[PSF], [83, 1199])
    assert (catalog[f"undeblended_{APERTURE}"] > [60, 600]).all()


def test_flux_without_an_error_gets_none(coadd, error):
    _, catalog = correct(make_catalog(**{PSF: [np.nan, 599.5], APERTURE: [50, np.nan]}), coadd, error)
    np.testing.assert_array_equal(catalog[PSF], [np.nan, 1199])
    np.testing.assert_array_equal(np.isnan(catalog[APERTURE]), [False, True])


def test_catalogue_without_apertures_is_told(coadd, error, caplog):
    correct(make_catalog(), coadd, error, aperture_fluxes=["some"])
    assert "no fluxes in apertures (some, ext_photometryKron_KronFlux, undebl" in caplog.text


@pytest.mark.parametrize(("config", "radii"), [({}, 2.5), ({"kron_radii": 4.8}, 4.8)])
def test_elliptical_apertures_are_as_large_as_their_radii_say(coadd, error, config, radii):
    """What has no radius has no error."""
    flux = "ext_photometryKron_KronFlux"
    columns = {"instFluxErr": [50.0, 100.0], "radius": [2.0, 0.0], "flag_apCorr": [False, True]}
    catalog = make_catalog(**{f"{flux}_{name}": values for name, values in columns.items()})
    coadd.aperture_corrections[f"{flux}_instFlux"] = coadd.aperture_corrections.pop("base_PsfFlux_instFlux")
    _, catalog = correct(catalog, coadd, error, **config)
    side = np.sqrt(np.pi) * radii * 2.0
    # The areas above are 4 + 10 / side.
    added = (4 + 10 / side - 1) * side**2 * 4.0 * 1.1**2
    np.testing.assert_allclose(catalog[f"{flux}_instFluxErr"], [np.sqrt(50**2 + added), np.nan])


def test_aperture_correction_of_an_aperture(coadd, error):
    """It has multiplied the error of the noise of the sky, too."""
    flux = APERTURE.removesuffix("Err")
    coadd.aperture_corrections[flux] = coadd.aperture_corrections.pop("base_PsfFlux_instFlux")
    flag = flux.replace("instFlux", "flag_apCorr")
    _, plain = correct(make_catalog(), coadd, error)
    corrected = make_catalog(**{flag: [False, False], APERTURE: [55.0, 100.0]})
    _, catalog = correct(corrected, coadd, error)
    np.testing.assert_allclose(catalog[APERTURE], plain[APERTURE] * [1.1, 1.0])


@pytest.mark.parametrize(
    ("x", "y"), [(np.nan, 210.0), (5003.0, np.inf), (4999.4, 210.0), (5003.0, 229.6), (1e30, 210.0)]
)
def test_source_without_a_place_on_the_image_has_no_error(coadd, error, x, y):
    places = {"slot_Centroid_x": [x, 5001.0], "slot_Centroid_y": [y, 200.0]}
    task, catalog = correct(make_catalog(**places), coadd, error)
    for name in (PSF, APERTURE):
        assert np.isnan(catalog[name][0]) and catalog[name][1] > 0
    assert task.metadata["n_placed"] == 1


def test_nothing_to_correct(coadd, error):
    task, catalog = correct(make_catalog()[:0], coadd, error)
    assert len(catalog) == 0 and task.metadata["n_sources"] == 0
    coadd.mask.set("NO_DATA", np.ones((30, 40), dtype=bool))
    _, catalog = correct(make_catalog(), coadd, error)
    assert np.isfinite(catalog[APERTURE]).all()


def test_columns_are_those_of_the_configuration(coadd, error):
    catalog = make_catalog(other_instFluxErr=[1.0, 1.0], some_3_0_instFluxErr=[1.0, 1.0])
    _, catalog = correct(catalog, coadd, error, psf_fluxes=["other"], aperture_fluxes=["some"])
    np.testing.assert_array_equal(catalog["other_instFluxErr"], [83, 1199])
    np.testing.assert_array_equal([catalog[PSF], catalog[APERTURE]], [[20, 599.5], [50, 100]])
    assert (catalog["some_3_0_instFluxErr"] > 2).all()
    with pytest.raises(ColumnsMissingError, match="no place_x nor place_y nor none nor no: set cent") as e:
        correct(catalog, coadd, error, centroid="place", psf_fluxes=["none", "no"])
    assert e.value.metadata["reason"] == str(e.value)


def test_part_of_a_catalogue_of_the_stack_is_corrected(coadd, error):
    """Its columns cannot be written in place."""
    reason = "lsst.afw is a part of the full LSST stack and not on PyPI"
    table = pytest.importorskip("lsst.afw.table", reason=reason, exc_type=ImportError)
    schema = table.SourceTable.makeMinimalSchema()
    plain = make_catalog(base_PsfFlux_flag_apCorr=[False, False])
    for name in plain.colnames:
        field = name.replace("slot_Centroid", "place")
        schema.addField(field, type="Flag" if "flag" in name else "D", doc=name)
    whole = table.SourceCatalog(schema)
    for row in (plain[0], plain[0], plain[1]):
        record = whole.addNew()
        for name in plain.colnames:
            value = row[name]
            record[name.replace("slot_Centroid", "place")] = bool(value) if "flag" in name else float(value)
    part = whole[np.array([True, False, True])]
    assert not part.isContiguous()
    _, found = correct(part, coadd, error, centroid="place")
    np.testing.assert_allclose(found[PSF], [91.3, 1199])
    _, expected = correct(plain, coadd, error)
    np.testing.assert_allclose(found[APERTURE], expected[APERTURE])
    _, empty = correct(whole[:0], coadd, error, centroid="place")
    assert len(empty) == 0


def test_radii_of_apertures_are_in_their_names():
    names = ["a_12_0_instFluxErr", "a_4_5_instFluxErr", "a_4_5_instFlux", "a_flag", "ba_3_0_instFluxErr"]
    names.append("c_9_0_instFluxErr")
    assert find_apertures(Table(names=names), ["a", "c"]) == [
        ("a_4_5", 4.5),
        ("c_9_0", 9.0),
        ("a_12_0", 12.0),
    ]
    assert find_apertures(Table(names=names), []) == []


def test_area_of_the_noise_between_sides_that_are_known():
    assert noise_area(AREAS, 20) == 4.5
    assert noise_area(AREAS, 30) == pytest.approx(4 + 10 / 30)
    assert (noise_area(AREAS, 2), noise_area(AREAS, 500)) == (6.0, 4.25)
    assert np.isnan(noise_area({"seed": 1}, 10))


def test_independent_noise_has_the_error_it_had():
    """An area below 1 is chance."""
    for area in (1.0, 0.97):
        error = aperture_flux_error(np.array([3.0]), radius=5, sky_variance=np.array([2.0]), area=area)
        assert error == 3.0


def test_sources_are_taken_out_of_the_variance_and_strips_are_not():
    variance = np.ones((100, 100))
    variance[30:39, 30:39] = 50.0
    variance[:, 60:63] = 4.0
    variance[80:, 80:] = np.nan
    good = np.isfinite(variance)
    expected = np.where(good, variance, 1.0)
    expected[30:39, 30:39] = 1.0
    np.testing.assert_array_equal(variance_between_sources(variance, good), expected)
