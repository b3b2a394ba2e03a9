# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

import copy
import os
import subprocess
import sys

import astropy.units as u
import galsim
import galsim.des
import numpy as np
import piff
import pytest
import yaml
from _ingest_data import (
    DESCRIPTION,
    EXPOSURE_TIME,
    MAGNITUDE,
    SHAPE,
    SIGMA,
    SKY,
    STAR,
    ZERO_POINT,
    describe,
    make_header,
    make_psfex,
    make_text_header,
    read_one,
    run_ingest,
    write_files,
)
from astropy.io import fits
from astropy.table import Table

from lsst.coadd.astroclearnet.adapters import make_adapter
from lsst.coadd.astroclearnet.assemble_acn_coadd import AssembleAcnCoaddConfig
from lsst.coadd.astroclearnet.core import Plane
from lsst.coadd.astroclearnet.core.warp._register import WarpPlan
from lsst.coadd.astroclearnet.ingest import (
    load_config,
    read_piff,
    read_plain_exposure,
    read_psfex,
    read_stamp,
)
from lsst.daf.butler import Butler
from lsst.images import XY, Box, VisitImage
from lsst.images.psfs import PiffWrapper


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    write_files(root)
    return root


@pytest.mark.parametrize("sampling", [1.0, 0.5, 0.8])
def test_psfex_becomes_the_same_piff_model(sampling, tmp_path):
    reference = make_psfex(tmp_path / "psf.fits", sampling)
    model = read_psfex(tmp_path / "psf.fits")
    psf = PiffWrapper(model.psf, Box.factory[0:90, 0:110], model.stamp_size)
    for x, y in ((0, 0), (109, 3), (54.3, 44.8), (20, 89)):
        kernel = psf.compute_kernel_image(x=x, y=y).array
        # PSFEx counts pixels from 1.
        expected = reference.getPSF(galsim.PositionD(x + 1, y + 1)).drawImage(
            nx=kernel.shape[1], ny=kernel.shape[0], scale=1, method="no_pixel"
        )
        expected = expected.array / expected.array.sum()
        assert np.abs(kernel - expected).max() < 1e-5 * expected.max()
    far = psf.compute_kernel_image(x=0, y=0).array, psf.compute_kernel_image(x=109, y=89).array
    assert np.abs(far[0] - far[1]).max() > 0.02 * far[0].max()  # the model does vary


def test_stamp_is_the_psf_everywhere(files):
    model = read_stamp(files / "stamp.fits")
    psf = PiffWrapper(model.psf, Box.factory[0:90, 0:110], model.stamp_size)
    stamp = fits.getdata(files / "stamp.fits")
    for x, y in ((0, 0), (80.2, 33.7)):
        kernel = psf.compute_kernel_image(x=x, y=y).array
        assert np.abs(kernel - stamp / stamp.sum()).max() < 1e-6


def test_piff_file_in_sky_coordinates(files, tmp_path):
    """A model in (u, v), with the WCS of the image, comes out in pixels."""
    wcs = galsim.FitsWCS(header=make_header("SIP"))
    pointing = galsim.CelestialCoord(150 * galsim.degrees, 2.5 * galsim.degrees)
    psf = piff.SimplePSF(piff.Moffat(beta=3), piff.Polynomial(order=1))
    psf.set_num(None)
    psf.wcs, psf.pointing = {0: wcs}, pointing
    stars = []
    for x, y in np.random.default_rng(1).uniform(1, 90, (12, 2)):
        star = piff.Star.makeTarget(x=x, y=y, wcs=wcs, pointing=pointing, stamp_size=25)
        size = 0.9 + 0.003 * star.data["u"] - 0.002 * star.data["v"]
        moffat = galsim.Moffat(beta=3, fwhm=size).shear(g1=0.05)
        moffat.drawImage(star.image, center=star.image_pos)
        stars.append(piff.Star(star.data.withNew(), piff.StarFit(None)))
    psf.fit(stars, wcs={0: wcs}, pointing=pointing)
    psf.write(str(tmp_path / "psf.piff"))
    model = read_piff(tmp_path / "psf.piff", shape=SHAPE, stamp_size=25)
    kernels = PiffWrapper(model.psf, Box.factory[0 : SHAPE[0], 0 : SHAPE[1]], 25)
    for x, y in ((0, 0), (77.7, 31.2), (109, 89)):
        kernel = kernels.compute_kernel_image(x=x, y=y).array
        expected = psf.draw(x=x + 1, y=y + 1, stamp_size=25, center=True).array
        assert np.abs(kernel - expected / expected.sum()).max() < 1e-3 * kernel.max()


