# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import resource
import subprocess
import sys
import textwrap

import galsim
import numpy as np
import pytest
from _restore_data import HEIGHT, SIGMA, STAR, WIDTH, find_warnings, make_stack, read_plane, run, save
from astropy.io import fits

from lsst.coadd.astroclearnet import __version__

HDUS = ["PRIMARY", "LATENT", "COADD", "VARIANCE", "LATENT_VARIANCE", "PSF_FLUX_ERROR"]
HDUS += ["MASK", "NOISE", "N_IMAGE", "PSF", "PSF_CELLS"]


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stack.npz"
    np.savez(path, **make_stack())
    return path


def aperture_sum(image, radius=14):
    y, x = np.indices(image.shape)
    return image[np.hypot(x - STAR["x"], y - STAR["y"]) < radius].sum(dtype=float)


def test_mean_has_all_hdus_and_the_flux(stack, tmp_path):
    out = tmp_path / "out.fits"
    result = run(stack, "-o", out, "--method", "mean", "--seed", "7")
    assert result.exit_code == 0, result.output
    arrays = make_stack()
    with fits.open(out) as hdus:
        assert [hdu.name for hdu in hdus] == HDUS
        header = hdus[0].header
        assert (header["METHOD"], header["SEED"], header["VERSION"]) == ("mean", 7, __version__)
        assert not read_plane(hdus, "ACN_UNTRUSTED").any()  # there is no latent to be trusted
        assert header["TPSFTYPE"] == "NONE" and header["HASLATNT"] is False
        np.testing.assert_array_equal(hdus["LATENT"].data, hdus["COADD"].data)
        assert hdus["COADD"].data.shape == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(hdus["N_IMAGE"].data, arrays["good"].sum(0))
        sky = np.s_[2:16, 60:99]  # no source
        scatter = hdus["COADD"].data[sky].std() / np.sqrt(np.median(hdus["VARIANCE"].data[sky]))
        assert scatter == pytest.approx(1, abs=0.1)
        assert np.median(hdus["VARIANCE"].data[sky]) == pytest.approx(SIGMA**2 / 5, rel=0.05)
        # Pixels of a mean err independently.
        assert header["NOISE_AREA_5"] == pytest.approx(1, abs=0.1) and "NOISE_AREA_40" in header
        expected = SIGMA / np.sqrt(5 * np.sum(hdus["PSF"].data ** 2))
        assert np.median(hdus["PSF_FLUX_ERROR"].data[sky]) == pytest.approx(expected, rel=0.05)
        # The flux of the star within the aperture is what the PSF has there.
        kernel = np.zeros((HEIGHT, WIDTH))
        psf = hdus["PSF"].data
        assert psf.shape == (31, 31) and psf.sum() == pytest.approx(1, abs=1e-5)
        kernel[STAR["y"] - 15 : STAR["y"] + 16, STAR["x"] - 15 : STAR["x"] + 16] = psf
        expected = STAR["flux"] * aperture_sum(kernel)
        assert aperture_sum(hdus["COADD"].data) == pytest.approx(expected, rel=0.01)


def test_mm_is_sharper_at_the_target_psf(stack, tmp_path):
    out = tmp_path / "out.fits"
    result = run(stack, "-o", out, "--method", "mm", "--target-fwhm", "2.6", "--quiet")
    assert result.exit_code == 0, result.output
    assert result.output == ""
    with fits.open(out) as hdus:
        header = hdus[0].header
        assert header["NOISE_AREA_5"] > 1.5
        assert (header["METHOD"], header["TPSFTYPE"], header["TPSFFWHM"]) == ("mm", "GAUSSIAN", 2.6)
        assert hdus["LATENT"].data.min() >= 0
        for name in ("LATENT", "COADD"):
            stamp = galsim.Image(
                hdus[name].data[STAR["y"] - 10 : STAR["y"] + 11, STAR["x"] - 10 : STAR["x"] + 11].copy()
            )
            moments = stamp.FindAdaptiveMom()
            # The best seeing is 3.6 px; the updates come from above.
            assert 2.55 < moments.moments_sigma * 2.355 < 2.85
            assert moments.moments_centroid.x == pytest.approx(11, abs=0.05)
        assert aperture_sum(hdus["COADD"].data) == pytest.approx(STAR["flux"], rel=0.02)


def test_same_seed_same_file(stack, tmp_path):
    for name in ("a", "b"):
        assert run(stack, "-o", tmp_path / f"{name}.fits", "--method", "mm").exit_code == 0
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


