# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The user guide: it builds, and what it names exists."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import WHERE

from lsst.daf.butler import Butler
from lsst.pipe.base import Pipeline
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "doc/lsst.coadd.astroclearnet"
SCRIPT = GUIDE / "tutorial.sh"
PAGES = [path for pattern in ("*.rst", "how-to/*.rst", "*.sh") for path in GUIDE.glob(pattern)]
PAGES += sorted((ROOT / "bps").glob("*.yaml"))
TEXT = {path: path.read_text() for path in PAGES}

BUILD = """
import socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("The build of the guide uses the network.")

socket.socket.connect = socket.create_connection = refuse
from sphinx.cmd.build import main
sys.exit(main(sys.argv[1:]))
"""
"""Sphinx on a machine without network."""


@pytest.mark.skipif(
    not importlib.util.find_spec("documenteer")
    or not importlib.util.find_spec("documenteer.conf.pipelinespkg"),
    reason="documenteer is not installed, or is none that knows packages of the Science Pipelines",
)
def test_guide_builds_without_warnings_and_network(tmp_path):
    html = tmp_path / "html"
    arguments = [
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-d",
        str(tmp_path / "trees"),
        str(ROOT / "doc"),
        str(html),
    ]
    done = subprocess.run([sys.executable, "-c", BUILD, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    pages = {path.relative_to(html).as_posix(): path.read_text() for path in html.rglob("*.html")}
    guide = "lsst.coadd.astroclearnet/"
    masks = pages[f"{guide}how-to/masks.html"]
    assert "ACN_UNTRUSTED" in masks and "COSMIC_RAY" in masks
    task = pages[f"{guide}tasks/lsst.coadd.astroclearnet.assemble_acn_coadd.AssembleAcnCoaddTask.html"]
    assert "acn_latent" in task and "target_fwhm" in task and "max_bad_fraction" in task
    assert (html / "_images/demo.png").exists()


def find_settings():
    """Find each ``-c LABEL:FIELD=VALUE`` of the guide."""
    found = set()
    for text in TEXT.values():
        found |= set(re.findall(r"-c (\w+):([\w.]+)=([^\s`\"]+)", text))
    return sorted(found)


@pytest.mark.parametrize(("label", "field", "value"), find_settings())
def test_every_setting_of_the_guide_exists(label, field, value):
    if label == "parameters":
        pytest.skip("a parameter, which test_pipelines sets")
    pipeline = Pipeline.from_uri(str(ROOT / "pipelines/acn.yaml"))
    # Dots stand for what the reader chooses.
    pipeline.addConfigOverride(label, field, "name" if value == "..." else yaml.safe_load(value))
    config = pipeline.to_graph().tasks[label].config
    config.validate()


def test_every_file_of_the_guide_exists():
    named = set()
    for text in TEXT.values():
        named |= set(re.findall(r"\b(?:pipelines|config|bps)/[\w/-]+\.(?:yaml|py)\b", text))
    assert len(named) > 6
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_command_of_the_guide_exists():
    from lsst.coadd.astroclearnet.cli import main

    used = set()
    for path, text in TEXT.items():
        parts = (
            re.findall(r"^acn .*$", text, re.M)
            if path.suffix == ".sh"
            else re.findall(r"``(acn [^`]+)``", text)
        )
        used |= {tuple(word for word in shlex.split(part)) for part in parts}
    assert len(used) > 3
    for _, name, *rest in sorted(used):
        command = main.get_command(None, name)
        assert command is not None, name
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= known


def test_batch_files_ask_for_the_task_of_the_pipeline():
    files = sorted((ROOT / "bps").glob("*.yaml"))
    assert files
    for path in files:
        content = yaml.safe_load(path.read_text())
        assert list(content["pipetask"]) == ["assembleAcnCoadd"]
        pipeline = content["pipelineYaml"].removeprefix("${COADD_ASTROCLEARNET_DIR}/")
        assert (ROOT / pipeline).exists()
        if "computeSite" in content:
            assert content["computeSite"] in content["site"]


def test_python_of_the_tutorial_runs(fresh_repo, tmp_path):
    for name, output, inputs in (
        ("mean.yaml", "HSC/runs/mean", ["HSC/defaults"]),
        ("acn.yaml#coadd", "u/demo/acn", ["HSC/runs/mean", "HSC/defaults"]),
    ):
        pipeline = Pipeline.from_uri(str(ROOT / f"pipelines/{name}"))
        butler = SimplePipelineExecutor.prep_butler(str(fresh_repo), inputs=inputs, output=output)
        with butler:
            executor = SimplePipelineExecutor.from_pipeline(pipeline, where=WHERE, butler=butler)
            executor.run(register_dataset_types=True)
    with Butler.from_config(str(fresh_repo), collections="u/demo/acn") as butler:
        assert butler.query_datasets("acn_latent")
    code = re.search(r"<<'PYTHON'\n(.*?)^PYTHON$", SCRIPT.read_text(), re.M | re.S)[1]
    done = subprocess.run(
        [sys.executable, "-", str(fresh_repo)],
        input=code,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert " sources; error of a flux by the sky: " in done.stdout and " mag" in done.stdout
    assert (tmp_path / "tutorial.png").stat().st_size > 10000
