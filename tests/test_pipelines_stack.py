# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pipelines of the full stack: resolved and made graphs of without it.

Graphs are built from dimension records and dataset rows alone; what the rows
point to need not exist.
"""

import importlib
import sys
import types

import pytest
from _pipelines import load, prepare
from conftest import DATA_ID

from lsst.daf.butler import Butler, CollectionType, DatasetType, DimensionUniverse
from lsst.pipe.base import Instrument

PATCH = ("skymap", "tract", "patch", "band")
IMAGE = ("instrument", "visit", "detector")
WARP = ("skymap", "tract", "patch", "instrument", "visit")
STACK = {
    "HSC": {
        "calexp": ("ExposureF", IMAGE),
        "calexpBackground": ("Background", IMAGE),
        "skyCorr": ("Background", IMAGE),
        "finalVisitSummary": ("ExposureCatalog", ("instrument", "visit")),
        "deepCoadd_directWarp": ("ExposureF", WARP),
        "compare_warp_artifact_mask": ("Mask", WARP),
        "deepCoaddVisits": ("StructuredDataDict", ("instrument", *PATCH)),
        "deepCoadd": ("ExposureF", PATCH),
    },
    "LSSTCam": {
        "visit_image": ("ExposureF", IMAGE),
        "preliminary_visit_image": ("ExposureF", IMAGE),
        "visit_image_background": ("Background", IMAGE),
        "visit_summary": ("ExposureCatalog", ("instrument", "visit")),
        "direct_warp": ("ExposureF", WARP),
        "deep_coadd_visit_selection": ("StructuredDataDict", ("instrument", *PATCH)),
        "deep_coadd_predetection": ("ExposureF", PATCH),
    },
}
"""Storage class and dimensions of what the stack writes, by names of drp_pipe
a5ef3ba (DRP-minimal-calibration.yaml, base-v2.yaml)."""


def resolve(pipeline):
    graph = pipeline.to_graph()
    graph.resolve(dimensions=DimensionUniverse(), dataset_types={})
    return {name: node.storage_class_name for name, node in graph.dataset_types.items()}


@pytest.fixture
def obs_packages(monkeypatch):
    """Stand in for the instruments of obs packages that are not installed.

    The key ``instrument:`` of a pipeline needs the class; for graphs its name
    is all that matters.
    """
    for module, class_name, name in (
        ("lsst.obs.subaru", "HyperSuprimeCam", "HSC"),
        ("lsst.obs.lsst", "LsstCam", "LSSTCam"),
    ):
        try:
            importlib.import_module(module)
        except ImportError:
            stand_in = types.ModuleType(module)
            methods = {
                "getName": classmethod(lambda cls, name=name: name),
                "register": lambda self, registry, *, update=False: None,
                "getRawFormatter": lambda self, data_id: None,
            }
            setattr(stand_in, class_name, type(class_name, (Instrument,), methods))
            monkeypatch.setitem(sys.modules, module, stand_in)


@pytest.fixture(scope="module")
def stack_repo(small_repo, tmp_path_factory):
    """Make a repository whose datasets are rows of the registry alone."""
    root = tmp_path_factory.mktemp("stack") / "repo"
    Butler.makeRepo(str(root))
    with (
        Butler.from_config(str(small_repo)) as source,
        Butler.from_config(str(root), writeable=True) as butler,
    ):
        insert = butler.registry.insertDimensionData
        for element in ("skymap", "tract", "patch"):
            insert(element, *source.query_dimension_records(element))
        visits = source.query_dimension_records("visit", instrument="HSC")
        regions = source.query_dimension_records("visit_detector_region", instrument="HSC")
        for instrument in STACK:
            add_instrument(insert, instrument, visits, regions)
        insert_rows(butler, "skymaps", {"skyMap": ("SkyMap", ("skymap",))}, [{"skymap": DATA_ID["skymap"]}])
        for instrument, dataset_types in STACK.items():
            places = [
                dict(record.dataId.mapping) | {"instrument": instrument, **DATA_ID} for record in regions
            ]
            insert_rows(butler, f"{instrument}/runs", dataset_types, places)
            chain = f"{instrument}/defaults"
            butler.collections.register(chain, CollectionType.CHAINED)
            butler.collections.redefine_chain(chain, [f"{instrument}/runs", "skymaps"])
    return root


def add_instrument(insert, name, visits, regions):
    """Insert an instrument that took the same visits as all others."""
    limits = {"detector_max": 200, "visit_max": 2**31, "exposure_max": 2**31}
    insert("instrument", {"name": name, "class_name": "not.installed", "visit_system": 0, **limits})
    insert("physical_filter", {"instrument": name, "name": "i-filter", "band": "i"})
    for detector in {record.detector for record in regions}:
        insert("detector", {"instrument": name, "id": detector, "full_name": f"d{detector}"})
    for day_obs in {record.day_obs for record in visits}:
        insert("day_obs", {"instrument": name, "id": day_obs})
    for record in visits:
        insert("visit", record.toDict() | {"instrument": name, "physical_filter": "i-filter"})
    for record in regions:
        insert("visit_detector_region", record.toDict() | {"instrument": name})


def insert_rows(butler, run, dataset_types, places):
    """Register dataset types, and a dataset of each in every place."""
    butler.collections.register(run)
    for name, (storage_class, dimensions) in dataset_types.items():
        dataset_type = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
        butler.registry.registerDatasetType(dataset_type)
        required = dataset_type.dimensions.required
        data_ids = {tuple(place[key] for key in required): place for place in places}.values()
        butler.registry.insertDatasets(
            dataset_type, [{key: place[key] for key in required} for place in data_ids], run=run
        )


def build(repo, pipeline, *, inputs):
    """Build the quantum graph; return the names of what each quantum reads."""
    executor = prepare(repo, pipeline, "u/test/graph", inputs=[inputs])
    found = {}
    for quantum in executor.quantum_graph.get_task_quanta("assembleAcnCoadd").values():
        found = {kind.name: len(refs) for kind, refs in quantum.inputs.items()}
    return found


N_IMAGES = 4
"""Detector images of the small demo repository, one a visit."""


@pytest.mark.parametrize(
    ("name", "instrument", "read"),
    [
        ("HSC/acn", "HSC", {"calexp": N_IMAGES, "finalVisitSummary": N_IMAGES, "skyCorr": N_IMAGES}),
        ("HSC/acn-from-warps", "HSC", {"deepCoadd_directWarp": N_IMAGES}),
        ("acn-from-warps", "HSC", {"deepCoadd_directWarp": N_IMAGES}),
        ("LSSTCam/acn", "LSSTCam", {"visit_image": N_IMAGES, "visit_summary": N_IMAGES}),
        ("LSSTCam/acn-from-warps", "LSSTCam", {"direct_warp": N_IMAGES, "visit_summary": N_IMAGES}),
    ],
)
def test_graphs_are_built_from_what_the_stack_writes(stack_repo, obs_packages, name, instrument, read):
    assert build(stack_repo, load(name), inputs=f"{instrument}/defaults") == {"skyMap": 1, **read}


def test_main_pipeline_reads_the_stack_by_its_parameter(stack_repo):
    pipeline = load("acn")
    pipeline.addConfigOverride("parameters", "image_model", "afw")
    assert build(stack_repo, pipeline, inputs="HSC/defaults") == {"skyMap": 1, "calexp": N_IMAGES}


def test_hsc_follows_the_overrides_of_obs_subaru(obs_packages):
    """lsst/obs_subaru d4a8abe0 config/makeDirectWarp.py, assembleCoadd.py."""
    config = load("HSC/acn").to_graph().tasks["assembleAcnCoadd"].config
    assert config.apply_background and not (config.revert_background or config.apply_background_ratio)
    assert config.warp_kernel == "lanczos5"
    assert {"NO_DATA", "BAD", "SAT", "EDGE", "SUSPECT"} <= set(config.bad_planes)
    assert config.use_interpolated
    warps = load("HSC/acn-from-warps").to_graph().tasks["assembleAcnCoadd"].config
    assert warps.inputs == "warps" and not warps.apply_background


def test_lsstcam_follows_the_overrides_of_obs_lsst(obs_packages):
    """lsst/obs_lsst 0e84d755 config/lsstCam/makeDirectWarp.py,
    config/assembleCoadd.py, config/lsstCam/assembleCoadd.py.
    """
    config = load("LSSTCam/acn").to_graph().tasks["assembleAcnCoadd"].config
    select = config.select
    assert (select.max_ellip_residual, select.max_scaled_size_scatter) == (0.19, 0.07)
    assert (select.max_psf_trace_radius_delta, select.max_psf_ap_flux_delta) == (4.4, 1.6)
    assert select.max_psf_ap_corr_sigma_scaled_delta == 0.15
    assert select.max_star_e["fallback"] == 0.2 and select.max_star_unnormalized_e["fallback"] == 2.3
    assert list(select.exclude_detectors) == [0, 20, 27, 65, 123, 161, 168, 188]
    assert {"NO_DATA", "BAD", "SAT", "SUSPECT", "PARTLY_VIGNETTED", "SPIKE"} <= set(config.bad_planes)
    # makeDirectWarp cuts detectors only.
    warps = load("LSSTCam/acn-from-warps").to_graph().tasks["assembleAcnCoadd"].config
    assert warps.inputs == "warps" and warps.use_visit_summary
    assert warps.select.min_visit_values == {"effTimeZeroPointScale": 0.75}
    # visit_image is in nJy, its background in counts.
    assert config.calibrate_backgrounds and not config.use_visit_summary_photo_calib


def test_what_the_stack_knows_beside_can_be_used(stack_repo, obs_packages):
    """Every optional input has the name and dimensions of the stack's."""
    pipeline = load("HSC/acn")
    for field in ("revert_background", "use_selected_visits", "use_artifact_masks"):
        pipeline.addConfigOverride("assembleAcnCoadd", field, True)
    assert build(stack_repo, pipeline, inputs="HSC/defaults") == {
        "skyMap": 1,
        "calexp": N_IMAGES,
        "finalVisitSummary": N_IMAGES,
        "skyCorr": N_IMAGES,
        "calexpBackground": N_IMAGES,
        "deepCoaddVisits": 1,
        "compare_warp_artifact_mask": N_IMAGES,
    }
    pipeline = load("LSSTCam/acn")
    for field in ("revert_background", "use_selected_visits"):
        pipeline.addConfigOverride("assembleAcnCoadd", field, True)
    found = build(stack_repo, pipeline, inputs="LSSTCam/defaults")
    assert found["visit_image_background"] == N_IMAGES and found["deep_coadd_visit_selection"] == 1
    pipeline = load("LSSTCam/acn")
    for label in ("assembleAcnCoadd", "compareAcnCoadd"):
        pipeline.addConfigOverride(label, "connections.calexp_type", "preliminary_visit_image")
    pipeline.addConfigOverride("assembleAcnCoadd", "use_visit_summary_photo_calib", True)
    found = build(stack_repo, pipeline, inputs="LSSTCam/defaults")
    assert found["preliminary_visit_image"] == N_IMAGES and "visit_image" not in found


