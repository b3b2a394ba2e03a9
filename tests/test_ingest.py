# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

import copy
import os
import resource
import sys

import astropy.units as u
import galsim
import galsim.des
import numpy as np
import piff
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

from lsst.coadd.astroclearnet.cli import main
from lsst.coadd.astroclearnet.ingest import (
    IngestError,
    load_config,
    read_piff,
    read_plain_exposure,
    read_psfex,
    read_stamp,
)
from lsst.daf.butler import Butler
from lsst.images import XY, Box, VisitImage
from lsst.images.psfs import PiffWrapper

SHAPE = (90, 110)
SKY = 250.0
SIGMA = 4.0
MAGNITUDE, ZERO_POINT, EXPOSURE_TIME = 17.0, 25.0, 50.0
COUNTS = EXPOSURE_TIME * 10 ** (0.4 * (ZERO_POINT - MAGNITUDE))
STAR = (52, 41)  # x, y


def make_header(kind):
    """Return a WCS of 0.25" pixels, turned by 30 degrees, of some kind."""
    cos, sin = np.cos(np.pi / 6) * 0.25 / 3600, np.sin(np.pi / 6) * 0.25 / 3600
    header = fits.Header()
    header.update(CRVAL1=150.0, CRVAL2=2.5, CRPIX1=40.0, CRPIX2=50.0, RADESYS="ICRS")
    header.update(CD1_1=-cos, CD1_2=sin, CD2_1=sin, CD2_2=cos)
    suffix = {"TAN": "", "SIP": "-SIP", "TPV": ""}[kind]
    projection = "TPV" if kind == "TPV" else "TAN"
    header.update(CTYPE1=f"RA---{projection}{suffix}", CTYPE2=f"DEC--{projection}{suffix}")
    if kind == "SIP":
        header.update(A_ORDER=2, B_ORDER=2, A_2_0=3e-5, A_1_1=-2e-5, B_0_2=4e-5)
    if kind == "TPV":
        header.update(PV1_1=1.002, PV1_4=0.8, PV2_1=0.999, PV2_5=-1.1)
    return header


def make_psfex(path, sampling):
    """Write a PSFEx model that changes over the image; return galsim's."""
    size = 41
    axis = np.arange(size) - size // 2
    x, y = np.meshgrid(axis, axis)
    base = np.exp(-(x**2 + y**2) * sampling**2 / (2 * 1.9**2))
    terms = [
        base,
        0.1 * x * base,
        0.02 * x * y * base,
        0.08 * y * base,
        0.03 * base * (x**2 - 4),
        0.02 * y**2 * base,
    ]
    cube = np.array(terms, dtype=np.float32) / base.sum()
    column = fits.Column(
        name="PSF_MASK", format=f"{cube.size}E", dim=f"({size},{size},6)", array=cube[np.newaxis]
    )
    table = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    axes = {
        "POLGRP": (1, 1),
        "POLNAME": ("X_IMAGE", "Y_IMAGE"),
        "POLZERO": (60.0, 40.0),
        "POLSCAL": (55.0, 45.0),
    }
    for name, values in axes.items():
        table.header.update({f"{name}{i}": value for i, value in enumerate(values, start=1)})
    table.header.update(POLNAXIS=2, POLNGRP=1, POLDEG1=2, PSF_SAMP=sampling)
    table.header.update(PSFNAXIS=3, PSFAXIS1=size, PSFAXIS2=size, PSFAXIS3=6)
    table.writeto(path)
    return galsim.des.DES_PSFEx(str(path))


