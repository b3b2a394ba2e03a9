# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measurement of acn_coadd by the tasks of the Science Pipelines.

Those tasks cannot be installed from PyPI: their connections are checked
against a copy of what the upstream source says, and against the tasks
themselves where they can be imported.
"""

import importlib.util

import numpy as np
import pytest
from _pipelines import load
from test_assemble_acn_coadd import make_task, run

from lsst.coadd.astroclearnet._connections import PATCH
from lsst.coadd.astroclearnet.correct_acn_flux_errors import CorrectAcnFluxErrorsTask
from lsst.daf.butler import DatasetType, DimensionUniverse, StorageClassFactory
from lsst.pipe.base.pipeline import LabelSpecifier
from lsst.pipe.base.pipelineIR import ContractError

CELL, EXPOSURE, CATALOG = "MultipleCellCoadd", "ExposureF", "SourceCatalog"

UPSTREAM = {
    # lsst/pipe_tasks 5b638a48 multiBand.py:73-170.
    "lsst.pipe.tasks.multiBand.DetectCoaddSourcesTask": {
        "fields": {
            "useCellCoadds",
            "detection.thresholdType",
            "detection.doThresholdScaling",
            "detection.doBackgroundTweak",
        },
        "inputs": {"exposure_cells": ("{inputCoaddName}CoaddCell", CELL)},
        "outputs": {
            "detectionSchema": ("{outputCoaddName}Coadd_det_schema", CATALOG),
            "outputBackgrounds": ("{outputCoaddName}Coadd_calexp_background", "Background"),
            "outputSources": ("{outputCoaddName}Coadd_det", CATALOG),
            "outputExposure": ("{outputCoaddName}Coadd_calexp", EXPOSURE),
        },
    },
    # lsst/pipe_tasks 5b638a48 mergeDetections.py:122-170.
    "lsst.pipe.tasks.mergeDetections.MergeDetectionsTask": {
        "fields": {"priorityList"},
        "inputs": {
            "schema": ("{inputCoaddName}Coadd_det_schema", CATALOG),
            "catalogs": ("{inputCoaddName}Coadd_det", CATALOG),
            "skyMap": ("skyMap", "SkyMap"),
        },
        "outputs": {
            "outputSchema": ("{outputCoaddName}Coadd_mergeDet_schema", CATALOG),
            "outputPeakSchema": ("{outputCoaddName}Coadd_peak_schema", "PeakCatalog"),
            "outputCatalog": ("{outputCoaddName}Coadd_mergeDet", CATALOG),
        },
    },
    # lsst/meas_extensions_scarlet b538e17 deconvolveExposureTask.py:92-151.
    "lsst.meas.extensions.scarlet.deconvolveExposureTask.DeconvolveExposureTask": {
        "fields": {"useCellCoadds"},
        "inputs": {
            "coadd_cell": ("{inputCoaddName}CoaddCell", CELL),
            "background": ("{inputCoaddName}Coadd_calexp_background", "Background"),
            "catalog": ("{inputCoaddName}Coadd_mergeDet", CATALOG),
        },
        "outputs": {"deconvolved": ("deconvolved_{inputCoaddName}_coadd", EXPOSURE)},
    },
    # lsst/pipe_tasks 5b638a48 deblendCoaddSourcesPipeline.py:42-137.
    "lsst.pipe.tasks.deblendCoaddSourcesPipeline.DeblendCoaddSourcesMultiTask": {
        # lsst/meas_extensions_scarlet b538e17 scarletDeblendTask.py:578.
        "fields": {"useCellCoadds", "multibandDeblend.footprintSNRThresh"},
        "inputs": {
            "inputSchema": ("{inputCoaddName}Coadd_mergeDet_schema", CATALOG),
            "peakSchema": ("{inputCoaddName}Coadd_peak_schema", "PeakCatalog"),
            "mergedDetections": ("{inputCoaddName}Coadd_mergeDet", CATALOG),
            "coadds_cell": ("{inputCoaddName}CoaddCell", CELL),
            "backgrounds": ("{inputCoaddName}Coadd_calexp_background", "Background"),
            "deconvolvedCoadds": ("deconvolved_{inputCoaddName}_coadd", EXPOSURE),
        },
        "outputs": {
            "outputSchema": ("{outputCoaddName}Coadd_deblendedFlux_schema", CATALOG),
            "deblendedCatalog": ("{outputCoaddName}Coadd_deblendedCatalog", CATALOG),
            "scarletModelData": ("{outputCoaddName}Coadd_scarletModelData", "LsstScarletModelData"),
            "objectParents": ("object_parent_patch", CATALOG),
        },
    },
    # lsst/pipe_tasks 5b638a48 multiBand.py:418-520; without doPropagateFlags.
    "lsst.pipe.tasks.multiBand.MeasureMergedCoaddSourcesTask": {
        "fields": {"useCellCoadds", "doPropagateFlags"},
        "inputs": {
            "inputSchema": ("{inputCoaddName}Coadd_deblendedFlux_schema", CATALOG),
            "exposure_cells": ("{inputCoaddName}CoaddCell", CELL),
            "background": ("{inputCoaddName}Coadd_calexp_background", "Background"),
            "skyMap": ("skyMap", "SkyMap"),
            "scarletCatalog": ("{inputCoaddName}Coadd_deblendedCatalog", CATALOG),
            "scarletModels": ("{inputCoaddName}Coadd_scarletModelData", "LsstScarletModelData"),
        },
        "outputs": {
            "outputSchema": ("{inputCoaddName}Coadd_meas_schema", CATALOG),
            "outputSources": ("{outputCoaddName}Coadd_meas", CATALOG),
        },
    },
    # lsst/pipe_tasks 5b638a48 mergeMeasurements.py:36-66.
    "lsst.pipe.tasks.mergeMeasurements.MergeMeasurementsTask": {
        "fields": {"priorityList"},
        "inputs": {
            "inputSchema": ("{inputCoaddName}Coadd_meas_schema", CATALOG),
            "catalogs": ("{inputCoaddName}Coadd_meas", CATALOG),
        },
        "outputs": {
            "outputSchema": ("{outputCoaddName}Coadd_ref_schema", CATALOG),
            "mergedCatalog": ("{outputCoaddName}Coadd_ref", CATALOG),
        },
    },
    # lsst/drp_tasks dc28b94 forcedPhotCoadd.py:34-122.
    "lsst.drp.tasks.forcedPhotCoadd.ForcedPhotCoaddTask": {
        "fields": {"useCellCoadds"},
        "inputs": {
            "inputSchema": ("{inputCoaddName}Coadd_ref_schema", CATALOG),
            "exposure_cell": ("{inputCoaddName}CoaddCell", CELL),
            "background": ("{inputCoaddName}Coadd_calexp_background", "Background"),
            "refCat": ("{inputCoaddName}Coadd_ref", CATALOG),
            "refCatInBand": ("{inputCoaddName}Coadd_meas", CATALOG),
            "scarletModels": ("{inputCoaddName}Coadd_scarletModelData", "LsstScarletModelData"),
            "refWcs": ("{inputCoaddName}Coadd.wcs", "Wcs"),
        },
        "outputs": {
            "outputSchema": ("{outputCoaddName}Coadd_forced_src_schema", CATALOG),
            "measCat": ("{outputCoaddName}Coadd_forced_src", CATALOG),
        },
    },
}
"""Connections that these tasks have with ``useCellCoadds`` set (detection
without ``forceExactBinning``), and the fields that the pipelines set."""

IMAGES = {
    "acn_coadd": {CELL, "CellCoadd"},
    "acn_coadd_psf_flux_error": {"ImageV2"},
    "skyMap": {"SkyMap"},
}
OURS = f"{CorrectAcnFluxErrorsTask.__module__}.CorrectAcnFluxErrorsTask"
TEMPLATES = {"inputCoaddName": "deep", "outputCoaddName": "deep"}


def settings_of(pipeline, label):
    """Return what a pipeline sets for a task: connections, other fields."""
    settings = {}
    for config in pipeline._pipelineIR.tasks[label].config or ():
        settings |= config.rest
    connections = {
        key.removeprefix("connections."): value
        for key, value in settings.items()
        if key.startswith("connections.")
    }
    return connections, {key for key in settings if not key.startswith("connections.")}


def connect(pipeline, label):
    """Return the dataset and storage class of each connection of a task."""
    if pipeline._pipelineIR.tasks[label].klass == OURS:
        connections = CorrectAcnFluxErrorsTask.ConfigClass.ConnectionsClass(config=config_of(pipeline, label))
        return {
            kind: {name: described(getattr(connections, name)) for name in getattr(connections, kind)}
            for kind in ("inputs", "outputs")
        }
    facts = UPSTREAM[pipeline._pipelineIR.tasks[label].klass]
    changed, fields = settings_of(pipeline, label)
    known = {*facts["inputs"], *facts["outputs"]}
    assert set(changed) <= known | set(TEMPLATES), label
    assert fields <= facts["fields"], label
    templates = TEMPLATES | {key: changed[key] for key in TEMPLATES if key in changed}
    found = {}
    for kind in ("inputs", "outputs"):
        found[kind] = {
            name: (changed.get(name, dataset).format(**templates), storage)
            for name, (dataset, storage) in facts[kind].items()
        }
    return found


def config_of(pipeline, label):
    """Return the configuration of a task of ours."""
    config = CorrectAcnFluxErrorsTask.ConfigClass()
    for name, value in settings_of(pipeline, label)[0].items():
        setattr(config.connections, name, value)
    return config


def described(connection):
    return connection.name, connection.storageClass


def flow(name):
    """Return all that the tasks of a pipeline read and write, by dataset."""
    pipeline = load(name)
    read, written = {}, {}
    for label in pipeline.task_labels:
        connected = connect(pipeline, label)
        for dataset, storage_class in connected["inputs"].values():
            read.setdefault(dataset.partition(".")[0], set()).add(storage_class)
        for dataset, storage_class in connected["outputs"].values():
            assert dataset not in written
            written[dataset] = storage_class
    return read, written


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("acn-measure", IMAGES),
        ("acn-measure-latent", IMAGES | {"acn_latent": {EXPOSURE}}),
    ],
)
def test_everything_else_is_made_on_the_way(name, outside):
    """Each input is an image of ours, or written by another of the tasks."""
    read, written = flow(name)
    assert {dataset: read[dataset] for dataset in set(read) - set(written)} == outside
    for dataset in set(read) & set(written):
        assert read[dataset] <= {written[dataset], "Wcs"}, dataset
    assert not any(dataset.startswith("deep") for dataset in {*read, *written})


def test_variant_reads_the_latent_and_deconvolves_nothing():
    read, written = flow("acn-measure-latent")
    assert "acn_latent" in read and not any("deconvolved" in dataset for dataset in {*read, *written})
    base, variant = load("acn-measure"), load("acn-measure-latent")
    assert set(base.task_labels) - set(variant.task_labels) == {"deconvolveAcnCoadd"}
    assert variant.subsets["measure"] == set(variant.task_labels)


def test_limit_for_footprints_of_the_latent_is_some_sigma_of_the_coadd(small_patch):
    """``_getDeconvolvedFootprints`` in lsst/meas_extensions_scarlet b538e17
    divides the image by the median of the root of its variance.
    """
    pipeline = load("acn-measure-latent")
    (config,) = pipeline._pipelineIR.tasks["deblendAcnCoadd"].config[-1:]
    limit = config.rest["multibandDeblend.footprintSNRThresh"]
    result = run(make_task(method="acn", cell_size=200), small_patch)
    known = ~result.coadd.mask.get("NO_DATA")
    coadd, latent = (
        float(np.median(np.sqrt(image.variance.array[known]))) for image in (result.coadd, result.latent)
    )
    sigma_of_coadd = limit * latent / coadd
    assert sigma_of_coadd > 1.0
    assert sigma_of_coadd < 8.0
    assert f"The {limit} below" in pipeline._pipelineIR.description


@pytest.mark.parametrize("storage_class", [CELL, EXPOSURE])
def test_stack_converts_cell_coadds_to_what_the_tasks_read(storage_class):
    """``converters`` in lsst/daf_butler storageClasses.yaml."""
    converters = StorageClassFactory().getStorageClass(storage_class).converters
    method = {CELL: "to_legacy_cell_coadd", EXPOSURE: "to_legacy"}[storage_class]
    assert converters["lsst.images.cells.CellCoadd"] == f"lsst.images.cells.CellCoadd.{method}"


def test_labels_and_catalogues_are_not_those_of_deep_coadds():
    """So that both can lie in one collection."""
    _, written = flow("acn-measure")
    assert all("acn" in dataset for dataset in written)
    assert all("Acn" in label for label in load("acn-measure").task_labels)


@pytest.mark.parametrize("name", ["acn-measure", "acn-measure-latent"])
def test_pipelines_resolve_where_the_tasks_are_installed(name):
    skip_without_tasks()
    graph, universe = load(name).to_graph(), DimensionUniverse()
    # As 'pipetask build --show' does it without a repository.
    graph.resolve(dimensions=universe, dataset_types={}, visualization_only=True)
    there = DatasetType("acn_coadd", PATCH, "CellCoadd", universe=universe)
    graph.resolve(dimensions=universe, dataset_types={"acn_coadd": there})
    read, written = flow(name)
    for dataset, storage_class in written.items():
        assert graph.dataset_types[dataset].storage_class_name == storage_class
    assert {*read, *written} <= set(graph.dataset_types)


def test_sources_are_detected_by_our_subtask_with_the_settings_of_the_instrument():
    """Retargeting keeps what was set before."""
    skip_without_tasks()
    pytest.importorskip("lsst.obs.subaru", reason="a part of the full stack", exc_type=ImportError)
    from lsst.coadd.astroclearnet.detect_acn_sources import DetectAcnSourcesTask

    pipeline = load("acn-measure").subsetFromLabels(LabelSpecifier(labels={"detectAcnCoadd"}))
    pipeline.addInstrument("lsst.obs.subaru.HyperSuprimeCam")
    detection = pipeline.to_graph().tasks["detectAcnCoadd"].config.detection
    assert detection.target is DetectAcnSourcesTask
    assert detection.thresholdType == "pixel_stdev"
    assert not detection.doThresholdScaling and not detection.doBackgroundTweak
    # lsst/obs_subaru d4a8abe config/detectCoaddSources.py.
    assert detection.reEstimateBackground and detection.background.binSize == 128


def test_errors_are_those_of_the_coadd_that_was_measured():
    """Whoever measures another coadd is told to name it to all tasks."""
    skip_without_tasks()
    pipeline, coadd = load("acn-measure"), "connections.coadd"
    for label, name in (
        ("detectAcnCoadd", "connections.exposure_cells"),
        ("deconvolveAcnCoadd", "connections.coadd_cell"),
        ("deblendAcnCoadd", "connections.coadds_cell"),
        ("measureAcnCoadd", "connections.exposure_cells"),
        ("forcedPhotAcnCoadd", "connections.exposure_cell"),
    ):
        pipeline.addConfigOverride(label, name, "injected_acn_coadd")
    with pytest.raises(ContractError, match="must read the coadd on which sources were measured"):
        pipeline.to_graph()
    for label in ("correctAcnMeasErrors", "correctAcnForcedErrors"):
        pipeline.addConfigOverride(label, coadd, "injected_acn_coadd")
    pipeline.to_graph()


def test_catalogues_can_be_made_without_corrected_errors():
    """As "When something goes wrong" in the guide has it."""
    skip_without_tasks()
    labels = set(load("acn-measure").task_labels) - {"correctAcnMeasErrors", "correctAcnForcedErrors"}
    pipeline = load("acn-measure").subsetFromLabels(LabelSpecifier(labels=labels))
    pipeline.addConfigOverride("measureAcnCoadd", "connections.outputSources", "acnCoadd_meas")
    pipeline.addConfigOverride("forcedPhotAcnCoadd", "connections.measCat", "acnCoadd_forced_src")
    assert set(pipeline.to_graph().tasks) == labels


def skip_without_tasks():
    """Skip where the tasks of the stack cannot be imported."""
    missing = [
        package
        for package in ("lsst.pipe.tasks", "lsst.drp.tasks", "lsst.meas.extensions.scarlet")
        if not _is_installed(package)
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)} cannot be imported: PyPI has no such package.")


def _is_installed(package):
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False
