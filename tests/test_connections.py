# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs of the assembly task: which are there, and what graphs hold."""

from __future__ import annotations

import pytest
from conftest import DATA_ID, WHERE

from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddConfig, AssembleAcnCoaddConnections
from lsst.daf.butler import Butler, DatasetType
from lsst.pipe.base import Pipeline
from lsst.pipe.base.all_dimensions_quantum_graph_builder import AllDimensionsQuantumGraphBuilder

BASE = {"calexps", "geometry"}
AFW = {"calexps", "sky_map"}


def make_connections(**fields):
    config = AssembleAcnCoaddConfig()
    config.update(**fields)
    config.validate()
    return AssembleAcnCoaddConnections(config=config)


@pytest.mark.parametrize(
    ("fields", "inputs"),
    [
        ({}, BASE),
        ({"use_selected_visits": True}, BASE | {"selected_visits"}),
        ({"use_artifact_masks": True}, BASE | {"artifact_masks"}),
        ({"revert_background": True, "apply_background": True}, BASE),
        ({"image_model": "afw"}, AFW),
        ({"image_model": "afw", "use_visit_summary": True}, AFW | {"visit_summaries"}),
        ({"image_model": "afw", "revert_background": True}, AFW | {"background_reverts"}),
        (
            {"image_model": "afw", "apply_background": True, "apply_background_ratio": True},
            AFW | {"background_applies", "background_ratios"},
        ),
        ({"image_model": "afw", "inputs": "warps"}, {"warps", "sky_map"}),
    ],
)
def test_inputs_follow_the_config(fields, inputs):
    assert set(make_connections(**fields).inputs) == inputs


@pytest.mark.parametrize(
    ("fields", "warns"),
    [
        ({}, False),
        ({"target_fwhm": 26.0}, False),
        ({"target_fwhm": 27.0}, True),
        ({"halo": 3}, True),
        ({"target_fwhm": 27.0, "halo": 41}, False),
        ({"target_fwhm": 27.0, "method": "mean"}, False),
    ],
)
def test_halo_too_small_for_the_target_is_told(fields, warns, caplog):
    make_connections(**fields)
    assert ("less than 1.5 times target_fwhm" in caplog.text and "halo is" in caplog.text) == warns
    if fields.get("target_fwhm") == 27 and warns:
        assert "Set halo to 41 or more" in caplog.text


@pytest.mark.parametrize(("image_model", "storage_class"), [("images", "MaskV2"), ("afw", "Mask")])
def test_masks_are_those_of_the_library(image_model, storage_class):
    connections = make_connections(image_model=image_model, use_artifact_masks=True)
    assert connections.artifact_masks.storageClass == storage_class


def test_names_and_dimensions_are_those_of_the_stack():
    fields = dict.fromkeys(("revert_background", "apply_background", "apply_background_ratio"), True)
    visits = make_connections(image_model="afw", use_visit_summary=True, use_selected_visits=True, **fields)
    warps = make_connections(image_model="afw", inputs="warps", use_artifact_masks=True)
    warp = {"instrument", "visit", "skymap", "tract", "patch"}
    expected = {
        (visits, "calexps"): ("calexp", "ExposureF", {"instrument", "visit", "detector"}),
        (visits, "visit_summaries"): ("finalVisitSummary", "ExposureCatalog", {"instrument", "visit"}),
        (visits, "background_reverts"): (
            "calexpBackground",
            "Background",
            {"instrument", "visit", "detector"},
        ),
        (visits, "background_applies"): ("skyCorr", "Background", {"instrument", "visit", "detector"}),
        (visits, "background_ratios"): (
            "background_to_photometric_ratio",
            "Image",
            {"instrument", "visit", "detector"},
        ),
        (visits, "selected_visits"): (
            "deepCoaddVisits",
            "StructuredDataDict",
            {"instrument", "skymap", "tract", "patch", "band"},
        ),
        (warps, "warps"): ("deepCoadd_directWarp", "ExposureF", warp),
        (warps, "artifact_masks"): ("compare_warp_artifact_mask", "Mask", warp),
        (warps, "sky_map"): ("skyMap", "SkyMap", {"skymap"}),
    }
    for (connections, name), (dataset_type, storage_class, dimensions) in expected.items():
        found = getattr(connections, name)
        assert (found.name, found.storageClass, set(found.dimensions)) == (
            dataset_type,
            storage_class,
            dimensions,
        )
        assert found.deferLoad == (name not in ("selected_visits", "sky_map"))


RUN = "HSC/runs/registry"


def register(butler, name, storage_class, dimensions, data_ids):
    """Add rows without files, as a graph needs them."""
    dataset_type = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
    butler.registry.registerDatasetType(dataset_type)
    butler.registry.insertDatasets(dataset_type, data_ids, run=RUN)


