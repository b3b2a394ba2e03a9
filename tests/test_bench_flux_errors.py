# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of fluxes in catalogues, on noise whose errors are known."""

import types

import numpy as np
import pytest
from astropy.table import Table

from benchmarks import flux_errors
from lsst.coadd.astroclearnet._coadds import sample_gaussian
from lsst.images import Box, Image, Mask, MaskPlane, MaskSchema

SIZE, STEP, SIGMA, X0, Y0 = 480, 24, 2.0, 3000, 700
BOX = Box.factory[Y0 : Y0 + SIZE, X0 : X0 + SIZE]


@pytest.fixture
def sky():
    """A coadd with white noise, its truth, and a grid of stars of S/N 10; one
    has a neighbour, and there is nothing at the lowest rows.
    """
    rng = np.random.default_rng(8)
    y, x = (axis.ravel() for axis in np.mgrid[STEP : SIZE - STEP : STEP, STEP : SIZE - STEP : STEP])
    psf = sample_gaussian(2.5, 25)
    flux = np.full(len(x), 10 * SIGMA / np.sqrt(np.sum(psf**2)))
    truth = rng.uniform(0, 5, (SIZE, SIZE))
    catalog = Table({"type": ["star"] * len(x), "x": x + X0 + 0.2, "y": y + Y0 - 0.3, "flux": flux})
    catalog.add_row(["star", catalog["x"][200] + 8.0, catalog["y"][200], flux[0]])
    mask = Mask(
        0, schema=MaskSchema([MaskPlane(n, n) for n in ("NO_DATA", "SATURATED", "ACN_UNTRUSTED")]), bbox=BOX
    )
    mask.set("NO_DATA", np.arange(SIZE)[:, None] < np.full(SIZE, 20))
    coadd = types.SimpleNamespace(
        bbox=BOX,
        mask=mask,
        image=Image(truth + rng.normal(0, SIGMA, truth.shape), bbox=BOX),
        variance=Image(np.full(truth.shape, SIGMA**2), bbox=BOX),
        psf=types.SimpleNamespace(compute_kernel_image=lambda *, x, y: types.SimpleNamespace(array=psf)),
    )
    return coadd, Image(truth, bbox=BOX), catalog


def test_errors_of_white_noise_are_those_of_independent_pixels(sky):
    found = flux_errors.measure(*sky)
    first_row = len(np.unique(sky[2]["x"])) - 1
    assert len(found) == len(sky[2]) - first_row - 2
    for name in ("PSF", "12"):
        column = "base_PsfFlux" if name == "PSF" else "base_CircularApertureFlux_12_0"
        pulls = found[f"error_{name}"] / found[f"{column}_instFluxErr"]
        assert np.std(pulls) == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(
        found["base_CircularApertureFlux_5_0_instFluxErr"], SIGMA * np.sqrt(np.pi) * 5, rtol=1e-3
    )


def test_table_has_both_errors(sky):
    before = flux_errors.measure(*sky)
    after = before.copy()
    after["base_CircularApertureFlux_5_0_instFluxErr"] *= 2
    (row,) = flux_errors.tabulate_pulls(before, after)
    assert row[:3] == ["star", "6-20", str(len(before))]
    corrected, independent = row[5].replace(")", "").split("(")
    assert float(independent) / float(corrected.split()[0]) == pytest.approx(2, rel=0.02)
