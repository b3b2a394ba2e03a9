# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The assembly task on plain objects, without a Butler."""

import dataclasses
import hashlib
import logging
from importlib.resources import files

import astropy.units as u
import numpy as np
import pytest

from lsst.coadd.astroclearnet import assemble_acn_coadd
from lsst.coadd.astroclearnet._coadds import view_from_cell_coadd, view_from_truth
from lsst.coadd.astroclearnet.adapters import NO_DATA_VARIANCE, exposure_from_visit_image
from lsst.coadd.astroclearnet.assemble_acn_coadd import (
    AssembleAcnCoaddConfig,
    AssembleAcnCoaddConnections,
    AssembleAcnCoaddTask,
    CoaddInput,
    FitFailedError,
)
from lsst.coadd.astroclearnet.comparison._metrics import compare_views
from lsst.coadd.astroclearnet.comparison._photometry import adaptive_fwhm
from lsst.coadd.astroclearnet.comparison._truth import Truth
from lsst.coadd.astroclearnet.core import FitError
from lsst.coadd.astroclearnet.outputs._about import make_seed
from lsst.images import Box
from lsst.images.cells import CellCoadd
from lsst.pipe.base import InMemoryDatasetHandle, NoWorkFound
from lsst.pipe.base.testUtils import lintConnections

pytestmark = pytest.mark.usefixtures("hasty_filling")


def make_task(*, select=None, **fields):
    """Make a task that is quick unless the fields say otherwise."""
    config = AssembleAcnCoaddConfig()
    config.update(**({"method": "mm", "mm_iterations": 10, "cell_size": 100} | fields))
    config.select.update(**(select or {}))
    config.validate()
    return AssembleAcnCoaddTask(config=config)


def run(task, patch, inputs=None):
    return task.run(inputs=patch.inputs if inputs is None else inputs, geometry=patch.geometry, band="i")


@pytest.fixture(scope="module")
def mean(small_patch):
    task = make_task(method="mean")
    return run(task, small_patch), task


@pytest.fixture(scope="module")
def latent(small_patch):
    task = make_task(mm_iterations=40)
    return run(task, small_patch), task


def test_planes_lie_on_the_patch_in_njy(latent, small_patch):
    result, _ = latent
    for coadd in (result.latent, result.coadd):
        assert isinstance(coadd, CellCoadd)
        assert coadd.bbox == small_patch.geometry.outer_bbox
        assert coadd.unit == u.nJy and coadd.variance.unit == u.nJy**2
        assert coadd.band == "i" and (coadd.skymap, coadd.tract, coadd.patch.id) == (
            "hsc_rings_demo",
            9813,
            40,
        )
        assert np.isfinite(coadd.image.array).all() and (coadd.variance.array > 0).all()
        sky = coadd.sky_projection.pixel_to_sky(x=np.array([2000.0]), y=np.array([300.0]))
        expected = small_patch.geometry.sky_projection.pixel_to_sky(x=np.array([2000.0]), y=np.array([300.0]))
        assert sky[0].separation(expected[0]).arcsec < 1e-6
    assert result.n_image.bbox == small_patch.geometry.outer_bbox
    assert result.n_image.array.dtype.kind == "u"
    error = result.psf_flux_error
    assert error.bbox == small_patch.geometry.outer_bbox and error.unit == u.nJy
    sky = error.sky_projection.pixel_to_sky(x=np.array([2000.0]), y=np.array([300.0]))
    assert sky[0].separation(expected[0]).arcsec < 1e-6


def test_no_data_is_where_no_input_is(latent):
    result, _ = latent
    no_data = result.coadd.mask.get("NO_DATA")
    np.testing.assert_array_equal(no_data, result.n_image.array == 0)
    # Only the core of a saturated star, which is small enough to be filled.
    assert no_data.any()
    np.testing.assert_array_equal(no_data & result.coadd.mask.get("INTERPOLATED"), no_data)
    assert (result.coadd.variance.array[no_data] == np.float32(NO_DATA_VARIANCE)).all()
    error = result.psf_flux_error.array
    assert (error[no_data] == np.float32(NO_DATA_VARIANCE**0.5)).all()
    assert np.isfinite(error).all() and 0 < error[~no_data].min() and error[~no_data].max() < 1e5


