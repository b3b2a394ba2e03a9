# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What clipping is made of, against other ways to the same."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from lsst.coadd.astroclearnet.core.clip._clip import Clipper
from lsst.coadd.astroclearnet.core.clip._first_look import FirstLook, find_median
from lsst.coadd.astroclearnet.core.clip._neighbours import brightest_nearby
from lsst.coadd.astroclearnet.core.fourier._grid import FourierGrid
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic
from lsst.coadd.astroclearnet.core.statistic._wiener import WienerSolver
from lsst.coadd.astroclearnet.simulate import simulate_stack


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 33])
def test_median_is_the_lower_one(n):
    """Of the good values, as `torch.nanmedian`; 0 where there is none."""
    rng = np.random.default_rng(n)
    image = torch.as_tensor(rng.normal(size=(n, 40, 50)), dtype=torch.float32)
    good = torch.as_tensor(rng.uniform(size=image.shape) < 0.7).float()
    expected = torch.where(good > 0, image, torch.nan).nanmedian(0).values.nan_to_num()
    torch.testing.assert_close(find_median(image, good), expected, atol=0, rtol=0)


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_brightest_nearby(reach):
    """As the maximum over a square window, also at the edges."""
    images = torch.as_tensor(np.random.default_rng(1).uniform(size=(2, 30, 21)), dtype=torch.float32)
    expected = torch.nn.functional.max_pool2d(images[:, None], 2 * reach + 1, 1, reach)[:, 0]
    torch.testing.assert_close(brightest_nearby(images, reach), expected, atol=0, rtol=0)


def _clip(residual):
    """Clip pure residuals, of model 0 and variance 1; return what is used."""
    residual = torch.as_tensor(residual, dtype=torch.float32)
    ones, used = torch.ones_like(residual), torch.empty_like(residual)
    look = FirstLook(residual, ones, ones, torch.ones(len(residual)))
    clipper = Clipper(4.5, torch.ones(len(residual), 1, 1), look)
    clipper.find_used(residual, residual, ones, ones, score=torch.empty_like(residual), used=used)
    return used.numpy()


def test_nothing_hangs_on_a_hair():
    """A pixel that gets brighter loses its weight little by little."""
    heights = np.arange(3.0, 6.0, 0.05)
    kept = []
    for height in heights:
        residual = np.zeros((3, 21, 21))
        residual[1, 10, 10] = height
        kept.append(_clip(residual))
    kept = np.array(kept)
    middle = kept[:, 1, 10, 10]
    assert middle[0] == 1 and middle[-1] == 0 and (np.diff(middle) <= 0).all()
    assert np.abs(np.diff(kept, axis=0)).max() < 0.1
    assert heights[middle < 0.5][0] == pytest.approx(4.5, abs=0.1)
    # Its neighbours go with it, the other exposures stay.
    assert (kept[-1, 1, 9:12, 9:12] == 0).all() and (kept[:, ::2] == 1).all()


def test_clipping_grows_along_what_is_seen_only():
    """From a bright pixel over its faint tail, which alone would be kept."""
    residual = np.zeros((2, 40, 40))
    residual[0, 20, 20:26] = [40.0, 3.0, 2.5, 2.5, 3.0, 2.5]
    residual[0, 5, 5:11] = 2.5
    used = _clip(residual)
    assert (used[0, 20, 19:26] == 0).all()
    assert (used[0, 5] == 1).all() and (used[0, 30:] == 1).all() and (used[1] == 1).all()


def test_edges_of_the_image_clip_as_its_middle():
    """What grows at an edge does not come back on the other side."""
    residual = np.zeros((2, 30, 30))
    residual[0, 0, 0], residual[0, 15, 29] = 6.0, 6.0
    used = _clip(residual)
    expected = np.ones((30, 30))
    expected[:2, :2] = expected[14:17, 28:] = 0
    np.testing.assert_array_equal(used[0], expected)


@functools.cache
def _observe(n):
    faults = {"streak": False, "masked_trail": False, "unmasked_cosmic_rays": 0}
    stack, truth = simulate_stack(n_exposures=n, size=160, seed=4, **faults)
    return stack, truth, compute_statistic(stack, halo=20)


@pytest.mark.parametrize("reach", [30, 1000])
@pytest.mark.parametrize("n", [3, 4, 6])
def test_an_exposure_that_is_too_dark_does_not_rule_the_others(n, reach):
    """Its sky was taken too high, over a place or all of it: the coadd is no
    darker than the mean, and fluxes stay."""
    stack, truth, right = _observe(n)
    y, x = np.indices(stack.image.shape[1:]) - 80
    # In the others, 0.5 sigma a pixel seem to be light at first.
    depth = 0.5 * n * truth.sky_sigma[1] * (np.hypot(y, x) < reach)
    image = stack.image.copy()
    image[1] -= np.where(stack.good[1], depth, 0)
    dark = compute_statistic(dataclasses.replace(stack, image=image), halo=20)
    level = [one.wiener(one.data, strength=0.1, fwhm=4.0)[:160, :160].numpy() for one in (right, dark)]
    inside = np.hypot(y, x) < 25
    share = float(right.sky_variance[1] ** -1 / (1 / right.sky_variance).sum())
    lost = (level[0] - level[1])[inside].mean() / depth[inside].mean()
    assert lost == pytest.approx(share, rel=0.25)
    others = np.arange(n) != 1
    assert dark.rejected.numpy()[others][:, inside].mean() < 0.05


def test_solver_reaches_the_wiener_solution():
    """With holes, as the dense normal equations of a small stack say."""
    rng = np.random.default_rng(2)
    n, size = 3, 12
    grid = FourierGrid.for_images(height=size, width=size, pad=4)
    kernels = torch.as_tensor(rng.uniform(0, 1, (n, 5, 5)) ** 3, dtype=torch.float32)
    transfer = grid.transfer(kernels / kernels.sum((1, 2), keepdim=True))
    image = torch.as_tensor(rng.normal(size=(n, size, size)), dtype=torch.float32)
    used = torch.as_tensor(rng.uniform(size=image.shape) < 0.7).float()
    sky = torch.tensor([1.0, 2.0, 0.5])
    solver = WienerSolver(image, transfer, sky, grid)
    solver.solve(used, strength=0.01, steps=200, tolerance=1e-7)

    points = torch.eye(grid.size).reshape(-1, *grid.shape)
    rows = grid.crop(grid.inverse(transfer * grid.transform(points)[:, None])).double()
    weight = (used / sky[:, None, None]).double()
    design = rows.reshape(grid.size, -1)
    normal = design @ (design * weight.reshape(-1)).T + 0.01 * solver.den0 * torch.eye(grid.size)
    expected = torch.linalg.solve(normal, design @ (weight * image.double()).reshape(-1))
    found = grid.inverse(solver.spectrum).double().reshape(-1)
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    torch.testing.assert_close(
        solver.residual.double(), image - (design.T @ found).reshape(image.shape), atol=1e-4, rtol=0
    )