def build_graph(root, **fields):
    """Return the inputs of the one quantum, by connection."""
    (inputs,) = build_graphs(root, **fields)
    return inputs


def build_graphs(root, **fields):
    """Return the inputs of each quantum, by connection."""
    with Butler.from_config(str(root), collections=[RUN, "HSC/defaults"]) as butler:
        pipeline = Pipeline("Graph")
        pipeline.addTask(
            "lsst.coadd.astroclearnet.assemble_acn_coadd.AssembleAcnCoaddTask", "assembleAcnCoadd"
        )
        names = {"connections.calexp_type": "calexp_afw", "connections.coadd_name": "afw"}
        for name, value in {"image_model": "afw", **names, **fields}.items():
            pipeline.addConfigOverride("assembleAcnCoadd", name, value)
        builder = AllDimensionsQuantumGraphBuilder(
            pipeline.to_graph(), butler, where=WHERE, output_run="u/graph"
        )
        return [
            {dataset_type.name: refs for dataset_type, refs in node.quantum.inputs.items()}
            for node in builder.build(attach_datastore_records=False)
        ]


@pytest.fixture
def afw_repo(fresh_repo):
    """Rows of a repository of the full stack, without files."""
    with Butler.from_config(str(fresh_repo), writeable=True) as butler:
        butler.collections.register(RUN)
        refs = butler.query_datasets("calexp", "HSC/defaults")
        exposures = [dict(ref.dataId.required) for ref in refs]
        visits = [{key: one[key] for key in ("instrument", "visit")} for one in exposures]
        patch = {key: value for key, value in DATA_ID.items() if key != "band"}
        warps = [{**one, **patch} for one in visits]
        detector, warp = ("instrument", "visit", "detector"), ("instrument", "visit", *patch)
        register(butler, "calexp_afw", "ExposureF", detector, exposures)
        register(butler, "skyMap", "SkyMap", ("skymap",), [{"skymap": DATA_ID["skymap"]}])
        register(butler, "finalVisitSummary", "ExposureCatalog", ("instrument", "visit"), visits[:3])
        register(butler, "skyCorr", "Background", detector, exposures[:3])
        register(butler, "deepCoadd_directWarp", "ExposureF", warp, warps)
        register(butler, "compare_warp_artifact_mask", "Mask", warp, warps[:2])
        selection = ("instrument", "skymap", "tract", "patch", "band")
        chosen = [{"instrument": "HSC", **DATA_ID}]
        register(butler, "deepCoaddVisits", "StructuredDataDict", selection, chosen)
    return fresh_repo


def test_graph_holds_exposures_that_lack_a_summary_or_background(afw_repo):
    """The task leaves them out and says so; the query would be silent."""
    inputs = build_graph(afw_repo, use_visit_summary=True, apply_background=True, use_selected_visits=True)
    assert {name: len(refs) for name, refs in inputs.items()} == {
        "calexp_afw": 4,
        "skyMap": 1,
        "finalVisitSummary": 3,
        "skyCorr": 3,
        "deepCoaddVisits": 1,
    }


def test_patch_with_too_few_visits_is_told(afw_repo, caplog):
    """A graph of nothing would not say why it is empty."""
    assert build_graphs(afw_repo, min_inputs=9) == []
    (line,) = (line for line in caplog.messages if "min_inputs is 9" in line)
    assert "assembleAcnCoadd" in line and "patch: 40" in line
    assert line.endswith("visits that reach this patch: 4; min_inputs is 9.")


def test_graph_of_warps(afw_repo):
    inputs = build_graph(afw_repo, inputs="warps", use_artifact_masks=True)
    assert {name: len(refs) for name, refs in inputs.items()} == {
        "deepCoadd_directWarp": 4,
        "skyMap": 1,
        "compare_warp_artifact_mask": 2,
    }


def test_optional_input_that_is_not_there_at_all_is_named(fresh_repo, caplog):
    """The graph is empty then, and says why."""
    with Butler.from_config(str(fresh_repo), writeable=True) as butler:
        butler.collections.register(RUN)
        exposures = [dict(ref.dataId.required) for ref in butler.query_datasets("calexp", "HSC/defaults")]
        register(butler, "calexp_afw", "ExposureF", ("instrument", "visit", "detector"), exposures)
        register(butler, "skyMap", "SkyMap", ("skymap",), [{"skymap": DATA_ID["skymap"]}])
    assert not build_graphs(fresh_repo, apply_background=True)
    assert "There is no skyCorr for assembleAcnCoadd" in caplog.text
    assert "patch: 40" in caplog.text and "make it or unset apply_background" in caplog.text