def test_needs_no_lsst_software(stack, tmp_path):
    """The whole command runs where no other lsst package can be imported."""
    program = textwrap.dedent(
        """
        import importlib.abc, sys

        class Blocker(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.startswith("lsst.") and not (name + ".").startswith("lsst.coadd."):
                    raise ImportError(f"{name} is blocked")

        sys.meta_path.insert(0, Blocker())
        from lsst.coadd.astroclearnet.cli import main
        main(sys.argv[1:])
        """
    )
    out = tmp_path / "out.fits"
    command = [sys.executable, "-c", program, "restore", str(stack), "-o", str(out), "--method", "mean"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert out.is_file()


def without(key):
    return lambda arrays: arrays.pop(key)


def put(key, where, value):
    def change(arrays):
        arrays[key][where] = value

    return change


def replace(key, function):
    def change(arrays):
        arrays[key] = function(arrays[key])

    return change


def as_float64(key, change):
    def both(arrays):
        arrays[key] = arrays[key].astype(float)
        change(arrays)

    return both


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("psf"),
            "lacks the key psf (needed: image, variance, good, psf; found: good, image, variance)",
        ),
        (replace("image", lambda a: a[0]), "image must have shape (n, h, w); got (70, 101)"),
        (replace("variance", lambda a: a[:, 1:]), "variance has shape (5, 69, 101), but image (5, 70, 101)"),
        (replace("psf", lambda a: a[:3]), "psf must have shape (5, p, p)"),
        (replace("psf", lambda a: a[:, 1:, 1:]), "with p odd"),
        (replace("good", lambda a: a * 6), "good must hold True and False"),
        (replace("good", np.zeros_like), "no pixel of any exposure is good"),
        (replace("image", lambda a: a.astype(str)), "image has the type <U"),
        (
            put("image", (2, 5, 5), np.nan),
            "image is NaN or infinite in 1 pixels of exposure 2 where good is True",
        ),
        (
            put("variance", (3, 5, slice(0, 4)), np.inf),
            "variance is NaN or infinite in 4 pixels of exposure 3",
        ),
        (replace("variance", lambda a: a.astype(float) * 1e-50), "give image and variance in a unit"),
        (
            as_float64("image", put("image", (2, 5, 5), 1e39)),
            "image is beyond the range of float32 in 1 pixels",
        ),
        (as_float64("variance", put("variance", (3, 5, 5), 1e-50)), "float32 in 1 pixels of exposure 3"),
        (put("variance", (0, 5, 5), 0), "variance is zero or negative in 1 pixels of exposure 0"),
        (put("variance", (0, 5, 5), -1), "variance is zero or negative in 1 pixels of exposure 0"),
        (
            lambda arrays: [arrays[key].__setitem__(3, arrays[key][1]) for key in ("image", "good")],
            "exposures 1 and 3 are the same; give each of them once",
        ),
        (put("psf", (4, 0, 0), np.nan), "the PSF of exposure 4 holds NaN"),
        (replace("psf", lambda a: a * 1.03), "the PSF of exposure 0 sums to 1.0300, not to 1"),
        (
            replace("psf", lambda a: np.roll(a, 3, axis=2)),
            "the star of the PSF of exposure 0 lies +3.0, +0.0 pixels (x, y) from the middle of the stamp",
        ),
        (
            lambda arrays: arrays.update(image=arrays["image"] * 1e-9, variance=arrays["variance"] * 1e-18),
            "the noise of a pixel of exposure 0 is",
        ),
    ],
)
def test_bad_stack_is_refused_in_one_line(change, message, tmp_path):
    arrays = make_stack()
    change(arrays)
    np.savez(tmp_path / "stack.npz", **arrays)
    out = tmp_path / "out.fits"
    out.write_text("precious")
    result = run(tmp_path / "stack.npz", "-o", out, "--method", "mean", "--overwrite")
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.startswith("Error: ") and result.output.count("\n") == 1
    assert out.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 but truncated"])
def test_damaged_file_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "stack.npz").write_bytes(content)
    result = run(tmp_path / "stack.npz", "-o", tmp_path / "out.fits")
    assert result.exit_code == 1
    assert "cannot be read as a .npz file" in result.output and result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--method", "magic"), "'magic' is not one of 'acn', 'mm', 'kaiser', 'mean'"),
        (("--device", "abacus"), "'abacus' is not one of 'auto', 'cpu', 'cuda'"),
        (("--target-fwhm", "0.5"), "target_fwhm must be at least 1.5"),
    ],
)
def test_bad_options_are_refused(stack, tmp_path, option, message):
    result = run(stack, "-o", tmp_path / "out.fits", *option)
    assert result.exit_code == 2
    assert message in result.output


def test_existing_output_is_kept_unless_told(stack, tmp_path):
    out = tmp_path / "out.fits"
    out.write_text("precious")
    result = run(stack, "-o", out, "--method", "mean")
    assert result.exit_code == 1 and "give --overwrite to replace it" in result.output
    assert out.read_text() == "precious"
    assert run(stack, "-o", out, "--method", "mean", "--overwrite").exit_code == 0
    assert fits.getheader(out)["METHOD"] == "mean"


def test_a_link_stays_one_and_its_file_is_replaced(stack, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "sky.fits").write_text("old")
    (tmp_path / "out.fits").symlink_to(tmp_path / "disk" / "sky.fits")
    assert run(stack, "-o", tmp_path / "out.fits", "--method", "mean", "--overwrite").exit_code == 0
    assert (tmp_path / "out.fits").is_symlink()
    assert fits.getheader(tmp_path / "disk" / "sky.fits")["METHOD"] == "mean"
    assert len(os.listdir(tmp_path / "disk")) == 1


