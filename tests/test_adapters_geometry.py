# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Geometry of a patch: the dataset that stands in for a sky map."""

from __future__ import annotations

import json

import astropy.wcs
import numpy as np
import pytest

from lsst.coadd.astroclearnet.adapters import (
    PatchBoxes,
    PatchGeometry,
    TractDefinition,
    geometry_to_dict,
)
from lsst.coadd.astroclearnet.core.warp._frame import measure_pixel
from lsst.images import YX, Box


def make_tract(*, id=9813, sip=False, ra=150.0):
    wcs = astropy.wcs.WCS(naxis=2)
    suffix = "-SIP" if sip else ""
    wcs.wcs.ctype = ["RA---TAN" + suffix, "DEC--TAN" + suffix]
    wcs.wcs.crval = [ra, 2.0]
    wcs.wcs.crpix = [18001, 17501]
    wcs.wcs.cdelt = [-0.168 / 3600, 0.168 / 3600]
    if sip:
        a, b = np.zeros((2, 3, 3))
        a[2, 0], b[1, 1] = 1e-6, -2e-6
        wcs.sip = astropy.wcs.Sip(a, b, None, None, wcs.wcs.crpix)
    patches = tuple(
        PatchBoxes(
            id=number,
            index=YX(y=4, x=number - 36),
            inner=Box.factory[16000:20000, 4000 * (number - 36) : 4000 * (number - 35)],
            outer=Box.factory[15900:20100, 4000 * (number - 36) - 100 : 4000 * (number - 35) + 100],
        )
        for number in (40, 41)
    )
    return TractDefinition(id=id, wcs=wcs, bbox=Box.factory[0:35000, 0:36000], patches=patches)


def get_geometry(tract):
    content = geometry_to_dict(skymap="hsc_rings", tracts=[tract])
    return PatchGeometry.from_dict(content, tract=tract.id, patch=40)


def test_no_positions_are_no_error():
    wcs = get_geometry(make_tract()).wcs
    nothing = np.zeros(0)
    assert [len(values) for values in wcs.pixel_to_sky(x=nothing, y=nothing)] == [0, 0]
    assert [len(values) for values in wcs.sky_to_pixel(ra=nothing, dec=nothing)] == [0, 0]


def test_size_of_a_pixel_at_right_ascension_zero():
    """It is between this pixel and the next."""
    wcs = get_geometry(make_tract(ra=0.0)).wcs
    x, y = wcs.sky_to_pixel(ra=np.array([0.0]), dec=np.array([2.0]))
    for step in (-0.5, -5.0, 5.0):
        assert measure_pixel(wcs, x=float(x[0]) + step, y=float(y[0])) == pytest.approx(0.168, rel=1e-6)


@pytest.mark.parametrize("sip", [False, True])
def test_round_trip_through_json(sip):
    tract = make_tract(sip=sip)
    content = json.loads(json.dumps(geometry_to_dict(skymap="hsc_rings", tracts=[tract])))
    geometry = PatchGeometry.from_dict(content, tract=9813, patch=40)
    patch = tract.patches[0]
    assert geometry.index == patch.index
    assert geometry.inner_bbox == patch.inner and geometry.outer_bbox == patch.outer
    assert geometry.tract_bbox == tract.bbox
    frame = geometry.sky_projection.pixel_frame
    assert (frame.skymap, frame.tract, frame.bbox) == ("hsc_rings", 9813, tract.bbox)


@pytest.mark.parametrize("sip", [False, True])
def test_positions_are_those_of_the_fits_wcs(sip):
    """FITS pixel (1, 1) is tract pixel (0, 0)."""
    tract = make_tract(sip=sip)
    geometry = PatchGeometry.from_dict(
        geometry_to_dict(skymap="hsc_rings", tracts=[tract]), tract=9813, patch=41
    )
    x, y = np.array([18000.0, 20031.0, 23950.0]), np.array([17500.0, 15900.0, 20099.0])
    ra, dec = geometry.wcs.pixel_to_sky(x=x, y=y)
    assert ra[0] == pytest.approx(150, abs=1e-10) and dec[0] == pytest.approx(2, abs=1e-10)
    expected = tract.wcs.all_pix2world(x, y, 0)
    np.testing.assert_allclose((ra, dec), expected, rtol=0, atol=1e-3 * 0.168 / 3600)
    np.testing.assert_allclose(geometry.wcs.sky_to_pixel(ra=ra, dec=dec), (x, y), rtol=0, atol=1e-3)


def test_what_is_not_there_is_named():
    content = geometry_to_dict(skymap="hsc_rings", tracts=[make_tract(), make_tract(id=9812)])
    with pytest.raises(ValueError, match="no 7 tract in the geometry of 'hsc_rings'; there is: 9812, 9813"):
        PatchGeometry.from_dict(content, tract=7, patch=40)
    with pytest.raises(ValueError, match="no 99 patch in tract 9813 of 'hsc_rings'; there is: 40, 41"):
        PatchGeometry.from_dict(content, tract=9813, patch=99)
    del content["tracts"]["9813"]["wcs"]
    with pytest.raises(ValueError, match="acn_sky_geometry dataset has no entry 'wcs'"):
        PatchGeometry.from_dict(content, tract=9813, patch=40)
