# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pipelines, as pipetask loads and runs them."""

import os
import shutil
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
from _pipelines import PIPELINES, execute
from conftest import DATA_ID, WHERE

from lsst.daf.butler import Butler, DimensionUniverse
from lsst.pex.config import FieldValidationError
from lsst.pipe.base import Pipeline

PACKAGE = "lsst.coadd.astroclearnet"
OUTPUTS = {
    "acn_latent": "CellCoadd",
    "acn_coadd": "CellCoadd",
    "acn_coadd_psf_flux_error": "ImageV2",
    "acn_coadd_n_image": "ImageV2",
    "acn_coadd_inputs": "ArrowAstropy",
    "acn_coadd_fit_history": "ArrowAstropy",
    "acn_coadd_comparison_metrics": "ArrowAstropy",
    "acn_coadd_comparison_plot": "Plot",
}
QUICK = ("method=mm", "mm_iterations=10", "cell_size=100")


def locate(name):
    return f"{PIPELINES}/{name}.yaml"


def load(name, *overrides):
    pipeline = Pipeline.from_uri(locate(name))
    for override in overrides:
        label, _, setting = override.partition(":")
        pipeline.addConfigOverride(label, *setting.split("="))
    return pipeline


def resolve(pipeline):
    graph = pipeline.to_graph()
    graph.resolve(dimensions=DimensionUniverse(), dataset_types={})
    return graph


def storage_classes(graph):
    return {name: node.storage_class_name for name, node in graph.dataset_types.items()}


@pytest.mark.parametrize("name", ["acn", "mean", "demo"])
def test_every_name_is_registered_as_documented(name):
    found = storage_classes(resolve(load(name)))
    assert found["calexp"] == "VisitImage"
    if name != "mean":
        assert {key: found[key] for key in OUTPUTS} == OUTPUTS
        assert found["deepCoadd"] == "CellCoadd"
    else:
        assert found["deepCoadd"] == "CellCoadd" and found["deepCoadd_nImage"] == "ImageV2"
        assert found["deepCoadd_psf_flux_error"] == "ImageV2"
        assert "acn_latent" not in found
    assert "skyMap" not in found and "finalVisitSummary" not in found
    assert ("acn_truth_catalog" in found) == (name == "demo")


def test_pipeline_parameter_switches_the_image_model():
    pipeline = Pipeline.from_uri(locate("acn"))
    pipeline.addConfigOverride("parameters", "image_model", "afw")
    found = storage_classes(resolve(pipeline))
    assert found["calexp"] == found["deepCoadd"] == "ExposureF" and found["skyMap"] == "SkyMap"
    assert found["acn_coadd"] == "CellCoadd"


def test_every_dataset_name_can_be_changed():
    names = {
        "assembleAcnCoadd": [
            "calexps",
            "geometry",
            "latent",
            "coadd",
            "psf_flux_error",
            "n_image",
            "inputs_table",
            "fit_history",
        ],
        "compareAcnCoadd": [
            "reference",
            "coadd",
            "latent",
            "n_image",
            "truth_image",
            "truth_catalog",
            "calexps",
            "inputs_table",
            "fit_history",
            "metrics",
            "plot",
            "flux_plot",
            "psf_plot",
            "fit_plot",
            "exposure_plot",
        ],
        "gatherAcnComparison": ["metrics", "summary", "table", "tract_plot"],
    }
    pipeline = load("acn", "compareAcnCoadd:use_truth=True")
    for label, connections in names.items():
        for connection in connections:
            pipeline.addConfigOverride(label, f"connections.{connection}", f"my_{connection}")
    found = {
        name
        for name in storage_classes(resolve(pipeline))
        if not name.endswith(("_config", "_log", "_metadata")) and name != "packages"
    }
    assert found == {f"my_{connection}" for connections in names.values() for connection in connections}


def test_subsets_are_documented():
    pipeline = Pipeline.from_uri(locate("acn"))
    assert pipeline.subsets == {
        "coadd": {"assembleAcnCoadd"},
        "evaluate": {"compareAcnCoadd", "gatherAcnComparison"},
    }
    ir = pipeline._pipelineIR
    assert all(len(subset.description) > 20 for subset in ir.labeled_subsets.values())
    assert not ir.instrument


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("compareAcnCoadd:image_model=afw", "must read one image model"),
        ("compareAcnCoadd:connections.coadd_name=other", "coadd_name differs"),
        ("assembleAcnCoadd:connections.coadd=other", "connections.coadd differs"),
        ("compareAcnCoadd:connections.latent=other", "connections.latent differs"),
        ("gatherAcnComparison:connections.metrics=other", "connections.metrics differs"),
        ("assembleAcnCoadd:method=mean", "use_latent=False"),
    ],
)
def test_contracts_catch_settings_that_do_not_fit(override, text):
    with pytest.raises(Exception, match=text) as caught:
        load("acn", override).to_graph()
    assert caught.type.__name__ == "ContractError"


