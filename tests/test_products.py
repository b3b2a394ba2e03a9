# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the assembly task writes of a fit, beside its images."""

import dataclasses
import functools
import logging

import astropy.units as u
import numpy as np
import pytest

from lsst.coadd.astroclearnet.adapters import OUTPUT_PLANES
from lsst.coadd.astroclearnet.assemble_acn_coadd import (
    AssembleAcnCoaddConfig,
    AssembleAcnCoaddTask,
    FitFailedError,
)
from lsst.coadd.astroclearnet.core.methods import _fit
from lsst.coadd.astroclearnet.core.patch._trust import TrustLimits
from lsst.coadd.astroclearnet.outputs._tables import InputRecord, report_oddities


@pytest.fixture(scope="module")
def run(small_patch):
    """Assemble the small patch; each set of overrides once."""

    @functools.cache
    def assemble(**overrides):
        config = AssembleAcnCoaddConfig()
        config.cell_size = 100
        for name, value in overrides.items():
            part, _, field = name.rpartition("__")
            setattr(getattr(config, part) if part else config, field, value)
        config.validate()
        task = AssembleAcnCoaddTask(config=config)
        result = task.run(inputs=small_patch.inputs, geometry=small_patch.geometry, band="i")
        return result, task.metadata.to_dict()

    return assemble


def test_every_plane_is_there_with_its_definition(run):
    result, _ = run()
    for coadd in (result.coadd, result.latent):
        for plane in OUTPUT_PLANES:
            assert coadd.mask.schema.descriptions[plane.name] == plane.description
            assert len(plane.description) > 20
        assert "DETECTED" not in coadd.mask.schema.names  # left to detection


def test_untrusted_pixels_and_how_many_for_each_reason(run):
    """Plane, metadata of the datasets and of the task say the same."""
    result, metadata = run()
    seen = ~result.latent.mask.get("NO_DATA")
    marked = result.latent.mask.get("ACN_UNTRUSTED")
    np.testing.assert_array_equal(marked, result.coadd.mask.get("ACN_UNTRUSTED"))
    about = result.latent.metadata
    assert about["untrusted"] == pytest.approx(marked[seen].mean()) == metadata["untrusted"]
    reasons = {name.removeprefix("untrusted_") for name in about if name.startswith("untrusted_")}
    assert reasons == {"saturated", "few_inputs", "not_converged", "misfit", "seeing", "psf_change"}
    assert about["untrusted"] < 0.05
    saturated = result.latent.mask.get("SATURATED")
    assert saturated.any() and marked[saturated].all() and marked.sum() > 2 * saturated.sum()


def test_limits_are_fields_of_the_config(run):
    strict, _ = run(trust__min_inputs=5)
    assert strict.latent.mask.get("ACN_UNTRUSTED").all()
    wide, _ = run(trust__halo=30)
    assert wide.latent.metadata["untrusted_saturated"] > 2 * run()[0].latent.metadata["untrusted_saturated"]
    np.testing.assert_array_equal(strict.latent.image.array, run()[0].latent.image.array)
    assert AssembleAcnCoaddConfig().trust.make_limits() == TrustLimits()


def test_fit_that_was_cut_short_is_not_trusted(run):
    result, _ = run(method="mm", mm_iterations=8)
    assert result.latent.mask.get("ACN_UNTRUSTED").all()
    assert result.latent.metadata["untrusted_not_converged"] == 1


def test_linear_coadd_has_no_latent_to_trust(run):
    result, _ = run(method="mean")
    assert not result.coadd.mask.get("ACN_UNTRUSTED").any()
    assert not any(name.startswith("untrusted") for name in result.coadd.metadata)
    assert result.coadd.metadata["noise_area_10"] > 0


