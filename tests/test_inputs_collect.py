# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which datasets go with which exposure."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import _afw_stand_ins as fake
import pytest
from _inputs_data import make_config

from lsst.coadd.astroclearnet.adapters import InputExtras, StatisticTypeError
from lsst.coadd.astroclearnet.inputs._collect import collect_inputs
from lsst.coadd.astroclearnet.inputs._input import CoaddInput
from lsst.coadd.astroclearnet.inputs._summary import naming
from lsst.pipe.base import InMemoryDatasetHandle


def ref(**data_id):
    return SimpleNamespace(dataId=SimpleNamespace(mapping={"instrument": "HSC", **data_id}))


class Ref(SimpleNamespace):
    def __init__(self, **data_id):
        full = {"instrument": "HSC", **data_id}
        super().__init__(dataId=type("DataId", (dict,), {"mapping": property(dict)})(full))


class Context:
    """The quantum's Butler: handles for what is deferred."""

    def __init__(self, **contents):
        self.contents = contents

    def get(self, refs):
        return [self.contents[next(iter(refs)).connection][self._key(one)] for one in refs] if refs else []

    @staticmethod
    def _key(one):
        return tuple(one.dataId[name] for name in ("visit", "detector") if name in one.dataId)


def make_refs(connection, *keys):
    refs = []
    for key in keys:
        one = Ref(**dict(zip(("visit", "detector"), key, strict=False)))
        one.connection = connection
        refs.append(one)
    return refs


KEYS = ((1, 50), (1, 58), (2, 50))


def collect(config, **contents):
    refs = SimpleNamespace(**{name: make_refs(name, *found) for name, found in contents.items()})
    return collect_inputs(Context(**contents), refs, config)


def afw_config(**fields):
    return make_config(image_model="afw", **fields)


def test_rows_of_visit_summaries_go_with_their_exposures():
    """Each detector gets its own row, or is left out."""
    row = fake.Record({"id": 50, "psfSigma": 2.0, "pixelScale": 0.2}, Wcs="WCS")
    inputs = collect(
        afw_config(use_visit_summary=True),
        calexps=dict.fromkeys(KEYS, "handle"),
        visit_summaries={(1,): InMemoryDatasetHandle(fake.Catalog([row]))},
    )
    first, second, third = inputs
    assert first.extras.visit_summary_row is row and first.skip == first.fault == ""
    assert (
        first.visit_statistics.psf_fwhm == second.visit_statistics.psf_fwhm == pytest.approx(0.942, abs=1e-3)
    )
    assert second.extras.visit_summary_row is None and second.skip == "has no row in its visit summary"
    assert third.extras.visit_summary_row is third.visit_statistics is None
    assert third.fault == "has no finalVisitSummary; make it or unset use_visit_summary" and not third.skip


def test_visit_summary_that_cannot_be_read_costs_its_visit_alone():
    class Broken:
        def get(self):
            raise LookupError("no such HDU")

    row = fake.Record({"id": 50, "psfSigma": 2.0, "pixelScale": 0.2}, Wcs="WCS")
    inputs = collect(
        afw_config(use_visit_summary=True),
        calexps=dict.fromkeys(KEYS, "handle"),
        visit_summaries={(1,): Broken(), (2,): InMemoryDatasetHandle(fake.Catalog([row]))},
    )
    for one in inputs[:2]:
        assert (
            one.fault
            == "has a finalVisitSummary that cannot be read (LookupError: no such HDU); make it anew"
        )
    assert inputs[2].extras.visit_summary_row is row and inputs[2].fault == ""


@pytest.mark.parametrize(
    "cause", [MemoryError("Unable to allocate"), OSError(errno.EMFILE, "Too many files")]
)
def test_shortage_of_the_machine_is_no_fault_of_an_input(cause):
    """Another run would have memory, and use it. The Butler wraps errors."""

    class Short:
        def get(self):
            raise ValueError("Failure from formatter") from cause

    config = afw_config(use_visit_summary=True)
    with pytest.raises(ValueError, match="Failure from formatter"):
        collect(config, calexps=dict.fromkeys(KEYS, "handle"), visit_summaries={(1,): Short()})
    one = CoaddInput(exposure_or_handle=Short(), data_id={"visit": 1, "detector": 50})
    with pytest.raises(ValueError, match="Failure from formatter") as caught, naming(one, "read"):
        one.exposure_or_handle.get()
    assert caught.type is ValueError  # InvalidExposureError is one, too


