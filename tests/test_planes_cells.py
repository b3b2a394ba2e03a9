# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells: no seams, no matter of size, and patches that are half covered."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from benchmarks.simulated_patch import HALO, simulate_patch
from lsst.coadd.astroclearnet.core import CellStack, FitOptions, fit_patch
from lsst.coadd.astroclearnet.simulate import SceneConfig

CELL = 120


@functools.cache
def patch():
    return simulate_patch(size=240, n_exposures=8, seed=5)


@functools.cache
def fitted(cell_size):
    return patch().fit(cell_size=cell_size)


def fit_at(scene, *, x0, y0, size=CELL):
    """Fit one cell alone; return its planes with halo, and the sky sigma."""
    part = np.s_[:, y0 : y0 + size + 2 * HALO, x0 : x0 + size + 2 * HALO]
    middle = {"x": x0 + HALO + (size - 1) / 2, "y": y0 + HALO + (size - 1) / 2}
    stack = CellStack(
        image=scene.stack.image[part],
        variance=scene.stack.variance[part],
        good=scene.stack.good[part],
        psf=scene.truth.kernels(**middle),
        labels=scene.stack.labels,
        psf_gradient=scene.truth.find_gradient(**middle, x0=x0, y0=y0),
    )
    options = FitOptions(cell_size=size, halo=HALO, n_threads=1)
    return fit_patch(lambda tile, halo: stack, height=size, width=size, options=options)


@pytest.mark.parametrize("plane", ["latent", "coadd"])
@pytest.mark.parametrize(("variation", "most"), [(0.0, 0.3), (0.01, 0.35), (0.03, 0.6)])
def test_neighbours_agree_where_they_meet(plane, variation, most):
    """Two cells that overlap by a few pixels hold the same there.

    A bright star lies on their border; its peak is 1260
    sigma of the sky. The PSFs vary by up to 3 % from the centre to the edge.
    """
    first, second, place, sigma = overlapping(variation)
    difference = (getattr(first, plane)[:, -8:] - getattr(second, plane)[:, :8]) / sigma
    star = np.hypot(*(np.indices(difference.shape) - np.array([place, 4])[:, None, None])) < 12
    assert getattr(first, plane)[:, -8:][star].max() > 1200 * sigma
    assert difference[~star].std() < 0.06
    assert np.percentile(np.abs(difference[~star]), 99) < 0.15
    assert np.abs(difference[star]).max() < most


@functools.cache
def overlapping(variation):
    _, empty = _simulate(variation, catalog=None)
    catalog = empty.catalog.copy()
    row = int(np.argmin(np.hypot(catalog["x"] - HALO - CELL + 4, catalog["y"] - 120)))
    catalog["x"][row], catalog["y"][row], catalog["flux"][row] = HALO + CELL - 4.0, HALO + 60.0, 3e4
    catalog["type"][row] = "star"
    scene, _ = _simulate(variation, catalog=catalog)
    first, second = fit_at(scene, x0=0, y0=0), fit_at(scene, x0=CELL - 8, y0=0)
    return first, second, 60, float(np.sqrt(np.median(first.coadd_variance)))


def _simulate(variation, catalog):
    scene = simulate_patch(
        size=2 * CELL, n_exposures=8, seed=5, psf_variation=variation, catalog=catalog, scene=SceneConfig()
    )
    return scene, scene.truth


@pytest.mark.parametrize("plane", ["latent", "coadd"])
@pytest.mark.parametrize("cell_size", [60, 120])
def test_size_of_cells_changes_little(plane, cell_size):
    """By less than 0.1 sigma with half of the cells' default size and more,
    and their default border; `benchmarks.planes` tells more.
    """
    whole = fitted(240)
    change = (getattr(fitted(cell_size), plane) - getattr(whole, plane)) / np.sqrt(whole.coadd_variance)
    assert change.std() < 0.02
    assert np.percentile(np.abs(change), 99.9) < 0.1
    assert np.abs(change).max() < (0.1 if cell_size >= 120 else 0.2)
    assert abs(change.mean()) < 0.002


