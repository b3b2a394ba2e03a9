# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ``acn``: how it starts, and how it reports errors."""

import errno
import os
import shutil
import subprocess
import sys

import click
import matplotlib.figure
import pytest
from astropy.table import Table
from click.testing import CliRunner

from lsst.coadd.astroclearnet.cli import main
from lsst.coadd.astroclearnet.core import CoreError
from lsst.daf.butler import Butler, CollectionType, DatasetType
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

COMMANDS = ("compare", "demo", "ingest", "inject", "report", "restore", "summary", "train")
DIMENSIONS = ("skymap", "tract", "patch", "band")


def run(*args, **kwargs):
    """Run ``acn`` in this process."""
    return CliRunner().invoke(main, [str(arg) for arg in args], **kwargs)


@pytest.fixture
def failing_command(monkeypatch):
    """Let ``acn train`` raise an error of choice."""

    def prepare(error):
        @click.command("train")
        def train():
            raise error

        monkeypatch.setattr(type(main), "get_command", lambda self, ctx, name: train)

    return prepare


def test_help_lists_every_command_and_is_light():
    code = (
        "import sys; from lsst.coadd.astroclearnet.cli import main; main(['--help'], standalone_mode=False);"
        "print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'torch', 'astropy')"
        " or m.startswith(('lsst.daf', 'lsst.images'))])"
    )
    text = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert text.endswith("[]\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = run(name, "--help")
    assert result.exit_code == 0, result.output
    assert f"Usage: acn {name} " in result.output
    assert main.get_command(click.Context(main), name).name == name


def test_module_is_the_same_command():
    text = subprocess.run(
        [sys.executable, "-m", "lsst.coadd.astroclearnet", "--version"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert text == run("--version").output
    assert text.startswith("acn, version ")


def test_unknown_command():
    result = run("nonsense")
    assert result.exit_code == 2
    assert result.output.endswith("Error: No such command 'nonsense'.\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.fits"), "No space left on device: out.fits"),
        (FileExistsError("out.fits exists;\n use --overwrite"), "out.fits exists; use --overwrite"),
        (MemoryError(), "There is not enough memory."),
        (MemoryError("Unable to\nallocate 1 TiB"), "There is not enough memory. Unable to allocate 1 TiB"),
        (CoreError("The PSF of a sums\nto 0."), "The PSF of a sums to 0."),
        (click.ClickException("said by the command"), "said by the command"),
        (
            ModuleNotFoundError("No module named 'galsim'", name="galsim"),
            "This command needs the Python package 'galsim', which is not installed.",
        ),
    ],
)
def test_errors_of_users_are_one_line(failing_command, error, message):
    failing_command(error)
    result = run("train")
    assert result.exit_code == 1
    assert result.output == f"Error: {message}\n"


def test_debug_keeps_the_traceback(failing_command):
    failing_command(CoreError("no good"))
    assert isinstance(run("--debug", "train").exception, CoreError)


