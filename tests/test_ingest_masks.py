# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Masks of FITS files: bits, codes, and the types they come in."""

from __future__ import annotations

import numpy as np
import pytest
from _ingest_data import SHAPE, read_one, write_files
from astropy.io import fits

from lsst.coadd.astroclearnet.core import Plane


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    write_files(root)
    return root


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
    planes = lambda y, x: {plane.name for plane in Plane if plain.flags[y, x] & plane}  # noqa: E731
    assert planes(22, 20) == at_22
    assert planes(20, 20) == {"BAD"}
    assert planes(3, 4) == {"NO_DATA", "UNMASKED_NAN"} and plain.image[3, 4] == 0
    assert planes(10, 10) == {"BAD"}  # weight 0
    assert np.count_nonzero(plain.flags) <= 5


@pytest.mark.parametrize(
    ("dtype", "highest"), [(np.int16, 15), (np.int32, 31), (np.int64, 63), (np.uint8, 7)]
)
def test_highest_bit_of_a_mask_is_one_of_its_bits(dtype, highest, files, tmp_path):
    """In signed numbers it is the sign, and stands beside the other bits."""
    mask = np.zeros(SHAPE, dtype)
    mask[20, 20] = np.iinfo(dtype).min if dtype is not np.uint8 else 128
    mask[21, 20] = 4
    mask[22, 20] = ~dtype(0)
    fits.writeto(tmp_path / "mask.fits", mask)
    bits = {bit: "BAD" for bit in range(highest)} | {2: "SATURATED", highest: "SUSPECT"}
    plain = read_one(tmp_path, files, data_quality={"file": str(tmp_path / "mask.fits"), "bits": bits})
    assert plain.flags[20, 20] == Plane.SUSPECT
    assert plain.flags[21, 20] == Plane.SATURATED
    assert plain.flags[22, 20] == Plane.BAD | Plane.SATURATED | Plane.SUSPECT


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mask_of_whole_numbers_in_floats(dtype, files, tmp_path):
    fits.writeto(tmp_path / "mask.fits", fits.getdata(files / "mask.fits").astype(dtype))
    quality = {"bits": {0: "BAD", 2: "SATURATED"}}
    by_floats = read_one(tmp_path, files, data_quality={"file": str(tmp_path / "mask.fits")} | quality)
    by_integers = read_one(tmp_path, files, data_quality={"file": "mask.fits"} | quality)
    np.testing.assert_array_equal(by_floats.flags, by_integers.flags)