def test_inputs_table_has_the_calibration_of_each_exposure(run):
    table = run()[0].inputs_table
    for name, unit in (("flux_scale", None), ("sky", u.nJy), ("shift_x", u.pix), ("shift_y", u.pix)):
        assert table[name].unit == table[f"{name}_error"].unit == unit
        assert (table[f"{name}_error"] > 0).all()
        assert len(table[name].description) > 10
        assert table.colnames.index(f"{name}_error") == table.colnames.index(name) + 1
    assert all(column.description for column in table.itercols())
    scale = np.asarray(table["noise_scale"])
    assert table["noise_scale"].unit is None and (np.abs(scale - 1) < 0.2).all()
    assert np.abs(table["flux_scale"] - 1).max() < 0.03
    assert np.abs(table["shift_x"]).max() < 0.05 and np.abs(table["shift_y"]).max() < 0.05
    assert np.abs(table["sky"]).max() < 1.0


def test_history_table_says_what_its_columns_are(run):
    table = run(method="mm", mm_iterations=8)[0].fit_history
    assert all(len(column.description) > 10 for column in table.itercols())
    assert table["loss"].unit is None and "no unit" in table["loss"].description


def test_what_was_chosen_is_recorded(run):
    about = run()[0].coadd.metadata
    assert about["cell_size"] == 100 and about["halo"] == AssembleAcnCoaddConfig().halo
    assert 0 <= about["seed"] < 2**31 and '"trust"' in about["config"]


@pytest.fixture
def broken_cell(monkeypatch):
    """Let the fit of cell (0, 1) fail in a way of its own."""
    real = _fit._MeanFitter.fit

    def fit(self, stack, generator):
        if list(generator.bit_generator.seed_seq.entropy[1:]) == [0, 1]:
            raise ZeroDivisionError("nothing in common")
        return real(self, stack, generator)

    monkeypatch.setattr(_fit._MeanFitter, "fit", fit)


def assemble(patch, **fields):
    config = AssembleAcnCoaddConfig()
    config.update(method="mean", cell_size=100, **fields)
    task = AssembleAcnCoaddTask(config=config)
    return task.run(inputs=patch.inputs, geometry=patch.geometry, band="i"), task.metadata.to_dict()


def test_cell_that_fails_is_left_without_data(small_patch, broken_cell, run, caplog):
    with caplog.at_level(logging.WARNING):
        result, metadata = assemble(small_patch, max_failed_cells=0.3)
    whole = run(method="mean")[0]
    cell = np.zeros((200, 200), bool)
    cell[:100, 100:] = True
    no_data = whole.coadd.mask.get("NO_DATA")
    np.testing.assert_array_equal(result.coadd.mask.get("NO_DATA"), cell | no_data)
    assert not result.coadd.image.array[cell].any() and not result.n_image.array[cell].any()
    np.testing.assert_array_equal(result.coadd.image.array[~cell], whole.coadd.image.array[~cell])
    assert (result.psf_flux_error.array[cell] == np.float32(1e6)).all()
    assert (result.psf_flux_error.array[~cell & ~no_data] < 1e5).all()
    assert result.coadd.metadata["n_failed_cells"] == metadata["n_failed_cells"] == 1
    assert whole.coadd.metadata["n_failed_cells"] == 0
    text = "tract=9813 patch=40 band='i': the fit of cell (0, 1) failed"
    assert text in caplog.text and "ZeroDivisionError: nothing in common" in caplog.text
    rows = result.coadd.provenance.contributions
    assert not ((rows["cell_i"] == 0) & (rows["cell_j"] == 1)).any()


def test_too_many_cells_that_fail_are_an_error(small_patch, broken_cell):
    with pytest.raises(
        FitFailedError, match="tract=9813.*1 of 4 cells failed .max_failed_cells is 0.05"
    ) as caught:
        assemble(small_patch)
    assert caught.value.metadata["n_failed_cells"] == 1


