# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of one simulated exposure, and a description of them."""

import copy

import galsim
import galsim.des
import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

from lsst.coadd.astroclearnet.cli import main
from lsst.coadd.astroclearnet.ingest import load_config, read_plain_exposure

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


def make_text_header(ra, *, newline="\n", **changes):
    """Return a header as SCAMP writes that of a chip, in latin-1, with some
    cards changed or, where the value is `None`, left out.
    """
    header = make_header("TAN")
    header["CRVAL1"] = ra
    for name, value in changes.items():
        header.remove(name, ignore_missing=True)
        if value is not None:
            header[name] = value
    lines = [
        "COMMENT   Universit\u00e9 Paris",
        *(str(card).rstrip() for card in header.cards),
        "END     ",
        "",
    ]
    return newline.join(lines).encode("latin-1")


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


def write_files(root, *, kind="TPV", seed=1, shape=SHAPE):
    """Write the files of one exposure with a star of known magnitude."""
    rng = np.random.default_rng(seed)
    psf = galsim.Moffat(beta=3, fwhm=4.0)
    canvas = galsim.ImageF(shape[1], shape[0], scale=1, xmin=0, ymin=0)
    (psf * COUNTS).drawImage(canvas, center=galsim.PositionD(*STAR))
    image = canvas.array + SKY + rng.normal(0, SIGMA, shape)
    image[3, 4] = np.nan
    weight = np.full(shape, SIGMA**-2, np.float32)
    weight[10, 10] = 0
    mask = np.zeros(shape, np.int16)
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


def run_ingest(*args):
    return CliRunner().invoke(main, ["ingest", *map(str, args)])


def read_one(directory, files, **changes):
    """Read the exposure of a description with some changes."""
    return read_plain_exposure(load_config(describe(directory, files, changes)).exposures[0])