def test_star_has_its_magnitude(files, tmp_path):
    plain = read_one(tmp_path, files)
    y, x = np.indices(SHAPE)
    near = np.hypot(x - STAR[0], y - STAR[1]) < 30
    assert plain.image[near].sum(dtype=float) == pytest.approx(
        (MAGNITUDE * u.ABmag).to_value(u.nJy), rel=0.01
    )
    good = plain.flags == 0
    pull = plain.image[good & ~near] / np.sqrt(plain.variance[good & ~near])
    assert np.median(np.abs(pull)) == pytest.approx(1 / 1.4826, abs=0.035)
    per_image = {"zero_point": float(ZERO_POINT + 2.5 * np.log10(EXPOSURE_TIME))}
    same = read_one(tmp_path, files, calibration=per_image)
    np.testing.assert_allclose(same.image, plain.image, rtol=1e-5, atol=1e-3)
    factor = {"njy_per_count": plain.njy_per_count}
    np.testing.assert_array_equal(read_one(tmp_path, files, calibration=factor).image, plain.image)


@pytest.mark.parametrize("kind", ["inverse_variance", "variance", "sigma"])
def test_kinds_of_weight_agree(kind, files, tmp_path):
    weight = fits.getdata(files / "weight.fits").astype(float)
    power = {"inverse_variance": 1, "variance": -1, "sigma": -0.5}[kind]
    values = np.where(weight > 0, np.where(weight > 0, weight, 1) ** power, 0)
    fits.writeto(tmp_path / "other.fits", values)
    plain = read_one(tmp_path, files, weight={"file": str(tmp_path / "other.fits"), "kind": kind})
    good = weight > 0
    assert np.median(plain.variance[good]) == pytest.approx((SIGMA * plain.njy_per_count) ** 2, rel=1e-5)
    assert np.isnan(plain.variance[~good]).all()


def test_pixels_without_a_flux_are_not_used(tmp_path):
    """A NaN with a good weight, in no mask, does not become a flux of 0."""
    write_files(tmp_path)
    path = describe(tmp_path, tmp_path)
    assert run_ingest(path, tmp_path / "repo").exit_code == 0
    data_id = {"instrument": "Cam", "visit": 11, "detector": 3}
    calexp = Butler.from_config(str(tmp_path / "repo"), collections="Cam/defaults").get("calexp", data_id)
    exposure = make_adapter("images").adapt(calexp, data_id=data_id)
    bad = AssembleAcnCoaddConfig().bad_plane_bits
    place = {"x0": 0, "y0": 0, "height": SHAPE[0], "width": SHAPE[1]}
    warped = WarpPlan.make(exposure, wcs=exposure.wcs, bad=bad, **place).warp()
    good = warped.good[3 - warped.y0, 4 - warped.x0], warped.good[60 - warped.y0, 80 - warped.x0]
    assert good == (False, True)


def test_what_the_sky_spoils_is_not_used(files, tmp_path):
    plain = read_one(tmp_path, files, sky={"kind": "constant", "value": 1e60})
    assert (plain.flags & np.uint32(Plane.NO_DATA)).all() and not plain.image.any()


@pytest.mark.parametrize(
    "sky", [{"kind": "median"}, {"kind": "spline", "file": "sky.fits"}, {"kind": "constant", "value": SKY}]
)
def test_sky_is_subtracted(sky, files, tmp_path):
    plain = read_one(tmp_path, files, sky=sky)
    y, x = np.indices(SHAPE)
    far = (np.hypot(x - STAR[0], y - STAR[1]) > 35) & (plain.flags == 0)
    left = np.median(plain.image[far]) / plain.njy_per_count
    # The spline of the test is that of a corner of the detector, x0 and y0.
    expected = np.median((-0.01 * (x + 30) + 0.02 * (y + 50))[far]) if sky["kind"] == "spline" else 0
    assert left == pytest.approx(expected, abs=4 * SIGMA / np.sqrt(far.sum()) + 0.1)