def test_backgrounds_go_with_their_exposures():
    config = afw_config(revert_background=True, apply_background=True, apply_background_ratio=True)
    inputs = collect(
        config,
        calexps=dict.fromkeys(KEYS, "handle"),
        background_reverts={key: f"revert {key}" for key in KEYS},
        background_applies={key: f"apply {key}" for key in KEYS[:2]},
        background_ratios={key: f"ratio {key}" for key in KEYS},
    )
    assert vars(inputs[1].extras) == vars(
        InputExtras(
            background_revert="revert (1, 58)",
            background_apply="apply (1, 58)",
            background_ratio="ratio (1, 58)",
        )
    )
    assert [one.fault for one in inputs] == ["", "", "has no skyCorr; make it or unset apply_background"]


@pytest.mark.parametrize("key", [1, "1"])
def test_visits_that_are_not_selected_are_skipped(key):
    """Keys of a dictionary may come back from a file as text."""
    config = make_config(use_selected_visits=True)
    inputs = collect(config, calexps=dict.fromkeys(KEYS, "handle"), selected_visits={(): {key: True}})
    assert [one.skip for one in inputs] == ["", "", "its visit is not among the selected visits"]


@pytest.mark.parametrize("required", [True, False])
def test_visits_without_an_artifact_mask(required):
    config = make_config(use_artifact_masks=True, require_artifact_masks=required)
    inputs = collect(config, calexps=dict.fromkeys(KEYS, "handle"), artifact_masks={(1,): "mask"})
    assert [one.artifact_mask for one in inputs] == ["mask", "mask", None]
    assert [one.skip for one in inputs] == ["", "", "its visit has no artifact mask" if required else ""]


def test_warps_take_the_place_of_exposures():
    """Their detectors were selected when they were made."""
    config = afw_config(inputs="warps", use_visit_summary=True)
    row = fake.Record({"id": 50, "psfSigma": 2.0, "pixelScale": 0.2}, Wcs="WCS")
    inputs = collect(
        config,
        warps={(1,): "first", (2,): "second"},
        visit_summaries={(1,): InMemoryDatasetHandle(fake.Catalog([row]))},
    )
    assert [one.exposure_or_handle for one in inputs] == ["first", "second"]
    assert [one.label for one in inputs] == ["visit=1", "visit=2"]
    assert not any(one.skip or one.fault for one in inputs)
    assert inputs[0].visit_statistics.psf_fwhm == pytest.approx(0.942, abs=1e-3)


def test_visit_summary_of_warps_that_cannot_be_read_is_named(caplog):
    """The warps are used all the same; only cuts on visits miss it."""

    class Broken:
        def get(self):
            raise LookupError("no such HDU")

    config = afw_config(inputs="warps", use_visit_summary=True)
    inputs = collect(config, warps={(1,): "first", (2,): "second"}, visit_summaries={(1,): Broken()})
    assert not any(one.skip or one.fault or one.visit_statistics for one in inputs)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "visit=1 has a finalVisitSummary that cannot be read (LookupError" in record.getMessage()


def test_column_of_text_to_cut_on_is_an_error_of_the_configuration():
    """Not of the summaries, each of which would be lost."""
    row = fake.Record({"id": 50, "psfSigma": 2.0, "pixelScale": 0.2, "band": "r"}, Wcs="WCS")
    config = afw_config(use_visit_summary=True, select={"min_visit_values": {"band": 1.0}})
    with pytest.raises(StatisticTypeError, match="'band' is not a number .'r'"):
        collect(
            config,
            calexps=dict.fromkeys(KEYS, "handle"),
            visit_summaries={(1,): InMemoryDatasetHandle(fake.Catalog([row]))},
        )


# In a repository.
