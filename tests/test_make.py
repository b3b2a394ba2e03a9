# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands of a newcomer: how they start, fail and run again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def make_fake_python(path, *, version=(3, 11), modules=True):
    """Write a program that answers as a Python of some version would."""
    path.write_text(f"""#!/bin/sh
case "$2" in
    *ensurepip*) exit {0 if modules else 1};;
    *sys.exit*) exit {0 if version >= (3, 12) else 1};;
    *print*) echo {version[0]}.{version[1]};;
    *) exit 99;;
esac
""")
    path.chmod(0o755)


def find_python(folder, **environment):
    """Run ``.ci/find_python`` where no other Python is on the path."""
    (folder / "sh").symlink_to(shutil.which("sh"))
    return subprocess.run(
        [str(ROOT / ".ci/find_python")],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
    )


def test_find_python_takes_the_first_new_enough(tmp_path):
    make_fake_python(tmp_path / "python3", version=(3, 11))
    make_fake_python(tmp_path / "python3.13", version=(3, 13))
    make_fake_python(tmp_path / "python3.12", version=(3, 12))
    assert find_python(tmp_path).stdout == "python3.13\n"


def test_find_python_respects_the_variable(tmp_path):
    make_fake_python(tmp_path / "python3", version=(3, 13))
    make_fake_python(tmp_path / "mine", version=(3, 12))
    assert find_python(tmp_path, PYTHON=str(tmp_path / "mine")).stdout == f"{tmp_path / 'mine'}\n"


@pytest.mark.parametrize(
    ("fake", "words"),
    [
        ({"version": (3, 11)}, "python3 is 3.11;"),
        ({"version": (3, 12), "modules": False}, "python3 (3.12) lacks the modules venv and ensurepip;"),
        (None, "none of python3 python3.14 python3.13 python3.12 runs;"),
    ],
)
def test_find_python_explains_what_is_missing(tmp_path, fake, words):
    if fake:
        make_fake_python(tmp_path / "python3", **fake)
    done = find_python(tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (f"Python >= 3.12 is needed: {words} set PYTHON=/path/to/python3.12 (or newer).\n")


def run_make(*args):
    """Run make in the checkout, not as part of the make that runs this."""
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    env = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(["make", *args], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("target", ["test", "demo"])
def test_make_stops_when_python_is_too_old(tmp_path, target):
    make_fake_python(tmp_path / "old", version=(3, 9))
    venv = tmp_path / "venv"
    done = run_make(target, f"VENV={venv}", f"DEMO={tmp_path / 'demo'}", f"PYTHON={tmp_path / 'old'}")
    assert done.returncode != 0
    first, last = done.stderr.splitlines()
    assert first.startswith(f"Python >= 3.12 is needed: {tmp_path / 'old'} is 3.9;")
    assert last.startswith("make: ***")
    assert not venv.exists()


def test_make_demo_goes_all_the_way_and_repeats_nothing(tmp_path):
    options = ("--old-file", f"{sys.prefix}/.installed", f"VENV={sys.prefix}", f"DEMO={tmp_path}")
    make_demo = ("demo", *options, "DEMO_ARGS=--size 200 --visits 3")
    first = run_make(*make_demo)
    assert first.returncode == 0, first.stderr
    for step in range(1, 5):
        assert f"[{step}/4]" in first.stdout
    table = first.stdout[first.stdout.index("[4/4]") :]
    for words in ("deepCoadd", "acn_coadd", "acn_latent", "star_fwhm", "star_flux_bias", "Next:"):
        assert words in table
    assert f"picture: {tmp_path / 'comparison.png'}" in table
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "acn_coadd" in (tmp_path / "report.html").read_text()
    assert "Executed 1 quanta successfully" in first.stderr
    again = run_make(*make_demo)
    assert again.returncode == 0, again.stderr
    assert again.stdout == table
    assert "quanta" not in again.stderr