@pytest.mark.parametrize("kind", ["TAN", "SIP", "TPV"])
def test_repository_holds_the_exposure(kind, tmp_path):
    """What a task reads back has the sky, PSF, pixels, and region."""
    write_files(tmp_path, kind=kind)
    result = run_ingest(describe(tmp_path, tmp_path), tmp_path / "repo")
    assert result.exit_code == 0, result.output
    butler = Butler.from_config(str(tmp_path / "repo"), collections="Cam/defaults")
    calexp = butler.get("calexp", instrument="Cam", visit=11, detector=3)
    assert isinstance(calexp, VisitImage) and calexp.unit == u.nJy and calexp.band == "r"
    assert calexp.physical_filter == "Cam-R"
    plain = load_config(tmp_path / "exposures.yaml").exposures[0]
    np.testing.assert_array_equal(calexp.image.array, read_plain_exposure(plain).image)
    assert calexp.mask.get("SATURATED")[21, 20] and not calexp.mask.get("SATURATED")[20, 20]
    reference = galsim.FitsWCS(header=make_header(kind))  # a reader of its own
    for x, y in ((0, 0), (109, 0), (50, 89)):
        sky = calexp.sky_projection.pixel_to_sky(XY(np.array([float(x)]), np.array([float(y)])))
        world = reference.toWorld(galsim.PositionD(x + 1, y + 1))
        distance = galsim.CelestialCoord(sky.ra.rad[0] * galsim.radians, sky.dec.rad[0] * galsim.radians)
        assert distance.distanceTo(world) / galsim.arcsec < 1e-3
    model = galsim.des.DES_PSFEx(str(tmp_path / "psfex.fits")).getPSF(galsim.PositionD(31, 41))
    kernel = calexp.psf.compute_kernel_image(x=30, y=40).array
    expected = model.drawImage(nx=kernel.shape[1], ny=kernel.shape[0], scale=1, method="no_pixel").array
    assert np.abs(kernel - expected / expected.sum()).max() < 1e-5 * kernel.max()
    # The patch overlaps it, as the graph builder will find.
    where = "skymap='field' AND tract=0 AND patch=0 AND band='r'"
    assert len(butler.query_datasets("calexp", where=where)) == 1
    geometry = butler.get("acn_sky_geometry", skymap="field")
    x0, y0, width, height = geometry["tracts"]["0"]["bbox"]
    assert width % 50 == 0 and height % 50 == 0
    patch = galsim.FitsWCS(header=fits.Header(geometry["tracts"]["0"]["wcs"]))
    for x, y in ((1, 1), (110, 1), (1, 90), (110, 90)):
        place = patch.toImage(reference.toWorld(galsim.PositionD(x, y)))
        assert 0 < place.x < width and 0 < place.y < height


def test_astrometric_offset(files, tmp_path):
    plain = read_one(tmp_path, files)
    moved = read_one(tmp_path, files, wcs={"ra_offset": 0.3, "dec_offset": -0.2})
    a, b = (p.wcs.pixel_to_world(40, 50) for p in (plain, moved))
    east, north = a.spherical_offsets_to(b)
    assert east.to_value(u.arcsec) == pytest.approx(0.3, abs=1e-3)
    assert north.to_value(u.arcsec) == pytest.approx(-0.2, abs=1e-3)


@pytest.mark.parametrize("number", [1, 2, "2", "{detector}"])
def test_header_of_a_chip_in_a_file_of_scamp(number, files, tmp_path):
    """Headers of a text file are counted from 1, as extensions are."""
    path = tmp_path / "chips.head"
    path.write_bytes(make_text_header(150.0) + make_text_header(151.0, newline="\r\n") + b"\n")
    one = {"exposures": [{"visit": 11, "detector": 2}], "wcs": {"file": str(path), "hdu": number}}
    plain = read_one(tmp_path, files, **one)
    assert plain.wcs.wcs.crval.tolist() == [150.0 if number == 1 else 151.0, 2.5]
    path.write_bytes(make_text_header(152.0))
    alone = read_one(tmp_path, files, wcs={"file": str(path)})
    assert alone.wcs.wcs.crval[0] == 152.0


@pytest.mark.parametrize(
    "frame",
    [
        {"RADESYS": "ICRS", "EQUINOX": 1975.0},  # ICRS has no equinox
        {"RADESYS": "FK5"},
        {"RADESYS": "FK5", "EQUINOX": 2000.0},
        {"EQUINOX": 2000.0},
        {},
    ],
)
def test_frames_that_are_icrs_or_near_it(frame, files, tmp_path):
    path = tmp_path / "some.head"
    path.write_bytes(make_text_header(150.0, **{"RADESYS": None} | frame))
    plain = read_one(tmp_path, files, wcs={"file": str(path)})
    expected = read_one(tmp_path, files).wcs.wcs.crval
    np.testing.assert_array_equal(plain.wcs.wcs.crval, expected)