@pytest.mark.parametrize(("variation", "most", "share"), [(0.01, 0.15, 1e-4), (0.03, 0.5, 0.01)])
def test_size_of_cells_changes_little_where_psfs_vary(variation, most, share):
    """Each cell knows how its PSFs change; `most` is told in the documentation
    for more stacks. Stars shine with up to 7900 sigma of the sky.
    """
    scene = simulate_patch(size=240, n_exposures=8, seed=5, psf_variation=variation)
    whole, cells = scene.fit(cell_size=240), scene.fit(cell_size=120)
    for plane in ("latent", "coadd"):
        change = np.abs(getattr(cells, plane) - getattr(whole, plane)) / np.sqrt(whole.coadd_variance)
        assert change.max() < most
        assert np.mean(change > 0.1) < share


@pytest.mark.parametrize("plane", ["latent", "coadd"])
@pytest.mark.parametrize("cell_size", [60, 120])
def test_no_step_at_any_border(plane, cell_size):
    """Against the fit without borders, the two sides part at no pixel."""
    whole, cells = fitted(240), fitted(cell_size)
    change = (getattr(cells, plane) - getattr(whole, plane)) / np.sqrt(np.median(whole.coadd_variance))
    for border in range(cell_size, 240, cell_size):
        for image in (change, change.T):
            step = image[border] - image[border - 1]
            assert abs(step.mean()) < 0.02 and step.std() < 0.05
            assert np.abs(step).max() < 0.1


def test_trail_that_cuts_the_corner_of_a_cell():
    """A trail that no mask tells is clipped alike where a cell shows 50 px of
    it, and where the exposures left are two.
    """
    scene = simulate_patch(size=400, n_exposures=3, seed=11)
    whole, cells = scene.fit(cell_size=400), scene.fit(cell_size=200)
    change = np.abs(cells.coadd - whole.coadd) / np.sqrt(whole.coadd_variance)
    assert whole.n_rejected.sum() > 5000
    assert change.max() < 0.1


@functools.cache
def half_covered():
    """No data left of column 100; below row 80 half of the exposures."""
    scene = simulate_patch(size=240, n_exposures=8, seed=6)
    good = scene.stack.good.copy()
    good[:, :, : HALO + 100] = False
    good[:4, : HALO + 80] = False
    stack = dataclasses.replace(scene.stack, good=good, image=scene.stack.image * good)
    scene = dataclasses.replace(scene, stack=stack)
    return scene, scene.fit(cell_size=CELL)


def test_half_covered_patch():
    """What is there is as good as ever, what is not is 0."""
    scene, fit = half_covered()
    assert (fit.n_image[:, :100] == 0).all() and (fit.n_image[:, 100:] > 0).all()
    for plane in (fit.latent, fit.coadd, fit.noise):
        assert (plane[:, :100] == 0).all() and np.isfinite(plane).all()
    assert (fit.coadd_variance > 0).all() and np.isfinite(fit.coadd_variance).all()
    truth = scene.truth.image[scene.inner]
    residual = (fit.coadd - truth) / np.sqrt(fit.coadd_variance)
    dark = truth < 0.3 * scene.coadd_sigma
    areas = {
        "all exposures": np.s_[90:, 120:],
        "half of them": np.s_[:70, 120:],
        "where half of them end": np.s_[70:90, 120:],
        "at the edge of the data": np.s_[:, 100:106],
    }
    for name, area in areas.items():
        # At the very edge the fill of what is beyond adds its error.
        tolerance = 0.2 if "edge" in name else 0.12
        assert residual[area][dark[area]].std() == pytest.approx(1, abs=tolerance)
    # Noise goes with the square root of the exposures that are there.
    ratio = np.median(fit.coadd_variance[:60, 120:]) / np.median(fit.coadd_variance[100:, 120:])
    weights = 1 / scene.truth.sky_sigma**2
    assert ratio == pytest.approx(weights.sum() / weights[4:].sum(), rel=0.15)
