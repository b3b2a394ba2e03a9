# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The user guide: it builds, and what it names exists."""

import html as html_parser
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddConfig
from lsst.coadd.astroclearnet.cli import main
from lsst.coadd.astroclearnet.comparison import _rows
from lsst.coadd.astroclearnet.core import FitOptions, Plane
from lsst.coadd.astroclearnet.ingest import _config as ingest_config
from lsst.coadd.astroclearnet.injection import _measure
from lsst.coadd.astroclearnet.outputs._about import describe_run
from lsst.coadd.astroclearnet.repository._visit_images import VISIT_PLANES
from lsst.daf.butler import Butler
from lsst.pipe.base import Pipeline
from lsst.pipe.base.pipeline import LabelSpecifier

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "doc/lsst.coadd.astroclearnet"
SCRIPT = GUIDE / "tutorial.sh"
PAGES = [path for pattern in ("*.rst", "how-to/*.rst", "*.sh") for path in GUIDE.glob(pattern)]
PAGES += sorted((ROOT / "bps").glob("*.yaml"))
TEXT = {path: path.read_text() for path in PAGES}
ASSEMBLE = GUIDE / "tasks/lsst.coadd.astroclearnet.assemble_acn_coadd.AssembleAcnCoaddTask.rst"

METRICS = {name: " ".join(one.text.split()) for name, one in _rows.DEFINITIONS.items()}
INJECTION_METRICS = {name: " ".join(text.split()) for name, text in _measure.DEFINITIONS.items()}

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
    assert (html / "_images/demo.png").exists() and (html / "_images/decam-injection.png").exists()
    compared = pages[f"{guide}tasks/lsst.coadd.astroclearnet.compare_acn_coadd.CompareAcnCoaddTask.html"]
    injected = pages[
        f"{guide}tasks/lsst.coadd.astroclearnet.measure_acn_injection.MeasureAcnInjectionTask.html"
    ]
    for page, known in ((read_text(compared), METRICS), (read_text(injected), INJECTION_METRICS)):
        for name, text in known.items():
            assert name in page and text in page, name
    commands = read_text(pages[f"{guide}commands.html"])
    for name in main.list_commands(None):
        command = main.get_command(None, name)
        assert f"acn {name}" in commands
        for option in command.params:
            assert max(option.opts, key=len) in commands or option.metavar in commands, (name, option.name)
    limits = read_text(pages[f"{guide}how-to/when-not.html"])
    for words in (
        "islands beside bright",
        "Ripples near saturated",
        "Faint fluxes that are biased",
        "acn_coadd",
    ):
        assert words in limits
    assert read_text(pages[f"{guide}how-to/inject.html"]).count("make decam inject") == 1


def read_text(page):
    """Return the words of a page without its markup."""
    return " ".join(html_parser.unescape(re.sub(r"<[^>]+>", "", page)).split())


def find_settings():
    """Find each ``-c LABEL:FIELD=VALUE`` of the guide; those that stand side
    by side are given together.
    """
    one, found = r"-c (\w+):([\w.]+)=([^\s`\"]+)", set()
    for text in TEXT.values():
        found |= {tuple(re.findall(one, group[0])) for group in re.finditer(rf"(?:{one}[\s\\]*)+", text)}
    return sorted(found)


@pytest.mark.parametrize("settings", find_settings(), ids=str)
def test_every_setting_of_the_guide_exists(settings):
    labels = {label for label, *_ in settings}
    if "parameters" in labels:
        pytest.skip("a parameter, which test_pipelines sets")
    pipelines = (Pipeline.from_uri(str(ROOT / f"pipelines/{name}.yaml")) for name in ("acn", "acn-measure"))
    pipeline = next(pipeline for pipeline in pipelines if labels <= set(pipeline.task_labels))
    if "detectAcnCoadd" in pipeline.task_labels:
        pytest.importorskip("lsst.pipe.tasks.multiBand", reason="its tasks are part of the full stack")
    # What other tasks must be told as well is for contracts to say.
    pipeline = pipeline.subsetFromLabels(LabelSpecifier(labels=labels))
    for label, field, value in settings:
        # Dots stand for what the reader chooses.
        pipeline.addConfigOverride(label, field, "name" if value == "..." else yaml.safe_load(value))
    tasks = pipeline.to_graph().tasks
    for label in labels:
        tasks[label].config.validate()


