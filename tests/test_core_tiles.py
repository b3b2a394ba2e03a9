# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cells are cut, fitted and stitched alike however many threads there are."""

import dataclasses

import numpy as np
import pytest

from lsst.coadd.astroclearnet.core import CellStack, FitError, FitOptions, Tile, fit_patch
from lsst.coadd.astroclearnet.simulate import simulate_stack

_HALO = 24


@pytest.fixture(scope="module")
def exposures():
    """Four exposures of a patch of 3 x 2 cells of 64 px, with their halo."""
    stack, _ = simulate_stack(n_exposures=4, size=3 * 64 + 2 * _HALO, seed=6)
    return stack


def _cut(stack: CellStack, tile: Tile, halo: int) -> CellStack | None:
    if (tile.i, tile.j) == (2, 1):
        return None
    part = np.s_[:, tile.y0 : tile.y0 + tile.height + 2 * halo, tile.x0 : tile.x0 + tile.width + 2 * halo]
    return dataclasses.replace(
        stack, image=stack.image[part].copy(), variance=stack.variance[part], good=stack.good[part]
    )


def _fit(stack: CellStack, n_threads: int, get_stack=None):
    options = FitOptions(cell_size=64, halo=_HALO, n_threads=n_threads, seed=3)
    get_stack = get_stack or (lambda tile, halo: _cut(stack, tile, halo))
    return fit_patch(get_stack, height=192, width=128, options=options)


def test_threads_do_not_matter(exposures):
    """Bit by bit the same, also in the order of the history."""
    one, three = (_fit(exposures, n_threads) for n_threads in (1, 3))
    for field in ("latent", "coadd", "latent_variance", "coadd_variance", "noise", "n_image"):
        np.testing.assert_array_equal(getattr(one, field), getattr(three, field))
    assert [row["chi2"] for row in one.history] == [row["chi2"] for row in three.history]
    assert one.missing == three.missing == {(2, 1)}


def test_fault_in_a_cell_is_told(exposures):
    """What goes wrong in a thread is raised where the patch was asked for."""

    def get_stack(tile, halo):
        stack = _cut(exposures, tile, halo)
        if (tile.i, tile.j) == (1, 1):
            stack.image[:] = np.inf  # after the checks
        return stack

    with pytest.raises(FitError, match="not finite"):
        _fit(exposures, 2, get_stack)