@pytest.mark.parametrize("instrument", ["HSC", "LSSTCam"])
@pytest.mark.parametrize("variant", ["acn", "acn-from-warps"])
def test_names_and_storage_classes(obs_packages, instrument, variant):
    pipeline = load(f"{instrument}/{variant}")
    found = resolve(pipeline)
    reference = {"HSC": "deepCoadd", "LSSTCam": "deep_coadd_predetection"}[instrument]
    assert found[reference] == "ExposureF" and found["skyMap"] == "SkyMap"
    assert found["acn_coadd"] == found["acn_latent"] == "CellCoadd"
    assert "acn_sky_geometry" not in found
    for name in set(found) & set(STACK[instrument]):
        assert found[name] == STACK[instrument][name][0]
    assert pipeline.subsets == {
        "coadd": {"assembleAcnCoadd"},
        "evaluate": {"compareAcnCoadd", "gatherAcnComparison"},
    }


def test_instrument_is_that_of_the_data_id(obs_packages):
    assert load("HSC/acn").get_data_id(DimensionUniverse())["instrument"] == "HSC"
    assert load("LSSTCam/acn").get_data_id(DimensionUniverse())["instrument"] == "LSSTCam"


@pytest.mark.parametrize(
    ("name", "label", "field", "value", "text"),
    [
        ("acn-from-warps", "parameters", "image_model", "images", "(warps|Warps)"),
        ("HSC/acn", "compareAcnCoadd", "image_model", "images", "must read one image model"),
        ("LSSTCam/acn", "assembleAcnCoadd", "connections.coadd_name", "mine", "coadd_name differs"),
        ("LSSTCam/acn", "assembleAcnCoadd", "connections.calexp_type", "mine", "calexp_type of both"),
        ("HSC/acn", "compareAcnCoadd", "connections.calexp_type", "mine", "calexp_type of both"),
    ],
)
def test_settings_that_do_not_fit_stop_before_anything_runs(obs_packages, name, label, field, value, text):
    pipeline = load(name)
    pipeline.addConfigOverride(label, field, value)
    with pytest.raises(Exception, match=text) as caught:
        pipeline.to_graph()
    assert caught.type.__name__ in ("ContractError", "FieldValidationError")