def test_every_file_of_the_guide_exists():
    named = set()
    for text in TEXT.values():
        named |= set(re.findall(r"\b(?:pipelines|config|bps|benchmarks)/[\w/-]+\.(?:yaml|py|md)\b", text))
    assert len(named) > 6
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def find_figures(text):
    """Find all figures with errors, without their signs."""
    return set(re.findall(r"([\d.]*\d) (?:±|\+-) ([\d.]*\d)", " ".join(text.split())))


def is_rounded_from(figure, known):
    """Tell whether value and error are those of a longer one, rounded."""
    return all(
        f"{float(long):.{len(short.partition('.')[2])}f}" == short
        for short, long in zip(figure, known, strict=True)
    )


def test_figures_of_the_page_on_limits_are_those_of_the_results_that_it_names():
    """Each row of its table, and each point, names the file of its figures."""
    page = TEXT[GUIDE / "how-to/when-not.rst"]
    checked = 0
    for part in re.split(r"^(?:   \* - |- |\n)", page, flags=re.MULTILINE):
        results = re.findall(r"benchmarks/results/\w+\.md", part)
        known = {figure for path in results for figure in find_figures((ROOT / path).read_text())}
        for figure in find_figures(part):
            assert any(is_rounded_from(figure, one) for one in known), (figure, results)
            checked += 1
    assert checked > 10


def test_every_file_and_name_of_the_page_on_the_code_exists():
    text = TEXT[GUIDE / "code.rst"]
    paths = re.findall(r"``(?!lsst\.)([\w/-]+(?:\.\w+|/))``", text)
    assert len(paths) > 40
    package = ROOT / "python/lsst/coadd/astroclearnet"
    assert [path for path in paths if not ((package / path).exists() or (ROOT / path).exists())] == []
    folders = {f"{path.parent.relative_to(package)}/" for path in package.glob("**/__init__.py")} - {"./"}
    assert folders <= set(paths)
    sources = "".join(path.read_text() for path in package.rglob("*.py"))
    names = re.findall(r"``([A-Za-z_]+)``", text)
    assert [name for name in names if not re.search(rf"\b{name}\b", sources)] == []


def test_metadata_of_the_guide_are_those_of_the_coadds():
    page = ASSEMBLE.read_text()
    about = describe_run(AssembleAcnCoaddConfig(), FitOptions(), device="cpu", n_inputs=1, n_dropped=0)
    names = {"version_..." if name.startswith("version_") else name for name in about}
    assert [name for name in sorted(names) if f"``{name}``" not in page] == []


def test_every_command_of_the_guide_exists():
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


@pytest.mark.parametrize("path", sorted((ROOT / "bps").glob("*.yaml")), ids=lambda path: path.stem)
def test_batch_files_ask_for_what_their_jobs_use(path):
    content = yaml.safe_load(path.read_text())
    pipeline = ROOT / content["pipelineYaml"].removeprefix("${COADD_ASTROCLEARNET_DIR}/")
    assert set(content["pipetask"]) <= set(yaml.safe_load(pipeline.read_text())["tasks"])
    assert content["finalJob"]["requestCpus"] == 1  # what is not said is 16
    fit = content["pipetask"]["assembleAcnCoadd"]
    # A quantum uses one core, whatever was asked for, unless it is told.
    assert fit["requestCpus"] >= 1 and fit["extraRunQuantumOptions"] == "-n {requestCpus}"
    jobs = [*content["pipetask"].values(), content["finalJob"]]
    if "computeSite" in content:  # Parsl: these do not count, and would say what is not so
        assert not any("requestMemory" in job for job in jobs)
        site = content["site"][content["computeSite"]]
        assert site.get("mem_per_node", 12) >= 12 and site.get("cores_per_node", site.get("cores")) >= 1
    else:  # what is not said is 2 GB
        assert all(job["requestMemory"] > 2048 for job in jobs)
        assert set(content["pipetask"]) >= {"assembleAcnCoadd", "compareAcnCoadd"}


