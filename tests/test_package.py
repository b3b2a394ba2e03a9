# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the package is found and built, and what it does without."""

import importlib.resources
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from lsst.resources import ResourcePath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "lsst.coadd.astroclearnet"
RESOURCES = ROOT / "python/lsst/coadd/astroclearnet/resources"

BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        ours = name == "lsst.coadd" or name.startswith("lsst.coadd.astroclearnet")
        if name.startswith("lsst.") and not ours:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
"""
"""Start of a program for which no other ``lsst`` package is installed."""


def run_python(code, *args, **environment):
    """Run a program; return its standard output."""
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_package_alone_imports_nothing_heavy():
    code = (
        f"import sys, {PACKAGE} as package; print(package.__version__);"
        "print([name for name in sys.modules if name in ('numpy', 'torch')"
        " or name.startswith('lsst.') and not name.startswith('lsst.coadd')])"
    )
    version, heavy = run_python(code).splitlines()
    assert version[0].isdigit()
    assert heavy == "[]"


def test_core_needs_no_other_lsst_package():
    package = RESOURCES.parent
    names = sorted(
        ".".join(path.relative_to(package).with_suffix("").parts) for path in (package / "core").rglob("*.py")
    )
    assert "core._stack" in names and "core.patch._tiles" in names
    imports = "".join(f"import {PACKAGE}.{name.removesuffix('.__init__')}\n" for name in names)
    run_python(BLOCK + imports)


def test_list_of_the_parts_of_the_core_is_complete():
    core = RESOURCES.parent / "core"
    named = re.findall(r"`(\w+)`[,:;\s]", (core / "__init__.py").read_text().split('"""')[1])
    modules = {path.stem for path in core.glob("_*.py")} - {"__init__"}
    folders = {path.parent.name for path in core.glob("*/__init__.py")}
    assert modules | folders == set(named)


def test_block_works():
    with pytest.raises(AssertionError, match="No module named 'lsst.pipe'"):
        run_python(BLOCK + "import lsst.pipe.base")


def test_commands_say_which_package_is_missing():
    code = "from lsst.coadd.astroclearnet.cli import main\nmain(['summary', 'x', '--collections', 'y'])"
    with pytest.raises(AssertionError) as caught:
        run_python(BLOCK + code)
    assert str(caught.value).startswith("Error: This command needs the Python package 'lsst.daf'")


def test_folders_of_the_stack_are_the_package_data():
    for name in ("pipelines", "config"):
        assert (ROOT / name).resolve() == RESOURCES / name
    packaged = importlib.resources.files(PACKAGE) / "resources" / "pipelines" / "acn.yaml"
    assert packaged.read_bytes() == (ROOT / "pipelines" / "acn.yaml").read_bytes()


@pytest.mark.parametrize("setup", [True, False])
@pytest.mark.parametrize(
    "uri",
    [
        f"resource://{PACKAGE}/resources/pipelines/acn.yaml",
        "eups://coadd_astroclearnet/pipelines/acn.yaml",
        "$COADD_ASTROCLEARNET_DIR/pipelines/acn.yaml",
        str(ROOT / "pipelines" / "acn.yaml"),
    ],
)
def test_pipeline_is_found(uri, setup, monkeypatch):
    if setup:
        monkeypatch.setenv("COADD_ASTROCLEARNET_DIR", str(ROOT))
    else:
        monkeypatch.delenv("COADD_ASTROCLEARNET_DIR", raising=False)
    from lsst.pipe.base import Pipeline

    assert ResourcePath(uri).read() == (ROOT / "pipelines" / "acn.yaml").read_bytes()
    assert {"assembleAcnCoadd", "compareAcnCoadd"} <= set(Pipeline.from_uri(uri).task_labels)


def test_wheel_holds_all_modules_and_resources(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "COPYRIGHT"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "version.py")
    shutil.copytree(ROOT / "python", source / "python", ignore=ignore)
    code = "import setuptools.build_meta, sys; setuptools.build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("coadd_astroclearnet-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(source / "python"))
        for path in (source / "python/lsst").rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert packed == expected
    assert "lsst/coadd/astroclearnet/version.py" in packed
    assert "lsst/coadd/astroclearnet/resources/pipelines/acn.yaml" in packed


def test_python_version_is_said_alike():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + (ROOT / ".python-version").read_text().strip()
