# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""PSF fluxes about each pixel, and their written variance on blank sky;
`test_planes_noise` has that on sources.
"""

import dataclasses

import galsim
import numpy as np
import pytest
import scipy.ndimage
import torch

from benchmarks.engine.skies import tabulate
from lsst.coadd.astroclearnet.core import CellStack, FitOptions, fit_patch
from lsst.coadd.astroclearnet.core.fourier._filters import psf_flux_response
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid
from lsst.coadd.astroclearnet.simulate import simulate_stack

GRID = FourierGrid(height=128, width=128, shape=(128, 128))
HALO, SIZE = 32, 96


def draw_star(*, x, y, flux):
    """A star at the target PSF of 2.5 px."""
    image = (
        galsim.Gaussian(fwhm=2.5, flux=flux)
        .shift(x - 63.5, y - 63.5)
        .drawImage(nx=128, ny=128, scale=1, method="no_pixel")
    )
    return torch.as_tensor(image.array)


@pytest.mark.parametrize("x", [64, 64.4])
def test_psf_flux_of_a_star_is_its_flux(x):
    """At the pixel of the star, and as base_PsfFlux defines it elsewhere."""
    image = draw_star(x=x, y=60, flux=7.0)
    kernel = draw_star(x=64, y=64, flux=1.0)[52:77, 52:77]
    found = GRID.inverse(GRID.transform(image) * psf_flux_response(GRID.gaussian(2.5), GRID))
    for row, column in ((60, 64), (58, 65), (60, 61)):
        stamp = image[row - 12 : row + 13, column - 12 : column + 13]
        expected = float((stamp * kernel).sum() / (kernel**2).sum())
        assert float(found[row, column]) == pytest.approx(expected, abs=0.01)
    assert float(found[60, 64]) == pytest.approx(7.0, rel=0.002 if x == 64 else 0.1)


def test_psf_flux_takes_an_uneven_psf_as_it_is():
    kernel = torch.zeros(5, 5)
    kernel[2, 2], kernel[2, 3], kernel[1, 2] = 0.5, 0.3, 0.2
    image = torch.zeros(GRID.shape)
    image[40:45, 50:55] = 3.0 * kernel
    found = GRID.inverse(GRID.transform(image) * psf_flux_response(GRID.transfer(kernel), GRID))
    assert float(found.max()) == float(found[42, 52]) == pytest.approx(3.0, abs=1e-4)


def observe_nothing(seed: int) -> CellStack:
    """Exposures of a sky without a source."""
    nothing = tabulate([{"x": 80.3, "y": 79.6, "flux": 1e-3}])
    return simulate_stack(n_exposures=8, size=SIZE + 2 * HALO, seed=seed, catalog=nothing)[0]


@pytest.mark.parametrize(
    "options",
    [
        {"method": "mean"},
        {"method": "kaiser"},
        {"method": "mm"},
        {},
        {"target_fwhm": 1.5},
        {"target_fwhm": 4},
    ],
    ids=["mean", "kaiser", "mm", "acn", "narrow", "wide"],
)
def test_variance_predicts_the_scatter_on_the_sky(options):
    """Whatever the method and the PSF: measured with the kernel that is
    written, of which a narrow Gaussian is a coarse sample.
    """
    chosen = FitOptions(cell_size=SIZE, halo=HALO, n_threads=1, **options)
    found, told = [], []
    for seed in (3, 4, 5):
        stack = observe_nothing(seed)
        fit = fit_patch(lambda tile, halo, stack=stack: stack, height=SIZE, width=SIZE, options=chosen)
        psf = fit.coadd_psf[0, 0]
        fluxes = scipy.ndimage.correlate(fit.coadd.astype(float), psf) / np.sum(psf**2)
        found.append(fluxes[8:-8, 8:-8].var())
        told.append(fit.psf_flux_variance[8:-8, 8:-8].mean())
    assert np.sqrt(np.mean(found) / np.mean(told)) == pytest.approx(1, abs=0.1)


def test_variance_goes_on_at_the_edge_of_a_cell():
    """Without a halo nothing lies beyond it."""
    stack = observe_nothing(3)
    noise = np.random.default_rng(1).standard_normal(stack.image.shape, dtype=np.float32)
    even = dataclasses.replace(
        stack, image=noise, variance=np.ones_like(noise), good=np.ones(noise.shape, bool)
    )

    def cut(tile, halo):
        part = np.s_[:, tile.y0 : tile.y0 + 80, tile.x0 : tile.x0 + 80]
        return dataclasses.replace(
            even, image=even.image[part], variance=even.variance[part], good=even.good[part]
        )

    options = FitOptions(cell_size=80, halo=0, n_threads=1, method="mean")
    told = fit_patch(cut, height=160, width=160, options=options).psf_flux_variance
    np.testing.assert_allclose(told, np.median(told), rtol=0.1)
