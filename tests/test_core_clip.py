# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""What clipping is made of, against other ways to the same."""

import numpy as np
import pytest
import torch

from lsst.coadd.astroclearnet.core._clip import brightest_nearby, find_median
from lsst.coadd.astroclearnet.core._fourier import FourierGrid
from lsst.coadd.astroclearnet.core._wiener import WienerSolver


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