@pytest.mark.parametrize("name", ["coadd", "latent"])
def test_contracts_of_injection_catch_names_that_do_not_fit(name):
    load("acn-inject").to_graph()
    with pytest.raises(Exception, match=f"must measure .* connections.{name} differs") as caught:
        load("acn-inject", f"measureAcnInjection:connections.{name}=other").to_graph()
    assert caught.type.__name__ == "ContractError"


def test_contracts_know_a_name_by_what_it_becomes():
    load("acn", "assembleAcnCoadd:connections.coadd=acn_coadd").to_graph()
    # What is not compared may have any name.
    load(
        "acn",
        "assembleAcnCoadd:method=mean",
        "compareAcnCoadd:use_latent=False",
        "compareAcnCoadd:connections.latent=other",
    ).to_graph()


@pytest.mark.parametrize("name", ["hsc", "lsstcam", "fast", "paper"])
def test_config_files_hold_valid_overrides(name):
    from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddConfig

    config = AssembleAcnCoaddConfig()
    config.load(str(files(PACKAGE) / "resources" / "config" / f"{name}.py"))
    config.validate()
    assert config.toDict() != AssembleAcnCoaddConfig().toDict()


def test_unknown_mask_plane_stops_before_anything_runs():
    pipeline = Pipeline.from_uri(locate("acn"))
    pipeline.addConfigOverride("assembleAcnCoadd", "bad_planes", ["SATURN"])
    with pytest.raises(FieldValidationError, match="Unknown mask plane 'SATURN'"):
        pipeline.to_graph()


def test_graphs_are_built_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lsst.pipe.base import Pipeline\n"
        "from lsst.daf.butler import DimensionUniverse\n"
        f"graph = Pipeline.from_uri('{locate('demo')}').to_graph()\n"
        "graph.resolve(dimensions=DimensionUniverse(), dataset_types={})\n"
        "print(len(graph.tasks))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4"]


def pipetask(*arguments):
    """Run pipetask as a user does; return exit code and all it said."""
    program = os.path.join(os.path.dirname(sys.executable), "pipetask")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def run_arguments(repo, output, pipeline, *extra):
    return [
        *("run", "-b", str(repo), "-i", "HSC/defaults", "-o", output, "-p", pipeline, "-d", WHERE),
        *extra,
    ]


def configure(label, settings):
    return [word for setting in settings for word in ("-c", f"{label}:{setting}")]


@pytest.fixture(scope="module")
def finished(small_repo, tmp_path_factory):
    """Run the demo pipeline by pipetask in a copy of the small repository."""
    repo = shutil.copytree(small_repo, tmp_path_factory.mktemp("finished") / "repo")
    settings = configure("assembleAcnCoadd", QUICK)
    code, text = pipetask(
        *run_arguments(repo, "u/test/acn", locate("demo"), "--register-dataset-types", *settings)
    )
    assert code == 0, text[-3000:]
    return repo, text


@pytest.fixture
def output(finished):
    with Butler.from_config(str(finished[0]), collections="u/test/acn") as butler:
        yield butler


def test_pipetask_says_what_it_does(finished):
    _, text = finished
    for words in ("Registered visit=29324", "Using 4 of 4 inputs", "cell 4/4", "s left", "Measured"):
        assert words in text
    assert "Executed 4 quanta successfully, 0 failed" in text


def test_outputs_lie_beside_the_standard_coadd(output):
    for name in (*OUTPUTS, "deepCoadd"):
        refs = output.query_datasets(name, where=WHERE)
        assert [dict(ref.dataId.required) for ref in refs] == [DATA_ID], name
    latent, standard = output.get("acn_latent", DATA_ID), output.get("deepCoadd", DATA_ID)
    assert latent.bbox == standard.bbox and latent.unit == standard.unit
    error, coadd = output.get("acn_coadd_psf_flux_error", DATA_ID), output.get("acn_coadd", DATA_ID)
    assert error.bbox == coadd.bbox and error.unit == coadd.unit
    part = output.get("acn_latent.image", DATA_ID)
    np.testing.assert_array_equal(part.array, latent.image.array)


def test_tables_keep_units_through_the_butler(output):
    table = output.get("acn_coadd_inputs", DATA_ID)
    assert str(table["psf_fwhm_arcsec"].unit) == "arcsec" and len(table) == 4
    metrics = output.get("acn_coadd_comparison_metrics", DATA_ID)
    assert "star_flux_bias_snr_100" in metrics["name"] and "run_time" in metrics["name"]
    tract = output.get("acn_coadd_comparison_tract_metrics", skymap="hsc_rings_demo", tract=9813, band="i")
    assert set(tract["n_patches"]) == {1} and "star_fwhm" in tract["name"]


