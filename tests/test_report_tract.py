# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn report`` and ``acn summary`` of a tract whose patches did not all
come out.
"""

from urllib.parse import unquote

import matplotlib.figure
import pytest
from astropy.table import Table
from test_report import Page, make_metrics, run

from lsst.coadd.astroclearnet.cli._patches import Lack
from lsst.daf.butler import Butler, CollectionType, DatasetType

PATCH = ("skymap", "tract", "patch", "band")
COMPARED, FAILED, IDLE, PLAIN, BROKEN, STOPPED = range(21), (21, 22, 24), (23,), (25,), (26,), (27,)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A repository with what a run of 29 patches leaves; of the last one there
    is nothing.
    """
    root = tmp_path_factory.mktemp("tract") / "repo"
    Butler.makeRepo(str(root))
    with Butler.from_config(str(root), writeable=True) as butler:
        insert = butler.registry.insertDimensionData
        insert("skymap", dict(name="s", hash=b"s", tract_max=1, patch_nx_max=7, patch_ny_max=5))
        insert("tract", dict(skymap="s", id=0))
        insert("instrument", dict(name="HSC", class_name="not.installed", visit_system=0))
        insert("physical_filter", dict(instrument="HSC", name="HSC-I", band="i"))
        insert("patch", *(dict(skymap="s", tract=0, id=k, cell_x=k % 7, cell_y=k // 7) for k in range(29)))
        butler.collections.register("u/test/run")
        butler.collections.register("u/test", CollectionType.CHAINED)
        butler.collections.redefine_chain("u/test", ["u/test/run"])
        ended = (*COMPARED, *IDLE, *PLAIN, *BROKEN)
        for name, kind, patches in (
            ("assembleAcnCoadd_log", "ButlerLogRecords", (*ended, *FAILED)),
            ("assembleAcnCoadd_metadata", "TaskMetadata", ended),
            ("acn_coadd", "CellCoadd", (*COMPARED, *PLAIN, *BROKEN, *STOPPED)),
            ("compareAcnCoadd_log", "ButlerLogRecords", (*COMPARED, *BROKEN)),
            ("compareAcnCoadd_metadata", "TaskMetadata", COMPARED),
        ):
            dataset_type = register(butler, name, kind)
            butler.registry.insertDatasets(dataset_type, [place(k) for k in patches], run="u/test/run")
        for name, kind, content in (
            ("acn_coadd_comparison_metrics", "ArrowAstropy", make_metrics()),
            ("acn_coadd_comparison_plot", "Plot", matplotlib.figure.Figure(figsize=(1, 1))),
        ):
            register(butler, name, kind)
            for k in COMPARED:
                butler.put(content, name, place(k), run="u/test/run")
    return root


def register(butler, name, kind, dimensions=PATCH):
    dataset_type = DatasetType(name, dimensions, kind, universe=butler.dimensions)
    butler.registry.registerDatasetType(dataset_type)
    return dataset_type


def place(patch):
    return dict(skymap="s", tract=0, patch=patch, band="i")


def test_summary_of_chosen_metrics(repo):
    """A line for each patch, and what is lacking after them."""
    result = run("summary", repo, "--collections", "u/test", "--metric", "sky_rms", "--metric", "purity")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["metric", "tract", "patch", "band", "deepCoadd", "acn_coadd", "unit"]
    values = ["12.00", "+-", "0.50", "3.00", "+-", "0.10", "nJy"]
    assert lines[2:23] == [["sky_rms", "0", str(k), "i", *values] for k in COMPARED]
    assert lines[23:44] == [["purity", "0", str(k), "i", "-"] for k in COMPARED]
    assert lines[44] == [] and lines[45][:2] == ["skymap=s,", "tract=0,"]


def test_summary_of_an_unknown_metric(repo):
    result = run("summary", repo, "--collections", "u/test", "--metric", "sky_rsm")
    assert result.exit_code == 2
    line = result.output.strip().splitlines()[-1]
    assert "sky_rsm is in none of the tables; they have star_fwhm, sky_rms, purity" in line


def test_summary_ends_with_what_is_lacking(repo):
    result = run("summary", repo, "--collections", "u/test")
    assert result.exit_code == 0, result.output
    start = "skymap=s, tract=0, band=i: no comparison of "
    assert [line.removeprefix(start) for line in result.output.splitlines() if line.startswith(start)] == [
        "3 patches (assembleAcnCoadd failed): 21-22, 24",
        "1 patch (assembleAcnCoadd had nothing to do): 23",
        "1 patch (assembleAcnCoadd was stopped): 27",
        "1 patch (coadd made, but not compared): 25",
        "1 patch (compareAcnCoadd failed): 26",
        "1 patch (nothing there: not run, stopped, or too few exposures): 28",
    ]
    where = "skymap='s' AND tract=0 AND patch IN (1, 22)"
    result = run("summary", repo, "--collections", "u/test", "--where", where)
    assert result.output.count(start) == 1 and "(assembleAcnCoadd failed): 22" in result.output


def test_page_tells_what_is_lacking_and_a_tract_has_more_pages(repo, tmp_path):
    """One page of all its patches is more than a browser can open."""
    path = tmp_path / "my #1.html"
    result = run("report", repo, "--collections", "u/test", "-o", path)
    assert result.exit_code == 0 and f"(21 patches in {tmp_path / 'my #1_patches'}, " in result.output
    page = Page(path.read_text(encoding="utf-8"))
    (table,) = page.find("table")
    assert "Patches without a comparison" in page.text and {"21-22, 24", "27", "28"} <= set(page.text)
    links = [unquote(address) for address in page.addresses if address.startswith("my")]
    files = [tmp_path / link for link in links]
    assert len(set(files)) == 21 and set(files) == set((tmp_path / "my #1_patches").iterdir())
    assert not page.find("img")
    for k, file in enumerate(files):
        one = Page(file.read_text(encoding="utf-8"))
        assert f"band=i, skymap=s, tract=0, patch={k}" in one.text and len(one.find("img")) == 1
        (back,) = (address for address in one.addresses if address.startswith(".."))
        assert (file.parent / unquote(back)).resolve() == path.resolve()


def test_few_patches_are_on_one_page(repo, tmp_path):
    where = "skymap='s' AND tract=0 AND patch < 20"
    result = run("report", repo, "--collections", "u/test", "--where", where, "-o", tmp_path / "few.html")
    assert result.exit_code == 0 and list(tmp_path.iterdir()) == [tmp_path / "few.html"]
    assert len(Page((tmp_path / "few.html").read_text(encoding="utf-8")).find("img")) == 20


def test_tract_that_was_gathered_too_early_is_told(repo, tmp_path):
    """As where the rest was made with --skip-existing; or not at all, because
    a patch failed.
    """

    def told():
        result = run("report", repo, "--collections", "u/test", "-o", tmp_path / "x.html")
        return [line for line in result.output.splitlines() if line.startswith("WARNING: ")]

    text = "WARNING: skymap=s, tract=0, band=i: {} of 21 compared patches are in the figures of the tract"
    assert [line.startswith(text.format(0)) for line in told()] == [True]
    summary = Table({"name": ["star_fwhm", "sky_rms"], "median": [0.42, 1.0], "n_patches": [3, 4]})
    with Butler.from_config(str(repo), writeable=True) as butler:
        name = "acn_coadd_comparison_tract_metrics"
        register(butler, name, "ArrowAstropy", ("skymap", "tract", "band"))
        data_id = dict(skymap="s", tract=0, band="i")
        ref = butler.put(summary, name, data_id, run="u/test/run")
        assert [line.startswith(text.format(4)) for line in told()] == [True]
        butler.pruneDatasets([ref], unstore=True, purge=True, disassociate=True)
        summary["n_patches"] = 21
        butler.put(summary, name, data_id, run="u/test/run")
    assert not told()


def test_what_was_among_the_inputs_does_not_lack(repo):
    """Of a run on one patch, the failures of the tract are no concern."""
    with Butler.from_config(str(repo), writeable=True) as butler:
        name = "injected_acn_coadd_comparison_metrics"
        register(butler, name, "ArrowAstropy")
        butler.collections.register("u/inject/run")
        butler.put(make_metrics(), name, place(4), run="u/inject/run")
        butler.collections.register("u/inject", CollectionType.CHAINED)
        butler.collections.redefine_chain("u/inject", ["u/inject/run", "u/test"])
    result = run("summary", repo, "--collections", "u/inject", "--coadd-name", "injected_acn")
    assert result.exit_code == 0 and "star_fwhm" in result.output and "no comparison" not in result.output


def test_numbers_of_patches_are_short():
    lack = Lack(skymap="s", tract=0, band="i", patches=(3, 7, 8, 9, 80), reason="")
    assert lack.numbers == "3, 7-9, 80"