def write_files(root, *, kind="TPV", seed=1):
    """Write the files of one exposure with a star of known magnitude."""
    rng = np.random.default_rng(seed)
    psf = galsim.Moffat(beta=3, fwhm=4.0)
    canvas = galsim.ImageF(SHAPE[1], SHAPE[0], scale=1, xmin=0, ymin=0)
    (psf * COUNTS).drawImage(canvas, center=galsim.PositionD(*STAR))
    image = canvas.array + SKY + rng.normal(0, SIGMA, SHAPE)
    image[3, 4] = np.nan
    weight = np.full(SHAPE, SIGMA**-2, np.float32)
    weight[10, 10] = 0
    mask = np.zeros(SHAPE, np.int16)
    mask[20, 20], mask[21, 20], mask[22, 20] = 1, 4, 5  # 5: both bits, or the code 5
    header = make_header(kind)
    primary = fits.PrimaryHDU()
    fits.HDUList([primary, fits.ImageHDU(image.astype(np.float32), header)]).writeto(root / "image.fits")
    fits.writeto(root / "weight.fits", weight)
    fits.writeto(root / "mask.fits", mask)
    stamp = galsim.Convolve(psf, galsim.Pixel(1)).drawImage(nx=33, ny=33, scale=1, method="no_pixel").array
    fits.writeto(root / "stamp.fits", stamp * 7)
    make_psfex(root / "psfex.fits", 0.5)
    grid = np.arange(0, 200, 20)
    values = SKY + 0.01 * grid[np.newaxis, :] - 0.02 * grid[:, np.newaxis]
    row = {
        "xgrid": [grid],
        "ygrid": [grid],
        "gridvals": [values],
        "x0": [30],
        "y0": [50],
        "order": [np.uint8(3)],
    }
    Table(row).write(root / "sky.fits")


DESCRIPTION = {
    "data_root": ".",
    "instrument": {"name": "Cam", "class_name": "some.Camera"},
    "sky_map": {"name": "field", "cell_size": 50},
    "defaults": {
        "band": "r",
        "physical_filter": "Cam-R",
        "exposure_time": EXPOSURE_TIME,
        "mjd": 60000.25,
        "detector_name": "C{detector}",
        "image": {"file": "image.fits"},
        "weight": {"file": "weight.fits"},
        "data_quality": {"file": "mask.fits", "bits": {0: "BAD", 2: "SATURATED"}},
        "psf": {"kind": "psfex", "file": "psfex.fits"},
        "calibration": {"zero_point": ZERO_POINT, "per_second": True},
        "sky": {"kind": "constant", "value": SKY},
    },
    "exposures": [{"visit": 11, "detector": 3}],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    write_files(root)
    return root


def describe(directory, files, changes=None):
    """Write a description with changes to the defaults; return its path."""
    description = copy.deepcopy(DESCRIPTION)
    description["data_root"] = str(files)
    for name, value in (changes or {}).items():
        target = description["defaults"] if name in description["defaults"] or name == "wcs" else description
        target[name] = value
    path = directory / "exposures.yaml"
    path.write_text(yaml.safe_dump(description))
    return path


def read_one(directory, files, **changes):
    return read_plain_exposure(load_config(describe(directory, files, changes)).exposures[0])


def run(*args):
    return CliRunner().invoke(main, ["ingest", *map(str, args)])


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
    assert 1.4826 * np.median(np.abs(pull)) == pytest.approx(1, abs=0.05)
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


@pytest.mark.parametrize(
    ("quality", "at_22"),
    [
        ({"bits": {0: "BAD", 2: "SATURATED"}}, {"BAD", "SATURATED"}),
        ({"bits": {0: "BAD"}, "ignore": [2]}, {"BAD"}),
        ({"codes": {1: "BAD", 4: "SUSPECT", 5: "COSMIC_RAY"}}, {"COSMIC_RAY"}),
    ],
)
def test_mask_by_bits_and_by_codes(quality, at_22, files, tmp_path):
    plain = read_one(tmp_path, files, data_quality={"file": "mask.fits"} | quality)
    from lsst.coadd.astroclearnet.core import Plane

    planes = lambda y, x: {plane.name for plane in Plane if plain.flags[y, x] & plane}  # noqa: E731
    assert planes(22, 20) == at_22
    assert planes(20, 20) == {"BAD"}
    assert planes(3, 4) == {"UNMASKED_NAN"} and plain.image[3, 4] == 0
    assert planes(10, 10) == {"BAD"}  # weight 0
    assert np.count_nonzero(plain.flags) <= 5


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
    result = run(describe(tmp_path, tmp_path), tmp_path / "repo")
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
    assert run(path, tmp_path / "repo").exit_code == 0
    butler = Butler.from_config(str(tmp_path / "repo"), collections="Cam/defaults")
    assert {r.id for r in butler.query_dimension_records("patch", skymap="field", tract=0)} == {0, 1, 2, 3}
    assert len(butler.query_datasets("calexp", where="band='r' AND instrument='Cam'")) == 2
    assert len(butler.query_datasets("calexp", where="band='g' AND instrument='Cam'")) == 1
    begin = next(iter(butler.query_dimension_records("visit", instrument="Cam"))).timespan.begin
    assert begin.utc.mjd == pytest.approx(60000.25, abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": {"file": "nothing.fits"}}, "visit=11 detector=3: the file "),
        ({"image": {"file": "image.fits", "hdu": 0}}, "has no 2-d image in HDU 0"),
        ({"image": {"file": "image.fits", "hdu": "SCI"}}, "image.fits cannot be read"),
        ({"weight": {"file": "stamp.fits"}}, "stamp.fits has the shape (33, 33), the image (90, 110)"),
        ({"weight": {"file": "weight.fits", "kind": "guess"}}, "exposures.0.weight.kind: Input should be"),
        ({"psf": {"kind": "psfex", "file": "sky.fits"}}, "is not a PSFEx model"),
        ({"psf": {"kind": "piff", "file": "psfex.fits"}}, "psfex.fits is not a Piff model"),
        ({"psf": {"kind": "stamp", "file": "mask.fits"}}, "PSF stamps must be square"),
        ({"psf": {"kind": "psfex"}}, "exposures.0.psf.psfex.file: Field required"),
        ({"defaults": {}}, "exposures.0.band: Field required (and "),
        (
            {"calibration": {}},
            "exposures.0.calibration: Value error, give either zero_point or njy_per_count",
        ),
        ({"calibration": {"zero_point": float("nan")}}, "the zero point nan is not a magnitude"),
        ({"data_quality": {"file": "mask.fits", "bits": {0: "BAD"}}}, "2 pixels have the bit 2"),
        ({"data_quality": {"file": "mask.fits", "bits": {0: "UGLY"}}}, "Unknown mask plane 'UGLY'"),
        ({"wcs": {"file": "weight.fits"}}, "weight.fits: its header has no celestial WCS"),
        ({"band": "{nonsense}"}, "exposures.0.band: '{nonsense}' cannot be filled in: 'nonsense'"),
        ({"exposures": [{"visit": 1, "detector": 1}] * 2}, "visit=1 detector=1 is described twice"),
        ({"exposures": []}, "exposures: "),
        (
            {"instrument": {"name": "Cam", "colour": "red"}},
            "instrument.colour: Extra inputs are not permitted",
        ),
        ({"data_root": "/nowhere/at/all"}, "The data root /nowhere/at/all does not exist"),
    ],
)
def test_bad_descriptions_leave_no_repository(changes, message, files, tmp_path):
    result = run(describe(tmp_path, files, changes), tmp_path / "repo")
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert os.listdir(tmp_path) == ["exposures.yaml"]


