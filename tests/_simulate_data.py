# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Skies and measurements that the tests of the simulator share."""

from __future__ import annotations

import astropy.table
import astropy.wcs
import numpy as np

from lsst.coadd.astroclearnet import simulate

BLANK = simulate.SceneConfig(density=0.0, pair_density=0.0, width=200, height=200, x0=1000, y0=2000, margin=0)


def make_sources(**columns) -> astropy.table.Table:
    """Return a catalogue of the given columns, stars by default."""
    n = len(columns["x"])
    defaults = {"type": ["star"] * n, "half_light_radius": [0.0] * n, "sersic_n": [0.0] * n}
    defaults |= {"g1": [0.0] * n, "g2": [0.0] * n}
    return astropy.table.Table(defaults | columns)


def make_grid_wcs(config: simulate.SceneConfig) -> astropy.wcs.WCS:
    """Return a TAN WCS whose reference is off the grid."""
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.25, 2.23]
    wcs.wcs.crpix = [config.x0 - 300.0, config.y0 + 500.0]
    wcs.wcs.cd = np.diag([-1.0, 1.0]) * config.pixel_scale / 3600.0
    wcs.wcs.set()
    return wcs


def moments(image: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Return flux, centroid x and y, and the matrix of second moments."""
    y, x = np.indices(image.shape)
    flux = image.sum()
    cx, cy = (image * x).sum() / flux, (image * y).sum() / flux
    xx, yy = (image * (x - cx) ** 2).sum(), (image * (y - cy) ** 2).sum()
    xy = (image * (x - cx) * (y - cy)).sum()
    return flux, cx, cy, np.array([[xx, xy], [xy, yy]]) / flux


def psf_flux(image: np.ndarray, variance: np.ndarray, kernel: np.ndarray) -> tuple[float, float]:
    """Return the least-squares flux of a point source, and its error."""
    norm = (kernel**2 / variance).sum()
    return (kernel * image / variance).sum() / norm, norm**-0.5
