# This file is part of coadd_astroclearnet.
#
# Developed for use with the LSST Science Pipelines.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stars that are not equally bright in all exposures."""

import dataclasses

import numpy as np
import pytest
from _star_stacks import SIZE, draw_star, make_stack, measure_fluxes

from lsst.coadd.astroclearnet.core import CellStack
from lsst.coadd.astroclearnet.core.statistic._statistic import compute_statistic

_CURVE = np.array([1.35, 0.75, 1.05, 0.6, 1.7, 0.95, 0.8, 1.15, 0.7, 1.45, 0.9, 0.6])
"""Brightness, of the mean 1: magnitudes scatter by .33."""


def _observe(n: int, curve: np.ndarray) -> CellStack:
    """Observe with equal PSFs, so that each exposure has the same weight."""
    return make_stack([4.0] * n, curve=curve)


def _count_clipped(stack: CellStack) -> np.ndarray:
    """Pixels that are clipped in each exposure."""
    return compute_statistic(stack, halo=SIZE // 2).rejected.sum((1, 2)).numpy()


@pytest.mark.parametrize("n", [7, 9, 12])
def test_bright_nights_count_as_faint_ones(n):
    """The coadd has the mean flux, and nothing is clipped."""
    curve = _CURVE[:n] / _CURVE[:n].mean()
    stack = _observe(n, curve)
    assert measure_fluxes(stack) == pytest.approx(1.0, abs=0.02)
    assert _count_clipped(stack).max() <= 5


@pytest.mark.parametrize("n", [3, 5, 8, 12])
def test_flare_is_none_of_it(n):
    """One exposure that differs alone is clipped."""
    curve = np.ones(n)
    curve[1] = 3.0
    stack = _observe(n, curve)
    assert measure_fluxes(stack) == pytest.approx(1.0, abs=0.02)
    assert _count_clipped(stack)[1] > 30


@pytest.mark.parametrize("n", [7, 9])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_sharp_exposure_that_lacks_the_star(n, share):
    """It spoils the model, so that all others seem to differ, each by its
    width; but none of them varies."""
    fwhms = [3.0, *np.linspace(3.4, 5.0, n - 1)]
    curve = np.ones(n)
    curve[0] = share
    assert measure_fluxes(make_stack(fwhms, curve=curve)) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("brightness", [1500.0, 3e4])
def test_cosmic_ray_on_a_star_that_varies(brightness):
    """What the star does not explain is clipped, on a night of any
    brightness, and nowhere else."""
    stack = _observe(12, _CURVE)
    image = stack.image.copy()
    image[3, 68:73, 62] += brightness
    hit = dataclasses.replace(stack, image=image)
    # That night is lost, whose star was .6 of the mean.
    assert measure_fluxes(hit)[0] == pytest.approx(measure_fluxes(stack)[0], abs=0.001)
    assert measure_fluxes(hit)[1] == pytest.approx(1.02, abs=0.02)
    clipped = _count_clipped(hit) - _count_clipped(stack)
    assert clipped[3] >= 5 and np.delete(clipped, 3).max() <= 3


def test_seeing_is_no_variability():
    """A galaxy is fainter than a star of the same peak where seeing is good;
    an artifact on it is found all the same."""
    fwhms = np.linspace(3.0, 5.0, 9)
    stack = make_stack(fwhms, stars=())
    light = [2e4 * draw_star(48.0, 48.0, np.hypot(fwhm, 6.0)) for fwhm in fwhms]
    image = stack.image + np.array(light, np.float32)
    image[3, 46:51, 48] += 150.0
    clipped = _count_clipped(dataclasses.replace(stack, image=image))
    assert clipped[3] >= 5 and np.delete(clipped, 3).max() <= 3


def test_skies_of_other_levels_are_no_variability():
    """They add to each exposure of a faint star, but not in its shape, so that
    an artifact of 6 sigma on it is found."""
    rng = np.random.default_rng(3)
    stack = make_stack([4.0] * 8, stars=[(48.0, 48.0, 60.0)])
    levels = rng.normal(0.0, 0.7, 8)[:, None, None].astype(np.float32)
    image = stack.image + levels
    image[5, 47:50, 47:50] += 6.0
    assert _count_clipped(dataclasses.replace(stack, image=image))[5] >= 9
