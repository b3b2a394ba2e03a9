# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exposures on known grids that the tests of registration share."""

from __future__ import annotations

import dataclasses

import astropy.wcs
import galsim
import numpy as np

from lsst.coadd.astroclearnet.core import InputExposure, Plane
from lsst.coadd.astroclearnet.core.warp._register import WarpPlan

PATCH = {"x0": 8000, "y0": -350, "height": 400, "width": 420}
"""The patch: its origin is far from (0, 0), and negative in y."""

SIZE = 480
"""Side of the frames, in native pixels."""


@dataclasses.dataclass
class AstropyMap:
    """World coordinates by astropy; pixels count from an origin."""

    wcs: astropy.wcs.WCS

    def pixel_to_sky(self, *, x, y):
        return self.wcs.all_pix2world(x, y, 0)

    def sky_to_pixel(self, *, ra, dec):
        return self.wcs.all_world2pix(ra, dec, 0, quiet=True)


def make_wcs(*, x, y, scale, rotation=0.0, sip=0.0, flip=False):
    """Tangent plane with (150, 2) deg at pixel x, y; scale in arcsec."""
    wcs = astropy.wcs.WCS(naxis=2)
    suffix = "-SIP" if sip else ""
    wcs.wcs.ctype = ["RA---TAN" + suffix, "DEC--TAN" + suffix]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [x + 1, y + 1]
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.cd = np.array([[-c, s], [s, c]]) * scale / 3600 @ np.diag([1, -1 if flip else 1])
    if sip:
        a, b = np.zeros((2, 4, 4))
        a[2, 0], a[1, 1], b[0, 2], b[3, 0] = sip, -0.5 * sip, 0.7 * sip, 1e-3 * sip
        wcs.sip = astropy.wcs.Sip(a, b, None, None, wcs.wcs.crpix)
    return AstropyMap(wcs)


def patch_wcs():
    return make_wcs(x=PATCH["x0"] + 210, y=PATCH["y0"] + 200, scale=0.168)


GRIDS = {
    "same": {"scale": 0.168},
    "rotated": {"scale": 0.168, "rotation": 33.0},
    "flipped": {"scale": 0.168, "rotation": 91.0, "flip": True},
    "coarser": {"scale": 0.262, "rotation": -10.0},
    "finer": {"scale": 0.13, "rotation": 5.0},
    "distorted": {"scale": 0.2, "rotation": 20.0, "sip": 4e-5},
}
"""Native grids; the distortion moves corners by several pixels."""


def make_exposure(grid="rotated", *, profile=None, image=None, x0=-37, y0=1211, **fields):
    """An exposure centred on the patch, but for a shift of 0.3 pixels."""
    wcs = make_wcs(x=x0 + SIZE / 2 + 0.3, y=y0 + SIZE / 2, **GRIDS[grid])
    profile = profile or galsim.Gaussian(fwhm=3.5)

    def psf(*, x, y):
        stamp = profile.drawImage(nx=61, ny=61, scale=1, dtype=float).array
        return stamp / stamp.sum()

    image = np.zeros((SIZE, SIZE), np.float32) if image is None else image
    fields = {
        "visit": 1,
        "detector": 2,
        "physical_filter": "HSC-I",
        "image": image,
        "variance": np.ones(image.shape, np.float32),
        "flags": np.zeros(image.shape, np.uint32),
        "x0": x0,
        "y0": y0,
        "psf": psf,
        "wcs": wcs,
        **fields,
    }
    return InputExposure(**fields)


def warp(exposure, bad=Plane.BAD | Plane.COSMIC_RAY, **patch):
    plan = WarpPlan.make(exposure, wcs=patch_wcs(), bad=bad, **{**PATCH, **patch})
    return None if plan is None else plan.warp()


def draw(image, profile, *, x, y, flux):
    """Add a star to an array, at array coordinates."""
    canvas = galsim.Image(image, xmin=0, ymin=0)
    stamp = (profile * flux).drawImage(nx=75, ny=75, scale=1, center=galsim.PositionD(x, y), dtype=float)
    common = stamp.bounds & canvas.bounds
    canvas[common] += stamp[common]


def model_at(kernel, *, x, y, radius):
    """Kernel shifted by a part of a pixel, on a stamp."""
    image = galsim.InterpolatedImage(galsim.Image(kernel.astype(float), scale=1), x_interpolant="lanczos15")
    size = 2 * radius + 1
    return image.drawImage(nx=size, ny=size, scale=1, method="no_pixel", offset=(x, y), dtype=float).array
