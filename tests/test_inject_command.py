# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command and the pipeline that inject sources into a repository."""

import hashlib
import json
import resource
from collections import Counter

import numpy as np
import pytest
from _pipelines import DEFAULTS, load, prepare
from astropy.table import Table
from click.testing import CliRunner
from conftest import DATA_ID, WHERE, to_njy

from lsst.coadd.astroclearnet.cli import main
from lsst.coadd.astroclearnet.simulate import flux_from_mag
from lsst.daf.butler import Butler


def call(*arguments):
    result = CliRunner().invoke(main, ["inject", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def digest(root):
    """Return a digest of every file below a folder."""
    return {
        str(path.relative_to(root)): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_command_writes_new_images_beside_the_old(fresh_repo):
    before = digest(fresh_repo / "HSC")
    output = "u/test/inject"
    result = call(fresh_repo, "-i", "HSC/defaults", "-o", output, "--density", 60, "--run", "images")
    assert result.exit_code == 0, result.output
    assert digest(fresh_repo / "HSC") == before
    butler = Butler.from_config(str(fresh_repo))
    old = {ref.dataId: ref for ref in butler.query_datasets("calexp", "HSC/defaults")}
    new = {ref.dataId: ref for ref in butler.query_datasets("calexp", output)}
    assert set(old) == set(new) and {ref.run for ref in new.values()} == {f"{output}/images"}
    (trixel,) = butler.query_datasets("injection_catalog", f"{output}/catalog")
    assert trixel.dataId["band"] == "i" and set(trixel.datasetType.dimensions.names) == {"htm7", "band"}
    table = butler.get(trixel)
    assert np.array_equal(table["q"].mask, table["source_type"] == "DeltaFunction")  # as it was made
    for data_id, ref in new.items():
        added = to_njy(butler.get(ref)) - to_njy(butler.get(old[data_id]))
        drawn = butler.get("injected_calexp_catalog", data_id, collections=output)
        flux = np.asarray(flux_from_mag(drawn["mag"])).sum()
        assert 0 < added.sum() < 1.01 * flux
    # The same seed makes the same catalogue, and nothing is overwritten.
    call(fresh_repo, "-i", "HSC/defaults", "-o", "u/test/again", "--density", 60, "--run", "nothing")
    again = butler.get("injection_catalog", trixel.dataId, collections="u/test/again/catalog")
    assert np.array_equal(table["ra"], again["ra"]) and np.array_equal(table["mag"], again["mag"])


@pytest.mark.parametrize("n_bytes", [1_000, 800_000])
def test_a_full_disk_is_one_line(fresh_repo, n_bytes):
    """A limit on the size of files, one below that of the catalogue and one
    below that of an image, stands for it.
    """
    before = digest(fresh_repo / "HSC")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        result = call(fresh_repo, "-i", "HSC/defaults", "-o", "u/test/full", "--run", "images")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1
    assert "cannot be written: " in result.output.splitlines()[-1], result.output
    assert digest(fresh_repo / "HSC") == before


def test_pipeline_reads_the_catalogue_of_the_command(fresh_repo, tmp_path):
    result = call(fresh_repo, "-i", "HSC/defaults", "-o", "u/test/inject", "-d", WHERE, "--run", "nothing")
    assert result.exit_code == 0 and "pipetask run" in result.output, result.output
    inputs = ["u/test/inject/catalog", *DEFAULTS]
    executor = prepare(fresh_repo, load("acn-inject"), "u/test/inject", inputs=inputs)
    counts = Counter(node.task_node.label for node in executor.quantum_graph)
    assert counts.pop("injectAcnSources") == 4
    assert counts.pop("gatherAcnInjected") == 1
    assert set(counts.values()) == {1} and {
        "assembleMeanCoadd",
        "assembleAcnCoadd",
        "compareAcnCoadd",
    } <= set(counts)


def test_pipeline_never_writes_a_plain_name():
    graph = load("acn-inject").to_graph()
    written = {
        edge.parent_dataset_type_name for task in graph.tasks.values() for edge in task.outputs.values()
    }
    assert written and all(name.startswith("injected_") for name in written)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-i", "HSC/none", "-o", "u/x"), "HSC/none"),
        (("-i", "HSC/defaults", "-o", "HSC/defaults"), "exists already"),
        (("-i", "HSC/defaults", "-o", "u/x", "-d", "tract=1"), "skymap"),
        (("-i", "HSC/defaults", "-o", "u/x", "-d", "instrument='HSC' AND visit=1"), "visit=1"),
        (("-i", "HSC/defaults", "-o", "u/x", "-d", "tract=("), ""),
        (("-i", "HSC/defaults", "-o", "u/x", "--density", "0"), "density must be positive"),
        (("-i", "HSC/defaults", "-o", "u/x", "--density", "1e9"), "at most 1000 sources"),
        (("-i", "HSC/defaults", "-o", "u/x", "--mag", "25", "20"), "brightest"),
        (("-i", "HSC/defaults", "-o", "u/x", "--mag", "20", "inf"), "both finite"),
        (("-i", "HSC/defaults", "-o", "u/x", "--mag", "nan", "25"), "both finite"),
        (("-i", "HSC/defaults", "-o", "u/x", "--separation", "inf"), "must be finite"),
        (("-i", "HSC/defaults", "-o", "u/x", "--avoid", "nan"), "must be finite"),
        (("-i", "HSC/defaults", "-o", ""), "'' is no name of a collection"),
        (("-i", "HSC/defaults", "-o", "u/a b"), "'u/a b' is no name of a collection"),
        (("-i", "HSC/defaults", "-o", "/x"), "is no name of a collection"),
        (
            ("-i", "HSC/truth/demo", "-o", "u/x", "--dataset-type", "acn_truth_image"),
            "acn_truth_image is not a dataset of single detectors: its dimensions are ",
        ),
        (("-i", "HSC/defaults", "-o", "u/x", "--avoid", "100"), "no room"),
        (("-i", "HSC/defaults", "-o", "u/x", "--dataset-type", "nonsense"), "nonsense"),
        (("-i", "HSC/defaults", "-o", "u/x", "--catalog", "{json}"), "not a table"),
        (("-i", "HSC/defaults", "-o", "u/x", "--catalog", "{table}"), "no column dec"),
    ],
)
def test_command_errors_are_one_line(small_repo, tmp_path, arguments, text):
    files = {"json": tmp_path / "a.json", "table": tmp_path / "a.ecsv"}
    files["json"].write_text(json.dumps({}))
    Table({"ra": [1.0], "source_type": ["Star"], "mag": [20.0]}).write(files["table"])
    before = digest(small_repo / "HSC")
    result = call(small_repo, *(value.format(**files) for value in arguments))
    assert result.exit_code in (1, 2) and text in result.output, result.output
    assert not {path.name for path in small_repo.iterdir()} & {"u", "catalog"}
    assert sum("Error" in line for line in result.output.splitlines()) == 1
    assert "Traceback" not in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error:")
    assert digest(small_repo / "HSC") == before


def test_command_says_what_is_no_repository(tmp_path):
    result = call(tmp_path / "nowhere", "-i", "a", "-o", "b")
    assert result.exit_code == 1 and result.output.splitlines()[-1].startswith("Error:"), result.output


def test_help_teaches():
    output = call("--help").output
    assert "injected_acn_coadd" in output and "acn inject demo/repo" in output
    assert DATA_ID["band"] in output
