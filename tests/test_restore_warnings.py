# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``acn restore`` does with odd input, and what it says of it."""

import errno
import hashlib
import tempfile

import numpy as np
import pytest
import safetensors.torch
import torch
from _restore_data import SIGMA, find_warnings, make_stack, run, save
from astropy.io import fits

from lsst.coadd.astroclearnet.core import FitError, FitOptions
from lsst.coadd.astroclearnet.core.encoder._encoder import StatisticEncoder
from lsst.coadd.astroclearnet.core.methods import _fit


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stack.npz"
    np.savez(path, **make_stack())
    return path


def fail_in(cells):
    """Return a fit of a cell that fails in some cells, told by the seed."""
    fit = _fit._MeanFitter.fit

    def fail(self, stack, generator):
        if cells is None or generator.bit_generator.seed_seq.entropy[1:] in cells:
            raise FitError("the sky fell")
        return fit(self, stack, generator)

    return fail


def test_a_cell_that_fails_is_left_out(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(_fit._MeanFitter, "fit", fail_in([[0, 1]]))
    out = tmp_path / "out.fits"
    result = run(stack, "-o", out, "--method", "mean", "--cell-size", 60)
    assert result.exit_code == 0, result.output
    (line,) = find_warnings(result)
    assert "the fit of cell (0, 1) failed; it is left without data. FitError: the sky fell" in line
    with fits.open(out) as hdus:
        assert not hdus["N_IMAGE"].data[:35, 51:].any() and hdus["N_IMAGE"].data[36:].any()


def test_all_cells_failing_is_an_error(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(_fit._MeanFitter, "fit", fail_in(None))
    result = run(stack, "-o", tmp_path / "out.fits", "--method", "mean", "--cell-size", 60)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "Error: the sky fell"
    assert not (tmp_path / "out.fits").exists()


@pytest.mark.parametrize("name", ["\u00dcberblick.npz", "two\nlines.npz", "tab\t\x7f.npz"])
def test_any_file_name_will_do(stack, tmp_path, name):
    odd = stack.rename(tmp_path / name)
    result = run(odd, "-o", tmp_path / "out.fits", "--method", "mean")
    assert result.exit_code == 0, result.output
    source = fits.getheader(tmp_path / "out.fits")["SOURCE"]
    assert "?" in source and source.endswith(".npz") and len(source) == len(name)


def add_sky(arrays):
    arrays["image"][3] += 20 * SIGMA


def keep_one(arrays):
    arrays["good"][1:] = False


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (add_sky, ("--method", "mean"), "the sky of exposure 3 is +20 sigma of the noise of a pixel, not 0"),
        (keep_one, ("--method", "mean"), "there is one exposure only: no artifact can be told from a source"),
        (None, ("--method", "mean", "--target-fwhm", "3"), "--target-fwhm has no effect with --method mean"),
        (None, ("--method", "mm", "--recipe", "paper"), "--recipe has no effect with --method mm"),
        (
            None,
            ("--method", "mm", "--cell-size", "60", "--halo", "2"),
            "the halo is 2 pixels, less than 1.5 times the target FWHM (2.5 pixels): cells will show at "
            "their seams; give --halo 4",
        ),
    ],
)
def test_what_does_harm_is_told_in_a_warning(change, options, message, tmp_path):
    arrays = make_stack()
    if change:
        change(arrays)
    result = run(save(tmp_path / "stack.npz", arrays), "-o", tmp_path / "out.fits", *options)
    assert result.exit_code == 0, result.output
    assert sum(message in line for line in find_warnings(result)) == 1, result.output


def test_locked_folder_is_told_before_the_fit(stack, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(_fit._MeanFitter, "fit", lambda *args: pytest.fail("it was fitted"))
    result = run(stack, "-o", tmp_path / "out.fits", "--method", "mean")
    assert result.exit_code == 1
    assert result.output == f"Error: {tmp_path}/out.fits cannot be written: Permission denied\n"


def test_weights_of_ones_own_are_used_and_named(stack, tmp_path):
    """Other weights, other latent; the file says which."""
    torch.manual_seed(3)
    own = tmp_path / "own.safetensors"
    safetensors.torch.save_file(StatisticEncoder().state_dict(), own)
    assert run(stack, "-o", tmp_path / "a.fits").exit_code == 0
    assert run(stack, "-o", tmp_path / "b.fits", "--weights", own).exit_code == 0
    with fits.open(tmp_path / "a.fits") as shipped, fits.open(tmp_path / "b.fits") as other:
        assert shipped[0].header["WEIGHTS"] == "shipped" and other[0].header["WEIGHTS"].endswith(
            "own.safetensors"
        )
        assert other[0].header["WSHA256"] == hashlib.sha256(own.read_bytes()).hexdigest()
        assert np.abs(shipped["LATENT"].data - other["LATENT"].data).max() > 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights", "/nowhere"), "File '/nowhere' does not exist"),
        (("--weights", "STACK"), "cannot be used: it is damaged or cut short. Give a file that acn train"),
    ],
)
def test_weights_that_are_none(stack, tmp_path, options, words):
    result = run(stack, "-o", tmp_path / "out.fits", *(stack if one == "STACK" else one for one in options))
    assert result.exit_code != 0 and words in result.output.splitlines()[-1]


def test_field_of_options_needs_a_file():
    with pytest.raises(ValueError, match="weights must be a file of acn train; there is no '/nowhere'"):
        FitOptions(weights="/nowhere")
