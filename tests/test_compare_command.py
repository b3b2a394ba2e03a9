# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""``acn compare``: coadds in FITS files."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from test_metrics import draw_view, gaussian
from test_report import Page, run

from lsst.coadd.astroclearnet.comparison._fits import view_from_fits
from lsst.coadd.astroclearnet.comparison._photometry import adaptive_fwhm


def write_fits(path, view, *, extensions=True, unit="nJy", corner=(0.0, 0.0)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [-0.168 / 3600, 0.168 / 3600]
    wcs.wcs.crpix = corner or (0.0, 0.0)
    header = wcs.to_header() if corner else fits.Header()
    if unit:
        header["BUNIT"] = unit
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(view.image, header, name="IMAGE")]
    if extensions:
        hdus.append(fits.ImageHDU(view.variance, name="VARIANCE"))
        mask = fits.ImageHDU(np.where(view.bad, 256, 0).astype(np.int32), name="MASK")
        mask.header["HIERARCH MP_NO_DATA"] = 8
        hdus.append(mask)
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    broad, _ = draw_view("a", gaussian(4.2), seed=1)
    sharp, _ = draw_view("b", gaussian(2.5), seed=2)
    return write_fits(folder / "a.fits", broad), write_fits(folder / "b.fits", sharp, extensions=False)


def test_plain_files_are_compared(files, tmp_path):
    result = run("compare", *files, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    metrics = Table.read(tmp_path / "out" / "metrics.ecsv")
    values = {(row["name"], row["plane"]): row["value"] for row in metrics}
    assert values["star_fwhm", "b"] == pytest.approx(2.5 * 0.168, rel=0.02)
    assert values["flux_ratio_snr_100", "b"] == pytest.approx(1, abs=0.02)
    assert values["sky_rms", "a"] == pytest.approx(1, rel=0.05)
    for name in ("planes", "fluxes", "psf"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "star_fwhm" in result.output and "report.html" in result.output


def test_what_plain_files_do_not_say_is_said(files, tmp_path):
    sharp, _ = draw_view("b", gaussian(2.5), seed=2)
    plain = write_fits(tmp_path / "plain.fits", sharp, extensions=False, unit="", corner=None)
    result = run("compare", "-q", files[0], plain, "-o", tmp_path / "one")
    assert result.exit_code == 0 and "no unit: taken as nJy" in result.output
    # The pixels are those of the other file.
    assert "sizes in pixels" not in result.output
    metrics = Table.read(tmp_path / "one" / "metrics.ecsv")
    values = {(row["name"], row["plane"]): row["value"] for row in metrics}
    assert values["star_fwhm", "plain"] == pytest.approx(2.5 * 0.168, rel=0.02)
    result = run("compare", "-q", plain, plain, "-o", tmp_path / "both")
    assert (
        result.exit_code == 0
        and "no world coordinates: sizes in pixels, no unit: fluxes in counts" in result.output
    )
    assert "arcsec" not in result.output and "nJy" not in result.output and "mag" not in result.output.split()
    one, both = (Table.read(tmp_path / name / "metrics.ecsv") for name in ("one", "both"))
    sizes = [float(table["value"][table["name"] == "star_fwhm"][-1]) for table in (one, both)]
    assert sizes[1] == pytest.approx(sizes[0] / 0.168, rel=1e-3)


def test_files_that_cannot_be_compared(files, tmp_path):
    small, _ = draw_view("c", gaussian(2.5), seed=3)
    cut = write_fits(tmp_path / "cut.fits", small.cutout((1000, 2000, 200, 300)))
    counts = write_fits(tmp_path / "counts.fits", small, unit="adu")
    shifted = write_fits(tmp_path / "shifted.fits", small, corner=(3.0, 4.0))
    text = tmp_path / "text.fits"
    text.write_text("no image")
    empty = tmp_path / "empty.fits"
    fits.PrimaryHDU().writeto(empty)
    for other, words in (
        (cut, "cannot be compared"),
        (counts, "BUNIT = 'adu'"),
        (shifted, "its corners lie 5 pixels apart"),
        (text, "text.fits"),
        (empty, "holds no image"),
    ):
        result = run("compare", "-q", files[0], other, "-o", tmp_path / "out")
        assert result.exit_code == 1 and words in result.output, result.output
        assert len(result.output.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
    assert run("compare", files[0], tmp_path / "absent.fits").exit_code == 2


def test_a_folder_is_kept_where_nothing_comes_of_the_work(files, tmp_path):
    text = tmp_path / "text.fits"
    text.write_text("no image")
    (tmp_path / "there").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    for name in ("there", "full", "new/folder", "full/new"):
        assert run("compare", "-q", files[0], text, "-o", tmp_path / name).exit_code == 1
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path != text)
    assert left == ["full", "full/precious", "there"]


def write_restored(path, *, names):
    """Write a file as ``acn restore`` does, each image with its variance."""
    kernel = gaussian(2.5).drawImage(nx=31, ny=31, scale=1.0, method="no_pixel").array
    images = {"LATENT": 1.0, "COADD": 2.0}
    hdus = [fits.PrimaryHDU()]
    hdus[0].header["HIERARCH noise_area_10"] = 4.5
    for name, level in images.items():
        if name in names:
            variance = "VARIANCE" if name == "COADD" else "LATENT_VARIANCE"
            hdus.append(fits.ImageHDU(np.full((50, 60), level, np.float32), name=name))
            hdus.append(fits.ImageHDU(np.full((50, 60), 10 * level, np.float32), name=variance))
    hdus.append(fits.ImageHDU(kernel, name="PSF"))
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.mark.parametrize(("names", "level"), [(("LATENT", "COADD"), 2.0), (("LATENT",), 1.0)])
def test_restored_files_are_compared_by_their_coadd(names, level, tmp_path):
    path = write_restored(tmp_path / "sky.fits", names=names)
    view = view_from_fits(path, name="sky", pixel_scale=0.2)
    assert (view.image == level).all() and (view.variance == 10 * level).all()
    assert adaptive_fwhm(view.psf(x=0, y=0)) == pytest.approx(2.5, rel=0.01)
    assert view.configuration.startswith("PSF of the file")
    assert view.noise_area == {"noise_area_10": 4.5}


def test_psf_that_is_asked_for_goes_first(tmp_path):
    path = write_restored(tmp_path / "sky.fits", names=("LATENT", "COADD"))
    stamp = gaussian(4.0).drawImage(nx=41, ny=41, scale=1.0, method="no_pixel").array
    fits.PrimaryHDU(stamp).writeto(tmp_path / "psf.fits")
    view = view_from_fits(path, name="sky", psf=tmp_path / "psf.fits", pixel_scale=0.2)
    assert adaptive_fwhm(view.psf(x=0, y=0)) == pytest.approx(4.0, rel=0.01)
    # A whole file may stand for its PSF.
    view = view_from_fits(path, name="sky", psf=path, pixel_scale=0.2)
    assert adaptive_fwhm(view.psf(x=0, y=0)) == pytest.approx(2.5, rel=0.01)


@pytest.mark.parametrize("psf", [np.ones((30, 30)), np.ones((31, 29)), np.zeros((31, 31))])
def test_what_is_no_psf_is_measured_on_stars(psf, tmp_path):
    sharp, _ = draw_view("b", gaussian(2.5), seed=2)
    path = write_fits(tmp_path / "a.fits", sharp)
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(psf, name="PSF"))
    view = view_from_fits(path, name="a", pixel_scale=0.2)
    assert view.configuration.startswith("PSF measured")