def test_corrupt_fits_is_named(files, tmp_path):
    whole = (files / "image.fits").read_bytes()
    (tmp_path / "image.fits").write_bytes(whole[: len(whole) // 2])
    result = run(
        describe(tmp_path, files, {"image": {"file": str(tmp_path / "image.fits")}}), tmp_path / "repo"
    )
    assert result.exit_code == 1
    assert "visit=11 detector=3" in result.output and "image.fits" in result.output
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    ("side", "limit", "message"),
    [(100, 400_000, "The registry of "), (900, 2_500_000, "File too large; no repository was made")],
)
def test_full_disk_leaves_no_repository(side, limit, message, tmp_path, monkeypatch):
    """A limit on the size of files stands for a full disk."""
    (tmp_path / "files").mkdir()
    monkeypatch.setattr(sys.modules[__name__], "SHAPE", (side, side))
    write_files(tmp_path / "files")
    path = describe(tmp_path, tmp_path / "files")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        result = run(path, tmp_path / "repo")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1, result.exception
    assert message in result.output
    assert sorted(os.listdir(tmp_path)) == ["exposures.yaml", "files"]


def test_existing_directory_is_kept(files, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "precious").write_text("x")
    result = run(describe(tmp_path, files), tmp_path / "repo")
    assert result.exit_code == 1 and "is not an empty directory; nothing was changed" in result.output
    assert os.listdir(tmp_path / "repo") == ["precious"]


def test_not_yaml(tmp_path):
    path = tmp_path / "exposures.yaml"
    path.write_text("a: [1, 2")
    with pytest.raises(IngestError, match="is not YAML"):
        load_config(path)
    path.write_text("- 1")
    with pytest.raises(IngestError, match="must hold a mapping"):
        load_config(path)
