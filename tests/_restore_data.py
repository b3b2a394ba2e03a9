# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small stack for ``acn restore``, and what comes of it."""

import galsim
import numpy as np
from click.testing import CliRunner

from lsst.coadd.astroclearnet.cli import main

HEIGHT, WIDTH = 70, 101  # no multiple of a cell, and not square
STAR = {"x": 40, "y": 31, "flux": 2.0e4}
SIGMA = 3.0


def make_stack(n=5, seed=3):
    """Draw one star and one galaxy in exposures of different seeing."""
    rng = np.random.default_rng(seed)
    fwhms = np.linspace(3.5, 5.5, n)
    image = np.zeros((n, HEIGHT, WIDTH), np.float32)
    psf = np.zeros((n, 31, 31), np.float32)
    for t, fwhm in enumerate(fwhms):
        kernel = galsim.Moffat(beta=3.5, fwhm=fwhm)
        psf[t] = (
            galsim.Convolve(kernel, galsim.Pixel(1)).drawImage(nx=31, ny=31, scale=1, method="no_pixel").array
        )
        psf[t] /= psf[t].sum()
        canvas = galsim.ImageF(WIDTH, HEIGHT, scale=1, xmin=0, ymin=0)
        star = (kernel * STAR["flux"]).shift(STAR["x"], STAR["y"])
        galaxy = galsim.Convolve(galsim.Exponential(half_light_radius=3, flux=8e3), kernel).shift(80, 50)
        (star + galaxy).drawImage(canvas, center=galsim.PositionD(0, 0))
        image[t] = canvas.array + rng.normal(0, SIGMA, image[t].shape)
    good = np.ones(image.shape, bool)
    good[0, :, 20:22] = False
    good[1, 40:] = False
    image[~good] = np.nan  # what is masked may be anything
    return {"image": image, "variance": np.full_like(image, SIGMA**2), "good": good, "psf": psf}


def run(*args):
    return CliRunner().invoke(main, ["restore", *map(str, args)])


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def read_plane(hdus, name):
    """Return a plane of the mask, bool."""
    return (hdus["MASK"].data & (1 << hdus["MASK"].header[f"MP_{name}"])) != 0


def find_warnings(result):
    return [line for line in result.output.splitlines() if line.startswith("WARNING: ")]
