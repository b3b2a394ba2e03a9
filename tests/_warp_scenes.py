# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A warp of two detectors, made of stand-ins for lsst.afw."""

from __future__ import annotations

import dataclasses

import _afw_stand_ins as fake
import numpy as np
from _adapter_scenes import make_wcs

from lsst.coadd.astroclearnet.adapters import make_adapter
from lsst.coadd.astroclearnet.core import Plane
from lsst.images import Box

DATA_ID = {"instrument": "HSC", "visit": 1228, "physical_filter": "HSC-R2", "band": "r"}
SHAPE = (80, 160)
X0, Y0 = 5000, -40
GAP = slice(70, 90)
"""Columns between the detectors, where there are no data."""
BOX = Box.factory[-30:30, 5010:5150]
"""What is wanted: the border of the warp is cut away."""


def tract_wcs(*, x=X0 + 80, y=Y0 + 40):
    wcs = make_wcs()
    wcs.wcs.crpix = [x + 1, y + 1]
    return wcs


@dataclasses.dataclass
class TractMap:
    wcs: object = dataclasses.field(default_factory=tract_wcs)

    def pixel_to_sky(self, *, x, y):
        return self.wcs.all_pix2world(x, y, 0)

    def sky_to_pixel(self, *, ra, dec):
        return self.wcs.all_world2pix(ra, dec, 0)


def make_planes():
    """Image, variance and mask of a warp with a gap, in nJy."""
    image = np.random.default_rng(3).normal(0, 2, SHAPE).astype(np.float32)
    variance, no_data = np.full(SHAPE, 4.0, np.float32), np.zeros(SHAPE, bool)
    no_data[:, GAP] = True
    image[no_data], variance[no_data] = np.nan, np.inf
    saturated = np.zeros(SHAPE, bool)
    saturated[20:23, 30:34] = True
    return image, variance, {"NO_DATA": no_data, "SAT": saturated}


def covers(x, y):
    """Say where the CoaddPsf has a value: on the detectors."""
    return not X0 + GAP.start <= x < X0 + GAP.stop


def make_warp(*, ccds=2, **changes):
    """Two detectors of 70 x 80 pixels with a gap of 20 between them."""
    image, variance, planes = make_planes()
    rows, correction = [], fake.Afw(evaluate=lambda x, y: x + 100 * y)
    for n, first in enumerate((X0, X0 + GAP.stop)[:ccds]):
        # Its own pixels begin at (0, 0); the WCS says where that is.
        wcs = tract_wcs(x=X0 + 80 - first, y=40)
        rows.append(
            fake.Record(
                {"ccd": 50 + n, "visit": 1228, "filter": "HSC-R2"},
                Wcs=fake.FlatWcs(wcs),
                Psf=fake.GaussianPsf(fwhm=4.0 + n),
                BBox=fake.Box.of((80, 70), x0=0, y0=0),
                ApCorrMap=None if n else {"base_PsfFlux_instFlux": correction},
            )
        )
    fields = {
        "metadata": {"BUNIT": "nJy"},
        "info": {"CoaddInputs": fake.Afw(ccds=rows, visits=[])},
        "Psf": fake.GaussianPsf(fwhm=4.0, covers=covers),
        "Wcs": fake.FlatWcs(tract_wcs()),
        "PhotoCalib": fake.PhotoCalib(1.0),
        "Filter": None,
        **changes,
    }
    return fake.Exposure(
        image=image, variance=variance, mask=fake.Mask(planes, SHAPE), x0=X0, y0=Y0, **fields
    )


def cut(warp, box=BOX, bad=Plane.SATURATED, **options):
    adapter = make_adapter("afw", **options)
    return adapter.adapt_warp(warp, data_id=DATA_ID, wcs=TractMap(), box=box, bad=bad)