def test_pictures_are_png(output):
    names = ("plot", "flux_plot", "psf_plot", "fit_plot", "exposure_plot", "tract_plot")
    for name in names:
        path = output.getURI(f"acn_coadd_comparison_{name}", DATA_ID).ospath
        with open(path, "rb") as stream:
            assert stream.read(8) == b"\x89PNG\r\n\x1a\n", name


def test_provenance_is_stored(output):
    latent = output.get("acn_latent", DATA_ID)
    assert latent.metadata["method"] == "mm" and latent.metadata["seed"] > 0
    assert sorted(latent.provenance.inputs["visit"]) == [29324, 29326, 29328, 29330]
    assert len(latent.butler_provenance.inputs) == 5  # 4 calexps and the geometry
    metadata = output.get("assembleAcnCoadd_metadata", DATA_ID)["assembleAcnCoadd"]
    assert metadata["n_inputs"] == 4 and metadata["method"] == "mm"
    assert metadata["config_sha256"] == latent.metadata["config_sha256"]


def test_a_second_run_gives_the_same_and_keeps_the_first(finished, output):
    repo, _ = finished
    pipeline = load("acn", *(f"assembleAcnCoadd:{setting}" for setting in QUICK))
    again, _ = execute(repo, pipeline.subsetFromLabels(select("assembleAcnCoadd")), "u/test/again")
    for name in ("acn_latent", "acn_coadd"):
        first, second = output.get(name, DATA_ID), again.get(name, DATA_ID)
        np.testing.assert_array_equal(first.image.array, second.image.array)
        np.testing.assert_array_equal(first.variance.array, second.variance.array)
        np.testing.assert_array_equal(first.mask.array, second.mask.array)
        assert first.metadata["seed"] == second.metadata["seed"]


def select(*labels):
    from lsst.pipe.base import LabelSpecifier

    return LabelSpecifier(labels=set(labels))


def test_finished_output_is_not_made_again(finished, output):
    repo, _ = finished
    before = output.get("acn_latent", DATA_ID).image.array
    settings = configure("assembleAcnCoadd", QUICK)
    code, text = pipetask(*run_arguments(repo, "u/test/acn", locate("demo"), "--extend-run", *settings))
    assert code != 0 and text.rstrip().splitlines()[-1].startswith("Error: QuantumGraph was empty")
    np.testing.assert_array_equal(output.get("acn_latent", DATA_ID).image.array, before)


def test_output_of_a_run_that_was_cut_short_is_kept(finished, tmp_path):
    """Without an order to replace it, what is there stays as it is."""
    repo = shutil.copytree(finished[0], tmp_path / "repo")
    with Butler.from_config(str(repo), writeable=True, collections="u/test/acn") as butler:
        unfinished = butler.query_datasets("assembleAcnCoadd_metadata") + butler.query_datasets("acn_latent")
        butler.pruneDatasets(unfinished, disassociate=True, unstore=True, purge=True)
        before = butler.get("acn_coadd", DATA_ID).image.array
    settings = configure("assembleAcnCoadd", QUICK)
    arguments = run_arguments(repo, "u/test/acn", f"{locate('demo')}#coadd", "--extend-run", *settings)
    code, text = pipetask(*arguments)
    assert code != 0 and "OutputExistsError" in text and "clobber" in text.lower()
    with Butler.from_config(str(repo), collections="u/test/acn") as butler:
        np.testing.assert_array_equal(butler.get("acn_coadd", DATA_ID).image.array, before)
    code, text = pipetask(*arguments, "--clobber-outputs")
    assert code == 0, text[-2000:]
    with Butler.from_config(str(repo), collections="u/test/acn") as butler:
        np.testing.assert_array_equal(butler.get("acn_coadd", DATA_ID).image.array, before)
        assert butler.get("acn_latent", DATA_ID).image.array.max() > 0


def test_assembly_does_not_need_a_standard_coadd(fresh_repo, caplog):
    """Without deepCoadd the comparison is left out, which is told, and nothing
    else.
    """
    pipeline = load("acn", *(f"assembleAcnCoadd:{setting}" for setting in QUICK))
    butler, quanta = execute(fresh_repo, pipeline, "u/test/alone")
    assert [quantum.taskName.rpartition(".")[2] for quantum in quanta] == ["AssembleAcnCoaddTask"]
    assert len(butler.query_datasets("acn_coadd", where=WHERE)) == 1
    assert butler.query_datasets("deepCoadd", explain=False) == []
    assert "There is no deepCoadd for compareAcnCoadd" in caplog.text and "patch: 40" in caplog.text


def test_too_few_inputs_make_no_quantum(fresh_repo):
    pipeline = load("mean", "assembleMeanCoadd:min_inputs=5")
    _, quanta = execute(fresh_repo, pipeline, "u/test/few")
    assert quanta == []
