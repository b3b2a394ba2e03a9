# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A patch of 3 x 4 cells, and exposures on its grid."""

import galsim
import numpy as np
from test_adapters_geometry import make_tract

from lsst.coadd.astroclearnet.adapters import (
    PatchBoxes,
    PatchGeometry,
    SkyProjectionMap,
    TractDefinition,
    geometry_to_dict,
)
from lsst.coadd.astroclearnet.core import InputExposure, Plane
from lsst.coadd.astroclearnet.core.warp._register import WarpPlan
from lsst.images import YX, Box

CELL = 40
BOX = Box.factory[17400:17520, 18000:18160]
"""Outer box of the patch: 3 x 4 cells."""


def make_geometry():
    tract = make_tract()
    patch = PatchBoxes(id=40, index=YX(y=4, x=3), inner=Box.factory[17410:17510, 18010:18150], outer=BOX)
    tract = TractDefinition(id=9813, wcs=tract.wcs, bbox=tract.bbox, patches=(patch,))
    return PatchGeometry.from_dict(geometry_to_dict(skymap="demo", tracts=[tract]), tract=9813, patch=40)


def make_arrays():
    rng = np.random.default_rng(2)
    kernel = galsim.Gaussian(fwhm=2.5).drawImage(nx=21, ny=21, scale=1).array
    psf = np.broadcast_to(kernel / kernel.sum(), (3, 4, 21, 21)).copy()
    return {
        "image": rng.normal(5, 1, BOX.shape).astype(np.float32),
        "variance": rng.uniform(1, 2, BOX.shape).astype(np.float32),
        "noise": [rng.normal(0, 1, BOX.shape).astype(np.float32)],
        "planes": {},
        "psf": psf,
        "missing": (),
    }


def make_warped(
    geometry, *, visit=11, offset=(0, 0), size=(120, 160), flags=None, detector=3, psf=None, variance=4
):
    """An exposure on the very grid of the patch."""
    height, width = size
    stamp = galsim.Gaussian(fwhm=3.5).shear(g1=0.1).drawImage(nx=31, ny=31, scale=1, dtype=float).array
    exposure = InputExposure(
        visit=visit,
        detector=detector,
        physical_filter="HSC-I",
        image=np.zeros(size, np.float32),
        variance=np.full(size, variance, np.float32),
        flags=np.zeros(size, np.uint32) if flags is None else flags,
        x0=18000 + offset[0],
        y0=17400 + offset[1],
        psf=psf or (lambda *, x, y: stamp / stamp.sum()),
        wcs=SkyProjectionMap(geometry.sky_projection),
    )
    bad = Plane.BAD | Plane.SATURATED
    plan = WarpPlan.make(exposure, wcs=geometry.wcs, x0=18000, y0=17400, height=120, width=160, bad=bad)
    return plan.warp()