def find_kinds(models):
    return {one.model_fields["kind"].annotation.__args__[0] for one in models}


def test_keys_of_the_page_on_ingest_are_those_of_the_models():
    page = GUIDE / "how-to/ingest.rst"
    parts = re.split(r"^(.+)\n=+\n", TEXT[page], flags=re.MULTILINE)
    keys = {
        title: re.findall(r"^   \* - ``(\w+)``$", text, re.MULTILINE)
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert all(len(names) == len(set(names)) for names in keys.values())
    c = ingest_config
    psfs, skies = (c.PsfexFile, c.PiffFile, c.StampFile), (c.NoSky, c.ConstantSky, c.MedianSky, c.SplineSky)
    models = {
        "instrument": (c.Instrument,),
        "sky_map": (c.SkyMapConfig,),
        "exposures": (c.Exposure,),
        "image": (c.ImageFile,),
        "weight": (c.Weight,),
        "data_quality": (c.DataQuality,),
        "psf": psfs,
        "wcs": (c.WcsConfig,),
        "calibration": (c.Calibration,),
        "sky": skies,
    }
    for title, known in models.items():
        assert set(keys.pop(title)) == {name for one in known for name in one.model_fields}, title
    # What load_config takes beside the model.
    assert set(keys.pop("The file")) == {*c.IngestConfig.model_fields, "data_root", "table", "defaults"}
    assert not any(keys.values())
    kinds = find_kinds(psfs) | find_kinds(skies) | set(c.Weight.model_fields["kind"].annotation.__args__)
    planes = {plane.name for plane in Plane if plane.name in VISIT_PLANES}
    assert [name for name in sorted(kinds | planes) if f"``{name}``" not in TEXT[page]] == []


def test_example_of_the_page_on_ingest_runs(tmp_path):
    for name in ("make_files.py", "exposures.yaml"):
        shutil.copy(GUIDE / "ingest-example" / name, tmp_path)
    subprocess.run([sys.executable, "make_files.py"], cwd=tmp_path, check=True)
    result = CliRunner().invoke(main, ["ingest", str(tmp_path / "exposures.yaml"), str(tmp_path / "repo")])
    assert result.exit_code == 0, result.output
    with Butler.from_config(str(tmp_path / "repo"), collections="MyCam/defaults") as butler:
        refs = butler.query_datasets("calexp")
        assert len(refs) == 3
        image = butler.get(refs[0]).image.array
    assert abs(np.median(image)) < 1 and image.max() > 50  # the sky is gone, stars are there


def test_tutorial_runs_as_it_is_pasted(tmp_path):
    """The whole script, on a smaller sky."""
    script = SCRIPT.read_text().replace("--size 400 --visits 8", "--size 200 --visits 4")
    assert "--size 200" in script
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-s"],
        input=script,
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    words_of_errors = (" sources; error of a flux by the sky: ", " mag  error of its PSF flux ")
    for words in ("star_fwhm", "method acn", *words_of_errors):
        assert words in done.stdout
    assert (tmp_path / "tutorial.png").stat().st_size > 10000
    assert (tmp_path / "demo-tutorial/report.html").stat().st_size > 100000
    with Butler.from_config(str(tmp_path / "demo-tutorial/repo"), collections="u/demo/acn") as butler:
        assert butler.query_datasets("acn_latent")