def test_latent_is_not_negative_and_sharp(latent, mean):
    result, _ = latent
    assert result.latent.image.array.min() >= 0
    reference, _ = mean
    peak = result.latent.image.array.max()
    assert peak > 1.5 * reference.coadd.image.array.max()


def test_fluxes_are_those_of_the_truth(latent, mean, small_patch):
    """What went through WCS, calibration and PSF comes out in nJy."""
    catalog = small_patch.truth_catalog
    views = [
        view_from_cell_coadd(mean[0].coadd, name="mean"),
        view_from_cell_coadd(latent[0].coadd, name="coadd"),
    ]
    like = view_from_cell_coadd(mean[0].coadd, name="deepCoadd")
    view = view_from_truth(small_patch.truth_image, fwhm=2.5, like=like)
    inside = view.contains(x=catalog["x"], y=catalog["y"])
    truth = Truth(
        x=np.asarray(catalog["x"][inside]),
        y=np.asarray(catalog["y"][inside]),
        is_star=np.asarray(catalog["type"][inside]) == "star",
        view=view,
    )
    found = compare_views(views, truth=truth)
    bright = found.snr > 100
    assert bright.sum() >= 3
    for name in ("mean", "coadd"):
        ratio = found.fluxes[name][bright] / found.fluxes["truth"][bright]
        assert np.nanmedian(ratio) == pytest.approx(1.0, abs=0.01), name


def test_inputs_table(latent, small_patch):
    result, _ = latent
    table = result.inputs_table
    assert list(table["visit"]) == [29324, 29326, 29328, 29330]
    assert table["kept"].all() and not any(table["reason"])
    assert set(table["physical_filter"]) == {"HSC-I"}
    scale = 0.168
    np.testing.assert_allclose(table["psf_fwhm_arcsec"] / table["psf_fwhm_pixel"], scale, rtol=1e-3)
    assert table["psf_fwhm_arcsec"].unit == u.arcsec and table["weight"].unit == u.nJy**-2
    assert ((table["psf_fwhm_arcsec"] > 0.45) & (table["psf_fwhm_arcsec"] < 1.1)).all()
    n_used = result.n_image.array.sum()
    assert table["n_good"].sum() - table["n_rejected"].sum() == n_used
    assert ((table["chi2"] > 0.5) & (table["chi2"] < 3)).all()


