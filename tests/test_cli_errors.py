# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What users can do wrong: an exit code and one line that names the cause."""

import gzip
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from _ingest_data import describe, write_files
from astropy.io import fits
from click.testing import CliRunner
from conftest import DATA_ID

from lsst.coadd.astroclearnet.cli import main
from lsst.daf.butler import Butler


@pytest.fixture(scope="module")
def files(small_repo, tmp_path_factory):
    """Files of every sort that is wrong, by name."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(64, 64)).astype(np.float32)
    fits.PrimaryHDU(noise).writeto(folder / "noise.fits")
    content = (folder / "noise.fits").read_bytes()
    (folder / "short.fits").write_bytes(content[:-9000])
    (folder / "short.fits.gz").write_bytes(gzip.compress(content)[:3000])
    (folder / "text.fits").write_text("no image")
    np.save(folder / "one.npy", noise)
    (folder / "bytes.fits").write_bytes(rng.bytes(20000))
    fits.PrimaryHDU(np.zeros((3, 10, 10))).writeto(folder / "cube.fits")
    fits.PrimaryHDU(np.full((64, 64), np.nan)).writeto(folder / "nan.fits")
    fits.PrimaryHDU(np.ones((21, 21))).writeto(folder / "psf.fits")
    fits.PrimaryHDU(np.ones((20, 20))).writeto(folder / "even.fits")
    fits.PrimaryHDU(rng.normal(size=(64, 60))).writeto(folder / "narrow.fits")
    for name, cards in (
        ("unit", {"BUNIT": "furlong"}),
        ("wcs", {"CTYPE1": "RA---TAN", "CTYPE2": "NONSENSE"}),
    ):
        fits.PrimaryHDU(noise, fits.Header(cards)).writeto(folder / f"{name}.fits")
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "butler.yaml").write_text("{")
    return folder


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


CASES = [
    ("compare -q {f}/short.fits {f}/noise.fits -o {out}", 1, "short.fits cannot be read as FITS: "),
    ("compare -q {f}/short.fits.gz {f}/noise.fits -o {out}", 1, "short.fits.gz"),
    ("compare -q {f}/text.fits {f}/noise.fits -o {out}", 1, "text.fits cannot be read as FITS: No SIMPLE"),
    ("compare -q {f}/bytes.fits {f}/noise.fits -o {out}", 1, "bytes.fits cannot be read as FITS: "),
    ("compare -q {f}/cube.fits {f}/noise.fits -o {out}", 1, "cube.fits holds no image with two axes"),
    ("compare -q {f}/nan.fits {f}/noise.fits -o {out}", 1, "nan.fits holds no pixel that could be used"),
    ("compare -q {f}/unit.fits {f}/noise.fits -o {out}", 1, "BUNIT = 'furlong'"),
    ("compare -q {f}/wcs.fits {f}/noise.fits -o {out}", 1, "wcs.fits has world coordinates that cannot"),
    ("compare -q {f}/noise.fits {f}/noise.fits -o {out}", 1, "give its PSF with --psf"),
    (
        "compare -q {f}/noise.fits {f}/narrow.fits --psf-a {f}/psf.fits --psf-b {f}/psf.fits -o {out}",
        1,
        "narrow.fits has 60 x 64 pixels, ",
    ),
    # What no PSF can mend is told before a PSF is asked for.
    ("compare -q {f}/noise.fits {f}/narrow.fits -o {out}", 1, "64 x 64; they cannot be compared"),
    ("compare -q {f}/noise.fits {f}/unit.fits -o {out}", 1, "BUNIT = 'furlong'"),
    (
        "compare -q {f}/noise.fits {f}/noise.fits --psf-a {f}/text.fits -o {out}",
        1,
        "text.fits cannot be read",
    ),
    ("compare -q {f}/noise.fits {f}/noise.fits --psf-a {f}/even.fits -o {out}", 1, "even.fits holds no PSF"),
    ("compare {f}/absent.fits {f}/noise.fits -o {out}", 2, "absent.fits' does not exist"),
    ("compare {f}/noise.fits {f}/noise.fits -o {f}/text.fits", 2, "is a file"),
    ("compare {f}/noise.fits", 2, "Missing argument 'B.fits'"),
    ("report {f}/absent --collections u/x", 1, "absent cannot be opened as a Butler repository"),
    ("report {f}/empty --collections u/x", 1, "empty cannot be opened as a Butler repository"),
    ("report {f}/broken --collections u/x", 1, "broken cannot be opened as a Butler repository"),
    ("report {f}/text.fits --collections u/x", 1, "text.fits cannot be opened as a Butler repository"),
    ("report {repo} --collections u/none", 1, "No collection with name 'u/none'"),
    ("report {repo} --collections HSC/defaults", 1, "there is no acn_coadd: run pipelines/mean.yaml"),
    ("report {repo} --collections HSC/defaults -o {f}", 2, "is a directory"),
    ("report {repo}", 2, "Missing option '--collections'"),
    ("summary {f}/text.fits --collections u/x", 1, "text.fits cannot be opened as a Butler repository"),
    ("summary {repo} --collections u/none", 1, "No collection with name 'u/none'"),
    ("summary {repo} --collections HSC/defaults", 1, "there is no acn_coadd: run pipelines/mean.yaml"),
    ("demo {f}/text.fits", 2, "is a file"),
    ("demo {f}/empty/../broken", 1, "is not a demo repository; nothing was changed"),
    ("demo {out} --size 17", 2, "size must be a multiple of 200"),
    ("restore {f}/text.fits -o {out}", 1, "cannot be read as a .npz file"),
    ("restore {f}/one.npy -o {out}", 1, "one.npy is a single array of numpy.save; STACK holds four"),
    ("restore {f}/absent.npz -o {out}", 2, "absent.npz' does not exist"),
    ("restore {f}/text.fits -o {f}/absent/out.fits", 1, "does not exist; make it first"),
    ("ingest {f}/text.fits {out}", 1, "must hold a mapping"),
    ("ingest {f}/absent.yaml {out}", 2, "absent.yaml' does not exist"),
    ("train {f}/psf.fits", 1, "give --overwrite"),
    ("train {f}/absent/w.safetensors", 1, "does not exist"),
    ("inject {f}/absent -i a -o b", 1, "absent cannot be opened as a Butler repository"),
    ("inject {repo} -i HSC/none -o b", 1, "HSC/none"),
    ("inject {repo} -i HSC/defaults -o b -n 0", 2, "0 is not in the range x>=1"),
    ("inject {repo} -i , -o b", 2, "--input names no collection"),
    ("nonsense", 2, "No such command 'nonsense'"),
]


@pytest.mark.parametrize(("words", "code", "message"), CASES)
def test_mistakes_are_told_in_a_line(words, code, message, files, small_repo, tmp_path):
    out = tmp_path / "out"
    result = run(*(word.format(f=files, repo=small_repo, out=out) for word in words.split()))
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: ") and message in last and len(last) < 400, result.output
    assert not out.exists()
    # Wrong words are shown the usage first; for the rest one line is all.
    told = [line for line in result.output.splitlines() if line and not line.startswith("INFO: ")]
    assert len(told) == (1 if code == 1 else 3), result.output


@pytest.fixture
def coadds(fresh_repo):
    """A repository with metrics in a file that is then spoiled."""
    from test_report import make_metrics

    from lsst.coadd.astroclearnet.repository import put_dataset

    with Butler.from_config(str(fresh_repo), writeable=True) as butler:
        ref = put_dataset(
            butler,
            make_metrics(),
            "acn_coadd_comparison_metrics",
            storage_class="ArrowAstropy",
            dimensions=("skymap", "tract", "patch", "band"),
            data_id=DATA_ID,
            run="u/test",
        )
        return fresh_repo, butler.getURI(ref).ospath


@pytest.mark.parametrize("spoil", ["missing", "text"])
@pytest.mark.parametrize("command", ["report", "summary"])
def test_spoiled_datasets_are_named(coadds, spoil, command, tmp_path):
    repo, path = coadds
    os.remove(path)
    if spoil == "text":
        with open(path, "w") as file:
            file.write("no parquet")
    result = run(command, repo, "--collections", "u/test", "-o", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: acn_coadd_comparison_metrics of ") and "cannot be read: " in last
    assert "patch=40" in last


def test_spoiled_exposure_is_named(fresh_repo):
    with Butler.from_config(str(fresh_repo), collections="HSC/defaults") as butler:
        path = butler.getURI(butler.query_datasets("calexp")[0]).ospath
    with open(path, "wb") as file:
        file.write(b"no image")
    result = run("inject", fresh_repo, "-i", "HSC/defaults", "-o", "u/x", "--run", "nothing")
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: calexp of visit=") and "cannot be read: " in last


def run_without_rights(*words):
    """Run ``acn`` so that read-only folders are read-only for root, too."""
    command = [sys.executable, "-m", "lsst.coadd.astroclearnet", *map(str, words)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("tests run as root, and setpriv, which takes its rights away, is not installed")
        rights = "-dac_override,-dac_read_search,-fowner"
        command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "words",
    [
        "demo {locked}/repo --size 200 --visits 1",
        "compare -q {f}/noise.fits {f}/noise.fits -o {locked}/out",
        "compare -q {f}/noise.fits {f}/noise.fits --psf-a {f}/psf.fits --psf-b {f}/psf.fits -o {locked}",
        "restore {stack} -o {locked}/out.fits -q",
        "ingest {ingest} {locked}/repo",
        "train {locked}/w.safetensors",
    ],
)
def test_no_right_to_write_is_a_line(words, files, tmp_path):
    stack, psf = tmp_path / "stack.npz", np.zeros((2, 5, 5))
    psf[:, 2, 2] = 1
    image = np.random.default_rng(1).normal(size=(2, 32, 32)).astype(np.float32)
    np.savez(stack, image=image, variance=np.ones_like(image), good=np.ones(image.shape, bool), psf=psf)
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    names = {"f": files, "locked": locked, "stack": stack, "ingest": None}
    if "{ingest}" in words:
        write_files(tmp_path)
        names["ingest"] = describe(tmp_path, tmp_path)
    done = run_without_rights(*(word.format(**names) for word in words.split()))
    assert done.returncode == 1, done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]
    assert len(told) == 1 and told[0].startswith("Error: "), done.stderr
    assert "Permission denied" in told[0] and str(locked) in told[0]
    assert f"{locked}/." not in told[0] and f"{locked}/tmp" not in told[0]  # files nobody knows of
    assert not any(locked.iterdir())


def test_a_repository_that_is_only_read(fresh_repo):
    """Neither registry nor files can be written."""
    for path in [fresh_repo, *fresh_repo.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = run_without_rights(
            "inject", fresh_repo, "-i", "HSC/defaults", "-o", "u/x", "--run", "nothing", "--density", "60"
        )
        read = run_without_rights("report", fresh_repo, "--collections", "HSC/defaults")
    finally:
        for path in [fresh_repo, *fresh_repo.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert "there is no acn_coadd: run pipelines" in read.stderr  # it can be read
    assert done.returncode == 1, done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]
    assert len(told) == 1 and told[0].startswith("Error: "), done.stderr
    assert "readonly" in told[0] or "read-only" in told[0] or "Permission denied" in told[0], told
