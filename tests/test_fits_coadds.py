# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Coadds in FITS files: units, masks and PSFs that they bring along, and
what is written about them.
"""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner
from test_assemble_acn_coadd import make_task, run
from test_compare_command import write_fits
from test_metrics import draw_view, gaussian

from lsst.coadd.astroclearnet._coadds import sample_gaussian, view_from_cell_coadd
from lsst.coadd.astroclearnet.cli import main
from lsst.coadd.astroclearnet.comparison._fits import FitsCoaddError, view_from_fits
from lsst.coadd.astroclearnet.comparison._photometry import adaptive_fwhm


@pytest.mark.parametrize("first", [True, False])
def test_image_without_a_unit_has_that_of_the_other(first, tmp_path):
    view, _ = draw_view("a", gaussian(4.2), seed=1)
    told = write_fits(tmp_path / "told.fits", view, unit="uJy")
    untold = write_fits(tmp_path / "untold.fits", view, unit="", extensions=False)
    order = [told, untold] if first else [untold, told]
    result = CliRunner().invoke(main, ["compare", "-q", *map(str, order), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "no unit: taken as uJy" in result.output
    metrics = Table.read(tmp_path / "out" / "metrics.ecsv")
    values = {(row["name"], row["plane"]): row["value"] for row in metrics}
    assert values["flux_ratio_snr_100", order[1].stem] == pytest.approx(1, abs=0.01)
    assert values["sky_rms", "untold"] == pytest.approx(1000, rel=0.05)  # nJy


@pytest.mark.parametrize("shift", [(0, 3), (-2, 0)])
def test_psf_off_the_middle_of_its_stamp_is_refused(shift, tmp_path):
    view, _ = draw_view("a", gaussian(4.2), seed=1)
    kernel = np.roll(sample_gaussian(4.2, 31), shift, axis=(0, 1))
    fits.PrimaryHDU(kernel).writeto(tmp_path / "psf.fits")
    path = write_fits(tmp_path / "a.fits", view)
    with pytest.raises(FitsCoaddError, match="psf.fits holds no PSF: .* star in the middle"):
        view_from_fits(path, name="a", psf=tmp_path / "psf.fits")
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(kernel, name="PSF"))
    assert view_from_fits(path, name="a").configuration.startswith("PSF measured")


def test_coadds_of_this_package_bring_their_mask_and_psf(small_patch, tmp_path):
    coadd = run(make_task(method="mean"), small_patch).coadd
    rows, columns = slice(20, 25), slice(30, 40)
    for plane, part in (("SATURATED", np.s_[rows, columns]), ("NO_DATA", np.s_[rows, 50:60])):
        marked = coadd.mask.get(plane).copy()
        marked[part] = True
        coadd.mask.set(plane, marked)
    coadd.write(str(tmp_path / "coadd.fits"))
    told = view_from_cell_coadd(coadd, name="coadd")
    found = view_from_fits(tmp_path / "coadd.fits", name="coadd")
    assert np.array_equal(found.bad, told.bad) and np.array_equal(found.saturated, told.saturated)
    assert found.bad[rows, 50:60].all() and found.saturated[rows, columns].all()
    x, y = (start + side // 2 for start, side in zip(told.box[:2], told.box[2:], strict=True))
    expected = adaptive_fwhm(told.psf(x=x, y=y))
    assert adaptive_fwhm(found.psf(x=0, y=0)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["metrics.ecsv", "psf.png", "report.html"])
def test_full_disk_names_the_file(name, tmp_path):
    """First as a link to the device, then as a file, which is kept."""
    view, _ = draw_view("a", gaussian(4.2), seed=1)
    image, path = write_fits(tmp_path / "a.fits", view), tmp_path / name
    path.symlink_to("/dev/full")
    for is_file in (False, True):
        if is_file:
            path.unlink()
            path.write_bytes(b"precious")
            path.with_name(f"{name}.part").symlink_to("/dev/full")
        result = CliRunner().invoke(main, ["compare", "-q", str(image), str(image), "-o", str(tmp_path)])
        assert result.exit_code == 1
        assert result.output.splitlines()[-1] == f"Error: No space left on device: {path}"
    assert path.read_bytes() == b"precious" and not list(tmp_path.glob("*.part"))