def test_fit_history_has_every_stage(latent, mean):
    table = latent[0].fit_history
    assert table.colnames == ["cell_i", "cell_j", "stage", "step", "loss", "held_out_loss", "chi2"]
    assert set(zip(table["cell_i"], table["cell_j"], strict=True)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    first = table[(table["cell_i"] == 0) & (table["cell_j"] == 0)]
    assert list(dict.fromkeys(first["stage"])) == ["statistic", "mm", "latent"]
    losses = first["loss"][first["stage"] == "mm"]
    assert losses[-1] < losses[0]
    assert mean[0].fit_history.colnames == table.colnames


def test_provenance_is_in_datasets_and_metadata(latent):
    result, task = latent
    for coadd in (result.latent, result.coadd):
        about = coadd.metadata
        assert about["method"] == "mm" and about["n_inputs"] == 4
        assert '"mm_iterations": 40' in about["config"] and len(about["config_sha256"]) == 64
        assert about["version_torch"] and about["version_numpy"] == np.__version__
        assert list(coadd.provenance.inputs["visit"]) == [29324, 29326, 29328, 29330]
    metadata = task.metadata.to_dict()
    assert metadata["seed"] == result.coadd.metadata["seed"]
    assert metadata["n_inputs"] == 4 and metadata["n_dropped"] == 0
    assert metadata["chi2"] == pytest.approx(1.0, abs=0.5)
    assert metadata["run_time_s"] > 0 and metadata["peak_memory_mb"] > 10
    assert metadata["device"].split(":")[0] in ("cpu", "cuda")


def test_network_runs_with_the_shipped_weights(small_patch):
    result = run(make_task(method="acn"), small_patch)
    weights = files("lsst.coadd.astroclearnet") / "resources" / "weights" / "statistic_encoder.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert result.latent.metadata["weights_sha256"] == digest
    assert result.latent.metadata["recipe"] == "trained"
    assert result.latent.image.array.min() >= 0
    assert result.inputs_table["kept"].all()


@pytest.mark.parametrize("field", ["mm_iterations", "target_fwhm"])
def test_options_of_the_fit_reach_it(small_patch, latent, field):
    other = run(
        make_task(**{"mm_iterations": 40, field: {"mm_iterations": 20, "target_fwhm": 3.5}[field]}),
        small_patch,
    )
    assert (other.latent.image.array != latent[0].latent.image.array).any()
    if field == "target_fwhm":
        place = dict(x=float(other.latent.bbox.x.min + 20), y=float(other.latent.bbox.y.min + 20))
        kernel = other.latent.psf.compute_kernel_image(**place).array
        assert adaptive_fwhm(kernel) == pytest.approx(3.5, rel=0.02)


def test_patch_at_the_edge_of_a_tract(small_patch, caplog):
    """It is smaller than others, and cells of their size do not tile it."""
    caplog.set_level(logging.INFO)
    box = small_patch.geometry.outer_bbox
    clipped = Box.factory[box.y.start : box.y.start + 160, box.x.start : box.x.stop]
    geometry = dataclasses.replace(small_patch.geometry, outer_bbox=clipped)
    result = make_task().run(inputs=small_patch.inputs, geometry=geometry, band="i")
    assert "Cells of 40 px in the place of 100, which do not tile a patch of 200 x 160 px." in caplog.text
    for coadd in (result.latent, result.coadd):
        assert coadd.bbox == clipped and coadd.bounds.grid.cell_shape == (40, 40)
        assert coadd.metadata["cell_size"] == 40
        assert not coadd.bounds.missing


def test_order_of_inputs_does_not_matter(small_patch):
    forward = run(make_task(), small_patch)
    backward = run(make_task(), small_patch, small_patch.inputs[::-1])
    for name in ("latent", "coadd"):
        one, other = getattr(forward, name), getattr(backward, name)
        np.testing.assert_array_equal(one.image.array, other.image.array)
        np.testing.assert_array_equal(one.variance.array, other.variance.array)
        np.testing.assert_array_equal(one.mask.array, other.mask.array)
    for name in forward.inputs_table.colnames:
        np.testing.assert_array_equal(forward.inputs_table[name], backward.inputs_table[name])


def test_seed_decides_what_is_random_and_nothing_else(small_patch):
    first, again, other = (run(make_task(seed=seed), small_patch).coadd for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.noise_realizations[0].array, again.noise_realizations[0].array)
    assert (first.noise_realizations[0].array != other.noise_realizations[0].array).any()
    np.testing.assert_array_equal(first.image.array, other.image.array)


def test_seed_comes_from_the_data_id():
    place = dict(skymap="hsc_rings_v1", tract=9813, patch=40, band="i")
    assert make_seed(**place) == 118802691
    assert make_seed(**place, offset=3) == 118802694
    others = [
        make_seed(**place | {key: value}) for key, value in (("tract", 9814), ("patch", 41), ("band", "r"))
    ]
    assert len({make_seed(**place), *others}) == 4


def test_mean_makes_no_latent(mean):
    result, _ = mean
    assert not hasattr(result, "latent")
    assert result.coadd.image.array.min() < 0


def test_handles_and_core_exposures_are_inputs_too(small_patch, mean):
    first, second, *rest = small_patch.inputs
    handle = InMemoryDatasetHandle(first.exposure_or_handle)
    core = exposure_from_visit_image(second.exposure_or_handle, data_id=second.data_id)
    mixed = [
        CoaddInput(exposure_or_handle=handle, data_id=first.data_id),
        CoaddInput(exposure_or_handle=core, data_id=second.data_id),
        *rest,
    ]
    result = run(make_task(method="mean"), small_patch, mixed)
    np.testing.assert_array_equal(result.coadd.image.array, mean[0].coadd.image.array)


def test_broad_psf_is_left_out_and_recorded(small_patch, mean):
    widths = mean[0].inputs_table["psf_fwhm_arcsec"]
    limit = float(np.sort(widths)[-2:].mean())
    result = run(make_task(method="mean", select={"max_psf_fwhm": limit}), small_patch)
    table = result.inputs_table
    assert list(table["kept"]) == list(widths <= limit)
    assert "select.max_psf_fwhm is" in table["reason"][~table["kept"]][0]
    assert np.isnan(table["weight"][~table["kept"]]).all()


def test_several_instruments_are_not_mixed(small_patch):
    first, *rest = small_patch.inputs
    other = dataclasses.replace(first, data_id={**first.data_id, "instrument": "DECam"})
    with pytest.raises(ValueError, match=r"several instruments \(DECam, HSC\): name one"):
        run(make_task(method="mean"), small_patch, [other, *rest])


def test_input_that_no_cell_could_use_is_not_kept(small_patch, monkeypatch, caplog):
    first, *rest = small_patch.inputs
    cut = assemble_acn_coadd.cut_stack

    def cut_others(warped, **place):
        return cut([one for one in warped if one.visit != first.data_id["visit"]], **place)

    monkeypatch.setattr(assemble_acn_coadd, "cut_stack", cut_others)
    task = make_task(method="mean")
    table = run(task, small_patch).inputs_table
    assert list(table["kept"]) == [False] + [True] * len(rest)
    assert table["reason"][0] == "used in no cell" and "it could be used in no cell" in caplog.text
    assert np.isnan(table["weight"][0]) and table["n_good"][0] == 0
    assert (task.metadata["n_inputs"], task.metadata["n_dropped"]) == (len(rest), 1)
    # They count no more for min_inputs.
    task = make_task(method="mean", min_inputs=len(small_patch.inputs))
    with pytest.raises(NoWorkFound, match="3 of 4 inputs can be used.*Left out: used in no cell"):
        run(task, small_patch)


def test_failed_fit_is_an_algorithm_error(small_patch, monkeypatch):
    def fail(*args, **kwargs):
        raise FitError("The fit of cell (0, 0) is not finite.", i=0, j=0)

    monkeypatch.setattr("lsst.coadd.astroclearnet.core.patch._tiles.fit_patch", fail)
    with pytest.raises(FitFailedError, match=r"cell \(0, 0\) is not finite") as caught:
        run(make_task(), small_patch)
    assert caught.value.metadata == {"i": 0, "j": 0}


def test_progress_is_logged(small_patch, caplog):
    with caplog.at_level("INFO"):
        run(make_task(method="mean"), small_patch)
    assert "Registered visit=29324 detector=50 (1/4)" in caplog.text
    assert "cell 4/4" in caplog.text and "s left" in caplog.text


@pytest.mark.parametrize("image_model", ["images", "afw"])
@pytest.mark.parametrize("method", ["acn", "mm", "mean"])
def test_connections_follow_the_config(image_model, method):
    config = AssembleAcnCoaddConfig()
    config.image_model, config.method = image_model, method
    connections = AssembleAcnCoaddConnections(config=config)
    assert ("latent" in connections.outputs) == (method != "mean")
    assert ("sky_map" in connections.inputs) == (image_model == "afw")
    assert ("geometry" in connections.inputs) == (image_model == "images")
    assert connections.calexps.storageClass == {"images": "VisitImage", "afw": "ExposureF"}[image_model]
    assert connections.coadd.storageClass == "CellCoadd" and "visit_summaries" not in connections.inputs


def test_connections_are_sound():
    lintConnections(AssembleAcnCoaddConnections)


def test_every_config_field_says_what_it_is():
    for name, field in AssembleAcnCoaddConfig._fields.items():
        if name not in ("connections", "saveLogOutput"):
            assert len(field.doc) > 40, name