def test_seeing_beyond_the_limits_is_warned_of(run, caplog):
    """All of it is marked, and the log says why."""
    result, _ = run(trust__max_seeing=2.5)
    assert result.latent.mask.get("ACN_UNTRUSTED").all()
    assert result.latent.metadata["untrusted_seeing"] == 1
    assert "too narrow or too broad in 4 of 4 cells" in caplog.text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "flux_scale",
            0.6,
            "Inputs of another flux scale than the others: visit=1 detector=7 (0.60); 1 in all.",
        ),
        (
            "shift_x",
            -0.5,
            "Inputs off along x against the others, in pixels: visit=1 detector=7 (-0.50); 1 in all.",
        ),
    ],
)
def test_inputs_at_odds_with_the_others_are_named(name, value, text, caplog):
    """What is off by little, or within its error, is not."""
    records = [InputRecord(visit=visit, detector=7, kept=True) for visit in (1, 2, 3)]
    for record, factor, error in zip(records, (1.0, 0.05, 1.0), (0.01, 0.001, 0.4), strict=True):
        expected = {"flux_scale": 1.0, "shift_x": 0.0, "shift_y": 0.0}
        record.calibration = expected | {f"{key}_error": 0.01 for key in expected}
        record.calibration |= {
            name: expected[name] + factor * (value - expected[name]),
            f"{name}_error": error,
        }
    report_oddities(records, logging.getLogger("lsst"))
    assert text in caplog.text and caplog.text.count("WARNING") == 1


@pytest.mark.parametrize(
    ("value", "linear", "warns"), [(1.2, False, True), (1.2, True, False), (1.5, True, True)]
)
def test_linear_methods_know_fluxes_less_well(value, linear, warns, caplog):
    """Their image is smoothed, small detectors see fluxes of 1.2."""
    record = InputRecord(visit=1, detector=7, kept=True)
    record.calibration = {"flux_scale": value, "flux_scale_error": 0.01}
    report_oddities([record], logging.getLogger("lsst"), linear=linear)
    assert ("another flux scale" in caplog.text) == warns


def test_exposure_of_another_calibration_is_warned_of(small_patch, caplog):
    inputs = list(small_patch.inputs)
    image = inputs[3].exposure_or_handle.copy()
    image.image.array *= 1.5
    inputs[3] = dataclasses.replace(inputs[3], exposure_or_handle=image)
    config = AssembleAcnCoaddConfig(cell_size=200)
    AssembleAcnCoaddTask(config=config).run(inputs=inputs, geometry=small_patch.geometry, band="i")
    visit = inputs[3].data_id["visit"]
    (line,) = (line for line in caplog.text.splitlines() if "another flux scale" in line)
    assert f"visit={visit} detector=" in line


def scale_variance(patch, *, number, factor):
    """Return the inputs, one of them with other variances."""
    inputs = list(patch.inputs)
    image = inputs[number].exposure_or_handle.copy()
    image.variance.array *= factor
    inputs[number] = dataclasses.replace(inputs[number], exposure_or_handle=image)
    return inputs


def assemble_mean(patch, inputs):
    config = AssembleAcnCoaddConfig()
    config.update(method="mean", cell_size=100)
    return AssembleAcnCoaddTask(config=config).run(inputs=inputs, geometry=patch.geometry, band="i")


def test_weights_are_those_of_the_fit(small_patch):
    """Of an exposure whose variances are six times too small, too."""
    inputs = scale_variance(small_patch, number=1, factor=1 / 6)
    result = assemble_mean(small_patch, inputs)
    rows, table = result.coadd.provenance.contributions, result.inputs_table
    assert table["noise_scale"][1] > 3 and table["kept"].all()
    for one in table:
        of_one = rows[(rows["visit"] == one["visit"]) & (rows["detector"] == one["detector"])]
        mean = np.average(of_one["weight"], weights=of_one["unmasked_fraction"])
        assert mean == pytest.approx(one["weight"], rel=0.03)


def test_what_no_cell_was_given_is_not_in_the_provenance(small_patch):
    """And its planes say nothing of the result."""
    inputs = scale_variance(small_patch, number=1, factor=1e8)
    result, without = assemble_mean(small_patch, inputs), assemble_mean(small_patch, inputs[:1] + inputs[2:])
    assert result.inputs_table["reason"][1] == "used in no cell"
    for rows in (result.coadd.provenance.inputs, result.coadd.provenance.contributions):
        assert len(rows) and inputs[1].data_id["visit"] not in rows["visit"]
    np.testing.assert_array_equal(result.n_image.array, without.n_image.array)
    for plane in OUTPUT_PLANES:
        marked = result.coadd.mask.get(plane.name)
        np.testing.assert_array_equal(marked, without.coadd.mask.get(plane.name), err_msg=plane.name)
