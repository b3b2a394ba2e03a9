# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress: a bar on a terminal, log lines elsewhere."""

import logging
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest

from lsst.coadd.astroclearnet._progress import StepCounter, find_step
from lsst.coadd.astroclearnet.cli._progress import Progress

ACN = (sys.executable, "-m", "lsst.coadd.astroclearnet")
LOG_LINE = r"^INFO: {}.*, \d+ s, about \d+ s left$"


def run_on_terminal(*arguments):
    """Run ``acn`` with standard error on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(
        [*ACN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    output = process.communicate()[0]
    os.close(ours)
    assert process.returncode == 0, seen.decode()
    return seen.decode(), output


def run_in_file(*arguments):
    """Run ``acn`` without a terminal."""
    done = subprocess.run([*ACN, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr, done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack for ``acn restore``."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:21, :21] - 10
    psf = np.exp(-(x**2 + y**2) / 8.0)
    image = rng.normal(0, 1, (3, 64, 64)).astype(np.float32)
    image[:, 22:43, 22:43] += 100 * psf
    path = tmp_path_factory.mktemp("stack") / "stack.npz"
    np.savez(
        path,
        image=image,
        variance=np.ones_like(image),
        good=np.ones(image.shape, bool),
        psf=np.repeat(psf[None], 3, axis=0) / psf.sum(),
    )
    return path


def make_arguments(command, stack, folder):
    """Return a short run of a command, the first words of one of its lines,
    and how many steps it has.
    """
    return {
        "demo": (("demo", folder / "repo", "--visits", 2, "--size", 200), r"2/2 Visit \d+: ", 2),
        "restore": (("restore", stack, "-o", folder / "out.fits", "--cell-size", 32), r"cell 4/4", 4),
    }[command]


@pytest.mark.parametrize("command", ["demo", "restore"])
def test_terminal_shows_a_bar(command, stack, tmp_path):
    arguments, words, total = make_arguments(command, stack, tmp_path)
    seen, output = run_on_terminal(*arguments)
    assert f"{total}/{total}  100%" in seen and "[####" in seen
    assert re.search(words, seen) and "INFO" not in seen
    # Each step is drawn over the one before, and fits in a line.
    last = next(line for line in seen.split("\n") if f"{total}/{total}" in line)
    drawn = [re.sub(r"\x1b\[[?\d]*[a-zA-Z]", "", part).rstrip() for part in last.split("\r")]
    assert len(drawn) > total and max(map(len, drawn)) <= 80
    assert re.fullmatch(r"Wrote .*\n", output)


@pytest.mark.parametrize("command", ["demo", "restore"])
def test_file_gets_log_lines(command, stack, tmp_path):
    arguments, words, total = make_arguments(command, stack, tmp_path)
    seen, output = run_in_file(*arguments)
    assert re.search(LOG_LINE.format(words), seen, re.M), seen
    assert len(re.findall(LOG_LINE.format(""), seen, re.M)) == total
    assert "\r" not in seen and re.fullmatch(r"Wrote .*\n", output)


class Terminal:
    """Standard error of a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_stages_and_words_have_lines_of_their_own(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress() as progress:
        count = StepCounter(2, progress)
        progress("words")
        count("first")
        progress("more words")
        count("second")
        for step in (0, 1, 2):
            progress(f"step {step}/2: loss 0.1")
    lines = terminal.text.split("\n")
    assert lines[0] == "words" and lines[2].endswith("more words")
    assert "1/2" in lines[1] and "2/2" in lines[3] and "0/2" in lines[4] and "2/2" in lines[4]


def test_quiet_says_nothing(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "lsst.coadd.astroclearnet")
    terminal = Terminal()
    with Progress(quiet=True) as progress:
        progress("1/1 a")
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(quiet=True) as progress:
        progress("1/1 a")
    assert not terminal.text and not caplog.records


def test_lines_tell_time():
    lines = []
    count = StepCounter(4, lines.append)
    count("one")
    assert re.fullmatch(r"1/4 one, \d+ s, about \d+ s left", lines[0])


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("2/9 Visit 7: detectors 1, 2, 3 s, about 4 s left", (2, 9)),
        ("cell 3/16 (0, 2): 14 exposures, chi2 1.003, 12 s, about 20 s left", (3, 16)),
        ("all: step 100/3600 loss 0.1 flux bias % (star/small/large) +0.1/-0.2/+0.3", (100, 3600)),
        ("training on 4 of 9 cells", None),
        ("u/1/2: a path", None),
        ("bias 0.1/0.2", None),
        ("3/0", None),
    ],
)
def test_steps_are_read_from_lines(line, step):
    assert find_step(line) == step