def test_mistakes_of_the_program_keep_their_traceback(failing_command):
    failing_command(KeyError("a mistake"))
    assert isinstance(run("train").exception, KeyError)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A repository with the comparison of one patch in two bands."""
    root = tmp_path_factory.mktemp("summary") / "repo"
    Butler.makeRepo(str(root))
    butler = Butler.from_config(str(root), writeable=True)
    corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    region = ConvexPolygon([UnitVector3d(LonLat.fromDegrees(*corner)) for corner in corners])
    insert = butler.registry.insertDimensionData
    limits = {"detector_max": 1, "visit_max": 9, "exposure_max": 9, "visit_system": 0}
    insert("instrument", {"name": "Cam", "class_name": "a.B", **limits})
    for band in "ri":
        insert("physical_filter", {"instrument": "Cam", "name": f"Cam-{band}", "band": band})
    insert("skymap", {"name": "s", "hash": b"s", "tract_max": 1, "patch_nx_max": 1, "patch_ny_max": 1})
    insert("tract", {"skymap": "s", "id": 0, "region": region})
    insert("patch", {"skymap": "s", "tract": 0, "id": 5, "cell_x": 0, "cell_y": 0, "region": region})
    for name, storage_class in (("metrics", "ArrowAstropy"), ("plot", "Plot")):
        name = f"acn_coadd_comparison_{name}"
        butler.registry.registerDatasetType(
            DatasetType(name, DIMENSIONS, storage_class, universe=butler.dimensions)
        )
    butler.collections.register("u/test")
    metrics = Table(
        rows=[
            ("star_fwhm", "deepCoadd", 0.7423, 0.0112, "arcsec", 9),
            ("star_fwhm", "acn_coadd", 0.4201, 0.0071, "arcsec", 9),
            ("flux_ratio", "acn_coadd", float("nan"), float("nan"), "", 0),
        ],
        names=("name", "plane", "value", "error", "unit", "n"),
    )
    for band in "ri":
        data_id = {"skymap": "s", "tract": 0, "patch": 5, "band": band}
        butler.put(metrics, "acn_coadd_comparison_metrics", data_id, run="u/test")
        butler.put(matplotlib.figure.Figure(), "acn_coadd_comparison_plot", data_id, run="u/test")
    butler.collections.register("u/empty")
    butler.collections.register("u/chain", CollectionType.CHAINED)
    for run_name, coadd in (("u/lone", "acn_coadd"), ("u/mean", "deepCoadd")):
        butler.collections.register(run_name)  # what matters is that there is one
        coadd_type = DatasetType(coadd, DIMENSIONS, "StructuredDataDict", universe=butler.dimensions)
        butler.registry.registerDatasetType(coadd_type)
        butler.put({}, coadd, data_id, run=run_name)
    return root


def test_summary_of_one_patch(repo, tmp_path):
    out = tmp_path / "new" / "folder"
    where = "skymap='s' AND tract=0 AND patch=5 AND band='i'"
    for _ in range(2):  # the second time the picture is replaced
        result = run("summary", repo, "--collections", "u/test", "--where", where, "-o", out)
        assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "band=i, skymap=s, tract=0, patch=5" in lines
    star = next(line for line in lines if line.startswith("star_fwhm"))
    flux = next(line for line in lines if line.startswith("flux_ratio"))
    assert star.split() == ["star_fwhm", "0.742", "+-", "0.011", "0.4201", "+-", "0.0071", "arcsec"]
    assert flux.split() == ["flux_ratio", "-"]
    assert lines[-1] == f"picture: {out / 'comparison.png'}"
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_summary_of_several_patches(repo, tmp_path):
    result = run("summary", repo, "--collections", "u/test", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.output.count("star_fwhm") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "comparison_0_5_i.png",
        "comparison_0_5_r.png",
    ]


def test_summary_of_two_sky_maps(repo, tmp_path):
    """Their tracts and patches have the same numbers; no picture takes the
    place of another.
    """
    butler = Butler.from_config(str(shutil.copytree(repo, tmp_path / "repo")), writeable=True)
    for element in ("skymap", "tract", "patch"):
        for record in [*butler.registry.queryDimensionRecords(element)]:
            changed = {"name": "t", "hash": b"t"} if element == "skymap" else {"skymap": "t"}
            butler.registry.insertDimensionData(element, record.toDict() | changed)
    other = {"skymap": "t", "tract": 0, "patch": 5, "band": "i"}
    metrics = butler.get("acn_coadd_comparison_metrics", other | {"skymap": "s"}, collections="u/test")
    butler.put(metrics, "acn_coadd_comparison_metrics", other, run="u/test")
    butler.put(matplotlib.figure.Figure(), "acn_coadd_comparison_plot", other, run="u/test")
    result = run("summary", tmp_path / "repo", "--collections", "u/test", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    names = sorted(path.stem for path in (tmp_path / "out").iterdir())
    assert names == ["comparison_s_0_5_i", "comparison_s_0_5_r", "comparison_t_0_5_i"]


@pytest.mark.parametrize(
    ("collections", "where", "words"),
    [
        ("u/absent", "", "No collection with name 'u/absent' found; there are u/chain."),
        ("u/empty,u/absent", "", "No collection with name 'u/absent' found"),
        (" , ", "", "--collections names no collection"),
        ("u/test,u/*", "", "--collections takes names of collections, not patterns such as u/*"),
        (
            "u/empty",
            "",
            "No acn_coadd_comparison_metrics in u/empty: there is no acn_coadd: run pipelines/mean",
        ),
        ("u/lone", "", "there is no deepCoadd to compare acn_coadd with: run pipelines/mean.yaml first"),
        ("u/lone,u/mean", "", "run compareAcnCoadd first, e.g. pipetask run ... -p acn.yaml#evaluate"),
        ("u/test", "nonsense = 1", "nonsense"),
        ("u/test", "patch=5", "it must name the skymap, too: skymap='...' AND patch=5"),
        ("u/test", "skymap='s' AND band='z'", "in u/test matches --where"),
    ],
)
def test_summary_without_result(repo, collections, where, words):
    result = run("summary", repo, "--collections", collections, "--where", where)
    assert result.exit_code == (2 if words.startswith("--collections") else 1)
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: ") and words in last
    assert result.exit_code == 2 or result.output.count("\n") == 1


def test_collections_are_parted_by_commas(repo):
    result = run("summary", repo, "--collections", "u/empty, u/test")
    assert result.exit_code == 0 and result.output.count("star_fwhm") == 2, result.output


def test_summary_without_repository(tmp_path):
    result = run("summary", tmp_path / "absent", "--collections", "u/test")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert str(tmp_path / "absent") in result.output