def test_table_fills_in_texts(files, tmp_path):
    Table({"expnum": [5, 6], "zp": [24.0, 25.0], "t": [30.0, 40.0]}).write(tmp_path / "table.ecsv")
    description = copy.deepcopy(DESCRIPTION) | {
        "table": {"file": str(tmp_path / "table.ecsv"), "key": "expnum"}
    }
    description["defaults"] |= {"visit": "{expnum}", "detector": 3, "exposure_time": "{t}"}
    description["defaults"]["calibration"] = {"zero_point": "{zp}"}
    description["data_root"] = str(files)
    description["exposures"] = [{"expnum": 6, "detector": 4}]
    path = tmp_path / "exposures.yaml"
    path.write_text(yaml.safe_dump(description))
    (exposure,) = load_config(path).exposures
    assert (exposure.visit, exposure.detector, exposure.detector_name) == (6, 4, "C4")
    assert (exposure.exposure_time, exposure.calibration.zero_point) == (40.0, 25.0)
    del description["exposures"]  # then each row is one
    path.write_text(yaml.safe_dump(description))
    assert [e.visit for e in load_config(path).exposures] == [5, 6]


def test_description_is_utf8_whatever_the_locale(files, tmp_path):
    path = describe(tmp_path, files)
    content = yaml.safe_load(path.read_text())
    content["defaults"]["physical_filter"] = "H\u03b1"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    code = "import pathlib, sys; from lsst.coadd.astroclearnet import ingest as i; "
    code += "print(ascii(i.load_config(pathlib.Path(sys.argv[1])).exposures[0].physical_filter))"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, path], env=os.environ | plain, capture_output=True, text=True
    )
    assert done.stdout == "'H\\u03b1'\n", done.stderr


def test_names_and_numbers_as_long_as_the_registry_takes(files, tmp_path):
    path = describe(tmp_path, files)
    content = yaml.safe_load(path.read_text())
    content["instrument"]["name"], content["sky_map"]["name"] = "C" * 32, "s" * 64
    content["defaults"] |= {"band": "b" * 32, "physical_filter": "f" * 32, "detector_name": "d" * 32}
    content["exposures"][0]["visit"] = 2025010100123
    path.write_text(yaml.safe_dump(content))
    result = run_ingest(path, tmp_path / "repo")
    assert result.exit_code == 0, result.output
    with Butler.from_config(str(tmp_path / "repo"), collections="C" * 32 + "/defaults") as butler:
        (ref,) = butler.query_datasets("calexp")
        (instrument,) = butler.query_dimension_records("instrument")
    assert (ref.dataId["band"], ref.dataId["visit"]) == ("b" * 32, 2025010100123)
    assert instrument.visit_max > 2025010100123


def test_large_fields_have_several_patches_and_bands(files, tmp_path):
    path = describe(
        tmp_path,
        files,
        {
            "sky_map": {"name": "field", "cell_size": 50, "max_patch_size": 100},
            "exposures": [
                {"visit": 1, "detector": 0},
                {"visit": 1, "detector": 1},
                {"visit": 2, "detector": 0, "band": "g", "physical_filter": "Cam-G"},
            ],
        },
    )
    assert run_ingest(path, tmp_path / "repo").exit_code == 0
    butler = Butler.from_config(str(tmp_path / "repo"), collections="Cam/defaults")
    assert {r.id for r in butler.query_dimension_records("patch", skymap="field", tract=0)} == {0, 1, 2, 3}
    assert len(butler.query_datasets("calexp", where="band='r' AND instrument='Cam'")) == 2
    assert len(butler.query_datasets("calexp", where="band='g' AND instrument='Cam'")) == 1
    begin = next(iter(butler.query_dimension_records("visit", instrument="Cam"))).timespan.begin
    assert begin.utc.mjd == pytest.approx(60000.25, abs=1e-9)


def test_the_example_is_a_description(tmp_path):
    """What --example prints can be read back, given the table it names."""
    printed = run_ingest("--example")
    assert printed.exit_code == 0
    (tmp_path / "exposures.yaml").write_text(printed.output)
    names = ["expnum", "ccdname", "filter", "exptime", "mjd_obs", "ccdraoff", "ccddecoff", "ccdzpt"]
    numbers = [entry["expnum"] for entry in yaml.safe_load(printed.output)["exposures"]]
    values = [numbers] + [["N3"] * 9, ["z"] * 4 + ["r"] * 3 + ["g"] * 2] + [[60000.0] * 9] * 5
    Table(dict(zip(names, values, strict=True))).write(tmp_path / "ccds.fits.gz")
    config = load_config(tmp_path / "exposures.yaml")
    assert [exposure.band for exposure in config.exposures] == list("zzzzrrrgg")
    assert config.exposures[0].image.file == tmp_path / "z_150411_035242_img.fits"
