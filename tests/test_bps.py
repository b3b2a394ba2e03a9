# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files for batch systems, by ctrl_bps itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lsst.daf.butler import Butler

pytest.importorskip("lsst.ctrl.bps", reason="ctrl_bps is not a dependency of this package (extra bps)")

ROOT = Path(__file__).resolve().parent.parent
PARSL, CONDOR = "lsst.ctrl.bps.parsl", "lsst.ctrl.bps.htcondor"


@pytest.fixture
def run_bps(fresh_repo, tmp_path):
    """Give a function that runs a command of bps on a file of bps/, adapted
    to the small demo repository; it returns the submit directory.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if not shutil.which("bps", path=path):
        pytest.skip("the command bps is not on PATH")
    environment = {
        **os.environ,
        "PATH": path,
        "PWD": str(tmp_path),  # bps submits below it
        "COADD_ASTROCLEARNET_DIR": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }

    def run(command, name):
        text = (ROOT / "bps" / name).read_text()
        for old, new in (
            ("pipelines/HSC/acn.yaml", "pipelines/acn.yaml"),
            ("device=cuda", "device=cpu"),
            ("butlerConfig: REPO", f"butlerConfig: {fresh_repo}"),
            ("HSC/runs/YOUR_RUN", "HSC/defaults"),
            ("instrument='HSC' AND skymap='hsc_rings_v1'", "skymap='hsc_rings_demo'"),
            ("payloadName: acn", "payloadName: acn\n  output: u/test/acn"),
        ):
            assert old in text or old == "device=cuda"
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["bps", command, name], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        (submitted,) = (tmp_path / "submit/u/test/acn").iterdir()
        return submitted

    return run


def read_command(workflow):
    """Return what runs the quantum of assembleAcnCoadd in Parsl."""
    (job,) = (job for job in workflow.jobs.values() if job.generic.label == "assembleAcnCoadd")
    return job.evaluate_command_line(job.get_command_line())


def test_local_file_runs_to_the_end(run_bps, fresh_repo):
    pytest.importorskip(PARSL)
    submitted = run_bps("submit", "local.yaml")
    with Butler.from_config(str(fresh_repo), collections="u/test/acn") as butler:
        (ref,) = butler.query_datasets("acn_latent")
        assert ref.run == f"u/test/acn/{submitted.name}"
        assert butler.get(ref).metadata["device"] == "cpu: 1 thread"


def test_slurm_file_asks_for_a_gpu_and_gives_the_fit_its_cores(run_bps):
    workflows = pytest.importorskip(f"{PARSL}.workflow")
    submitted = run_bps("prepare", "slurm_gpu.yaml")
    workflow = workflows.ParslWorkflow.read(str(submitted))
    assert re.search(r" run-qbb .* -n 4$", read_command(workflow))
    (executor,) = workflow.parsl_config.executors
    provider = executor.provider
    assert "#SBATCH --gres=gpu:1\n" in provider.scheduler_options
    # One worker, for one GPU.
    assert (provider.cores_per_node, provider.mem_per_node, provider.nodes_per_block) == (1, 12, 1)


def test_condor_file_asks_for_a_gpu_for_the_fit_alone(run_bps):
    pytest.importorskip(CONDOR)
    submitted = run_bps("prepare", "htcondor_gpu.yaml")
    folder = submitted / "jobs"
    texts = {path.relative_to(folder).parts[0]: path.read_text() for path in folder.rglob("*.sub")}
    assert [label for label, text in texts.items() if "gpu" in text.lower()] == ["assembleAcnCoadd"]
    fit = texts["assembleAcnCoadd"]
    assert "\n+RequestGPUs = 1\n" in fit and "\nrequest_cpus=4\n" in fit and "12288" in fit
    assert re.search(r'^arguments=".* run-qbb .* -n 4"$', fit, re.MULTILINE)
    assert "\nrequest_cpus=1\n" in texts["finalJob"]