def test_a_device_is_not_replaced_by_a_file(stack, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    result = run(stack, "-o", tmp_path / "pipe", "--overwrite", "--method", "mean")
    assert result.exit_code == 1 and result.output.endswith("pipe is no file; name a FITS file.\n")
    assert (tmp_path / "pipe").is_fifo()


def test_full_disk_leaves_the_old_file_and_no_half_one(stack, tmp_path):
    """A limit on the size of files stands for a full disk."""
    out = tmp_path / "out.fits"
    out.write_text("precious")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        result = run(stack, "-o", out, "--method", "mean", "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1
    assert "cannot be written: File too large; nothing was changed" in result.output
    assert out.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["out.fits", "stack.npz"]


def test_missing_directory_is_named(stack, tmp_path):
    result = run(stack, "-o", tmp_path / "nowhere" / "out.fits", "--method", "mean")
    assert result.exit_code == 1 and "does not exist; make it first" in result.output


def test_one_exposure_and_an_empty_one(tmp_path):
    arrays = make_stack()
    arrays["good"][1:] = False
    np.savez(tmp_path / "stack.npz", **arrays)
    result = run(tmp_path / "stack.npz", "-o", tmp_path / "out.fits", "--method", "mean")
    assert result.exit_code == 0, result.output
    assert "exposure 1 has no good pixel; it is left out" in result.output
    with fits.open(tmp_path / "out.fits") as hdus:
        good = arrays["good"][0]
        np.testing.assert_allclose(hdus["COADD"].data[good], arrays["image"][0][good], rtol=1e-5, atol=1e-3)
        assert not hdus["N_IMAGE"].data[~good].any()


def test_default_method_is_sharp_quiet_and_keeps_flux(stack, tmp_path):
    out = tmp_path / "out.fits"
    result = run(stack, "-o", out)
    assert result.exit_code == 0, result.output
    with fits.open(out) as hdus:
        header = hdus[0].header
        assert (header["METHOD"], header["RECIPE"], header["TPSFFWHM"]) == ("acn", "trained", 2.5)
        latent, coadd = hdus["LATENT"].data, hdus["COADD"].data
        assert latent.min() >= 0
        assert latent[2:16, 60:99].std() < 0.2 * coadd[2:16, 60:99].std()
        stamp = galsim.Image(latent[STAR["y"] - 10 : STAR["y"] + 11, STAR["x"] - 10 : STAR["x"] + 11].copy())
        assert stamp.FindAdaptiveMom().moments_sigma * 2.355 == pytest.approx(2.5, abs=0.15)
        for image in (latent, coadd):
            assert aperture_sum(image) == pytest.approx(STAR["flux"], rel=0.03)
        sky = np.s_[2:16, 60:99]
        scatter = hdus["NOISE"].data[sky].std() / coadd[sky].std()
        assert scatter == pytest.approx(1, abs=0.25)
        assert header["WSHA256"] and not find_warnings(result)


@pytest.mark.parametrize("method", ["mean", "acn"])
def test_no_data_have_no_weight_and_are_masked(method, tmp_path):
    """Half of a cell, and the next cell whole, are seen by nobody."""
    arrays = make_stack()
    arrays["good"][:, :, 45:] = False
    arrays["good"][:4, :12] = False
    arrays["good"][:, 31, 37] = False  # a small hole; a latent has a value there
    out = tmp_path / "out.fits"
    stack = save(tmp_path / "stack.npz", arrays)
    result = run(stack, "-o", out, "--method", method, "--cell-size", 60, "--halo", 20)
    assert result.exit_code == 0, result.output
    with fits.open(out) as hdus:
        for name in ("VARIANCE", "LATENT_VARIANCE", "PSF_FLUX_ERROR"):
            weight = 1 / hdus[name].data
            assert (weight[:, 45:] == 0).all() and (weight[:, :45] > 0).sum() == 70 * 45 - (method == "mean")
        assert read_plane(hdus, "NO_DATA")[:, 45:].all() and read_plane(hdus, "NO_DATA")[:, :45].sum() == 1
        assert np.isnan(hdus["PSF_CELLS"].data[:, 1]).all()
        if method == "acn":
            assert np.argwhere(read_plane(hdus, "INTERPOLATED")).tolist() == [[31, 37]]
            untrusted = read_plane(hdus, "ACN_UNTRUSTED")
            assert untrusted[:12].all() and untrusted[:, 41:].all()  # one exposure; beside a gap
            assert untrusted[60:, :25].mean() < 0.02  # where the grid ends, inside a cell


def test_clipped_pixels_are_in_the_mask(tmp_path):
    arrays = make_stack()
    arrays["image"][2, 8:11, 70:73] = 500.0
    out = tmp_path / "out.fits"
    assert run(save(tmp_path / "stack.npz", arrays), "-o", out, "--method", "mean").exit_code == 0
    with fits.open(out) as hdus:
        clipped = read_plane(hdus, "CLIPPED")
        assert clipped[8:11, 70:73].all() and not clipped[:, 85:].any()
